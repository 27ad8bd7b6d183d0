//! The file operations of the journal, behind a small trait so that a test can
//! fail each of them. Called by the rest of the journal; knows no format.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, AtFlags, CWD, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::base::ownership;
use crate::base::sabotage::{self, Switch};

/// What `fstat` says of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// Length in bytes.
    pub len: u64,
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// The file operations that the journal needs.
pub trait Files: Send + Sync {
    /// Makes a directory that only its owner can use (0700).
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The paths of all entries of a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Makes a file that does not exist yet (0600), for reading and writing.
    fn create_new(&self, path: &Path) -> io::Result<File>;
    /// Makes a file without a name in a directory (0600), for reading and writing: it is gone when it is closed.
    fn create_unnamed(&self, dir: &Path) -> io::Result<File>;
    /// Opens a file that exists, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<File>;
    /// Opens a file that exists, for reading.
    fn open_to_read(&self, path: &Path) -> io::Result<File>;
    /// Reads until the buffer is full or the file ends; says how many bytes.
    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes, or fails having written any number of them.
    fn write_all_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// `fdatasync`: the content, and the length if it changed.
    fn sync_data(&self, file: &File) -> io::Result<()>;
    /// `fsync`: content and metadata.
    fn sync_all(&self, file: &File) -> io::Result<()>;
    /// `ftruncate`: what is behind `len` bytes is gone, what is missing is zeros.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()>;
    /// Reserves disk space for the first `len` bytes; new ones are zeros.
    fn allocate(&self, file: &File, len: u64) -> io::Result<()>;
    /// Gives a file without a name this one, which nothing has.
    fn name(&self, file: &File, path: &Path) -> io::Result<()>;
    /// Gives a file another name. What had that name before is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name, which nothing has.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// `fsync` of a directory: the names in it.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Length, device and inode.
    fn metadata(&self, file: &File) -> io::Result<FileFacts>;
    /// Asks that the next reads come from the disk and not from memory.
    fn drop_cache(&self, file: &File) -> io::Result<()>;
}

/// Whether the disk cannot give what lies there: a bad sector, or content that the filesystem knows to be damaged.
pub fn is_unreadable(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::IO | Errno::BADMSG | Errno::UCLEAN))
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsFiles;

impl Files for OsFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(dir)?;
        ownership::give_path_to_owner_of(parent_of(dir), dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        ownership::give_to_owner_of(parent_of(path), &file)?;
        Ok(file)
    }

    fn create_unnamed(&self, dir: &Path) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR)?.into();
        ownership::give_to_owner_of(dir, &file)?;
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        ownership::unfollowed(OpenOptions::new().read(true).write(true)).open(path)
    }

    fn open_to_read(&self, path: &Path) -> io::Result<File> {
        ownership::unfollowed(OpenOptions::new().read(true)).open(path)
    }

    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        sabotage::overlay(file, buffer, offset)?;
        Ok(done)
    }

    fn write_all_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        sabotage::sync(file).unwrap_or_else(|| file.sync_data())
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        loop {
            match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP) => return fill_with_zeros(file, len),
                other => return Ok(other?),
            }
        }
    }

    fn name(&self, file: &File, path: &Path) -> io::Result<()> {
        // open(2), O_TMPFILE: the way that needs no capability.
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(rustix::fs::linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = File::open(dir)?;
        if sabotage::is_on(Switch::SkipDirSync) { Ok(()) } else { dir.sync_all() }
    }

    fn metadata(&self, file: &File) -> io::Result<FileFacts> {
        let facts = file.metadata()?;
        Ok(FileFacts { len: facts.len(), device: facts.dev(), inode: facts.ino() })
    }

    fn drop_cache(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?)
    }
}

/// The directory that a path is in.
fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// For filesystems without `fallocate`: writes the zeros behind the file's end.
fn fill_with_zeros(file: &File, len: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut at = file.metadata()?.len();
    while at < len {
        let n = usize::try_from(len - at).map_or(zeros.len(), |left| left.min(zeros.len()));
        file.write_all_at(zeros.get(..n).unwrap_or_default(), at)?;
        at += n as u64;
    }
    Ok(())
}
