//! `POST /api/admin/archive`: the events of a time as lines of JSON, for the operator. Events that
//! expire are archived in the same form.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::web;
use futures_util::stream;

use super::archived_events::{Gone, Reader, read};
use crate::base::pieces::Pieces;
use crate::base::threads::Signal;
use crate::http::edge::audit;
use crate::http::edge::call::{Answer, Call};
use crate::http::error::{Code, Problem};
use crate::http::input::declare::{Parameters as _, query};
use crate::http::input::lists::{Span, since_until};
use crate::http::openapi::operation::{Operation, Reply, Tag, any_text};
use crate::http::shared::Api;
use crate::model::time::Timestamp;

/// The content type of lines of JSON.
const LINES: &str = "application/jsonl";
/// Longest rest after a piece.
const REST_MAX: Duration = Duration::from_millis(20);
/// Seconds after which another archive may be possible.
const RETRY_AFTER_S: u64 = 10;

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

/// The answer on its way.
struct Sending<'a> {
    api: &'a Api,
    pieces: Pieces,
    since: Instant,
}

impl Sending<'_> {
    /// Sends the events of this time, and returns the open end of the answer.
    fn send(mut self, time: (Timestamp, Timestamp)) -> Pieces {
        let api = self.api;
        if let Err(error) = read(api.into(), time, &mut self).and_then(|()| self.flush()) {
            let why = error.cause().unwrap_or("it cannot be read").to_owned();
            tracing::warn!(why, "an archive was not sent to its end");
            // The reader takes no part for the whole.
            self.pieces.break_off(io::Error::other(why));
        }
        self.pieces
    }
}

impl Reader for Sending<'_> {
    fn take(&mut self, line: &[u8]) -> Result<(), Problem> {
        self.pieces.add(line);
        if self.pieces.add(b"\n") { self.flush() } else { Ok(()) }
    }

    /// Rests after some work.
    fn check(&mut self) -> Result<(), Problem> {
        if self.api.engine.stop.is_set() || self.pieces.is_closed() {
            return Err(Problem::internal(&Gone));
        }
        if self.since.elapsed() >= REST_MAX {
            self.rest();
        }
        Ok(())
    }
}

impl Sending<'_> {
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
