//! What was lost under the running server, in a sentence that says what happened to it, what of the events is gone, and what
//! is to be done. Used by the look-out, which finds it.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::base::{ownership, whereabouts};
use crate::journal::{Change, Strayed};

/// Something of the data directory that is not where or what it was.
#[derive(Debug)]
pub(super) struct Loss {
    path: PathBuf,
    what: What,
    fate: Fate,
}

/// What is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// All of it.
    DataDir,
    /// All that was ever acknowledged.
    Journal,
    /// A part of that.
    Segment,
    /// Nothing but what keeps a second server away.
    Lock,
}

/// What happened to it.
#[derive(Debug)]
enum Fate {
    /// It has this name now.
    Renamed(PathBuf),
    /// It is nowhere any more.
    Removed,
    /// It does not hold what was written to it.
    Changed(String),
    /// It may not be opened any more.
    Denied(io::Error),
}

impl Loss {
    /// Of a file or directory that is held open.
    pub(super) fn of(what: What, path: PathBuf, held: &File) -> Self {
        let fate = whereabouts::name_now(held).map_or(Fate::Removed, Fate::Renamed);
        Self { path, what, fate }
    }

    /// Of one that may not be opened any more.
    pub(super) fn denied(what: What, path: PathBuf, error: io::Error) -> Self {
        Self { path, what, fate: Fate::Denied(error) }
    }

    /// Of a segment.
    pub(super) fn segment(strayed: Strayed) -> Self {
        let Strayed { path, file, change } = strayed;
        let fate = match change {
            Change::Gone | Change::Replaced => return Self::of(What::Segment, path, &file),
            Change::Length { is, was } => {
                Fate::Changed(format!("it is {is} bytes long, but was made {was} bytes long"))
            }
            Change::Overwritten => Fate::Changed("the frames that were written last are not in it".to_owned()),
            Change::Denied(error) => Fate::Denied(error),
        };
        Self { path, what: What::Segment, fate }
    }

    /// What it was about.
    pub(super) fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// What happened, in short.
    pub(super) fn summary(&self) -> &'static str {
        match (self.what, &self.fate) {
            (_, Fate::Denied(_)) => "the server is no longer allowed to open the data directory",
            (What::Segment, _) => "a part of the journal was removed, renamed or changed while the server runs",
            (What::DataDir | What::Journal | What::Lock, _) => {
                "the data directory was removed, renamed or replaced while the server runs"
            }
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, what, fate } = self;
        let shown = path.display();
        match fate {
            Fate::Renamed(now) => {
                write!(f, "{shown} was renamed under the running server and is {} now. ", now.display())?;
                match what {
                    What::DataDir => f.write_str(
                        "Nothing is lost: rename it back before the next start, which would otherwise make an empty data \
                         directory or use the directory that now has this name",
                    ),
                    What::Journal | What::Segment => f.write_str("Nothing is lost: rename it back before the next start"),
                    What::Lock => f.write_str("Nothing is lost"),
                }
            }
            Fate::Removed => {
                write!(f, "{shown} was removed under the running server, or replaced. ")?;
                match what {
                    What::DataDir => f.write_str(
                        "Everything in it is lost but for a backup: restore the backup before the next start, which would \
                         otherwise make an empty data directory",
                    ),
                    What::Journal => f.write_str(
                        "The events are lost but for a backup: the state does not hold them, and no start succeeds without the \
                         journal",
                    ),
                    What::Segment => f.write_str(ADVICE),
                    What::Lock => f.write_str("Nothing is lost"),
                }
            }
            Fate::Changed(how) => write!(f, "{shown} was changed under the running server: {how}. {ADVICE}"),
            Fate::Denied(error) => write!(
                f,
                "{shown}: {error}{}. The mode or the owner was changed under the running server. Nothing \
                 is lost: restore the mode and the owner",
                ownership::denied(path, error)
            ),
        }
    }
}

/// For a part of the journal.
const ADVICE: &str = "The events in it are lost but for a backup: restore this file from the backup. Without a backup, \
                      `triggerd rebuild --skip-damaged` saves every whole frame and lists the losses";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_said_is_true_of_what_was_lost() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (here, there) = (root.join("here"), root.join("there"));
        fs::create_dir(&here).unwrap();
        let held = File::open(&here).unwrap();
        let said = |what| Loss::of(what, here.clone(), &held).to_string();
        fs::rename(&here, &there).unwrap();
        for what in [What::DataDir, What::Journal, What::Segment] {
            let said = said(what);
            assert!(said.contains("Nothing is lost") && said.contains(there.to_str().unwrap()), "{said}");
        }
        fs::remove_dir(&there).unwrap();
        for what in [What::DataDir, What::Journal, What::Segment] {
            let said = said(what);
            assert!(said.contains("lost but for a backup") && !said.contains("Nothing is lost"), "{said}");
        }
        assert!(said(What::DataDir).contains("make an empty data directory"));
        assert!(said(What::Journal).contains("no start succeeds"));
        let strayed = |change| Strayed { path: here.clone(), file: held.try_clone().unwrap(), change };
        let said = Loss::segment(strayed(Change::Length { is: 0, was: 64 })).to_string();
        assert!(said.contains("0 bytes long, but was made 64") && said.contains("rebuild"), "{said}");
        let said = Loss::segment(strayed(Change::Denied(io::ErrorKind::PermissionDenied.into()))).to_string();
        assert!(said.contains("Nothing is lost") && said.contains("owner"), "{said}");
    }
}
