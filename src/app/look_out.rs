//! Looks whether the data directory is still where it was. A process goes on writing to files that were removed or renamed
//! under it, and what it acknowledges then is lost with it: so it stops taking anything, says so, and ends.
//!
//! A thread of its own, since a disk that hangs must hold up nobody who could notice. It also has the log tell, once a
//! second, what was left out of it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::exit_code::fatal;
use crate::base::metrics::Metrics;
use crate::base::threads::{Signal, Stop};
use crate::commit::Intake;
use crate::data_dir::DataDir;
use crate::http::Health;
use crate::journal::Reader;
use crate::logging::{self, LeftOut};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the log tells what was left out.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long clients and probes are told so before the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What is looked at, and who is told.
pub(super) struct LookOut {
    places: Vec<Place>,
    journal: Reader,
    intake: Intake,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    left_out: LeftOut,
}

/// A name and the file that has to have it.
struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        let facts = fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), device: facts.dev(), inode: facts.ino() })
    }

    /// Whether nothing or something else has the name now. What cannot be said is not held against it.
    fn is_lost(&self) -> bool {
        match fs::metadata(&self.path) {
            Ok(facts) => (facts.dev(), facts.ino()) != (self.device, self.inode),
            Err(error) => is_absent(&error),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl LookOut {
    /// # Errors
    /// When the data directory cannot be looked at now.
    pub(super) fn new(
        data_dir: &DataDir,
        journal: Reader,
        intake: Intake,
        (health, metrics): (Arc<Health>, Arc<Metrics>),
    ) -> io::Result<Self> {
        let places = data_dir.places().iter().map(|path| Place::of(path)).collect::<io::Result<_>>()?;
        Ok(Self { places, journal, intake, health, metrics, left_out: LeftOut::default() })
    }

    /// Works until it is asked to stop.
    pub(super) fn run(mut self, stop: &Stop) {
        let pause = Signal::new();
        let mut told = Instant::now();
        while !stop.is_set() {
            if let Some(lost) = self.lost() {
                self.end(&lost);
            }
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                self.tell_left_out();
            }
            pause.wait(LOOK_EVERY);
        }
        self.tell_left_out();
    }

    /// What is not where it was.
    fn lost(&self) -> Option<PathBuf> {
        if let Some(place) = self.places.iter().find(|place| place.is_lost()) {
            return Some(place.path.clone());
        }
        let last = self.journal.segments().pop()?.path;
        fs::metadata(&last).is_err_and(|error| is_absent(&error)).then_some(last)
    }

    fn end(&self, lost: &Path) -> ! {
        let lost = lost.display().to_string();
        self.health.set_data_lost();
        self.intake.close();
        tracing::error!(
            lost,
            "the data directory was removed, renamed or replaced while the server runs; nothing is taken any more"
        );
        Signal::new().wait(LAST_WORDS);
        fatal(&format!(
            "{lost} was removed, renamed or replaced under the running server; put the data directory back where it was: events \
             acknowledged in the last second before this may be missing from it"
        ))
    }

    fn tell_left_out(&mut self) {
        let now = logging::tick();
        self.metrics.log_lines_left_out.inc_by(now.lines.saturating_sub(self.left_out.lines));
        self.metrics.http_malformed.inc_by(now.http.saturating_sub(self.left_out.http));
        self.left_out = now;
    }
}
