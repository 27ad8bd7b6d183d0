//! Files that fail when a test asks for it, and forget unsynced content when the power is cut.
//!
//! [`FaultyFiles`] wraps [`OsFiles`], counts every operation, and can
//!
//! * fail the n-th operation ([`FaultyFiles::fail_at`]),
//! * refuse to name files ([`FaultyFiles::refuse_names`]),
//! * have no space for large files ([`FaultyFiles::refuse_longer`]),
//! * have bad sectors ([`FaultyFiles::make_unreadable`]),
//! * acknowledge syncs without doing them ([`FaultyFiles::skip_syncs`]): the negative control of
//!   every test that claims to notice a lost sync,
//! * restore the files to their synced content ([`FaultyFiles::cut_power`]).
//!
//! For tests, here and in `tests/`. The server never creates these files.

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

/// The way in which an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and the error is `EIO`.
    Io,
    /// Nothing is done, and the error is `ENOSPC`.
    NoSpace,
    /// A write writes the first half of its bytes and fails with `EIO`. Other operations fail as
    /// with [`Fault::Io`].
    ShortWrite,
}

/// The part of the unsynced content that survives a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    /// No unsynced content survives.
    Lost,
    /// Any of the unsynced pages survive, chosen by this seed.
    SomePages(u64),
}

/// The file operations with faults; see the module.
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
    /// Set if files without a name cannot get one.
    refuses_names: bool,
    /// The largest size that a file gets, in bytes.
    longest: Option<u64>,
    /// Bad sectors, as inodes and byte ranges.
    unreadable: Vec<(u64, Range<u64>)>,
    /// The path of every open file, by inode.
    paths: BTreeMap<u64, PathBuf>,
    /// The content at the last sync, by inode, of files that changed since.
    synced: BTreeMap<u64, Vec<u8>>,
    /// Created names whose directory was not synced.
    unsynced_names: BTreeSet<PathBuf>,
    /// The synced content of files whose name a rename gave to another file, until the directory
    /// is synced.
    replaced: BTreeMap<PathBuf, Vec<u8>>,
}

impl FaultyFiles {
    /// Creates files without a fault.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the `n`-th operation from now on fail, counted from 1.
    pub fn fail_at(&self, n: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.operations + n, fault));
    }

    /// Returns true if a fault is set and has not occurred yet.
    pub fn is_armed(&self) -> bool {
        self.state().fault.is_some()
    }

    /// Returns the number of operations so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Returns the number of requested syncs of files and directories.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// If `skip` is set, syncs are acknowledged without being done from now on.
    pub fn skip_syncs(&self, skip: bool) {
        self.state().skip_syncs = skip;
    }

    /// From now on no file without a name gets one, as on a system where /proc is closed.
    pub fn refuse_names(&self) {
        self.state().refuses_names = true;
    }

    /// From now on there is no space for a file of more than `longest` bytes; `None` ends this.
    pub fn refuse_longer(&self, longest: Option<u64>) {
        self.state().longest = longest;
    }

    /// Makes reads of these bytes of a file fail from now on.
    pub fn make_unreadable(&self, path: &Path, bytes: Range<u64>) -> io::Result<()> {
        let inode = fs::metadata(path)?.ino();
        self.state().unreadable.push((inode, bytes));
        Ok(())
    }

    /// Leaves on disk the result of a power cut: synced names and content, and the unsynced pages
    /// that `unsynced` chooses. Removals are kept. An unsynced rename over another file happened or
    /// not, as for pages.
    pub fn cut_power(&self, unsynced: Unsynced) -> io::Result<()> {
        let mut state = self.state();
        let replaced = std::mem::take(&mut state.replaced);
        for path in replaced.keys() {
            state.unsynced_names.remove(path);
        }
        for path in std::mem::take(&mut state.unsynced_names) {
            let gone =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
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
        if unsynced == Unsynced::Lost {
            replaced.iter().try_for_each(|(path, content)| fs::write(path, content))?;
        }
        state.paths.clear();
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation. Returns the fault if the operation has to fail.
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

    /// Keeps the synced content of the file that is about to lose its name to another file.
    fn before_replacement(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.unsynced_names.contains(path) || state.replaced.contains_key(path) {
            return Ok(());
        }
        let Ok(facts) = fs::metadata(path) else { return Ok(()) };
        let content = match state.synced.get(&facts.ino()) {
            Some(content) => content.clone(),
            None => fs::read(path)?,
        };
        state.replaced.insert(path.to_path_buf(), content);
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

/// Mixes the synced and the current content. Unsynced changes reach the disk page by page, in any
/// order, and so do lengths.
fn mix(synced: Vec<u8>, now: &[u8], unsynced: Unsynced) -> Vec<u8> {
    const PAGE_BYTES: usize = 512;
    let Unsynced::SomePages(mut seed) = unsynced else { return synced };
    let mut mixed = synced;
    mixed.resize(mixed.len().max(now.len()), 0);
    for (page, new) in mixed.chunks_mut(PAGE_BYTES).zip(now.chunks(PAGE_BYTES)) {
        // Knuth's MMIX generator. Its high bits are the good bits.
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
        // `before_change` cannot be used: the inode may be the inode of a removed file.
        state.synced.insert(file.metadata()?.ino(), Vec::new());
        state.unsynced_names.insert(path.to_path_buf());
        drop(state);
        Ok(file)
    }

    fn create_unnamed(&self, dir: &Path) -> io::Result<File> {
        self.check()?;
        let file = OsFiles.create_unnamed(dir)?;
        let inode = file.metadata()?.ino();
        let mut state = self.state();
        state.synced.insert(inode, Vec::new());
        // The inode may be the inode of a removed file.
        state.paths.remove(&inode);
        drop(state);
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
        if self
            .state()
            .unreadable
            .iter()
            .any(|(bad, bytes)| *bad == inode && bytes.start < end && offset < bytes.end)
        {
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

    fn erase(&self, file: &File, from: u64, to: u64) -> io::Result<()> {
        self.check()?;
        self.before_change(file)?;
        OsFiles.erase(file, from, to)
    }

    fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        self.check()?;
        if self.state().longest.is_some_and(|longest| longest < len) {
            return Err(error_of(Fault::NoSpace));
        }
        self.before_change(file)?;
        OsFiles.allocate(file, len)
    }

    fn lengthen(&self, file: &File, len: u64) -> io::Result<()> {
        self.check()?;
        self.before_change(file)?;
        OsFiles.lengthen(file, len)
    }

    fn name(&self, file: &File, path: &Path) -> io::Result<()> {
        self.check()?;
        if self.state().refuses_names {
            return Err(Errno::ACCESS.into());
        }
        OsFiles.name(file, path)?;
        self.opened(path, file)?;
        self.state().unsynced_names.insert(path.to_path_buf());
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check()?;
        self.before_replacement(to)?;
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
            state.replaced.retain(|path, _| path.parent() != Some(dir));
        }
        Ok(())
    }

    fn metadata(&self, file: &File) -> io::Result<FileFacts> {
        self.check()?;
        OsFiles.metadata(file)
    }

    /// Not counted: the call is advice, and nothing depends on it.
    fn drop_cache(&self, _: &File) -> io::Result<()> {
        Ok(())
    }
}
