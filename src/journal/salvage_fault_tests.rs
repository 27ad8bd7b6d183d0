//! Salvaging on a failing disk: unreadable pages are damage and no reason to stop, and after a
//! failed operation the next salvage completes the repair.

use std::collections::BTreeSet;

use super::*;
use crate::journal::faults::{Fault, FaultyFiles};
use crate::journal::{JournalError, open};

const PAGE: u64 = 4096;

/// Scans and salvages. Losses are added to `told` before anything is written.
fn try_salvage(
    dir: &Path,
    aside: &str,
    files: &Arc<FaultyFiles>,
    told: &mut Vec<Lost>,
) -> Result<(), JournalError> {
    let files: Arc<dyn Files> = Arc::<FaultyFiles>::clone(files);
    let scan = JournalScan::open_with(dir, Arc::clone(&files))?;
    let found: Result<Vec<_>, _> =
        (0..scan.len()).map(|number| scan.look(number, &mut |_| Ok(()))).collect();
    let (found, beginning) = (found?, scan.missing_beginning(crate::journal::Position::FIRST));
    told.extend(beginning.iter().chain(found.iter().flat_map(|found| &found.damages)).cloned());
    let aside = dir.join(aside);
    Salvage { dir, files, aside: &aside, notes: &[] }.run(beginning.as_ref(), &found).map(drop)
}

/// Creates a journal of three segments with frames shorter and longer than a page. The last segment
/// has room.
fn paged(dir: &Path, files: &Arc<FaultyFiles>) -> Vec<Written> {
    let shared: Arc<dyn Files> = Arc::<FaultyFiles>::clone(files);
    let (mut writer, _, _) = open(dir, shared, 32 << 10).unwrap();
    let bodies = |n: usize| [body(n, [300, 5_000, 900][n % 3]), body(n + 1_000, 700)];
    (0..28).flat_map(|n| append(&mut writer, &bodies(n)).unwrap()).collect()
}

/// Makes the sector at the beginning of a page bad, and salvages.
fn lose_page(segment: usize, page: u64) {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(FaultyFiles::new());
    let written = paged(dir.path(), &files);
    let all_files = segment_files(dir.path());
    let (file, first) =
        (&all_files[segment], segment::first_from_path(&all_files[segment]).unwrap());
    let next = all_files.get(segment + 1).and_then(|next| segment::first_from_path(next));
    files.make_unreadable(file, page..page + 512).unwrap();
    let shared: Arc<dyn Files> = Arc::<FaultyFiles>::clone(&files);
    let read = open(dir.path(), shared, 32 << 10).map(|(_, reader, _)| all(&reader));
    assert!(matches!(read, Err(JournalError::Damage(_)) | Ok(Err(_))), "the loss is noticed");
    let mut lost = Vec::new();
    try_salvage(dir.path(), "aside", &files, &mut lost).unwrap();
    let is_named = |lost: &Lost| {
        let Lost { damage, bytes, .. } = lost;
        damage.file == *file && damage.offset < page + PAGE && page < damage.offset + bytes
    };
    assert!(lost.iter().any(is_named), "{lost:?}");
    assert!(lost.iter().all(|lost| lost.damage.reason.contains("read")), "{lost:?}");
    assert_eq!(losses(dir.path()), [], "whole afterwards");
    // Frames outside the page are kept.
    let touches = |(position, body): &Written| {
        let start = 64 + position.0.saturating_sub(first.0);
        let is_here = *position >= first && next.is_none_or(|next| *position < next);
        is_here && start < page + PAGE && page < start + 18 + body.len() as u64
    };
    let (_, reader, _) = open_small(dir.path()).unwrap();
    let expected: Vec<_> = written.into_iter().filter(|frame| !touches(frame)).collect();
    assert!(all(&reader).unwrap() == expected, "{lost:?}");
}

