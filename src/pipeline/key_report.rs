//! Tells organizations that their keys end soon.

use serde::Serialize;
use utoipa::ToSchema;

use crate::commands::ReportKeyEnd;
use crate::model::id::KeyId;
use crate::model::operational_event::{OperationalEvent, OperationalEventKind};
use crate::model::time::Timestamp;
use crate::store::KeyEnd;

/// How long before its end a key is reported, in milliseconds: 7 days.
pub(super) const REPORTED_BEFORE_MS: u64 = 7 * 86_400_000;

/// The payload; times have the same form as in the API.
#[derive(Serialize, ToSchema)]
pub struct KeyReport<'a> {
    key_id: KeyId,
    name: &'a str,
    expires_at: Timestamp,
}

/// Returns the report about the end of a key. `None` for a key that was made for 7 days or less:
/// whoever made it knows.
pub(super) fn report(end: &KeyEnd) -> Option<ReportKeyEnd> {
    let KeyEnd { org, key, ref name, created_at, expires_at } = *end;
    let payload = KeyReport { key_id: key, name, expires_at };
    let report = OperationalEvent::new(OperationalEventKind::KeyExpiring, &payload);
    let is_long = created_at.plus_ms(REPORTED_BEFORE_MS) < expires_at;
    is_long.then_some(ReportKeyEnd { org, key, expires_at, report })
}
