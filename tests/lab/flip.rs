//! Each byte of a small journal is flipped in turn. Opening the journal returns an exact prefix of
//! the frames, or damage with file and offset. Some flips are repeated under the real binary, which
//! ends with exit code 3 or has all events.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use triggerd::journal::{
    self, Group, JournalError, Log as _, OsFiles, Position, ReadError, ReadLog as _, Reader,
};

use crate::harness::{Client, Process};
use crate::random::Random;
use crate::scenario::{Outcome, Plan};
use crate::server::config;

type Frames = Vec<(Position, Vec<u8>)>;

const SEGMENT_BYTES: u64 = 1_000;

pub(crate) fn run(plan: &Plan) -> Outcome {
    let (flips, prefixes, damages) = flip_every_byte();
    let sampled = flip_under_the_binary(plan);
    Outcome::Passed(format!(
        "{flips} flips opened: {prefixes} exact prefixes, {damages} damages named; {sampled} of \
         the binary's ended with 3"
    ))
}

/// Returns a directory in memory if possible: each flip opens the journal, which syncs.
fn quick_dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// Writes three segments of some groups each.
fn small_journal(dir: &Path) -> Frames {
    let (mut writer, reader, _) = journal::open(dir, Arc::new(OsFiles), SEGMENT_BYTES).unwrap();
    for n in 0..24_u8 {
        let mut group = Group::new();
        for frame in 0..=n % 3 {
            group
                .push(5, 1, |body| {
                    body.extend(std::iter::repeat_n(n + 1, 20 + usize::from(n + frame)));
                })
                .unwrap();
        }
        writer.append(&mut group).unwrap();
    }
    let frames = read_all(&reader).unwrap();
    assert!(segments(dir).len() >= 3, "the journal is too small");
    frames
}

fn read_all(reader: &Reader) -> Result<Frames, ReadError> {
    let (mut follower, mut frames) = (reader.follow(Position::FIRST)?, Vec::new());
    while let Some(record) = follower.next() {
        let record = record?;
        frames.push((record.position, record.body.into_owned()));
    }
    Ok(frames)
}

fn flip_every_byte() -> (usize, usize, usize) {
    let parent = quick_dir();
    let dir = parent.path().join("journal");
    let written = small_journal(&dir);
    let whole: Vec<_> =
        segments(&dir).into_iter().map(|file| (std::fs::read(&file).unwrap(), file)).collect();
    let (mut flips, mut prefixes, mut damages) = (0, 0, 0);
    for (bytes, file) in &whole {
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            // The file is changed in place: a segment knows its own inode.
            std::fs::write(file, flipped).unwrap();
            flips += 1;
            match opened(&dir) {
                Ok(frames) => {
                    let is_prefix = written.starts_with(&frames);
                    assert!(
                        is_prefix,
                        "byte {at} of {} flipped: the frames served differ from those written",
                        file.display()
                    );
                    prefixes += 1;
                }
                Err((named, offset)) => {
                    assert_eq!(&named, file, "byte {at} flipped: another file is named");
                    assert!(
                        offset <= at as u64,
                        "byte {at} of {} flipped: named as offset {offset}",
                        file.display()
                    );
                    damages += 1;
                }
            }
            restore(&dir, &whole);
        }
    }
    (flips, prefixes, damages)
}

/// Returns the frames, or the file and offset of the damage.
fn opened(dir: &Path) -> Result<Frames, (PathBuf, u64)> {
    match journal::open(dir, Arc::new(OsFiles), SEGMENT_BYTES) {
        Ok((_writer, reader, _)) => match read_all(&reader) {
            Ok(frames) => Ok(frames),
            Err(ReadError::Damage(damage)) => Err((damage.file, damage.offset)),
            Err(error) => panic!("{error}"),
        },
        Err(JournalError::Damage(damage)) => Err((damage.file, damage.offset)),
        Err(error) => panic!("{error}"),
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Restores all files: opening may have cut, filled or made some.
fn restore(dir: &Path, whole: &[(Vec<u8>, PathBuf)]) {
    for file in segments(dir) {
        match whole.iter().find(|(_, known)| *known == file) {
            Some((bytes, _)) if std::fs::read(&file).unwrap() == *bytes => {}
            Some((bytes, _)) => std::fs::write(&file, bytes).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
    }
}

/// Writes the bytes to the file with one bit flipped, not behind the last written byte. Returns the
/// offset of the flipped byte.
fn flip_a_written_byte(file: &Path, bytes: &[u8], random: &mut Random) -> usize {
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let at = random.index(written + 1);
    let mut flipped = bytes.to_vec();
    flipped[at] ^= 1 << random.below(8);
    std::fs::write(file, flipped).unwrap();
    at
}

/// Flips written bytes under the real binary. Returns the number of starts that ended with exit
/// code 3. The state is a witness of how far the journal reached, so its end cannot go missing
/// either.
fn flip_under_the_binary(plan: &Plan) -> usize {
    let data = plan.dir.join("data");
    let (server, _) = Process::boot(&data);
    let key = server.org("pulls").key;
    let org = Client::new(&server.url, &key);
    let ids: Vec<_> = (0..20).map(|n| org.send("flip.event", &json!({ "n": n })).id()).collect();
    assert_eq!(server.stop().0, Some(0));
    let file = segments(&data.join("journal")).remove(0);
    let mut random = Random::new(plan.seed);
    let mut ended = 0;
    for _ in 0..plan.rounds {
        let bytes = std::fs::read(&file).unwrap();
        let at = flip_a_written_byte(&file, &bytes, &mut random);
        match Process::spawn(&data, &config(&data), &[]).ready() {
            Ok(server) => {
                assert_eq!(
                    Client::new(&server.url, &key).inbox_ids(),
                    ids,
                    "byte {at} flipped: events differ"
                );
                assert_eq!(server.stop().0, Some(0));
                // The flip was in unused bytes. The use of the key was appended, so the file stays
                // as it is.
            }
            Err((status, log)) => {
                assert_eq!(status.code(), Some(3), "byte {at} flipped: {log}");
                let names = log.contains(".seg") && log.contains("offset")
                    || log.contains("it ends at position");
                assert!(
                    names,
                    "byte {at} flipped: neither file and offset nor what is missing is named: {log}"
                );
                ended += 1;
                std::fs::write(&file, bytes).unwrap();
            }
        }
    }
    ended
}
