//! Reads and checks a posted event. All faults are named at once, and the payload is kept byte for
//! byte. `events` calls this module for single posts and for each item of a batch; `cloudevents`
//! ends here too.

use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use twox_hash::XxHash3_64;

use crate::http::error::{Code, Faults, Problem};
use crate::http::input::cloud_identity;
use crate::http::input::declare::{Body as _, Draft as Declared, body};
use crate::http::input::fields::{CHAR_BYTES_MAX, is_printable, printable_rule};
use crate::http::input::kinds::{
    Rule, pairs, parsed, printable, raw_json, short_pair, short_pairs_schema,
};
use crate::http::input::presence::{optional, required, required_or_null};
use crate::model::cloudevent::{
    ATTRIBUTE_BYTES_MAX, ATTRIBUTE_NAME_CHARS_MAX, ATTRIBUTES_MAX, CloudEvent,
};
use crate::model::event::{
    DEDUP_ID_CHARS_MAX, Dedup, EventType, LABEL_CHARS_MAX, LABELS_MAX, NewEvent, TYPE_CHARS_MAX,
};
use crate::model::id::OrgNo;
use crate::model::time::{Now, Timestamp};

/// Maximum delay of `deliver_after`, in milliseconds: 90 days, the longest deduplication window.
const DELIVER_AFTER_MS_MAX: u64 = 90 * 86_400_000;

/// Bytes for the members' names, the times, and spaces.
const NAMES_BYTES: usize = 4 << 10;
/// Maximum bytes of the members beside the payload: each member at its limit, with every character
/// escaped.
const OTHER_MEMBERS_BYTES: usize = CHAR_BYTES_MAX
    * (TYPE_CHARS_MAX + DEDUP_ID_CHARS_MAX + LABELS_MAX * 2 * LABEL_CHARS_MAX)
    + NAMES_BYTES;
/// Maximum bytes in JSON for one byte of text: an escape such as `\u0041` stands for `A`. Longer
/// characters grow less.
const BYTE_BYTES_MAX: usize = 6;
/// Maximum bytes of a CloudEvent's attributes, with `type` and `specversion`, and with every
/// character escaped.
const ATTRIBUTES_BYTES: usize =
    (ATTRIBUTES_MAX + 2) * BYTE_BYTES_MAX * (ATTRIBUTE_BYTES_MAX + ATTRIBUTE_NAME_CHARS_MAX)
        + NAMES_BYTES;

/// Returns the maximum size of a body with one event, in bytes. `payload_bytes_max` limits the
/// payload alone.
pub(in crate::http) fn event_body_bytes_max(payload_bytes_max: usize) -> usize {
    payload_bytes_max.saturating_add(OTHER_MEMBERS_BYTES)
}

/// Returns the maximum size of a structured CloudEvent, in bytes. Data can be written in base64,
/// whose characters can be escaped: many encoders write `\/` for a slash.
pub(in crate::http) fn cloud_event_body_bytes_max(payload_bytes_max: usize) -> usize {
    let base64_bytes = payload_bytes_max.div_ceil(3).saturating_mul(4);
    base64_bytes.saturating_mul(BYTE_BYTES_MAX).saturating_add(ATTRIBUTES_BYTES)
}

/// The rules that an event is checked against.
#[derive(Clone, Debug)]
pub(in crate::http) struct Rules {
    pub(in crate::http) org: OrgNo,
    pub(in crate::http) now: Now,
    /// Length of the deduplication window, in milliseconds.
    pub(in crate::http) dedup_window_ms: u64,
    /// Maximum size of a payload, in bytes.
    pub(in crate::http) payload_bytes_max: usize,
    /// Value of the header `Idempotency-Key`; `None` for batches.
    pub(in crate::http) idempotency_key: Option<String>,
}

/// The parts of an event that were read; some may be missing.
#[derive(Debug, Default)]
pub(in crate::http) struct Draft {
    pub(in crate::http) event_type: Option<EventType>,
    pub(in crate::http) payload: Option<Box<[u8]>>,
    pub(in crate::http) dedup_id: Option<String>,
    pub(in crate::http) labels: Vec<(String, String)>,
    pub(in crate::http) occurred_at: Option<Timestamp>,
    pub(in crate::http) deliver_after: Option<Timestamp>,
    pub(in crate::http) cloudevent: Option<CloudEvent>,
    /// Bytes of data that the producer sent, if the payload does not tell.
    pub(in crate::http) data_bytes: Option<usize>,
}

body! {
    /// An event as a producer posts it.
    pub(in crate::http) struct PostedEvent {
        /// The type of the event: words that `.`, `/` or `:` separate. Types that begin with
        /// `triggerd.`, `triggerd/` or `triggerd:` are reserved.
        event_type: Option<PostedType> = required("type", parsed()).or_named("event_type");
        /// Any JSON. Its bytes are kept as they came.
        payload: Option<Box<[u8]>> = required_or_null("payload", raw_json());
        /// The same id in the deduplication window is the same event. The header `Idempotency-Key`
        /// means the same.
        dedup_id: Option<String> = optional("dedup_id", printable(DEDUP_ID_CHARS_MAX));
        /// Names and values for consumers.
        labels: Option<Vec<(String, String)>> =
            optional("labels", pairs(LABELS_MAX, label, || short_pairs_schema(LABEL_CHARS_MAX)));
        /// The time at which the event happened.
        occurred_at: Option<Timestamp> = optional("occurred_at", parsed());
        /// The event is not pushed before this time, which is at most 90 days ahead.
        deliver_after: Option<Timestamp> = optional("deliver_after", parsed());
    }
}

