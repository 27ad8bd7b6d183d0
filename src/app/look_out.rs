//! Looks whether the data directory is still where it was, and the journal in it what it was. A process goes on writing to files
//! that were removed, renamed or cut off under it, and what it acknowledges then is lost with them: so it stops taking
//! anything, says so, and ends.
//!
//! A thread of its own, since a disk that hangs must hold up nobody who could notice. It also has the log tell, once a
//! second, what was left out of it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::loss::{Loss, What};
use crate::base::exit_code::fatal_loss;
use crate::base::metrics::Metrics;
use crate::base::threads::{Signal, Stop};
use crate::commit::Intake;
use crate::data_dir::DataDir;
use crate::http::Health;
use crate::journal::{Reader, Watch};
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
    journal: Watch,
    intake: Intake,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    left_out: LeftOut,
}

/// A name and the file that has to have it, which is held open: so it is known what becomes of it.
struct Place {
    what: What,
    path: PathBuf,
    held: File,
}

impl Place {
    fn of((what, path): (What, PathBuf)) -> io::Result<Self> {
        let held = File::open(&path)?;
        Ok(Self { what, path, held })
    }

    /// Whether nothing or something else has the name now. What cannot be said is not held against it.
    fn loss(&self) -> Option<Loss> {
        match (fs::metadata(&self.path), self.held.metadata()) {
            (Ok(named), Ok(held)) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => None,
            (Ok(_), Ok(_)) => Some(Loss::of(self.what, self.path.clone(), &self.held)),
            (Ok(_), Err(_)) => None,
            (Err(error), _) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    Some(Loss::of(self.what, self.path.clone(), &self.held))
                }
                io::ErrorKind::PermissionDenied => Some(Loss::denied(self.what, self.path.clone(), error)),
                _ => None,
            },
        }
    }
}

impl LookOut {
    /// # Errors
    /// When the data directory cannot be looked at now.
    pub(super) fn new(
        data_dir: &DataDir,
        journal: &Reader,
        intake: Intake,
        (health, metrics): (Arc<Health>, Arc<Metrics>),
    ) -> io::Result<Self> {
        let places = [(What::DataDir, Some(data_dir.path().to_owned())), (What::Journal, Some(data_dir.journal()))];
        let places = places.into_iter().chain([(What::Lock, data_dir.lock_file())]);
        let places = places.filter_map(|(what, path)| Some(Place::of((what, path?))));
        let (places, journal) = (places.collect::<io::Result<_>>()?, Watch::new(journal));
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

    /// What is not where or what it was.
    fn lost(&mut self) -> Option<Loss> {
        let place = self.places.iter().find_map(Place::loss);
        place.or_else(|| {
            let segment = Loss::segment(self.journal.look()?);
            // A segment goes with the directory that it is in, and that may have gone a moment ago.
            Some(self.places.iter().find_map(Place::loss).unwrap_or(segment))
        })
    }

    fn end(&self, loss: &Loss) -> ! {
        self.health.set_data_lost();
        self.intake.close();
        tracing::error!(lost = loss.path(), "{}; requests are no longer accepted", loss.summary());
        Signal::new().wait(LAST_WORDS);
        // What is removed goes piece by piece: by now it is known how much of it.
        let more = self.places.iter().find_map(Place::loss);
        fatal_loss(&more.as_ref().unwrap_or(loss).to_string())
    }

    fn tell_left_out(&mut self) {
        let now = logging::tick();
        self.metrics.log_lines_left_out.inc_by(now.lines.saturating_sub(self.left_out.lines));
        self.metrics.http_malformed.inc_by(now.http.saturating_sub(self.left_out.http));
        self.left_out = now;
    }
}
