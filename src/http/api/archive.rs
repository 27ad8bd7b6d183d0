//! `POST /api/admin/archive`: the events of a time as lines of JSON, for the operator. Events that
//! expire are archived in the same form.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::web::{self, Bytes};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::mpsc::{self, Sender};

use super::event_history::{Deliveries, deliveries};
use super::stored_event::{has_expired, item};
use crate::archive::Line;
use crate::base::splice::Splice;
use crate::base::threads::{Signal, spawn_critical};
use crate::http::edge::audit;
use crate::http::edge::call::{Answer, Call};
use crate::http::error::{Code, Problem};
use crate::http::input::query::Query;
use crate::http::shared::Api;
use crate::model::id::{EventId, OrgId, OrgNo};
use crate::model::time::Timestamp;

/// The content type of lines of JSON.
const LINES: &str = "application/jsonl";
/// Size of a piece of the answer, and the number of pieces that wait for the reader.
const PIECE_BYTES: usize = 64 << 10;
const PIECES: usize = 8;
/// Longest rest after a piece.
const REST_MAX: Duration = Duration::from_millis(20);
/// Seconds after which another archive may be possible.
const RETRY_AFTER_S: u64 = 10;
/// The events of a day stand together, so that each day can have a file.
const DAY_MS: u64 = 86_400_000;

/// The members behind those of lists.
#[derive(Serialize)]
struct More {
    organization_id: OrgId,
    in_inbox: bool,
    #[serde(flatten)]
    deliveries: Deliveries,
}

/// An event whose payload was lost with a part of the journal.
#[derive(Serialize)]
struct WithoutPayload {
    id: EventId,
    received_at: Timestamp,
    organization_id: OrgId,
    lost: bool,
}

/// Returns the line of an event; none if it does not exist any more.
///
/// # Errors
/// The event cannot be read.
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
        Err(error) if error.is_removed() => {
            let received_at = known.received_at;
            let lost = WithoutPayload { id: event, received_at, organization_id, lost: true };
            let json = serde_json::to_vec(&lost).map_err(|error| Problem::internal(&error))?;
            return Ok(Some(Line { json, is_erased }));
        }
        Err(error) => return Err(Problem::unreadable(event, &error)),
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
    Ok(Some(Line { json, is_erased }))
}

/// Replaces line breaks, which a payload may have between its tokens and nowhere else.
fn on_one_line(json: &mut [u8]) {
    for byte in json.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
}

/// `POST`: answers with the events that were received from `since` until `until`.
pub(in crate::http) fn archive(call: &mut Call) -> Answer {
    let mut query = Query::read(call.request.query_string());
    let (since, until) = query.times(call.now);
    query.finish()?;
    let time = (since.unwrap_or(Timestamp(0)), until.unwrap_or(call.now));
    if call.api.is_archiving.swap(true, Ordering::SeqCst) {
        let detail = "another archive is being read; try again when it is done";
        return Err(Problem::new(Code::Overloaded, detail).retry_after(RETRY_AFTER_S));
    }
    audit::archive(call);
    let (sender, pieces) = mpsc::channel(PIECES);
    let api = web::Data::clone(&call.api);
    let run = move || {
        Pieces { api: &api, sender, piece: Vec::new(), since: Instant::now() }.send(time);
        api.is_archiving.store(false, Ordering::SeqCst);
    };
    if let Err(error) = spawn_critical("archive-stream", run) {
        call.api.is_archiving.store(false, Ordering::SeqCst);
        return Err(Problem::internal(&error));
    }
    let pieces = stream::unfold(pieces, |mut pieces| async move {
        let piece: io::Result<Bytes> = pieces.recv().await?;
        Some((piece, pieces))
    });
    Ok(HttpResponse::Ok().content_type(LINES).streaming(pieces))
}

/// The reader of the answer has gone, or the server stops.
#[derive(Debug, thiserror::Error)]
#[error("the server stops, or nobody reads the answer")]
struct Gone;

/// The answer on its way.
struct Pieces<'a> {
    api: &'a Api,
    sender: Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
    since: Instant,
}

impl Pieces<'_> {
    fn send(mut self, time: (Timestamp, Timestamp)) {
        if let Err(error) = self.send_days(time).and_then(|()| self.flush()) {
            let why = error.cause().unwrap_or("it cannot be read").to_owned();
            tracing::warn!(why, "an archive was not sent to its end");
            // The reader sees a stream that breaks off, and takes no part for the whole.
            drop(self.sender.blocking_send(Err(io::Error::other(why))));
        }
    }

    /// Sends the events of each day, organization by organization.
    fn send_days(&mut self, (since, until): (Timestamp, Timestamp)) -> Result<(), Problem> {
        let Some(oldest) = self.oldest()? else { return Ok(()) };
        let mut from = since.max(oldest);
        while from < until {
            let next = Timestamp((from.0 / DAY_MS + 1) * DAY_MS).min(until);
            let mut org = OrgNo(0);
            while let Some(found) = self.api.engine.store.retained_org(org)? {
                self.send_org((found.number, found.id), (from, next))?;
                org = OrgNo(found.number.0.saturating_add(1));
            }
            from = next;
        }
        Ok(())
    }

    /// Returns the time of receipt of the oldest event. An id is never older than its event.
    fn oldest(&self) -> Result<Option<Timestamp>, Problem> {
        let (mut org, mut oldest) = (OrgNo(0), None);
        while let Some(found) = self.api.engine.store.retained_org(org)? {
            oldest = oldest.into_iter().chain(found.oldest).min();
            org = OrgNo(found.number.0.saturating_add(1));
        }
        Ok(oldest)
    }

    fn send_org(
        &mut self,
        org: (OrgNo, OrgId),
        time: (Timestamp, Timestamp),
    ) -> Result<(), Problem> {
        let mut after = None;
        loop {
            let (events, next) = self.api.engine.store.received_events(org.0, time, after)?;
            for event in events {
                if let Some(line) = line(self.api, org, event)? {
                    self.piece.extend_from_slice(&line.json);
                    self.piece.push(b'\n');
                }
                if self.piece.len() >= PIECE_BYTES {
                    self.flush()?;
                }
            }
            after = next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Sends what is written, and rests as long as it took, at most a moment.
    fn flush(&mut self) -> Result<(), Problem> {
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        let is_stopping = self.api.engine.stop.is_set();
        if is_stopping || self.sender.blocking_send(Ok(piece)).is_err() {
            return Err(Problem::internal(&Gone));
        }
        Signal::new().wait(self.since.elapsed().min(REST_MAX));
        self.since = Instant::now();
        Ok(())
    }
}
