//! Opens everything on disk in the order of recovery: the lock, the journal, the state, then the
//! rest of the journal. [`super::App::start`] calls this module, which starts no thread and opens
//! no port.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::systemd::Progress;
use super::{StartError, lost_secrets, snapshots};
use crate::base::clock::Clock;
use crate::base::metrics::Metrics;
use crate::base::threads::Signal;
use crate::base::units::millis;
use crate::base::vault::Vault;
use crate::commands::Records;
use crate::commit::{RecoveryError, Space, recover_with_progress};
use crate::config::{Config, credentials_directory};
use crate::data_dir::{
    DataDir, DataDirError, credential_admin_token, filesystem_bytes, free_bytes, free_files,
    is_held, lost_journal, state_bytes,
};
use crate::journal::{
    self, CutTail, Files, JournalScan, OsFiles, Position, ReadLog as _, Reader, SegmentFound,
    SnapshotFile, first_witnessed,
};
use crate::model::delivery::ErrorCode;
use crate::model::endpoint::Endpoint;
use crate::model::time::Timestamp;
use crate::store::{FreshSize, Reason, SEGMENT_BYTES, StateError, Store, remove_all};

pub(super) struct Opened {
    pub(super) data_dir: DataDir,
    pub(super) admin_token: String,
    pub(super) writer: journal::Writer,
    pub(super) journal: Reader,
    /// Endpoints whose secrets are lost.
    pub(super) lost: Vec<Arc<Endpoint>>,
    pub(super) on_disk: OnDisk,
}

/// The parts of the engine that need the disk.
pub(super) struct OnDisk {
    pub(super) metrics: Arc<Metrics>,
    pub(super) space: Arc<Space>,
    pub(super) store: Arc<Store>,
    pub(super) records: Records,
    pub(super) vault: Vault,
}

/// Opens everything on disk, in the order of recovery.
pub(super) fn open(
    config: &Config,
    clock: &Clock,
    forget_secrets: bool,
) -> Result<Opened, StartError> {
    let (metrics, space) = (make_metrics()?, Arc::new(disk_space(config)));
    let opened = open_all(config, clock, (metrics, Arc::clone(&space)), forget_secrets);
    opened.map_err(|cause| cause.on_disk(&config.storage.data_dir, space.free()))
}

fn open_all(
    config: &Config,
    clock: &Clock,
    (metrics, space): (Arc<Metrics>, Arc<Space>),
    forget_secrets: bool,
) -> Result<Opened, StartError> {
    let mut data_dir = DataDir::open(&config.storage.data_dir).map_err(StartError::DataDir)?;
    // These checks come before everything that creates or changes a file.
    if let Some(lost) = lost_journal(data_dir.path()) {
        return Err(StartError::NoJournal(lost));
    }
    if data_dir.is_new() && holds_records(&data_dir.journal()) {
        return Err(StartError::DataDir(data_dir.lacks_format()));
    }
    let admin_token = admin_token(config, &data_dir).map_err(StartError::DataDir)?;
    let (writer, journal, is_copied) = open_journal(config, &data_dir, &space)?;
    data_dir.complete(Timestamp(clock.now_ms())).map_err(StartError::DataDir)?;
    // Opening the journal has made it an original again.
    let is_copy = is_copied || data_dir.is_copy();
    data_dir.note_copy(is_copy).map_err(StartError::DataDir)?;
    let store = Arc::new(open_state(config, &data_dir, &journal, &metrics, &space)?);
    snapshots::delete_ahead(&data_dir, journal.end())?;
    data_dir.give_to_owner().map_err(StartError::DataDir)?;
    let (vault, lost) = open_vault(&data_dir, &store, forget_secrets)?;
    let records = Records::new(journal.clone());
    let on_disk = OnDisk { metrics, space, store, records, vault };
    Ok(Opened { data_dir, admin_token, writer, journal, lost, on_disk })
}

/// True if the journal holds records. A first start that was interrupted leaves a journal without
/// records; `FORMAT` is written before the first record.
fn holds_records(journal: &Path) -> bool {
    // A journal that cannot be read is refused when it is opened.
    let Ok(scan) = JournalScan::open(journal) else { return false };
    let holds = |found: SegmentFound| found.end > found.first;
    scan.len() > 1 || scan.look(0, &mut |_| Ok(())).is_ok_and(holds)
}

