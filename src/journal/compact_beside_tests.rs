//! Tests of compaction beside readers, the watch, copies and the writer.

use super::*;

#[test]
fn neither_readers_nor_the_watch_nor_copies_are_disturbed_by_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let written = written(dir.path(), 150);
    let (_writer, reader, _) = open_quick(dir.path()).unwrap();
    let (journal, numbers) = (Compaction::new(&reader), numbers(&written));
    let segments = sealed(&journal);
    let (is_over, mut watch) = (AtomicBool::new(false), Watch::new(&reader));
    let kept: Vec<_> = written.iter().zip(0..).filter(|(_, n)| n % 4 == 0).collect();
    let from = segments[1].end;
    std::thread::scope(|scope| {
        let over = Over(&is_over);
        let is_over = &is_over;
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::SeqCst) {
                let strayed = watch.look();
                assert!(strayed.is_none(), "{strayed:?}");
            }
        });
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::SeqCst) {
                for ((position, body), _) in kept.iter().filter(|((at, _), _)| *at >= from) {
                    assert_eq!(*reader.read(*position).unwrap().body, **body);
                }
            }
        });
        for _ in 0..20 {
            for segment in &segments[2..] {
                let mut judge = |record: &RawRecord<'_>| {
                    Ok(decision_of(
                        numbers[&record.position],
                        &written[numbers[&record.position]].1,
                    ))
                };
                journal.punch(segment.first, &mut judge, &mut |_| true).unwrap().unwrap();
                let copy = copy_of(dir.path());
                let (_, copied, _) = open_quick(copy.path()).unwrap();
                for ((position, body), _) in kept.iter().step_by(7) {
                    assert_eq!(*copied.read(*position).unwrap().body, **body);
                }
            }
        }
        journal.remove_before(from).unwrap();
        drop(over);
    });
    assert_eq!(reader.first(), from);
}

#[test]
fn the_writer_seals_the_segment_when_it_is_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, reader, _) = open_small(dir.path()).unwrap();
    let journal = Compaction::new(&reader);
    journal.ask_to_seal(Position::FIRST);
    let mut written = append(&mut writer, &[body(1, 20)]).unwrap();
    assert_eq!(journal.segments().unwrap().len(), 1, "an empty segment is not sealed");
    for _ in 0..2 {
        written.extend(append(&mut writer, &[body(2, 20)]).unwrap());
        assert_eq!(journal.segments().unwrap().len(), 2);
    }
    assert_kept(&reader, &written, &|_| false);
    drop((writer, reader));
    let (_, reader, _) = open_small(dir.path()).unwrap();
    assert_kept(&reader, &written, &|_| false);
}

#[test]
fn segments_are_made_and_compacted_where_no_file_without_a_name_can_get_one() {
    let dir = tempfile::tempdir().unwrap();
    let journal_dir = dir.path().join("journal");
    let files = Arc::new(FaultyFiles::new());
    files.refuse_names();
    let (mut writer, reader, _) = open_faulty(&journal_dir, &files).unwrap();
    let group = |n: usize| [body(n, n % 61), body(n + 1_000, 40 + 7 * (n % 50))];
    let written: Vec<_> = (0..60).flat_map(|n| append(&mut writer, &group(n)).unwrap()).collect();
    let (journal, numbers) = (Compaction::new(&reader), numbers(&written));
    let segments = sealed(&journal);
    assert!(segments.len() > 2, "{segments:?}");
    for segment in &segments {
        assert!(punch(&journal, segment.first, &numbers).unwrap().is_some());
    }
    let is_sealed = |position| position < segments.last().unwrap().end;
    assert_kept(&reader, &written, &is_sealed);
    drop(writer);
    files.cut_power(Unsynced::Lost).unwrap();
    let (_, reader, _) = open_small(&journal_dir).unwrap();
    assert_kept(&reader, &written, &is_sealed);
    let names = fs::read_dir(&journal_dir).unwrap().map(|entry| entry.unwrap().path());
    assert!(names.into_iter().all(|path| path.extension().is_some_and(|it| it == "seg")));
}
