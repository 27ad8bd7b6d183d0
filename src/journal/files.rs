//! The file operations of the journal, behind a small trait so that a test can fail each operation.
//! Called by the rest of the journal. Knows no format.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, AtFlags, CWD, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::base::failpoint::{self, Switch};
use crate::base::ownership;

/// Facts about an open file, as `fstat` returns them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// The length of the file, in bytes.
    pub len: u64,
    /// The number of the file's device.
    pub device: u64,
    /// The inode number of the file.
    pub inode: u64,
    /// The disk space of the file, in bytes. Holes take none.
    pub allocated: u64,
}

/// The file operations for the journal.
pub trait Files: Send + Sync {
    /// Creates a directory that only its owner can use (0700).
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Returns the paths of all entries of a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Creates a file that does not exist yet (0600), for reading and writing.
    fn create_new(&self, path: &Path) -> io::Result<File>;
    /// Creates a file without a name in a directory (0600), for reading and writing. The file is
    /// gone when it is closed.
    fn create_unnamed(&self, dir: &Path) -> io::Result<File>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<File>;
    /// Opens an existing file for reading.
    fn open_to_read(&self, path: &Path) -> io::Result<File>;
    /// Reads until the buffer is full or the file ends. Returns the number of bytes.
    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes, or fails having written any number of them.
    fn write_all_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// `fdatasync`: syncs the content, and the length if it changed.
    fn sync_data(&self, file: &File) -> io::Result<()>;
    /// `fsync`: syncs the content and the metadata.
    fn sync_all(&self, file: &File) -> io::Result<()>;
    /// Overwrites the bytes from `from` to `to` with zeros, and gives their disk space back if the
    /// filesystem can. The length of the file stays.
    fn erase(&self, file: &File, from: u64, to: u64) -> io::Result<()>;
    /// Reserves disk space for the first `len` bytes. New bytes are zeros.
    fn allocate(&self, file: &File, len: u64) -> io::Result<()>;
    /// Makes a file longer. The new bytes are a hole: they are zeros, and take no disk space if the
    /// filesystem can leave them out.
    fn lengthen(&self, file: &File, len: u64) -> io::Result<()>;
    /// Gives this name to a file without a name. No file may have the name already.
    fn name(&self, file: &File, path: &Path) -> io::Result<()>;
    /// Renames a file. A file that had the new name before is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name. No file may have the name already.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes the file at this path.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// `fsync` of a directory: syncs the names in it.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Returns the length, the device and the inode of a file.
    fn metadata(&self, file: &File) -> io::Result<FileFacts>;
    /// Asks the kernel to read the file from the disk next time, not from memory.
    fn drop_cache(&self, file: &File) -> io::Result<()>;
}

/// Returns true if the disk cannot read the bytes: a bad sector, or content that the filesystem
/// knows to be damaged.
pub fn is_unreadable(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::IO | Errno::BADMSG | Errno::UCLEAN))
}

/// The file operations of the operating system.
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
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
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
        ownership::open_unfollowed(OpenOptions::new().read(true).write(true), path)
    }

    fn open_to_read(&self, path: &Path) -> io::Result<File> {
        ownership::open_unfollowed(OpenOptions::new().read(true), path)
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
        failpoint::overlay(file, buffer, offset)?;
        Ok(done)
    }

    fn write_all_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        failpoint::sync(file).unwrap_or_else(|| file.sync_data())
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn erase(&self, file: &File, from: u64, to: u64) -> io::Result<()> {
        let Some(len) = to.checked_sub(from).filter(|len| *len > 0) else { return Ok(()) };
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        loop {
            match rustix::fs::fallocate(file, flags, from, len) {
                Err(Errno::INTR) => {}
                // On a full filesystem, the hole may need a block of metadata that is not free.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOSPC | Errno::DQUOT) => {
                    return write_zeros(file, from, to);
                }
                other => return Ok(other?),
            }
        }
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

    fn lengthen(&self, file: &File, len: u64) -> io::Result<()> {
        if file.metadata()?.len() < len { file.set_len(len) } else { Ok(()) }
    }

    fn name(&self, file: &File, path: &Path) -> io::Result<()> {
        // open(2), O_TMPFILE: this way of naming a file needs no capability.
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
        if failpoint::is_on(Switch::SkipDirSync) { Ok(()) } else { dir.sync_all() }
    }

    fn metadata(&self, file: &File) -> io::Result<FileFacts> {
        /// The unit of `st_blocks`, whatever the filesystem's own unit is (stat(2)).
        const BLOCK_BYTES: u64 = 512;
        let facts = file.metadata()?;
        let allocated = facts.blocks().saturating_mul(BLOCK_BYTES);
        Ok(FileFacts { len: facts.len(), device: facts.dev(), inode: facts.ino(), allocated })
    }

    fn drop_cache(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?)
    }
}

/// Returns the directory of a path.
fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Writes zeros from the file's end to `len`, for filesystems without `fallocate`.
fn fill_with_zeros(file: &File, len: u64) -> io::Result<()> {
    write_zeros(file, file.metadata()?.len(), len)
}

fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut at = from;
    while at < to {
        let n = usize::try_from(to - at).map_or(zeros.len(), |left| left.min(zeros.len()));
        file.write_all_at(zeros.get(..n).unwrap_or_default(), at)?;
        at += n as u64;
    }
    Ok(())
}