fn make_metrics() -> Result<Arc<Metrics>, StartError> {
    let codes: Vec<_> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
    Metrics::new(&codes).map(Arc::new).map_err(StartError::Metrics)
}

/// The free space and the free files of the filesystem that holds the data.
fn disk_space(config: &Config) -> Space {
    let [bytes_of, files_of, size_of, state_of] = [(); 4].map(|()| config.storage.data_dir.clone());
    let reserve = match config.storage.reserve_bytes {
        0 => reserve_of(filesystem_of(&config.storage.data_dir)),
        configured => configured,
    };
    let space = Space::new(Box::new(move || free_bytes(&bytes_of)), reserve);
    space
        .with_files(Box::new(move || free_files(&files_of)), config.storage.reserve_files)
        .with_sizes(
            Box::new(move || filesystem_of(&size_of)),
            Box::new(move || state_bytes(&state_of)),
        )
}

/// The size in bytes of the filesystem that holds the directory, or will hold it.
fn filesystem_of(dir: &Path) -> Option<u64> {
    dir.ancestors().find_map(filesystem_bytes).or_else(|| filesystem_bytes(Path::new(".")))
}

/// The reserve of a filesystem of this size in bytes, unless the configuration sets one.
fn reserve_of(filesystem_bytes: Option<u64>) -> u64 {
    const SHARE: u64 = 50;
    const AT_LEAST: u64 = 16 << 20;
    const AT_MOST: u64 = 256 << 20;
    filesystem_bytes.map_or(AT_MOST, |bytes| (bytes / SHARE).clamp(AT_LEAST, AT_MOST))
}

/// Returns true if deliveries are held, because the directory was restored and no operator has let
/// them go. Then says so.
pub(super) fn holds(data_dir: &DataDir) -> bool {
    let holds = is_held(data_dir.path());
    if holds {
        tracing::warn!(
            "the data directory was restored from a backup, and its deliveries are held, because \
             the original server may still run. `triggerd deliver on` lets the next start deliver"
        );
    }
    holds
}

/// Warns that the data directory is a copy. If a copy and its original both deliver, every delivery
/// is doubled, and neither server can notice.
pub(super) fn tell_copy(data_dir: &DataDir, store: &Store, delivers: bool) {
    let is_held = is_held(data_dir.path());
    if !data_dir.is_copy() {
        if !delivers && !is_held {
            tracing::warn!(
                "this server delivers nothing, because it was started with --no-deliver; \
                 deliveries wait"
            );
        }
        return;
    }
    let waiting = store.counts().map_or(0, |counts| counts.waiting);
    if delivers {
        tracing::warn!(
            waiting,
            "the data directory is a copy, and this server sends the deliveries that wait in it: \
             if the original server still runs, endpoints get these deliveries twice. To look at a \
             copy without delivering, start it with --no-deliver"
        );
    } else if is_held {
        tracing::warn!(
            waiting,
            "the data directory is a copy, and this server delivers nothing, because its \
             deliveries are held; no event expires"
        );
    } else {
        tracing::warn!(
            waiting,
            "the data directory is a copy; this server delivers nothing, because it was started \
             with --no-deliver, and no event expires. A start without --no-deliver delivers"
        );
    }
}

/// Records that a copy which delivers is an original from now on. If this cannot be recorded, the
/// next start warns once more.
pub(super) fn settle(data_dir: &mut DataDir, delivers: bool) {
    if delivers && let Err(error) = data_dir.note_copy(false) {
        tracing::warn!(%error, "the next start will say once more that the data directory is a \
            copy");
    }
}

/// Opens the vault with the key from systemd's credential or from the data directory. Every
/// endpoint's secrets must open with this key, unless `forget` is set. A new key is made only if
/// there are no endpoints or `forget` is set.
fn open_vault(
    data_dir: &DataDir,
    store: &Store,
    forget: bool,
) -> Result<(Vault, Vec<Arc<Endpoint>>), StartError> {
    if !forget {
        lost_secrets::check_secrets(data_dir.path(), store)?;
    }
    let key = match lost_secrets::key(data_dir.path())? {
        Some(key) => key,
        None => data_dir.make_secrets_key().map_err(StartError::DataDir)?,
    };
    let vault = Vault::new(&key);
    let lost = if forget {
        lost_secrets::unopened(&vault, store).map_err(StartError::State)?
    } else {
        Vec::new()
    };
    Ok((vault, lost))
}

