//! Differences between two states, as a list for people. The first entries are shown; a file holds
//! all of them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::output::{counted, visible};
use crate::base::library_errors::os_words;
use crate::base::ownership;
use crate::store::{Named, StateError, Store};

/// Maximum number of entries shown.
const SHOWN_MAX: usize = 20;

/// The list of differences and its file.
pub(super) struct Losses {
    path: PathBuf,
    file: Option<io::Result<BufWriter<File>>>,
    /// Number of entries of each kind.
    counts: BTreeMap<&'static str, u64>,
    total: u64,
    first: Vec<String>,
    first_named: Vec<Value>,
}

impl Losses {
    /// Makes an empty list for this file, which the first entry creates.
    pub(super) fn new(path: PathBuf) -> Self {
        let (counts, first, first_named) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { path, file: None, counts, total: 0, first, first_named }
    }

    /// Adds the differences between two states, each in these words.
    pub(super) fn compare(
        &mut self,
        here: &Store,
        other: &Store,
        words: fn(&Named) -> String,
    ) -> Result<(), StateError> {
        here.name_differences(other, &mut |named| {
            self.add(named.kind.word(), words(&named), || entry_of(&named));
        })
    }

    /// Adds one entry. The JSON form is computed only if the entry is shown.
    pub(super) fn add(&mut self, kind: &'static str, line: String, entry: impl FnOnce() -> Value) {
        self.total += 1;
        *self.counts.entry(kind).or_default() += 1;
        let file = self.file.get_or_insert_with(|| made(&self.path));
        if let Ok(open) = file
            && let Err(error) = writeln!(open, "{}", visible(&line))
        {
            *file = Err(error);
        }
        if self.first.len() < SHOWN_MAX {
            self.first.push(line);
            self.first_named.push(entry());
        }
    }

    /// Writes the buffered lines to the file.
    pub(super) fn finish(&mut self) {
        if let Some(Ok(file)) = &mut self.file
            && let Err(error) = file.flush()
        {
            self.file = Some(Err(error));
        }
    }

    /// The first entries and the counts, for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let Some(file) = &self.file else { return Vec::new() };
        let mut lines = self.first.clone();
        let more = self.total.saturating_sub(lines.len() as u64);
        if more > 0 {
            lines.push(format!("          and {more} more"));
        }
        let counts: Vec<_> =
            self.counts.iter().map(|(kind, count)| counted(*count, kind)).collect();
        let (counts, path) = (counts.join(", "), self.path.display());
        lines.push(match file {
            Ok(_) => format!("list      {counts}; the complete list is in {path}"),
            Err(error) => {
                let words = os_words(error);
                format!("list      {counts}; the list {path} cannot be written: {words}")
            }
        });
        lines
    }

    /// The same for programs, as JSON.
    pub(super) fn json(&self) -> Value {
        let path = self.path.display().to_string();
        let (list, error) = match &self.file {
            None => (None, None),
            Some(Ok(_)) => (Some(path), None),
            Some(Err(error)) => (None, Some(format!("{path}: {}", os_words(error)))),
        };
        json!({"counts": self.counts, "first": self.first_named, "list": list, "list_error": error})
    }
}

fn entry_of(named: &Named) -> Value {
    let Named { kind, id, label, org, at, here, other } = named;
    let (org_id, org_name) = org.as_ref().map(|(id, name)| (id, name)).unzip();
    json!({
        "kind": kind.word(), "id": id, "label": label, "organization_id": org_id,
        "organization": org_name,
        "at": at, "was": here, "is": other,
    })
}

/// Creates the file, private because types and names are confidential. An existing file is not
/// replaced, because everybody can put files and links into the default directory.
fn made(path: &Path) -> io::Result<BufWriter<File>> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or(Ok(()), std::fs::create_dir_all)?;
    let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    if let Some(dir) = parent {
        ownership::give_to_owner_of(dir, &file)?;
    }
    Ok(BufWriter::new(file))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn listed(path: &Path) -> String {
        let mut losses = Losses::new(path.to_owned());
        losses.add("event", "LOST      event evt_1".into(), || json!({}));
        losses.finish();
        losses.lines().pop().unwrap()
    }

    #[test]
    fn a_list_is_a_new_file_that_only_its_owner_reads_and_takes_the_place_of_none() {
        let dir = tempfile::tempdir().unwrap();
        let (new, there, link) =
            (dir.path().join("new"), dir.path().join("there"), dir.path().join("link"));
        assert!(listed(&new).ends_with(&format!("list is in {}", new.display())));
        assert_eq!(new.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&there, "precious").unwrap();
        symlink(&there, &link).unwrap();
        for path in [&there, &link] {
            let refused = listed(path);
            assert!(refused.ends_with("cannot be written: File exists"), "{refused}");
        }
        assert_eq!(std::fs::read_to_string(&there).unwrap(), "precious");
    }
}
