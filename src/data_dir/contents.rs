//! Decides if a directory without the file `FORMAT` may become a data directory, and if a data
//! directory has lost its journal. A directory with foreign files was named by mistake, and
//! triggerd's files in the middle of `/etc` or of a home directory help nobody.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::names::{
    DAMAGED_PREFIX, DRAFT_SUFFIX, FORMAT_FILE, JOURNAL_DIR, OWN_FILES, SECRETS_KEY_FILE, STATE_DIR,
};

/// Maximum number of foreign names in the error.
const NAMED_MAX: usize = 5;
/// Names in a directory that its user regards as empty; filesystems, snapshots and version control
/// make them.
const UNUSED: [&str; 7] =
    ["lost+found", ".snapshot", ".snapshots", ".gitkeep", ".gitignore", ".keep", ".DS_Store"];
/// Prefix of a removed file that is still open on an NFS client.
const NFS_REMOVED: &str = ".nfs";
/// Extension of a configuration file, which may lie beside its data.
const CONFIGURATION: &str = "toml";

/// Joins names; `more` is the number of those that are left out.
pub(super) fn listed(names: &[String], more: usize) -> String {
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// Returns the names of foreign files: the first few, and the number of the others. None if the
/// directory is triggerd's, or free to become a data directory.
pub(super) fn foreign(dir: &Path) -> Option<(Vec<String>, usize)> {
    if dir.join(FORMAT_FILE).exists() || has_segments(&dir.join(JOURNAL_DIR)) {
        return None;
    }
    // If the directory cannot be read, the next step reports the error.
    let entries = fs::read_dir(dir).ok()?.filter_map(|entry| Some(entry.ok()?.file_name()));
    let names = entries.filter(|name| !is_free(name));
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    let more = names.len().saturating_sub(NAMED_MAX);
    names.truncate(NAMED_MAX);
    Some((names, more)).filter(|(names, _)| !names.is_empty())
}

/// Describes the loss of the journal of `dir`: there are no segments, but a file or directory that
/// triggerd creates only beside a journal. None if there are segments, or nothing was ever stored
/// here. The admin token proves nothing, because the first start creates it before the journal.
pub fn lost_journal(dir: &Path) -> Option<String> {
    let journal = dir.join(JOURNAL_DIR);
    if has_segments(&journal) {
        return None;
    }
    let proves = |name: &String| match name.as_str() {
        FORMAT_FILE | SECRETS_KEY_FILE => true,
        STATE_DIR => {
            fs::read_dir(dir.join(STATE_DIR)).is_ok_and(|mut names| names.next().is_some())
        }
        _ => name.starts_with(DAMAGED_PREFIX),
    };
    let names =
        fs::read_dir(dir).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let witness = names.filter(proves).min()?;
    Some(format!(
        "{} has no segments, but a server has used this directory before, because {witness} is in \
         {}. Restore the whole directory from a backup, or copy it again if it is a copy. To begin \
         without the former events, name an empty directory in [storage] data_dir",
        journal.display(),
        dir.display()
    ))
}

/// True if triggerd or nobody uses a file of this name.
fn is_free(name: &OsStr) -> bool {
    let Some(text) = name.to_str() else { return false };
    let whole = text.strip_suffix(DRAFT_SUFFIX).unwrap_or(text);
    let is_ours = OWN_FILES.contains(&whole) || text.starts_with(DAMAGED_PREFIX);
    is_ours
        || UNUSED.contains(&text)
        || text.starts_with(NFS_REMOVED)
        || Path::new(text).extension() == Some(OsStr::new(CONFIGURATION))
}

fn has_segments(journal: &Path) -> bool {
    let is_segment = |path: PathBuf| path.extension() == Some(OsStr::new("seg"));
    fs::read_dir(journal)
        .is_ok_and(|entries| entries.filter_map(Result::ok).any(|entry| is_segment(entry.path())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_somebody_else_uses_is_told_from_a_free_one() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path();
        for name in ["lost+found", "sled", "journal", "logs"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        for name in [
            "LOCK",
            "admin.token",
            "FORMAT.new",
            "journal-damaged-1",
            "triggerd.toml",
            ".gitkeep",
            ".nfs00017",
        ] {
            fs::write(dir.join(name), "").unwrap();
        }
        assert_eq!(foreign(dir), Some((vec!["logs".to_owned()], 0)));
        for number in 0..9 {
            fs::write(dir.join(format!("photo-{number}.jpg")), "").unwrap();
        }
        fs::write(dir.join(".bashrc"), "").unwrap();
        let (names, more) = foreign(dir).unwrap();
        assert_eq!(
            (names.join(" "), more),
            (".bashrc logs photo-0.jpg photo-1.jpg photo-2.jpg".to_owned(), 6)
        );
        fs::write(dir.join("journal/00000000000000000001.seg"), "").unwrap();
        assert_eq!(foreign(dir), None, "one that lost its FORMAT is ours all the same");
    }
}