/// The admin token: the configured token, else systemd's credential, else the token of the data
/// directory.
fn admin_token(config: &Config, data_dir: &DataDir) -> Result<String, DataDirError> {
    if let Some(token) = &config.keys.admin_token {
        return Ok(token.reveal().to_owned());
    }
    let credential =
        credentials_directory().map(|dir| credential_admin_token(&dir)).transpose()?.flatten();
    credential.map_or_else(|| data_dir.admin_token(), Ok)
}

/// Returns the size in bytes of a segment, or of the journal between two snapshots: as configured,
/// but at most a sixteenth of the filesystem. So a small filesystem holds several segments, and has
/// snapshots before it is full.
pub(super) fn within_share(configured: u64, filesystem_bytes: Option<u64>) -> u64 {
    const SHARE: u64 = 16;
    const AT_LEAST: u64 = 64 << 10;
    filesystem_bytes.map_or(configured, |bytes| configured.min((bytes / SHARE).max(AT_LEAST)))
}

/// Opens the journal. The flag is true if the journal is a copy.
fn open_journal(
    config: &Config,
    data_dir: &DataDir,
    space: &Arc<Space>,
) -> Result<(journal::Writer, Reader, bool), StartError> {
    let dir = data_dir.journal();
    let segment_bytes =
        within_share(config.storage.segment_bytes, filesystem_bytes(data_dir.path()));
    let files: Arc<dyn Files> = Arc::new(OsFiles);
    let format = data_dir.format_file();
    // In a copy, the snapshot may be younger than FORMAT.
    let witnessed = first_witnessed(&dir, &files).map_err(StartError::Journal)?;
    let begins = Position(format.first()).max(witnessed);
    // The start may make a segment, so the room for the next snapshots is known before.
    let kept = snapshots::kept_bytes(&dir, &files).map_err(StartError::Journal)?;
    space.note_snapshots(kept);
    let with_room = Arc::clone(space);
    let room = Box::new(move |bytes| with_room.has_room_for_segment(bytes));
    let opened = journal::open_from(&dir, files, segment_bytes, begins, room);
    let (writer, reader, report) = opened.map_err(StartError::Journal)?;
    if report.first > begins {
        let (dir, first) = (dir.display(), report.first);
        let from =
            if begins > Position::FIRST { format!(" from {begins} on") } else { String::new() };
        return Err(StartError::Missing(format!(
            "{dir} begins at position {first}; the positions before it{from} are missing"
        )));
    }
    format.witness_first(report.first.0).map_err(StartError::DataDir)?;
    tracing::info!(segments = report.segments, end = report.end.0, "journal opened");
    if report.is_copy {
        tell_end(report.end);
    }
    if let Some(cut) = &report.cut {
        tell_cut(cut, report.is_copy);
    }
    Ok((writer, reader, report.is_copy))
}

/// Logs where a copy ends, because its files cannot tell how far the original went on.
fn tell_end(end: Position) {
    tracing::info!(
        end = end.0,
        "the data directory is a copy; the copy ends at this position of the journal, and events \
         acknowledged after the copy began may not be in it"
    );
}

fn tell_cut(cut: &CutTail, is_copy: bool) {
    let (file, cause) = (cut.file.display().to_string(), cut.cause.name());
    let (offset, bytes) = (cut.offset, cut.bytes);
    if is_copy {
        tracing::warn!(
            file,
            offset,
            bytes,
            cause,
            "bytes that the copy holds only in part were cut from its end"
        );
    } else {
        tracing::warn!(
            file,
            offset,
            bytes,
            cause,
            "bytes that were never acknowledged were cut from the end of the journal"
        );
    }
}

/// Opens the state and brings it up to the journal. If the disk has no room for the state, computes
/// the state again in memory.
fn open_state(
    config: &Config,
    data_dir: &DataDir,
    journal: &Reader,
    metrics: &Metrics,
    space: &Space,
) -> Result<Store, StartError> {
    let open = || try_to_open_state(config, data_dir, journal, metrics, space);
    match open() {
        Err(StartError::State(error) | StartError::Recovery(RecoveryError::State(error)))
            if matches!(error, StateError::NoSpace(_))
                || space.is_short_for(FreshSize::default()) =>
        {
            tracing::warn!(
                %error,
                free = space.free(),
                "the disk has no room for the state; the state is computed again, in memory"
            );
            space.note_overrun();
            give_back(&data_dir.state(), space);
            open()
        }
        other => other,
    }
}

