//! Repeated lines appear once a second with their count, so that neither a client nor a fault of
//! triggerd can fill a disk with log lines.
//!
//! Each place in the code may log a few lines a second. Further lines are counted, and at the next
//! [`tick`] a summary line shows their number and the first of them. Errors of the HTTP library
//! about malformed requests appear only in summaries, with the client's address, because every
//! client can cause any number of them. Audit lines are never left out, because an operator must be
//! able to rely on them. Lines at debug or trace are never left out either, because an operator
//! asked for them.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::base::peer;

/// The target of audit lines: every change with its author.
pub const AUDIT: &str = "triggerd::audit";
/// The target of lines that any client can cause at any rate; each place logs at most one of these
/// lines a second.
pub const FLOODS: &str = "triggerd::http::flood";

/// The target of the summary lines.
const OWN: &str = "triggerd::logging";
/// The prefix of the HTTP library's targets.
const HTTP_LIBRARY: &str = "actix_http";
/// Maximum number of lines of one place in a second, in general.
const LINES_A_SECOND: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);
/// Maximum length of the first left-out line, as the summary shows it, in bytes.
const SAMPLE_BYTES_MAX: usize = 400;

/// Numbers of left-out lines since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// All left-out lines, whatever wrote them.
    pub lines: u64,
    /// Left-out lines of the HTTP library, each about a malformed request.
    pub http: u64,
}

/// Decides for each event whether to log a line.
#[derive(Clone, Debug, Default)]
pub(super) struct Damping(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    places: Mutex<HashMap<Identifier, Place>>,
    lines: AtomicU64,
    http: AtomicU64,
}

/// A place in the code that logs.
#[derive(Debug)]
struct Place {
    metadata: &'static Metadata<'static>,
    since: Instant,
    told: u32,
    left_out: u64,
    /// The first left-out line.
    sample: String,
}

static OF_PROCESS: OnceLock<Damping> = OnceLock::new();

/// Logs the summaries that are due; to be called once a second. Returns the total numbers of
/// left-out lines.
pub fn tick() -> LeftOut {
    OF_PROCESS.get().map_or_else(LeftOut::default, |damping| damping.tick(Instant::now()))
}

impl Damping {
    pub(super) fn of_process() -> Self {
        OF_PROCESS.get_or_init(Self::default).clone()
    }

    /// True if this event is logged now.
    fn admits(&self, event: &Event<'_>, now: Instant) -> bool {
        let metadata = event.metadata();
        let Some(most) = lines_a_second(metadata) else { return true };
        let mut places = self.0.places.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Place { metadata, since: now, told: 0, left_out: 0, sample: String::new() };
        let place = places.entry(metadata.callsite()).or_insert_with(fresh);
        if place.left_out == 0 && now.saturating_duration_since(place.since) >= SECOND {
            (place.since, place.told) = (now, 0);
        }
        if place.told < most && place.left_out == 0 {
            place.told += 1;
            return true;
        }
        if place.left_out == 0 {
            place.sample = sample(event);
        }
        place.left_out += 1;
        drop(places);
        self.0.lines.fetch_add(1, Ordering::Relaxed);
        if is_of_http_library(metadata) {
            self.0.http.fetch_add(1, Ordering::Relaxed);
        }
        false
    }

    fn tick(&self, now: Instant) -> LeftOut {
        let due = {
            let mut places = self.0.places.lock().unwrap_or_else(PoisonError::into_inner);
            let waits = |place: &&mut Place| {
                // Lines of the HTTP library appear only in summaries, and the first summary should
                // not wait.
                let is_over =
                    now.saturating_duration_since(place.since) >= SECOND || place.told == 0;
                place.left_out > 0 && is_over
            };
            let tell = |place: &mut Place| {
                // At a limit of one line, the summary itself is the line of the new second.
                (place.since, place.told) =
                    (now, u32::from(lines_a_second(place.metadata) == Some(1)));
                (
                    place.metadata,
                    std::mem::take(&mut place.left_out),
                    std::mem::take(&mut place.sample),
                )
            };
            places.values_mut().filter(waits).map(tell).collect::<Vec<_>>()
        };
        for (metadata, count, sample) in due {
            tell(metadata, count, &sample);
        }
        LeftOut {
            lines: self.0.lines.load(Ordering::Relaxed),
            http: self.0.http.load(Ordering::Relaxed),
        }
    }
}

