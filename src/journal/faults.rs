//! Files that fail when a test says so, and forget when the power is cut.
//!
//! Wraps [`OsFiles`], counts every operation, and can
//!
//! * fail the n-th one ([`FaultyFiles::fail_at`]),
//! * have bad sectors ([`FaultyFiles::make_unreadable`]),
//! * answer syncs without doing them ([`FaultyFiles::skip_syncs`]): the negative
//!   control of every test that claims to notice a lost sync,
//! * put the files back to what was synced ([`FaultyFiles::cut_power`]).
//!
//! For tests, here and in `tests/`; the server never makes one.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::files::{FileFacts, Files, OsFiles};

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `EIO`, nothing done.
    Io,
    /// `ENOSPC`, nothing done.
    NoSpace,
    /// A write of the first half of the bytes, then `EIO`; other operations: `EIO`.
    ShortWrite,
}

/// What survives of unsynced content when the power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    /// Nothing.
    Lost,
    /// Any of its pages, chosen by this seed.
    SomePages(u64),
}

/// See the module.
#[derive(Default)]
pub struct FaultyFiles {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    operations: u64,
    syncs: u64,
    fault: Option<(u64, Fault)>,
    skip_syncs: bool,
    /// Inodes and bytes of bad sectors.
    unreadable: Vec<(u64, Range<u64>)>,
    /// Path of every open file, by inode.
    paths: BTreeMap<u64, PathBuf>,
    /// Content at the last sync, by inode, of files changed since.
    synced: BTreeMap<u64, Vec<u8>>,
    /// Names whose making was not synced.
    unsynced_names: BTreeSet<PathBuf>,
}

