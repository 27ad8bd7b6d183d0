//! One file of an archive. It is written under another name. Each portion is a zstd frame of its
//! own (RFC 8878, 3.1), synced before anything relies on it; zstd reads the frames one after the
//! other as one text.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::base::compression::encoder;
use crate::base::library_errors::io_words;
use crate::base::ownership::open_unfollowed;

/// The end of the names of whole files.
pub const EXTENSION: &str = "jsonl.zst";
/// The beginning of the names of files with events that expired.
pub(super) const EXPIRED: &str = "expired-";
/// Maximum number of files that got the same name.
const SAME_NAMES_MAX: u32 = 10_000;

/// The treatment of a file that a crash left unfinished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draft {
    /// Its whole portions are kept: the events in them may have expired.
    Kept,
    /// The file is written again from its beginning.
    Discarded,
}

impl Draft {
    fn suffix(self) -> &'static str {
        match self {
            Self::Kept => "new",
            Self::Discarded => "part",
        }
    }
}

/// A file of an archive that is being written.
pub struct ArchiveFile {
    path: PathBuf,
    draft: PathBuf,
    kind: Draft,
    file: File,
    /// The length of the whole portions, in bytes.
    whole: u64,
    /// The portion that is being written.
    portion: Option<zstd::Encoder<'static, File>>,
    is_finished: bool,
}

impl ArchiveFile {
    /// Begins a file, under another name until [`ArchiveFile::finish`]. Makes its directory if it
    /// is missing.
    ///
    /// # Errors
    /// A file of this name exists, another process writes it, or the directory cannot be written.
    pub fn create(path: &Path, kind: Draft) -> io::Result<Self> {
        make_dir(directory_of(path))?;
        if path.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let draft = path.with_added_extension(kind.suffix());
        let mut options = File::options();
        let options = options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let file = open_unfollowed(options, &draft)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another process writes this file"));
            }
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "this filesystem cannot lock files");
            }
        }
        if kind == Draft::Kept && file.metadata()?.len() > 0 {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        file.set_len(0)?;
        // A file whose name is lost in a crash would be lost with all its events.
        sync_dir(directory_of(path))?;
        let (path, whole) = (path.to_owned(), 0);
        Ok(Self { path, draft, kind, file, whole, portion: None, is_finished: false })
    }

    /// Returns the length of all that is durable, in bytes.
    pub fn len(&self) -> u64 {
        self.whole
    }

    /// Returns true if nothing is durable yet.
    pub fn is_empty(&self) -> bool {
        self.whole == 0
    }

    /// Adds a line, which has no line break.
    ///
    /// # Errors
    /// The file cannot be written. Then call [`ArchiveFile::undo`].
    pub fn add(&mut self, line: &[u8]) -> io::Result<()> {
        let portion = match &mut self.portion {
            Some(portion) => portion,
            none => {
                self.file.seek(SeekFrom::Start(self.whole))?;
                none.insert(encoder(self.file.try_clone()?)?)
            }
        };
        portion.write_all(line)?;
        portion.write_all(b"\n")
    }

    /// Makes all lines durable. Returns the length before, for [`ArchiveFile::cut`].
    ///
    /// # Errors
    /// The file cannot be written, or is not in its place any more. Then call
    /// [`ArchiveFile::undo`].
    pub fn sync(&mut self) -> io::Result<u64> {
        let before = self.whole;
        let Some(portion) = self.portion.take() else { return Ok(before) };
        let mut file = portion.finish()?;
        let end = file.stream_position()?;
        file.sync_data()?;
        let (there, here) = (fs::metadata(&self.draft)?, self.file.metadata()?);
        if (there.dev(), there.ino()) != (here.dev(), here.ino()) {
            return Err(io::Error::other("the file was moved or removed while it was written"));
        }
        self.whole = end;
        Ok(before)
    }

    /// Takes back the lines that are not durable.
    ///
    /// # Errors
    /// The file cannot be cut.
    pub fn undo(&mut self) -> io::Result<()> {
        self.cut(self.whole)
    }

    /// Takes back everything from this length on.
    ///
    /// # Errors
    /// The file cannot be cut.
    pub fn cut(&mut self, len: u64) -> io::Result<()> {
        // An encoder writes nothing when it is dropped.
        self.portion = None;
        self.whole = len;
        self.file.set_len(len)?;
        self.file.sync_data()
    }

    /// Gives the file its name, and returns its path. A file without lines is removed. If the name
    /// was taken meanwhile, the file gets a similar one.
    ///
    /// # Errors
    /// The lines cannot be made durable, or the file cannot be renamed.
    pub fn finish(mut self) -> io::Result<Option<PathBuf>> {
        self.sync()?;
        self.file.sync_all()?;
        let named = give_name(&self.draft, &self.path, self.is_empty())?;
        self.is_finished = true;
        Ok(named)
    }
}

impl Drop for ArchiveFile {
    fn drop(&mut self) {
        if !self.is_finished
            && self.kind == Draft::Discarded
            && let Err(error) = fs::remove_file(&self.draft)
        {
            tracing::debug!(%error, "a file that is not complete could not be removed");
        }
    }
}

