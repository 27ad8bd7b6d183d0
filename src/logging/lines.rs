//! Each event is one line. For systemd's journal, the line begins with its priority; sd-daemon(3).

use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::damping::AUDIT;

/// The target of lines logged through the crate `log`, until it is replaced by the library's own
/// target.
const OF_LOG: &str = "log";
/// Prefix of the members added by the crate `log`, which name the paths of the library's build. The
/// text form leaves them out as well.
const BY_LOG: &str = "log.";

/// Writes events in the format `F`.
pub(super) struct Lines<F> {
    format: F,
    with_priority: bool,
}

impl<F> Lines<F> {
    pub(super) fn new(format: F, with_priority: bool) -> Self {
        Self { format, with_priority }
    }
}

/// Returns the line without the members of the crate `log`; none if the line is not JSON.
fn without_build_paths(line: &str) -> Option<String> {
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(line).ok()?;
    members.retain(|name, _| !name.starts_with(BY_LOG));
    serde_json::to_string(&members).ok()
}

impl<S, N, F> FormatEvent<S, N> for Lines<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.with_priority {
            write!(writer, "<{}>", priority(*event.metadata().level(), event.metadata().target()))?;
        }
        if event.metadata().target() != OF_LOG {
            return self.format.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        match without_build_paths(&line) {
            Some(shorter) => writeln!(writer, "{shorter}"),
            None => writer.write_str(&line),
        }
    }
}

/// `LOG_ERR` to `LOG_DEBUG` of syslog(3). Audit lines are `LOG_NOTICE`, so that an operator can
/// select them.
fn priority(level: Level, target: &str) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO if target == AUDIT => 5,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