impl FaultyFiles {
    /// Files without a fault.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the `n`-th operation from now on fail, counted from 1.
    pub fn fail_at(&self, n: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.operations + n, fault));
    }

    /// Whether a fault is set and has not come yet.
    pub fn is_armed(&self) -> bool {
        self.state().fault.is_some()
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many syncs of files and directories were asked for.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Whether syncs are answered without being done from now on.
    pub fn skip_syncs(&self, skip: bool) {
        self.state().skip_syncs = skip;
    }

    /// Lets reads of these bytes of a file fail from now on.
    pub fn make_unreadable(&self, path: &Path, bytes: Range<u64>) -> io::Result<()> {
        let inode = fs::metadata(path)?.ino();
        self.state().unreadable.push((inode, bytes));
        Ok(())
    }

    /// Leaves on disk what a power cut would: names and content that were synced,
    /// and what the drive happened to write of the rest. Removals are kept.
    pub fn cut_power(&self, unsynced: Unsynced) -> io::Result<()> {
        let mut state = self.state();
        for path in std::mem::take(&mut state.unsynced_names) {
            let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match gone {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        for (inode, content) in std::mem::take(&mut state.synced) {
            let path = state.paths.get(&inode).cloned().unwrap_or_default();
            match fs::read(&path) {
                Ok(now) => fs::write(&path, mix(content, &now, unsynced))?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        state.paths.clear();
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation; says whether and how it is to fail.
    fn count(&self) -> Option<Fault> {
        let mut state = self.state();
        state.operations += 1;
        let (_, fault) = state.fault.filter(|&(at, _)| at <= state.operations)?;
        state.fault = None;
        Some(fault)
    }

    fn check(&self) -> io::Result<()> {
        self.count().map_or(Ok(()), |fault| Err(error_of(fault)))
    }

    fn opened(&self, path: &Path, file: &File) -> io::Result<()> {
        self.state().paths.insert(file.metadata()?.ino(), path.to_path_buf());
        Ok(())
    }

    /// Keeps the synced content of a file that is about to change.
    fn before_change(&self, file: &File) -> io::Result<()> {
        let facts = file.metadata()?;
        let mut state = self.state();
        if let Entry::Vacant(entry) = state.synced.entry(facts.ino()) {
            let mut content = vec![0; usize::try_from(facts.len()).unwrap_or(0)];
            file.read_exact_at(&mut content, 0)?;
            entry.insert(content);
        }
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.check()?;
        let inode = file.metadata()?.ino();
        let mut state = self.state();
        state.syncs += 1;
        if !state.skip_syncs {
            state.synced.remove(&inode);
        }
        Ok(())
    }
}

fn error_of(fault: Fault) -> io::Error {
    match fault {
        Fault::Io | Fault::ShortWrite => Errno::IO.into(),
        Fault::NoSpace => Errno::NOSPC.into(),
    }
}

/// Unsynced changes reach the disk by the page, in any order, and lengths too.
fn mix(synced: Vec<u8>, now: &[u8], unsynced: Unsynced) -> Vec<u8> {
    const PAGE_BYTES: usize = 512;
    let Unsynced::SomePages(mut seed) = unsynced else { return synced };
    let mut mixed = synced;
    mixed.resize(mixed.len().max(now.len()), 0);
    for (page, new) in mixed.chunks_mut(PAGE_BYTES).zip(now.chunks(PAGE_BYTES)) {
        // Knuth's MMIX generator; its high bits are the good ones.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if seed >> 63 == 1 {
            page.iter_mut().zip(new).for_each(|(old, new)| *old = *new);
        }
    }
    mixed
}

impl Files for FaultyFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.check()?;
        OsFiles.create_dir(dir)?;
        self.state().unsynced_names.insert(dir.to_path_buf());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.check()?;
        OsFiles.list(dir)
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        self.check()?;
        let file = OsFiles.create_new(path)?;
        self.opened(path, &file)?;
        let mut state = self.state();
        // Not by `before_change`: the inode may be that of a file removed before.
        state.synced.insert(file.metadata()?.ino(), Vec::new());
        state.unsynced_names.insert(path.to_path_buf());
        drop(state);
        Ok(file)
    }

    fn create_unnamed(&self, dir: &Path) -> io::Result<File> {
        self.check()?;
        let file = OsFiles.create_unnamed(dir)?;
        self.state().synced.insert(file.metadata()?.ino(), Vec::new());
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        self.check()?;
        let file = OsFiles.open(path)?;
        self.opened(path, &file)?;
        Ok(file)
    }

    fn open_to_read(&self, path: &Path) -> io::Result<File> {
        self.check()?;
        let file = OsFiles.open_to_read(path)?;
        self.opened(path, &file)?;
        Ok(file)
    }

    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check()?;
        let (inode, end) = (file.metadata()?.ino(), offset + buffer.len() as u64);
        if self.state().unreadable.iter().any(|(bad, bytes)| *bad == inode && bytes.start < end && offset < bytes.end) {
            return Err(error_of(Fault::Io));
        }
        OsFiles.read_at(file, buffer, offset)
    }

    fn write_all_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let fault = self.count();
        self.before_change(file)?;
        match fault {
            None => OsFiles.write_all_at(file, bytes, offset),
            Some(Fault::ShortWrite) => {
                let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
                OsFiles.write_all_at(file, half, offset)?;
                Err(error_of(Fault::ShortWrite))
            }
            Some(fault) => Err(error_of(fault)),
        }
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.sync(file)
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        self.sync(file)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.check()?;
        self.before_change(file)?;
        OsFiles.set_len(file, len)
    }

    fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        self.check()?;
        self.before_change(file)?;
        OsFiles.allocate(file, len)
    }

    fn name(&self, file: &File, path: &Path) -> io::Result<()> {
        self.check()?;
        OsFiles.name(file, path)?;
        self.opened(path, file)?;
        self.state().unsynced_names.insert(path.to_path_buf());
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check()?;
        OsFiles.rename(from, to)?;
        let inode = fs::metadata(to)?.ino();
        let mut state = self.state();
        state.paths.insert(inode, to.to_path_buf());
        state.unsynced_names.remove(from);
        state.unsynced_names.insert(to.to_path_buf());
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check()?;
        OsFiles.link(from, to)?;
        self.state().unsynced_names.insert(to.to_path_buf());
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        self.state().unsynced_names.remove(path);
        OsFiles.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.check()?;
        let mut state = self.state();
        state.syncs += 1;
        if !state.skip_syncs {
            state.unsynced_names.retain(|path| path.parent() != Some(dir));
        }
        Ok(())
    }

    fn metadata(&self, file: &File) -> io::Result<FileFacts> {
        self.check()?;
        OsFiles.metadata(file)
    }

    /// Not counted: it is advice, and nothing hangs on whether the kernel takes it.
    fn drop_cache(&self, _: &File) -> io::Result<()> {
        Ok(())
    }
}