/// Finishes the files that a crash left in the directory. Their last portion may be torn; its
/// events have not expired.
///
/// # Errors
/// A file cannot be read or renamed.
pub(super) fn salvage(directory: &Path) -> io::Result<()> {
    let ending = format!(".{EXTENSION}.{}", Draft::Kept.suffix());
    for entry in fs::read_dir(directory)? {
        let draft = entry?.path();
        let name = draft.file_name().and_then(OsStr::to_str).unwrap_or_default();
        // Files of others in the directory are left alone.
        if !name.starts_with(EXPIRED) || !name.ends_with(&ending) {
            continue;
        }
        let opened = open_unfollowed(File::options().read(true).write(true), &draft);
        let file = opened.map_err(|error| {
            let path = draft.display();
            io::Error::new(error.kind(), format!("{path}: {}", io_words(&error)))
        })?;
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            continue;
        }
        let whole = whole_portions(&file)?;
        if file.metadata()?.len() > whole {
            file.set_len(whole)?;
        }
        file.sync_all()?;
        let named = give_name(&draft, &draft.with_extension(""), whole == 0)?;
        let path = named.map(|path| path.display().to_string());
        tracing::info!(path, "an archive that a crash left unfinished was finished");
    }
    Ok(())
}

/// Returns the length of the whole portions at the beginning of a file.
fn whole_portions(file: &File) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let mut whole = 0;
    while !reader.fill_buf()?.is_empty() {
        let mut portion = zstd::Decoder::with_buffer(reader)?.single_frame();
        match io::copy(&mut portion, &mut io::sink()) {
            Ok(_) => {}
            // A disk that cannot be read is no torn portion.
            Err(error) if error.raw_os_error().is_some() => return Err(error),
            Err(_torn) => return Ok(whole),
        }
        reader = portion.finish();
        whole = reader.stream_position()?;
    }
    Ok(whole)
}

/// Gives a synced file its name, or removes it if it is empty.
fn give_name(draft: &Path, path: &Path, is_empty: bool) -> io::Result<Option<PathBuf>> {
    let named = if is_empty {
        fs::remove_file(draft)?;
        None
    } else {
        Some(rename_to_free(draft, path)?)
    };
    sync_dir(directory_of(path))?;
    Ok(named)
}

/// Renames the file to the path, or to a similar one if there is such a file. Returns the path.
fn rename_to_free(draft: &Path, path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let stem = name.strip_suffix(EXTENSION).unwrap_or(name).trim_end_matches('.');
    let similar = (2..SAME_NAMES_MAX)
        .map(|number| path.with_file_name(format!("{stem}-{number}.{EXTENSION}")));
    for path in std::iter::once(path.to_owned()).chain(similar) {
        match rename_to_new(draft, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            renamed => return renamed.map(|()| path),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Renames a file and never replaces another one.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // NFS and others cannot do this, but have a second name for a file.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        renamed => Ok(renamed?),
    }
}

fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

fn make_dir(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

fn sync_dir(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        let bytes = zstd::decode_all(File::open(path).unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_gets_its_name_when_it_is_whole_and_what_is_taken_back_is_not_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/a.jsonl.zst");
        let mut file = ArchiveFile::create(&path, Draft::Kept).unwrap();
        assert!(ArchiveFile::create(&path, Draft::Kept).is_err(), "another one writes it");
        file.add(b"1").unwrap();
        file.sync().unwrap();
        file.add(b"not durable").unwrap();
        file.undo().unwrap();
        file.add(b"2").unwrap();
        file.sync().unwrap();
        file.add(b"erased").unwrap();
        let before = file.sync().unwrap();
        file.cut(before).unwrap();
        assert_eq!(names(path.parent().unwrap()), ["a.jsonl.zst.new"]);
        assert_eq!(file.finish().unwrap(), Some(path.clone()));
        assert_eq!((text(&path).as_str(), names(path.parent().unwrap()).len()), ("1\n2\n", 1));
        assert!(ArchiveFile::create(&path, Draft::Kept).is_err(), "there is one");
        let other = dir.path().join("b.jsonl.zst");
        let mut part = ArchiveFile::create(&other, Draft::Discarded).unwrap();
        part.add(b"1").unwrap();
        drop(part);
        assert_eq!(names(dir.path()), ["sub"], "no half file is left");
    }

    #[test]
    fn a_file_that_appears_under_the_name_meanwhile_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let [from, taken, free] = ["a", "b", "c"].map(|name| dir.path().join(name));
        fs::write(&from, "archive").unwrap();
        fs::write(&taken, "another file").unwrap();
        let refused = rename_to_new(&from, &taken).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        rename_to_new(&from, &free).unwrap();
        assert_eq!(fs::read_to_string(&taken).unwrap(), "another file");
        assert_eq!(names(dir.path()), ["b", "c"]);
    }

    #[test]
    fn after_a_crash_the_whole_portions_are_kept_and_a_torn_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("expired-a.jsonl.zst");
        let mut file = ArchiveFile::create(&path, Draft::Kept).unwrap();
        for line in ["1", "2"] {
            file.add(line.as_bytes()).unwrap();
            file.sync().unwrap();
        }
        let draft = file.draft.clone();
        drop(file);
        let whole = fs::read(&draft).unwrap();
        for torn in [&whole[..5], &[0; 4_096], b"no portion"] {
            fs::write(&draft, [whole.as_slice(), torn].concat()).unwrap();
            fs::write(&path, "another file of this name").unwrap();
            salvage(dir.path()).unwrap();
            let similar = dir.path().join("expired-a-2.jsonl.zst");
            assert_eq!(text(&similar), "1\n2\n");
            assert_eq!(names(dir.path()), ["expired-a-2.jsonl.zst", "expired-a.jsonl.zst"]);
            fs::remove_file(similar).unwrap();
        }
        fs::write(&draft, b"torn").unwrap();
        let foreign = dir.path().join("precious.jsonl.zst.new");
        fs::write(&foreign, b"not ours").unwrap();
        salvage(dir.path()).unwrap();
        assert_eq!(fs::read(&foreign).unwrap(), b"not ours");
        fs::remove_file(foreign).unwrap();
        assert_eq!(
            names(dir.path()),
            ["expired-a.jsonl.zst"],
            "without a whole portion nothing is kept"
        );
    }
}
