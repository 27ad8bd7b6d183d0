//! Checks that the data directory is still in its place and its journal unchanged. A process can go
//! on writing to files after they were removed, renamed or truncated, and everything acknowledged
//! from then on is lost with them. So on a loss the directory watch closes the intake, logs the
//! loss, and ends the process.
//!
//! The files `FORMAT` and `secrets.key` are only read at a start. Nothing that the running server
//! does needs them, and its memory may hold the last copy of the key. So their loss is logged and
//! shown by `/health`, and the server goes on.
//!
//! The directory watch has a thread of its own, so a hanging disk delays no other check. A watch
//! that hangs for 10 seconds ends the process, as a hanging committer does. Once a second, the
//! thread also logs how many lines the log left out.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::kept_file::KeptFile;
use super::loss::{Loss, What};
use crate::base::exit_code::fatal_loss;
use crate::base::regular;
use crate::base::threads::{Signal, Stop};
use crate::commit::{Engine, Progress};
use crate::config::credentials_directory;
use crate::data_dir::DataDir;
use crate::http::Health;
use crate::journal::{Reader, Watch};
use crate::logging::{self, LeftOut};

/// Time between two checks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Time between two reports of lines that the log left out.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Time during which clients and probes are told of the loss before the process ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The files to check, and the parts that hear of a loss.
pub(super) struct DirWatch {
    places: Vec<Place>,
    kept_files: Vec<KeptFile>,
    journal: Watch,
    engine: Arc<Engine>,
    health: Arc<Health>,
    left_out: LeftOut,
    progress: Arc<Progress>,
}

/// A path and the file expected there. The file is held open, so its new name can be found after a
/// rename.
struct Place {
    what: What,
    path: PathBuf,
    held: File,
}

impl Place {
    fn of((what, path): (What, PathBuf)) -> io::Result<Self> {
        // The path may belong to a directory, which `regular` refuses.
        let held = if path.is_dir() { File::open(&path)? } else { regular::open(&path)? };
        Ok(Self { what, path, held })
    }

    /// Returns a loss if the path now names no file or another file. An error that proves nothing
    /// is not a loss.
    fn loss(&self) -> Option<Loss> {
        match (fs::metadata(&self.path), self.held.metadata()) {
            (Ok(named), Ok(held)) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => None,
            (Ok(_), Ok(_)) => Some(Loss::of(self.what, self.path.clone(), &self.held)),
            (Ok(_), Err(_)) => None,
            (Err(error), _) => Loss::of_error(self.what, &self.path, &self.held, error),
        }
    }
}

impl DirWatch {
    /// Opens the files to check.
    ///
    /// # Errors
    /// The I/O error if a path of the data directory cannot be opened now.
    pub(super) fn new(
        data_dir: &DataDir,
        journal: &Reader,
        engine: &Arc<Engine>,
        health: &Arc<Health>,
    ) -> io::Result<Self> {
        let places = [
            (What::DataDir, Some(data_dir.path().to_owned())),
            (What::Journal, Some(data_dir.journal())),
        ];
        let places = places.into_iter().chain([(What::Lock, data_dir.lock_file())]);
        let places = places.filter_map(|(what, path)| Some(Place::of((what, path?))));
        let key = data_dir.secrets_key_file(credentials_directory().as_deref());
        let kept = key.map(|path| KeptFile::of((What::SecretsKey, path))).into_iter();
        let kept = kept.chain([KeptFile::format(data_dir.format_file())]);
        Ok(Self {
            places: places.collect::<io::Result<_>>()?,
            kept_files: kept.collect::<io::Result<_>>()?,
            journal: Watch::new(journal),
            engine: Arc::clone(engine),
            health: Arc::clone(health),
            left_out: LeftOut::default(),
            progress: Arc::default(),
        })
    }

    /// Shows each round of the watch: a watch that hangs would notice nothing.
    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Checks until the server stops.
    pub(super) fn run(mut self, stop: &Stop) {
        let pause = Signal::new();
        let mut told = Instant::now();
        while !stop.is_set() {
            self.progress.busy();
            if let Some(lost) = self.lost() {
                self.end(&lost);
            }
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                self.tell_left_out();
                self.look_at_kept_files();
            }
            self.progress.idle();
            pause.wait(LOOK_EVERY);
        }
        self.tell_left_out();
    }

    /// Returns the first loss found.
    fn lost(&mut self) -> Option<Loss> {
        let place = self.places.iter().find_map(Place::loss);
        place.or_else(|| {
            let segment = Loss::segment(self.journal.look()?);
            // A segment disappears with its directory, and the directory may be gone since the
            // check before: name the directory then.
            Some(self.places.iter().find_map(Place::loss).unwrap_or(segment))
        })
    }

    fn look_at_kept_files(&mut self) {
        self.kept_files.iter_mut().for_each(KeptFile::look);
        self.health.set_incomplete(self.kept_files.iter().any(KeptFile::is_lost));
    }

    fn end(&self, loss: &Loss) -> ! {
        self.health.set_data_lost();
        self.engine.intake.close();
        tracing::error!(lost = loss.path(), "{}; requests are no longer accepted", loss.summary());
        Signal::new().wait(LAST_WORDS);
        // A removal goes on file by file: after this time more of it is visible.
        let more = self.places.iter().find_map(Place::loss);
        fatal_loss(&more.as_ref().unwrap_or(loss).to_string())
    }

    fn tell_left_out(&mut self) {
        let now = logging::tick();
        let metrics = &self.engine.metrics;
        metrics.log_lines_left_out.inc_by(now.lines.saturating_sub(self.left_out.lines));
        metrics.http_malformed.inc_by(now.http.saturating_sub(self.left_out.http));
        self.left_out = now;
    }
}
