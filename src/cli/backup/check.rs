//! `triggerd verify BACKUP`: checks a backup, and changes nothing in it.

use std::path::Path;

use serde_json::json;

use super::failures::failure;
use super::input::Input;
use crate::backup::{Manifest, check, read_archive};
use crate::base::exit_code::ExitCode;
use crate::cli::audit::{JournalAudit, told};
use crate::cli::failure::Failure;
use crate::cli::output::{counted, print, print_text};
use crate::cli::reach::Settings;
use crate::cli::snapshots::{Snapshots, no_base};
use crate::data_dir::JOURNAL;
use crate::journal::Position;

/// Checks the sums of a backup, and in a directory also every record and snapshot.
pub(in crate::cli) fn run(
    backup: &Path,
    (identity, settings): (Option<&Path>, &Settings),
    is_json: bool,
) -> Result<ExitCode, Failure> {
    let (name, manifest, records) = match Input::open(backup, identity, settings)? {
        Input::Bucket(backup) => (backup.url(), backup.read(None).map_err(failure)?, None),
        Input::Archive(archive, name) => {
            let manifest = read_archive(archive, &name, None).map_err(failure)?;
            (name, manifest, None)
        }
        Input::Directory(backup) => {
            let manifest = check(&backup).map_err(failure)?;
            let records = records(&backup, &manifest)?;
            (backup.display().to_string(), manifest, Some(records))
        }
    };
    tell(&name, &manifest, records, is_json).map(|()| ExitCode::Clean)
}

fn tell(
    name: &str,
    manifest: &Manifest,
    records: Option<u64>,
    is_json: bool,
) -> Result<(), Failure> {
    let Manifest { made_at, first, end, bytes, segments, snapshot, .. } = manifest;
    if is_json {
        let line = json!({
            "backup": name,
            "made_at": made_at,
            "first": first,
            "end": end,
            "snapshot": snapshot,
            "segments": segments,
            "bytes": bytes,
            "records": records,
            "result": "ok",
        });
        return print(&line.to_string());
    }
    let result = if records.is_some() {
        "no damage was found"
    } else {
        "every file matches its SHA-256; `triggerd verify` of the restored directory verifies the \
         records, too"
    };
    let records = records.map_or(String::new(), |count| format!(", {}", counted(count, "record")));
    let parts = format!("{}, {}", counted(*segments, "segment"), counted(*bytes, "byte"));
    print_text(&format!(
        "backup    {name}, made at {made_at}\n\
         holds     {parts}{records}, positions {first} to {end}\n\
         {result}"
    ))
}

/// Reads every record and snapshot of a backup whose sums are right. Returns the number of records.
fn records(backup: &Path, manifest: &Manifest) -> Result<u64, Failure> {
    let journal = backup.join(JOURNAL);
    let audit = JournalAudit::read(&journal, Position(manifest.first))?;
    let snapshots = Snapshots::read(&journal, audit.end())?;
    let mut faults: Vec<_> = audit.damages().map(told).collect();
    faults.extend(no_base(&audit, snapshots.newest()));
    if audit.end().0 != manifest.end {
        let (is, was) = (audit.end(), manifest.end);
        faults.push(format!("the journal ends at position {is}, but the manifest says {was}"));
    }
    if faults.is_empty() {
        return Ok(audit.records());
    }
    let message = format!(
        "the backup {} matches its sums, but what was backed up is damaged:\n  {}",
        backup.display(),
        faults.join("\n  ")
    );
    Err(Failure::new(ExitCode::Damaged, message))
}
