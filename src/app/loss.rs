//! Losses under the running server, in sentences: how the file was lost, which events are gone, and
//! how to recover. The directory watch finds the losses.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::base::library_errors::io_words;
use crate::base::{ownership, present_name, regular};
use crate::journal::{FileChange, Strayed};

/// A file or directory of the data directory that was moved, removed or changed.
#[derive(Debug)]
pub(super) struct Loss {
    path: PathBuf,
    what: What,
    cause: Cause,
    /// The path at which this process has the file open.
    open_at: Option<String>,
}

/// The part of the data directory that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The whole data directory.
    DataDir,
    /// The directory of the journal: every acknowledged event.
    Journal,
    /// One segment of the journal.
    Segment,
    /// The lock file, which holds no data and keeps a second server out.
    Lock,
    /// The file `FORMAT`, which only a start reads.
    Format,
    /// The file with the key that seals endpoints' secrets, which only a start reads.
    SecretsKey,
}

/// How the file was lost.
#[derive(Debug)]
enum Cause {
    /// The file has this path now.
    Renamed(PathBuf),
    /// The file has no path any more.
    Removed,
    /// The content differs from the bytes that were written; the text says how.
    Changed(String),
    /// Another file has the path.
    Replaced,
    /// The content of the same file is another one.
    Overwritten,
    /// The server may no longer open the file.
    Denied(io::Error),
}

impl Loss {
    /// The loss of a file or directory held open, so its new name can be found.
    pub(super) fn of(what: What, path: PathBuf, held: &File) -> Self {
        let cause = present_name::name_now(held).map_or(Cause::Removed, Cause::Renamed);
        Self { path, what, cause, open_at: Some(open_at(held)) }
    }

    /// The loss of the content of a file held open.
    pub(super) fn content(what: What, path: PathBuf, held: &File) -> Self {
        let is_same = match (std::fs::metadata(&path), held.metadata()) {
            (Ok(named), Ok(held)) => (named.dev(), named.ino()) == (held.dev(), held.ino()),
            _ => false,
        };
        let cause = if is_same { Cause::Overwritten } else { Cause::Replaced };
        Self { path, what, cause, open_at: Some(open_at(held)) }
    }

    /// The loss that an error at the path of a file held open proves; none if the error proves
    /// nothing.
    pub(super) fn of_error(what: What, path: &Path, held: &File, error: io::Error) -> Option<Self> {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Some(Self::of(what, path, held))
            }
            _ if regular::is_no_file(&error) => Some(Self::content(what, path, held)),
            io::ErrorKind::IsADirectory => Some(Self::content(what, path, held)),
            io::ErrorKind::PermissionDenied => {
                Some(Self { path, what, cause: Cause::Denied(error), open_at: None })
            }
            _ => None,
        }
    }

    /// The loss of a segment, as the journal's watch found it.
    pub(super) fn segment(strayed: Strayed) -> Self {
        let Strayed { path, file, change } = strayed;
        let cause = match change {
            FileChange::Gone | FileChange::Replaced => return Self::of(What::Segment, path, &file),
            FileChange::Length { is, was } => {
                Cause::Changed(format!("it is {is} bytes long, but was made {was} bytes long"))
            }
            FileChange::Overwritten => {
                Cause::Changed("the records that were written last are not in it".to_owned())
            }
            FileChange::Denied(error) => Cause::Denied(error),
        };
        Self { path, what: What::Segment, cause, open_at: None }
    }

    /// The path at which the file was, for the log.
    pub(super) fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// A clause for the log: how the file was lost.
    pub(super) fn summary(&self) -> &'static str {
        match (self.what, &self.cause) {
            (_, Cause::Denied(_)) => "the server is no longer allowed to open the data directory",
            (What::Segment, _) => {
                "a part of the journal was removed, renamed or changed while the server runs"
            }
            (What::Format | What::SecretsKey, _) => "a file that the next start needs is lost",
            (What::DataDir | What::Journal | What::Lock, _) => {
                "the data directory was removed, renamed or replaced while the server runs"
            }
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, what, cause, .. } = self;
        let shown = path.display();
        if let What::Format | What::SecretsKey = what {
            return self.of_kept_file(f);
        }
        match cause {
            Cause::Renamed(now) => {
                let (now, advice) = (now.display(), what.after_rename());
                write!(f, "{shown} was renamed under the running server and is {now} now. {advice}")
            }
            Cause::Removed | Cause::Replaced | Cause::Overwritten => {
                let advice = what.after_removal();
                write!(f, "{shown} was removed under the running server, or replaced. {advice}")
            }
            Cause::Changed(how) => {
                write!(f, "{shown} was changed under the running server: {how}. {ADVICE}")
            }
            Cause::Denied(error) => write!(
                f,
                "{}. Nothing is lost: change it back before the next start",
                denied(path, error)
            ),
        }
    }
}