fn label(name: &str, value: &str) -> Result<String, Rule> {
    short_pair(name, value, LABEL_CHARS_MAX)
}

/// A type that a producer may post.
pub(in crate::http) struct PostedType(EventType);

impl FromStr for PostedType {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().and_then(posted).map(Self)
    }
}

/// Returns the type if producers may post it.
///
/// # Errors
/// The rule that the type breaks.
pub(in crate::http) fn posted(event_type: EventType) -> Result<EventType, &'static str> {
    if event_type.is_own() {
        Err("must not begin with `triggerd.`, `triggerd/` or `triggerd:`, which are reserved")
    } else {
        Ok(event_type)
    }
}

impl Rules {
    /// Reads an event in triggerd's own form.
    pub(in crate::http) fn event(&self, text: &str) -> Result<NewEvent, Problem> {
        let Declared { body, fields, mut faults } = PostedEvent::draft(text, &[])?;
        if body.deliver_after > Some(self.now.wall.plus_ms(DELIVER_AFTER_MS_MAX)) {
            faults.add("/deliver_after", "must be at most 90 days in the future");
        }
        fields.finish(&mut faults);
        let draft = Draft {
            event_type: body.event_type.map(|PostedType(event_type)| event_type),
            payload: body.payload,
            dedup_id: body.dedup_id,
            labels: body.labels.unwrap_or_default(),
            occurred_at: body.occurred_at,
            deliver_after: body.deliver_after,
            cloudevent: None,
            data_bytes: None,
        };
        self.finish(draft, faults)
    }

    /// Returns the event, if there are no faults.
    pub(in crate::http) fn finish(
        &self,
        draft: Draft,
        mut faults: Faults,
    ) -> Result<NewEvent, Problem> {
        let dedup_id = self.dedup_id(draft.dedup_id, &mut faults);
        faults.into_result()?;
        let (Some(event_type), Some(payload)) = (draft.event_type, draft.payload) else {
            return Err(Problem::internal(
                &"an event without a type or a payload passed the checks",
            ));
        };
        let Draft { labels, occurred_at, deliver_after, cloudevent, data_bytes, .. } = draft;
        let cloudevent = cloudevent.map(Box::new);
        let mut event = NewEvent {
            event_type,
            dedup: None,
            labels,
            occurred_at,
            deliver_after,
            payload,
            cloudevent,
        };
        let data_bytes = data_bytes.unwrap_or_else(|| event.data_len());
        if data_bytes > self.payload_bytes_max {
            let what = if event.cloudevent.is_some() { "the data" } else { "the payload" };
            return Err(Problem::too_large(what, Some(data_bytes), self.payload_bytes_max));
        }
        event.dedup = dedup_id?.map(|id| self.dedup(id, &event));
        Ok(event)
    }

    /// Returns the deduplication id of body and header, which must be the same.
    fn dedup_id(&self, id: Option<String>, faults: &mut Faults) -> Result<Option<String>, Problem> {
        let Some(header) = &self.idempotency_key else { return Ok(id) };
        if !is_printable(header, DEDUP_ID_CHARS_MAX) {
            faults.add("Idempotency-Key", printable_rule(DEDUP_ID_CHARS_MAX));
        }
        match id {
            Some(id) if id != *header => {
                let detail = "the header Idempotency-Key and the body's deduplication id differ; \
                    send only one of them";
                Err(Problem::new(Code::ConflictingDedupId, detail))
            }
            Some(id) => Ok(Some(id)),
            None => Ok(Some(header.clone())),
        }
    }

    fn dedup(&self, id: String, event: &NewEvent) -> Dedup {
        let digest = Sha256::new()
            .chain_update(self.org.0.to_be_bytes())
            .chain_update(id.as_bytes())
            .finalize();
        // The fingerprint only tells an organization's own events apart, so a quick hash is enough.
        let mut fingerprint = XxHash3_64::oneshot(event.event_type.as_str().as_bytes());
        fingerprint = match &event.cloudevent {
            Some(cloudevent) => {
                cloud_identity::fingerprint(cloudevent, &event.payload, fingerprint)
            }
            None => XxHash3_64::oneshot_with_seed(fingerprint, &event.payload),
        };
        let fingerprint = fingerprint.to_be_bytes();
        Dedup {
            digest: first(&digest),
            fingerprint,
            window_start: self.now.steady.minus_ms(self.dedup_window_ms),
            id,
        }
    }
}

/// Returns the first `N` bytes of a digest.
fn first<const N: usize>(digest: &[u8]) -> [u8; N] {
    digest.first_chunk::<N>().copied().unwrap_or([0; N])
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