#[test]
fn each_page_that_cannot_be_read_is_named_as_damage_and_costs_the_frames_that_touch_it() {
    let dir = tempfile::tempdir().unwrap();
    paged(dir.path(), &Arc::new(FaultyFiles::new()));
    let lens = segment_files(dir.path()).into_iter().map(|file| fs::metadata(file).unwrap().len());
    let lens: Vec<_> = lens.collect();
    assert_eq!(lens.len(), 3, "{lens:?}");
    let pages = lens
        .iter()
        .enumerate()
        .flat_map(|(segment, len)| (0..*len).step_by(4096).map(move |at| (segment, at)));
    assert!(pages.map(|(segment, page)| lose_page(segment, page)).count() >= 24);
}

/// Creates a journal with two damaged segments, a missing segment at the beginning, and a torn end.
fn damaged(dir: &Path) -> Vec<Written> {
    let mut written = written(dir, 36);
    let files = segment_files(dir);
    assert!(files.len() > 4, "{files:?}");
    fs::remove_file(&files[0]).unwrap();
    for file in &files[2..4] {
        let mut bytes = fs::read(file).unwrap();
        bytes[700..1_100].fill(0xa5);
        fs::write(file, bytes).unwrap();
    }
    let (last, first) =
        (files.last().unwrap(), segment::first_from_path(files.last().unwrap()).unwrap());
    let mut bytes = fs::read(last).unwrap();
    let (position, _) = written.pop().unwrap();
    bytes[usize::try_from(64 + position.since(first) + 20).unwrap()] ^= 1;
    fs::write(last, bytes).unwrap();
    written
}

/// Asserts that every segment is unchanged, or is rewritten with the old file kept. The header
/// differs, because it names its own file.
fn assert_old_or_new(before: &Path, after: &Path, salvaged: &Path) {
    for file in segment_files(after).iter().filter(|file| segment::first_from_path(file).is_some())
    {
        let name = file.file_name().unwrap();
        let read = |dir: &Path| {
            fs::read(dir.join(name)).ok().map(|bytes| bytes.get(64..).map(<[u8]>::to_vec))
        };
        let now = read(after);
        if now != read(before) {
            assert_eq!(now, read(salvaged), "{} is neither as before nor salvaged", file.display());
            let kept = read(&after.join("aside"));
            assert!(
                kept == read(before) || !before.join(name).exists(),
                "{} was not kept",
                file.display()
            );
        }
    }
}

#[test]
fn any_single_failed_operation_leaves_a_journal_that_the_next_try_makes_whole() {
    let dir = tempfile::tempdir().unwrap();
    let written = damaged(dir.path());
    let salvaged = copy_of(dir.path());
    let mut lost = Vec::new();
    try_salvage(salvaged.path(), "aside", &Arc::new(FaultyFiles::new()), &mut lost).unwrap();
    assert_eq!(lost.len(), 3, "{lost:?}");
    let ranges =
        |lost: &[Lost]| lost.iter().map(|lost| (lost.from, lost.to)).collect::<BTreeSet<_>>();
    let (mut unfinished, mut finished) = (0, 0);
    for fault in [Fault::Io, Fault::NoSpace, Fault::ShortWrite] {
        for n in 1.. {
            let at = format!("{fault:?} at operation {n}");
            let copy = copy_of(dir.path());
            let files = Arc::new(FaultyFiles::new());
            files.fail_at(n, fault);
            let mut told = Vec::new();
            let first = try_salvage(copy.path(), "aside", &files, &mut told);
            assert_old_or_new(dir.path(), copy.path(), salvaged.path());
            if first.is_ok() {
                finished += 1;
                assert_eq!(losses(copy.path()), [], "{at}: not whole, but nothing was said");
            } else {
                unfinished += 1;
                try_salvage(copy.path(), "again", &Arc::new(FaultyFiles::new()), &mut told)
                    .unwrap();
            }
            assert_eq!(ranges(&told), ranges(&lost), "{at}: what is lost was not told");
            let (_, reader, _) = open_small(copy.path()).unwrap();
            assert_kept(&written, &all(&reader).unwrap(), &lost);
            if files.is_armed() {
                assert!(first.is_ok(), "without a fault");
                break;
            }
        }
    }
    assert!(unfinished > 60 && finished > 3, "{unfinished} unfinished, {finished} finished");
}
