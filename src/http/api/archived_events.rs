//! The events of a time as lines of JSON, day by day. A running server sends them, and the command
//! line reads them from the data directory of a stopped one.

use std::collections::BTreeSet;

use serde::Serialize;

use super::event_history::{Deliveries, deliveries};
use super::stored_event::{has_expired, item};
use crate::archive::Line;
use crate::base::clock::Clock;
use crate::base::splice::Splice;
use crate::commands::Records;
use crate::commit::Engine;
use crate::http::error::Problem;
use crate::http::shared::Api;
use crate::model::id::{EventId, OrgId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::Store;

/// The events of a day stand together, so that each day can have a file.
const DAY_MS: u64 = 86_400_000;

/// Where events come from.
#[derive(Clone, Copy)]
pub(in crate::http) struct Source<'a> {
    pub(in crate::http) store: &'a Store,
    pub(in crate::http) records: &'a Records,
    pub(in crate::http) clock: &'a Clock,
}

impl<'a> From<&'a Api> for Source<'a> {
    fn from(api: &'a Api) -> Self {
        let Engine { store, records, clock, .. } = &*api.engine;
        Self { store, records, clock }
    }
}

/// The server stops, or nobody reads the lines any more.
#[derive(Debug, thiserror::Error)]
#[error("the server stops, or nobody reads the answer")]
pub(in crate::http) struct Gone;

/// Where the lines go.
pub(in crate::http) trait Reader {
    /// Takes the line of an event, without a line break.
    fn take(&mut self, line: &[u8]) -> Result<(), Problem>;

    /// Ends the work if nobody reads any more. Called now and then.
    fn check(&mut self) -> Result<(), Problem>;
}

/// The members behind those of lists.
#[derive(Serialize)]
struct More {
    organization_id: OrgId,
    in_inbox: bool,
    #[serde(flatten)]
    deliveries: Deliveries,
}

/// An event whose payload was lost with a part of the journal, or whose record cannot be read.
#[derive(Serialize)]
struct WithoutPayload {
    id: EventId,
    received_at: Timestamp,
    organization_id: OrgId,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    lost: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unreadable: bool,
}

/// Returns the line of an event; none if it does not exist any more.
///
/// # Errors
/// The state cannot be read. An event whose record cannot be read has a line that says so.
pub(in crate::http) fn line(
    source: Source<'_>,
    (org, organization_id): (OrgNo, OrgId),
    event: EventId,
) -> Result<Option<Line>, Problem> {
    let Source { store, records, clock } = source;
    let Some(known) = store.event(org, event)? else { return Ok(None) };
    let is_erased = known.erased_at.is_some();
    let stored = match records.event(event, known.position) {
        Ok(stored) => stored,
        Err(error) if error.is_removed() && has_expired(store, org, event) => return Ok(None),
        Err(error) => {
            let (received_at, lost) = (known.received_at, error.is_removed());
            let without =
                WithoutPayload { id: event, received_at, organization_id, lost, unreadable: !lost };
            let json = serde_json::to_vec(&without).map_err(|error| Problem::internal(&error))?;
            let unreadable = (!lost).then(|| error.to_string());
            return Ok(Some(Line { json, is_erased, unreadable }));
        }
    };
    let (found, is_all) = deliveries(store, org, event)?;
    let deliveries = Deliveries::of(clock, (&found, is_all));
    let more = More { organization_id, in_inbox: known.in_inbox, deliveries };
    let mut json = Vec::new();
    item((known.status, known.erased_at), &stored, Splice::new(&mut json))
        .and_then(|object| object.members(&more))
        .map_err(|error| Problem::internal(&error))?
        .end();
    on_one_line(&mut json);
    Ok(Some(Line { json, is_erased, unreadable: None }))
}

/// Replaces line breaks, which a payload may have between its tokens and nowhere else.
fn on_one_line(json: &mut [u8]) {
    for byte in json.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
}

/// The events of an archive.
#[derive(Default)]
struct Wanted {
    /// The numbers of the days on which they were received.
    days: BTreeSet<u64>,
    /// The last of them. Later events do not count, so that an archive ends.
    last: Option<EventId>,
}

/// Passes the lines of the events of this time to the reader.
pub(in crate::http) fn read(
    source: Source<'_>,
    time: (Timestamp, Timestamp),
    reader: &mut dyn Reader,
) -> Result<(), Problem> {
    Reading { source, reader }.read_days(time)
}

/// Calls a function with each line, until it returns false.
pub(in crate::http) struct Taking<'a>(pub(in crate::http) &'a mut dyn FnMut(&[u8]) -> bool);

impl Reader for Taking<'_> {
    fn take(&mut self, line: &[u8]) -> Result<(), Problem> {
        if (self.0)(line) { Ok(()) } else { Err(Problem::internal(&Gone)) }
    }

    fn check(&mut self) -> Result<(), Problem> {
        Ok(())
    }
}

/// The events on their way.
struct Reading<'a> {
    source: Source<'a>,
    reader: &'a mut dyn Reader,
}

impl Reading<'_> {
    /// Passes on the events of each day, organization by organization.
    fn read_days(&mut self, (since, until): (Timestamp, Timestamp)) -> Result<(), Problem> {
        let wanted = self.wanted((since, until))?;
        let Some(last) = wanted.last else { return Ok(()) };
        for day in wanted.days {
            let begins = Timestamp(day.saturating_mul(DAY_MS));
            let time = (begins.max(since), begins.plus_ms(DAY_MS).min(until));
            let mut org = OrgNo(0);
            while let Some(found) = self.source.store.retained_org(org)? {
                self.reader.check()?;
                self.read_org((found.number, found.id), time, last)?;
                org = OrgNo(found.number.0.saturating_add(1));
            }
        }
        Ok(())
    }

    /// Finds the events of this time. Neither ids nor the present time tell the days, because the
    /// clock may have been ahead or set back; and there may be years between two events.
    fn wanted(&mut self, time: (Timestamp, Timestamp)) -> Result<Wanted, Problem> {
        let (mut org, mut wanted) = (OrgNo(0), Wanted::default());
        while let Some(found) = self.source.store.retained_org(org)? {
            let mut after = None;
            loop {
                self.reader.check()?;
                let (events, next) =
                    self.source.store.received_events(found.number, time, after)?;
                wanted.days.extend(events.iter().map(|(_, received_at)| received_at.0 / DAY_MS));
                wanted.last = wanted.last.max(events.last().map(|(event, _)| *event));
                after = next;
                if after.is_none() {
                    break;
                }
            }
            org = OrgNo(found.number.0.saturating_add(1));
        }
        Ok(wanted)
    }

    fn read_org(
        &mut self,
        org: (OrgNo, OrgId),
        time: (Timestamp, Timestamp),
        last: EventId,
    ) -> Result<(), Problem> {
        let mut after = None;
        loop {
            let (events, next) = self.source.store.received_events(org.0, time, after)?;
            for (event, _) in events {
                if event > last {
                    return Ok(());
                }
                self.add(org, event)?;
            }
            after = next;
            if after.is_none() {
                return Ok(());
            }
            self.reader.check()?;
        }
    }

    fn add(&mut self, org: (OrgNo, OrgId), event: EventId) -> Result<(), Problem> {
        let Some(line) = line(self.source, org, event)? else { return Ok(()) };
        if let Some(why) = line.unreadable {
            tracing::warn!(%event, why, "an archive has this event without its payload");
        }
        self.reader.take(&line.json)
    }
}
