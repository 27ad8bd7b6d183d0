//! `POST /api/admin/archive`: the events of a time as lines of JSON, for the operator. Events that
//! expire are archived in the same form.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::web;
use futures_util::stream;
use serde::Serialize;

use super::event_history::{Deliveries, deliveries};
use super::stored_event::{has_expired, item};
use crate::archive::Line;
use crate::base::pieces::Pieces;
use crate::base::splice::Splice;
use crate::base::threads::Signal;
use crate::http::edge::audit;
use crate::http::edge::call::{Answer, Call};
use crate::http::error::{Code, Problem};
use crate::http::input::declare::{Parameters as _, query};
use crate::http::input::lists::{Span, since_until};
use crate::http::openapi::operation::{Operation, Reply, Tag, any_text};
use crate::http::shared::Api;
use crate::model::id::{EventId, OrgId, OrgNo};
use crate::model::time::Timestamp;

/// The content type of lines of JSON.
const LINES: &str = "application/jsonl";
/// Longest rest after a piece.
const REST_MAX: Duration = Duration::from_millis(20);
/// Seconds after which another archive may be possible.
const RETRY_AFTER_S: u64 = 10;
/// The events of a day stand together, so that each day can have a file.
const DAY_MS: u64 = 86_400_000;

query! {
    /// The events of an archive.
    struct ArchiveQuery {
        /// The time of receipt.
        time: Span = since_until();
    }
}

pub(in crate::http) static ARCHIVE: Operation = Operation::new(
    "archiveEvents",
    Tag::Administration,
    "Read all events of a time as lines of JSON",
    &[Reply::of(200, "An event on each line, day by day, the oldest first.", (LINES, any_text))],
)
.query::<ArchiveQuery>();

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
    api: &Api,
    (org, organization_id): (OrgNo, OrgId),
    event: EventId,
) -> Result<Option<Line>, Problem> {
    let Some(known) = api.engine.store.event(org, event)? else { return Ok(None) };
    let is_erased = known.erased_at.is_some();
    let stored = match api.engine.records.event(event, known.position) {
        Ok(stored) => stored,
        Err(error) if error.is_removed() && has_expired(api, org, event) => return Ok(None),
        Err(error) => {
            let (received_at, lost) = (known.received_at, error.is_removed());
            let without =
                WithoutPayload { id: event, received_at, organization_id, lost, unreadable: !lost };
            let json = serde_json::to_vec(&without).map_err(|error| Problem::internal(&error))?;
            let unreadable = (!lost).then(|| error.to_string());
            return Ok(Some(Line { json, is_erased, unreadable }));
        }
    };
    let (found, is_all) = deliveries(api, org, event)?;
    let deliveries = Deliveries::of(api, (&found, is_all));
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

/// `POST`: answers with the events that were received from `since` until `until`.
pub(in crate::http) async fn archive(call: &mut Call) -> Answer {
    let (wanted, mut query) = ArchiveQuery::draft(call.request.query_string());
    let (since, until) = wanted.time.of_query(call.now, &mut query);
    query.finish()?;
    audit::archive(call, (since, until)).await?;
    // Without an end: events may have been received while the clock was ahead.
    let time = (since.unwrap_or(Timestamp(0)), until.unwrap_or(Timestamp(u64::MAX)));
    let (pieces, received) = Pieces::new();
    let api = web::Data::clone(&call.api);
    let started = call.api.archive_stream.start("archive-stream", move |place| {
        let since = Instant::now();
        let pieces = Sending { api: &api, pieces, since }.send(time);
        // The reader sees the end after the place is free.
        drop((place, pieces));
    });
    if !started.map_err(|error| Problem::internal(&error))? {
        let detail = "another archive is being read; try again when it is done";
        return Err(Problem::new(Code::Overloaded, detail).retry_after(RETRY_AFTER_S));
    }
    let received = stream::unfold(received, |mut received| async move {
        let piece = received.recv().await?;
        Some((piece, received))
    });
    Ok(HttpResponse::Ok().content_type(LINES).streaming(received))
}

/// The reader of the answer has gone, or the server stops.
#[derive(Debug, thiserror::Error)]
#[error("the server stops, or nobody reads the answer")]
struct Gone;

/// The answer on its way.
struct Sending<'a> {
    api: &'a Api,
    pieces: Pieces,
    since: Instant,
}

