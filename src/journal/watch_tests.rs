use std::fs::OpenOptions;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::super::tests::{append as append_group, body};
use super::super::{AppendError, OsFiles, Writer, open};
use super::*;

const SEGMENT_BYTES: u64 = 16 << 10;

fn journal(dir: &TempDir) -> (Writer, Reader) {
    let (writer, reader, _) =
        open(&dir.path().join("journal"), Arc::new(OsFiles), SEGMENT_BYTES).unwrap();
    (writer, reader)
}

fn append(writer: &mut Writer, count: usize) {
    (0..count)
        .try_for_each(|number| append_group(writer, &[body(number, 1_000)]).map(drop))
        .unwrap();
}

/// Returns the change reported by the watch.
fn said(reader: &Reader) -> Option<String> {
    let mut watch = Watch::new(reader);
    watch.look().map(|strayed| format!("{:?}", strayed.change))
}

#[test]
fn whatever_is_done_to_a_segment_is_noticed() {
    type Harm = fn(&std::path::Path);
    let harms: [(Harm, &str); 6] = [
        (|path| fs::remove_file(path).unwrap(), "Gone"),
        (|path| fs::rename(path, path.with_extension("old")).unwrap(), "Gone"),
        (
            |path| {
                let copy = path.with_extension("copy");
                fs::copy(path, &copy).unwrap();
                fs::rename(&copy, path).unwrap();
            },
            "Replaced",
        ),
        (
            |path| OpenOptions::new().write(true).open(path).unwrap().set_len(100).unwrap(),
            "Length { is: 100",
        ),
        (
            |path| OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap(),
            "Length { is: 0",
        ),
        (
            |path| OpenOptions::new().write(true).open(path).unwrap().set_len(1 << 20).unwrap(),
            "Length { is: 1048576",
        ),
    ];
    for (harm, expected) in harms {
        for place in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            let (mut writer, reader) = journal(&dir);
            append(&mut writer, 50);
            let segments = reader.segments();
            assert_eq!((segments.len(), said(&reader)), (4, None));
            harm(&segments[place].path);
            let said = said(&reader).unwrap_or_default();
            assert!(said.starts_with(expected), "segment {place}: {said}, and not {expected}");
        }
    }
}

#[test]
fn a_file_of_zeros_in_the_place_of_the_last_group_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, reader) = journal(&dir);
    append(&mut writer, 3);
    let path = reader.segments()[0].path.clone();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(0).unwrap();
    file.set_len(len).unwrap();
    assert_eq!(said(&reader).unwrap_or_default(), "Overwritten");
}

#[test]
fn what_was_cut_off_is_not_sealed_as_if_it_were_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, reader) = journal(&dir);
    append(&mut writer, 3);
    let path = reader.segments()[0].path.clone();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    let refused =
        (0..50).find_map(|number| append_group(&mut writer, &[body(number, 1_000)]).err()).unwrap();
    let said = refused.to_string();
    assert!(matches!(refused, AppendError::Fatal(_)), "{said}");
    assert!(said.contains(path.to_str().unwrap()) && said.contains("bytes long"), "{said}");
}

/// Sets the flag when it is dropped, also when a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Watches every operation of the writer.
#[test]
fn what_the_writer_does_is_never_taken_for_somebody_elses_doing() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..4 {
        let (mut writer, reader) = journal(&dir);
        let maker = writer.spares();
        let (is_over, mut watch) = (AtomicBool::new(false), Watch::new(&reader));
        std::thread::scope(|scope| {
            let over = Over(&is_over);
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let strayed = watch.look();
                    assert!(strayed.is_none(), "{strayed:?}");
                }
            });
            for step in 0..60 {
                append(&mut writer, 10);
                if step % 2 == 0 {
                    maker.make_asked();
                }
            }
            drop(over);
        });
    }
}