/// Removes the state that did not fit, and waits for its space: sled 0.34.7 closes its file a
/// moment after the drop.
fn give_back(state: &Path, space: &Space) {
    const AT_MOST: Duration = Duration::from_secs(2);
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    if let Err(error) = remove_all(state) {
        tracing::warn!(%error, "the state that did not fit could not be deleted");
    }
    let began = Instant::now();
    while space.free().is_some_and(|free| free < SEGMENT_BYTES as u64) && began.elapsed() < AT_MOST
    {
        Signal::new().wait(LOOK_EVERY);
    }
}

/// Opens the state in its directory. A start that was killed may have left a state behind the
/// newest snapshot. It is given up, because compaction may have removed what comes next. This
/// snapshot is returned then.
fn open_store(
    config: &Config,
    data_dir: &DataDir,
    end: Position,
    journal: (&Path, &Arc<dyn Files>),
) -> Result<(Store, Option<SnapshotFile>), StartError> {
    let (state, cache_bytes) = (data_dir.state(), config.storage.state_cache_bytes);
    let open = || Store::open(&state, cache_bytes, end).map_err(StartError::State);
    let store = open()?;
    let applied = store.applied();
    if store.rebuild_reason().is_some() {
        return Ok((store, None));
    }
    let newer = snapshots::newer(journal, applied, end)?;
    if newer.is_none() {
        return Ok((store, None));
    }
    tracing::warn!(
        applied = applied.0,
        "the state is older than the newest snapshot and is computed again from it; nothing is lost"
    );
    store.invalidate();
    drop(store);
    Ok((open()?, newer))
}

fn try_to_open_state(
    config: &Config,
    data_dir: &DataDir,
    journal: &Reader,
    metrics: &Metrics,
    space: &Space,
) -> Result<Store, StartError> {
    let (end, dir) = (journal.end(), data_dir.journal());
    let files: Arc<dyn Files> = Arc::new(OsFiles);
    snapshots::judge_ahead((&dir, &files), end, data_dir.is_copy())?;
    let (mut store, known) = open_store(config, data_dir, end, (&dir, &files))?;
    if let Some(Reason::AheadOfJournal { applied }) = store.rebuild_reason() {
        return Err(StartError::Missing(format!(
            "it ends at position {end}, but the stored state goes to {applied}"
        )));
    }
    if let Some(reason) = store.rebuild_reason() {
        tracing::info!(%reason, "computing the state from the journal");
        metrics.state_rebuilds.inc();
        snapshots::restore(&mut store, (&dir, &files), (journal, known.as_ref()), space)?;
    }
    snapshots::require_beginning(&store, journal.first())?;
    apply_rest(&store, journal, space)?;
    Ok(store)
}

/// Applies the rest of the journal to the state.
fn apply_rest(store: &Store, journal: &Reader, space: &Space) -> Result<(), StartError> {
    let records = Records::new(journal.clone());
    let progress = Progress::of("applying the journal to the state");
    let tell = |done, all| progress.tell(done, all);
    // sled 0.34.7 panics on some kinds of damage.
    let recovered =
        catch_unwind(AssertUnwindSafe(|| recover_with_progress(store, &records, space, &tell)));
    if matches!(recovered, Err(_) | Ok(Err(RecoveryError::State(_)))) {
        store.invalidate();
        tracing::error!("the state is broken; the next start computes it from the journal");
    }
    let recovered = recovered
        .unwrap_or_else(|panic| resume_unwind(panic))
        .map_err(|error| snapshots::judge_recovery(store, error))?;
    let (commands, took_ms) = (recovered.commands, millis(recovered.took));
    tracing::info!(commands, took_ms, "the state is up to date with the journal");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_share_of_the_filesystem_within_bounds() {
        const MIB: u64 = 1 << 20;
        for (filesystem, reserve) in [
            (Some(64 * MIB), 16 * MIB),
            (Some(1_000 * MIB), 20 * MIB),
            (Some(10_000 * MIB), 200 * MIB),
            (Some(1 << 40), 256 * MIB),
            (None, 256 * MIB),
        ] {
            assert_eq!(reserve_of(filesystem), reserve, "{filesystem:?}");
        }
    }

    #[test]
    fn the_filesystem_of_a_directory_is_known_before_the_directory_exists() {
        let here = filesystem_bytes(Path::new("."));
        assert!(here.is_some());
        assert_eq!(filesystem_of(Path::new("absent/below")), here);
    }
}