/// The events of an archive.
#[derive(Default)]
struct Wanted {
    /// The numbers of the days on which they were received.
    days: BTreeSet<u64>,
    /// The last of them. Later events do not count, so that an archive ends.
    last: Option<EventId>,
}

impl Sending<'_> {
    /// Sends the events of this time, and returns the open end of the answer.
    fn send(mut self, time: (Timestamp, Timestamp)) -> Pieces {
        if let Err(error) = self.send_days(time).and_then(|()| self.flush()) {
            let why = error.cause().unwrap_or("it cannot be read").to_owned();
            tracing::warn!(why, "an archive was not sent to its end");
            // The reader takes no part for the whole.
            self.pieces.break_off(io::Error::other(why));
        }
        self.pieces
    }

    /// Sends the events of each day, organization by organization.
    fn send_days(&mut self, (since, until): (Timestamp, Timestamp)) -> Result<(), Problem> {
        let wanted = self.wanted((since, until))?;
        let Some(last) = wanted.last else { return Ok(()) };
        for day in wanted.days {
            let begins = Timestamp(day.saturating_mul(DAY_MS));
            let time = (begins.max(since), begins.plus_ms(DAY_MS).min(until));
            let mut org = OrgNo(0);
            while let Some(found) = self.api.engine.store.retained_org(org)? {
                self.check()?;
                self.send_org((found.number, found.id), time, last)?;
                org = OrgNo(found.number.0.saturating_add(1));
            }
        }
        Ok(())
    }

    /// Finds the events of this time. Neither ids nor the present time tell the days, because the
    /// clock may have been ahead or set back; and there may be years between two events.
    fn wanted(&mut self, time: (Timestamp, Timestamp)) -> Result<Wanted, Problem> {
        let (mut org, mut wanted) = (OrgNo(0), Wanted::default());
        while let Some(found) = self.api.engine.store.retained_org(org)? {
            let mut after = None;
            loop {
                self.check()?;
                let store = &self.api.engine.store;
                let (events, next) = store.received_events(found.number, time, after)?;
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

    fn send_org(
        &mut self,
        org: (OrgNo, OrgId),
        time: (Timestamp, Timestamp),
        last: EventId,
    ) -> Result<(), Problem> {
        let mut after = None;
        loop {
            let (events, next) = self.api.engine.store.received_events(org.0, time, after)?;
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
            self.check()?;
        }
    }

    fn add(&mut self, org: (OrgNo, OrgId), event: EventId) -> Result<(), Problem> {
        if let Some(line) = line(self.api, org, event)? {
            if let Some(why) = line.unreadable {
                tracing::warn!(%event, why, "an archive has this event without its payload");
            }
            self.pieces.add(&line.json);
            if self.pieces.add(b"\n") {
                return self.flush();
            }
        }
        Ok(())
    }

    /// Ends the archive if the server stops or the reader has gone. Rests after some work.
    fn check(&mut self) -> Result<(), Problem> {
        if self.api.engine.stop.is_set() || self.pieces.is_closed() {
            return Err(Problem::internal(&Gone));
        }
        if self.since.elapsed() >= REST_MAX {
            self.rest();
        }
        Ok(())
    }

    /// Sends what is written, and rests.
    fn flush(&mut self) -> Result<(), Problem> {
        if self.api.engine.stop.is_set() || self.pieces.flush().is_err() {
            return Err(Problem::internal(&Gone));
        }
        self.rest();
        Ok(())
    }

    /// Rests as long as the work took, at most a moment.
    fn rest(&mut self) {
        Signal::new().wait(self.since.elapsed().min(REST_MAX));
        self.since = Instant::now();
    }
}
