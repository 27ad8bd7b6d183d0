//! One drill: restores a backup into a scratch directory, verifies it as `triggerd verify` does,
//! compares the counters with those of the manifest, and deletes everything again.
//!
//! `triggerd verify` runs as a process of its own: it computes a second state, and neither its
//! memory nor its processor time nor a panic on damaged data may become the server's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde::Deserialize;

use super::copy::create_dir;
use super::error::{BackupError, io_at};
use super::lock::lock;
use super::manifest::{BackupCounts, Manifest};
use super::restore::{Origin, restore_at_pace};
use super::source::Step;
use crate::base::exit_code::ExitCode;
use crate::base::failpoint::{self, Switch};
use crate::base::threads::Signal;
use crate::config::credentials_directory;

/// This program, also if its file was replaced by an update.
const PROGRAM: &str = "/proc/self/exe";
/// Interval at which the verification is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Maximum length of a reason, in characters.
const REASON_CHARS: usize = 2_000;

/// The scratch directory of drills, which is removed with everything in it.
pub(super) struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Creates the directory. Removes what a drill left that was killed.
    pub(super) fn make(path: &Path) -> Result<Self, BackupError> {
        Self::clear(path)?;
        create_dir(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock(path, &busy(path))? })
    }

    /// Removes what a drill left that was killed.
    pub(super) fn clear(path: &Path) -> Result<(), BackupError> {
        match path.symlink_metadata() {
            Err(_) => return Ok(()),
            Ok(facts) if facts.is_dir() => {}
            Ok(_) => {
                let path = path.display();
                return Err(BackupError::Refused(format!(
                    "{path} is in the place of the directory in which drills restore, and no drill \
                     made it; remove it"
                )));
            }
        }
        let _lock = lock(path, &busy(path))?;
        tracing::info!(path = %path.display(), "a drill that was interrupted is removed");
        fs::remove_dir_all(path).map_err(io_at(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            let path = self.path.display();
            tracing::warn!(%error, %path, "the scratch directory of a drill cannot be removed");
        }
    }
}

fn busy(path: &Path) -> String {
    format!("another drill is under way in {}", path.display())
}

/// Restores and verifies a backup. The work goes on as long as `step` allows, which is also called
/// with 0 while the verification runs.
///
/// # Errors
/// The backup is wrong, or the drill could not be carried out.
pub(super) fn drill(
    backup: Origin<'_>,
    scratch: &Scratch,
    step: &Step<'_>,
) -> Result<Manifest, BackupError> {
    let data = scratch.path.join("data");
    let manifest = restore_at_pace(backup, &data, None, step)?.manifest;
    if failpoint::is_on(Switch::DrillUnverified) {
        return Ok(manifest);
    }
    let verifying = Verifying::begin(&scratch.path, &data).map_err(io_at(Path::new(PROGRAM)))?;
    let report = verifying.report(&scratch.path, step)?;
    compare(&manifest, &report)?;
    Ok(manifest)
}

/// The process that verifies.
struct Verifying(Child);

impl Verifying {
    fn begin(scratch: &Path, data: &Path) -> std::io::Result<Self> {
        let (config, state) = (scratch.join("triggerd.toml"), scratch.join("state"));
        // A text of JSON is one of TOML, too.
        let quoted = serde_json::to_string(&data.to_string_lossy())?;
        fs::write(&config, format!("[storage]\ndata_dir = {quoted}\n"))?;
        fs::create_dir(&state)?;
        let mut command = Command::new(PROGRAM);
        // The environment is empty, so that only the file configures the command. One thread
        // decodes records, beside those of the server.
        command.env_clear().env("RAYON_NUM_THREADS", "1").env("TMPDIR", scratch);
        if let Some(credentials) = credentials_directory() {
            command.env("CREDENTIALS_DIRECTORY", credentials);
        }
        let server = std::process::id().to_string();
        command.args(["verify", "--json", "--gently", &server, "--scratch"]).arg(&state);
        command.arg("--config").arg(&config).stdin(Stdio::null());
        command.stdout(File::create(scratch.join("report"))?);
        command.stderr(File::create(scratch.join("said"))?);
        command.spawn().map(Self)
    }

    /// Waits for the end, and returns the report.
    fn report(mut self, scratch: &Path, step: &Step<'_>) -> Result<Report, BackupError> {
        let (program, pause) = (Path::new(PROGRAM), Signal::new());
        let ended = loop {
            if let Some(ended) = self.0.try_wait().map_err(io_at(program))? {
                break ended;
            }
            step(0).map_err(io_at(scratch))?;
            pause.wait(LOOK_EVERY);
        };
        let read = |name: &str| fs::read_to_string(scratch.join(name)).unwrap_or_default();
        let report = serde_json::from_str(&read("report")).unwrap_or_default();
        if ended.success() { Ok(report) } else { Err(not_well(&report, &read("said"), ended)) }
    }
}

impl Drop for Verifying {
    fn drop(&mut self) {
        // The process has ended, unless the drill is given up.
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait().map(drop)) {
            tracing::debug!(%error, "the verification of a drill cannot be ended");
        }
    }
}

