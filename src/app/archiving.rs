//! The archive of expiring events. Its directory may be on another machine and may not answer: so
//! the start waits for it only briefly, and a stop leaves its thread behind.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix_web::web::Data;

use crate::archive::Archiver;
use crate::base::threads::{Thread, spawn_critical};
use crate::commit::Engine;
use crate::config::Config;
use crate::http::{self, Api};

/// Time that the archive has at a stop to finish its file.
const END_MAX: Duration = Duration::from_secs(3);

/// Tells if the directory did not answer at the start.
pub(super) fn tell(answers: bool, health: &http::Health) {
    if answers {
        return;
    }
    health.archive_fails().store(true, Ordering::SeqCst);
    tracing::error!(
        "[retention] archive_directory does not answer, so no event expires until it does; \
         everything else goes on"
    );
}

/// Starts the thread that archives events before they expire, if there is a directory for it.
/// Returns its ends.
pub(super) fn start(
    engine: &Arc<Engine>,
    (config, api): (&Config, &Data<Api>),
) -> std::io::Result<Option<(Archiver, Thread)>> {
    let Some(directory) = &config.retention.archive_directory else { return Ok(None) };
    let (fails, shown) = (api.archive_fails(), Data::clone(api));
    let lines = Box::new(move |org, event| http::archive_line(&shown, org, event));
    let places = (directory.as_path(), config.storage.data_dir.as_path());
    let (archiver, service) = Archiver::new(engine, places, lines, fails);
    let thread = spawn_critical("archive", || service.run())?;
    Ok(Some((archiver, thread)))
}

/// Waits for the thread, whose archiver has ended. A thread that a directory keeps is left behind:
/// all that it has archived is durable, and what it archives has not expired.
pub(super) fn leave(thread: Thread, deadline: Instant) {
    if !thread.join_until(deadline.min(Instant::now() + END_MAX)) {
        tracing::warn!(
            "[retention] archive_directory does not answer; the server stops without it, and the \
             next start finishes the file of the archive"
        );
    }
}