fn tell(metadata: &Metadata<'_>, count: u64, sample: &str) {
    let of = metadata.target();
    if is_of_http_library(metadata) {
        tracing::warn!(target: OWN, count, sample, "input arrived that is not HTTP");
    } else if *metadata.level() == Level::ERROR {
        tracing::error!(target: OWN, count, of, sample, "repeated lines were left out; the first \
            of them is shown");
    } else if *metadata.level() == Level::WARN {
        tracing::warn!(target: OWN, count, of, sample, "repeated lines were left out; the first \
            of them is shown");
    } else {
        tracing::info!(target: OWN, count, of, sample, "repeated lines were left out; the first \
            of them is shown");
    }
}

/// Maximum number of lines of this place in a second; none if there is no limit.
fn lines_a_second(metadata: &Metadata<'_>) -> Option<u32> {
    let is_asked_for = *metadata.level() > Level::INFO;
    match metadata.target() {
        _ if is_of_http_library(metadata) => Some(0),
        AUDIT | OWN => None,
        _ if is_asked_for => None,
        FLOODS => Some(1),
        _ => Some(LINES_A_SECOND),
    }
}

fn is_of_http_library(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::WARN && metadata.target().starts_with(HTTP_LIBRARY)
}

/// The message and the fields of an event, shortened.
fn sample(event: &Event<'_>) -> String {
    let mut text = Text(String::new());
    event.record(&mut text);
    if let Some(address) = peer::current().filter(|_| is_of_http_library(event.metadata())) {
        text.push("address", &address);
    }
    text.0
}

struct Text(String);

impl Text {
    fn push(&mut self, name: &str, value: &dyn fmt::Display) {
        let separator = if self.0.is_empty() { "" } else { " " };
        let name = if name == "message" { String::new() } else { format!("{name}=") };
        let written = write!(self.0, "{separator}{name}{value}");
        debug_assert!(written.is_ok(), "a text takes everything");
        let end = (0..=SAMPLE_BYTES_MAX.min(self.0.len()))
            .rev()
            .find(|end| self.0.is_char_boundary(*end));
        self.0.truncate(end.unwrap_or(0));
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field.name(), &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field.name(), &format_args!("{value:?}"));
    }
}

impl<S: Subscriber> Layer<S> for Damping {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        self.admits(event, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Returns the lines that remain in the log from `work`.
    fn logged(damping: &Damping, work: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Kept(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let kept = Kept::default();
        let writer = kept.clone();
        let lines =
            tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(damping.clone()).with(lines);
        tracing::subscriber::with_default(subscriber, work);
        let text = kept.0.lock().unwrap().clone();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_flood_is_a_line_a_second_with_its_count() {
        let damping = Damping::default();
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        let text = logged(&damping, || {
            (0..1_000).for_each(
                |number| tracing::info!(target: FLOODS, number, address = "192.0.2.1", "refused"),
            );
            damping.tick(Instant::now());
            damping.tick(later(1));
            damping.tick(later(2));
        });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("number=0") && lines[1].contains("count=999"), "{text}");
        assert!(lines[1].contains("address=192.0.2.1"), "{text}");
    }

    #[test]
    fn what_the_http_library_says_of_bytes_that_are_none_is_told_with_their_address() {
        let damping = Damping::default();
        let text = logged(&damping, || {
            peer::set(Some("192.0.2.7:4711".parse().unwrap()));
            for _ in 0..500 {
                tracing::error!(target: "actix_http::h1::dispatcher", "stream error: request \
                    parse error");
            }
            assert_eq!(damping.tick(Instant::now()), LeftOut { lines: 500, http: 500 });
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("count=500") && text.contains("192.0.2.7"), "{text}");
        assert!(
            text.contains("WARN") && !text.contains("ERROR"),
            "a client's mistake is no error of ours: {text}"
        );
    }

    #[test]
    fn who_changed_what_is_never_left_out() {
        let text = logged(&Damping::default(), || {
            (0..100).for_each(|number| tracing::info!(target: AUDIT, number, "key made"));
            (0..100).for_each(|number| tracing::debug!(number, "asked for"));
        });
        assert_eq!(text.lines().count(), 200);
    }
}