/// The report of `triggerd verify --json`, as far as a drill reads it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    journal: JournalReport,
    snapshots: Vec<Checked>,
    state: Checked,
    files: Vec<String>,
    contradictions: Vec<String>,
    #[serde(flatten)]
    counts: BackupCounts,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JournalReport {
    end: u64,
    damages: Vec<Damage>,
}

#[derive(Debug, Default, Deserialize)]
struct Damage {
    file: String,
    offset: u64,
    reason: String,
}

/// A snapshot or the state.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Checked {
    file: String,
    result: String,
    why: Option<String>,
}

impl Checked {
    /// Describes its fault, if it has one.
    fn fault(&self) -> Option<String> {
        let Self { file, result, why } = self;
        let is_well = ["", "equal", "not_compared"].contains(&result.as_str());
        (!is_well).then(|| format!("{file} {result} {}", why.as_deref().unwrap_or_default()))
    }
}

/// The faults that the report names, or what the command said instead of a report.
fn not_well(report: &Report, said: &str, ended: ExitStatus) -> BackupError {
    let damages = report.journal.damages.iter();
    let damages = damages.map(|it| format!("{} offset {}: {}", it.file, it.offset, it.reason));
    let parts = report.snapshots.iter().chain([&report.state]).filter_map(Checked::fault);
    let others = report.files.iter().chain(&report.contradictions).cloned();
    let mut faults: Vec<_> = damages.chain(parts).chain(others).collect();
    if faults.is_empty() && ended.code() != Some(ExitCode::Damaged as i32) {
        let said: String = said.trim().chars().take(REASON_CHARS).collect();
        return BackupError::Unverified(format!("{ended}: {said}"));
    }
    faults.extend(Some(said.trim().to_owned()).filter(|_| faults.is_empty()));
    let faults: String = faults.join("; ").chars().take(REASON_CHARS).collect();
    BackupError::Damaged(format!(
        "the backup matches its sums, but what was backed up is damaged: {faults}"
    ))
}

/// Compares what was restored with what the manifest promises.
fn compare(manifest: &Manifest, report: &Report) -> Result<(), BackupError> {
    let mut wanted = vec![("end", report.journal.end, manifest.end)];
    if let Some(counts) = manifest.counts {
        let found = report.counts;
        wanted.extend([
            ("organizations", found.organizations, counts.organizations),
            ("events", found.events, counts.events),
            ("open", found.open, counts.open),
            ("waiting", found.waiting, counts.waiting),
            ("dead", found.dead, counts.dead),
        ]);
    }
    let differing = wanted.iter().filter(|(_, found, wanted)| found != wanted);
    let faults =
        differing.map(|(name, found, wanted)| format!("{name}: {found} instead of {wanted}"));
    let faults: Vec<_> = faults.collect();
    if faults.is_empty() {
        return Ok(());
    }
    let faults = faults.join(", ");
    Err(BackupError::Damaged(format!("the backup does not give back what it held: {faults}")))
}

#[cfg(test)]
mod tests {
    use super::super::manifest::About;
    use super::*;

    #[test]
    fn every_counter_that_differs_is_named() {
        let counts = BackupCounts { organizations: 1, events: 5, open: 2, waiting: 3, dead: 4 };
        let about = About { end: 90, counts: Some(counts), ..About::default() };
        let manifest = Manifest::new(about, vec![]);
        let report = |name: &str| {
            let values = [
                ("end", 90),
                ("organizations", 1),
                ("events", 5),
                ("open", 2),
                ("waiting", 3),
                ("dead", 4),
            ];
            let value = |of: &str| {
                let value = values.iter().find(|(name, _)| *name == of).unwrap().1;
                if of == name { value + 1 } else { value }
            };
            let text = format!(
                r#"{{"journal": {{"end": {}}}, "organizations": {}, "events": {}, "open": {},
                "waiting": {}, "dead": {}, "well": true}}"#,
                value("end"),
                value("organizations"),
                value("events"),
                value("open"),
                value("waiting"),
                value("dead")
            );
            serde_json::from_str::<Report>(&text).unwrap()
        };
        assert!(compare(&manifest, &report("")).is_ok());
        for name in ["end", "organizations", "events", "open", "waiting", "dead"] {
            let fault = compare(&manifest, &report(name)).unwrap_err().to_string();
            assert!(fault.contains(&format!("{name}: ")), "{fault}");
        }
        let uncounted = Manifest { counts: None, ..manifest };
        assert!(compare(&uncounted, &report("events")).is_ok());
        assert!(compare(&uncounted, &report("end")).is_err());
    }

    #[test]
    fn a_verification_that_says_nothing_is_a_failure() {
        use std::os::unix::process::ExitStatusExt as _;
        let killed = ExitStatus::from_raw(9);
        let fault = not_well(&Report::default(), "no memory\n", killed).to_string();
        assert!(fault.contains("signal: 9") && fault.ends_with("no memory"), "{fault}");
        let torn = r#"{"files": ["secrets.key is missing"], "state": {"result": "not_compared"},
            "snapshots": [{"file": "a.snap", "result": "equal"},
            {"file": "b.snap", "result": "damaged", "why": "torn"}]}"#;
        let fault = not_well(&serde_json::from_str(torn).unwrap(), "", killed).to_string();
        assert!(fault.ends_with(": b.snap damaged torn; secrets.key is missing"), "{fault}");
    }
}