impl What {
    /// The loss by a rename, and advice.
    fn after_rename(self) -> &'static str {
        match self {
            Self::DataDir => {
                "Nothing is lost: rename it back before the next start, which would otherwise make \
                 an empty data directory or use the directory that now has this name"
            }
            Self::Journal | Self::Segment => {
                "Nothing is lost: rename it back before the next start"
            }
            Self::Lock | Self::Format | Self::SecretsKey => "Nothing is lost",
        }
    }

    /// The loss by a removal, and advice.
    fn after_removal(self) -> &'static str {
        match self {
            Self::DataDir => {
                "Everything in it is lost but for a backup: restore the backup before the next \
                 start, which would otherwise make an empty data directory"
            }
            Self::Journal => {
                "The events are lost but for a backup: the state does not hold them, and no start \
                 succeeds without the journal"
            }
            Self::Segment => ADVICE,
            Self::Lock | Self::Format | Self::SecretsKey => "Nothing is lost",
        }
    }

    /// The consequence of the loss of a file that only a start reads.
    fn at_the_next_start(self) -> &'static str {
        match self {
            Self::SecretsKey => {
                "This server goes on with the key in its memory, but without the file the next \
                 start is refused, because no endpoint's secret can be decrypted"
            }
            Self::DataDir | Self::Journal | Self::Segment | Self::Lock | Self::Format => {
                "This server goes on and no event is lost, but the next start cannot tell the \
                 format of the data directory, and is refused"
            }
        }
    }
}

impl Loss {
    /// Describes the loss of a file that only a start reads. The server goes on.
    fn of_kept_file(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, what, cause, open_at } = self;
        let (shown, next_start) = (path.display(), what.at_the_next_start());
        let how = match cause {
            Cause::Renamed(now) => {
                let now = now.display();
                return write!(
                    f,
                    "{shown} was renamed under the running server and is {now} now. {next_start}: \
                     rename it back before the server stops"
                );
            }
            Cause::Denied(error) => {
                let denied = denied(path, error);
                return write!(f, "{denied}. {next_start}: change it back before the server stops");
            }
            Cause::Removed => "removed",
            Cause::Replaced => "replaced by another file",
            Cause::Overwritten | Cause::Changed(_) => "overwritten",
        };
        write!(
            f,
            "{shown} was {how} under the running server. {next_start}: put the file back from a \
             backup before the server stops"
        )?;
        // The open file still has the former content, unless that was overwritten.
        match (cause, open_at) {
            (Cause::Removed | Cause::Replaced, Some(open)) => write!(
                f,
                ". Until then this process still has the file open: `cp -p {open} {shown}` as its \
                 user or as root puts it back"
            ),
            _ => Ok(()),
        }
    }
}

/// Says that a file cannot be opened any more, and why.
fn denied(path: &Path, error: &io::Error) -> String {
    format!(
        "{} cannot be opened any more: {}{}. The mode or the owner of it, or of a directory above \
         it, was changed under the running server",
        path.display(),
        io_words(error),
        ownership::denied(path, error)
    )
}

/// The path at which other processes can read a file that this process has open.
fn open_at(file: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}

/// The advice after the loss of a part of the journal.
const ADVICE: &str = "The events in it are lost but for a backup: restore this file from the \
    backup. Without a backup, `triggerd rebuild --skip-damaged` saves every whole record and lists \
    the losses";

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
            assert!(
                said.contains("Nothing is lost") && said.contains(there.to_str().unwrap()),
                "{said}"
            );
        }
        fs::remove_dir(&there).unwrap();
        for what in [What::DataDir, What::Journal, What::Segment] {
            let said = said(what);
            assert!(
                said.contains("lost but for a backup") && !said.contains("Nothing is lost"),
                "{said}"
            );
        }
        assert!(said(What::DataDir).contains("make an empty data directory"));
        assert!(said(What::Journal).contains("no start succeeds"));
        let strayed =
            |change| Strayed { path: here.clone(), file: held.try_clone().unwrap(), change };
        let said = Loss::segment(strayed(FileChange::Length { is: 0, was: 64 })).to_string();
        assert!(
            said.contains("0 bytes long, but was made 64") && said.contains("rebuild"),
            "{said}"
        );
        let said =
            Loss::segment(strayed(FileChange::Denied(io::ErrorKind::PermissionDenied.into())))
                .to_string();
        assert!(said.contains("Nothing is lost") && said.contains("owner"), "{said}");
    }
}
