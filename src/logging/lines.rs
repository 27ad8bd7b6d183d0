//! One line an event, and in front of it, for systemd's journal, its priority; sd-daemon(3).

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::damping::AUDIT;

/// Writes events as `F` does.
pub(super) struct Lines<F> {
    format: F,
    with_priority: bool,
}

impl<F> Lines<F> {
    pub(super) fn new(format: F, with_priority: bool) -> Self {
        Self { format, with_priority }
    }
}

impl<S, N, F> FormatEvent<S, N> for Lines<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if self.with_priority {
            write!(writer, "<{}>", priority(*event.metadata().level(), event.metadata().target()))?;
        }
        self.format.format_event(context, writer, event)
    }
}

/// `LOG_ERR` to `LOG_DEBUG` of syslog(3). Who changed what is `LOG_NOTICE`, so that it can be asked for.
fn priority(level: Level, target: &str) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO if target == AUDIT => 5,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
