//! The fuzz targets: functions that take bytes and panic if a promise is broken. `main.rs` runs the
//! targets in every test run, and libFuzzer through the crate in this directory.
//!
//! The result depends only on the bytes: no target needs a server, a clock or chance.

use std::path::Path;
use std::sync::Arc;

use triggerd::commands::Command;
use triggerd::config::Config;
use triggerd::http::read_event_for_fuzzing;
use triggerd::journal::{
    JournalScan, OsFiles, Position, ReadLog as _, Reader, Salvage, SegmentFound,
};
use triggerd::rules::egress::EgressRules;

/// A target; the directory of its name is its corpus.
pub(crate) type Target = fn(&[u8]);

/// All targets, by name.
pub(crate) const TARGETS: [(&str, Target); 5] = [
    ("journal", journal),
    ("command", command),
    ("event", event),
    ("config", config),
    ("url", url),
];

const SEGMENT_BYTES: u64 = 4096;

/// A segment file behind its header; an odd first byte adds a next segment. The journal opens, or
/// the damage is reported by opening or by reading; scanning, opening and salvaging agree.
pub(crate) fn journal(bytes: &[u8]) {
    let Some((flags, content)) = bytes.split_first() else { return };
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("journal");
    drop(triggerd::journal::open(&dir, Arc::new(OsFiles), SEGMENT_BYTES).unwrap());
    let first = dir.join("00000000000000000001.seg");
    let header = std::fs::read(&first).unwrap()[..64].to_vec();
    std::fs::write(&first, [&header, content].concat()).unwrap();
    if flags & 1 == 1 {
        // The next segment has no header, as after a crash during its making.
        std::fs::write(dir.join(format!("{:020}.seg", content.len() + 1)), b"").unwrap();
    }
    let (scan, found) = look(&dir);
    let whole = found.iter().all(|segment| segment.damages.is_empty());
    let end = found.last().map_or(Position::FIRST, |segment| segment.end);
    let frames = frames(&scan.reader(end), whole);
    drop(scan);
    match triggerd::journal::open(&dir, Arc::new(OsFiles), SEGMENT_BYTES) {
        Ok((_, reader, report)) if whole => {
            assert_eq!(report.end, end);
            assert_eq!(self::frames(&reader, true), frames);
        }
        Ok((_, reader, _)) => {
            let mut follower = reader.follow(Position::FIRST).unwrap();
            let read = std::iter::from_fn(|| Some(follower.next()?.map(drop)));
            assert!(read.last().is_some_and(|last| last.is_err()), "all is read, but {found:?}");
            drop(reader);
            salvage(&dir, &parent.path().join("aside"), &found);
        }
        Err(error) => {
            assert!(!whole, "{error}");
            salvage(&dir, &parent.path().join("aside"), &found);
        }
    }
}

fn look(dir: &Path) -> (JournalScan, Vec<SegmentFound>) {
    let scan = JournalScan::open(dir).unwrap();
    let found = (0..scan.len()).map(|number| scan.look(number, &mut |_| Ok(())).unwrap()).collect();
    (scan, found)
}

/// Returns the positions of the frames in order. Each frame is also found by its position.
fn frames(reader: &Reader, whole: bool) -> Vec<Position> {
    let mut follower = reader.follow(Position::FIRST).unwrap();
    let mut positions = Vec::new();
    while let Some(frame) = follower.next() {
        match frame {
            Ok(frame) => {
                assert_eq!(reader.read(frame.position).unwrap().body, frame.body);
                positions.push(frame.position);
            }
            Err(error) => assert!(!whole, "{error}"),
        }
    }
    assert!(positions.is_sorted_by(|a, b| a < b));
    positions
}

fn salvage(dir: &Path, aside: &Path, found: &[SegmentFound]) {
    let kept: u64 = found.iter().map(|segment| segment.records).sum();
    if let Err(error) =
        (Salvage { dir, files: Arc::new(OsFiles), aside, notes: &[] }).run(None, found)
    {
        // A hole needs more bytes than are missing: no frame of triggerd is so short.
        assert!(error.to_string().contains("too few for a frame in their place"), "{error}");
        return;
    }
    let (_, again) = look(dir);
    assert!(again.iter().all(|segment| segment.damages.is_empty()), "{again:?}");
    let (_, reader, _) = triggerd::journal::open(dir, Arc::new(OsFiles), SEGMENT_BYTES).unwrap();
    assert_eq!(frames(&reader, true).len() as u64, kept);
}

/// A frame's kind, version and body: an error, or a command that is written in the same bytes.
pub(crate) fn command(bytes: &[u8]) {
    let [number, version, body @ ..] = bytes else { return };
    let Ok(command) = Command::read(*number, *version, body) else { return };
    let mut written = Vec::new();
    command.write(&mut written).unwrap();
    assert_eq!((command.kind().number, command.kind().version), (*number, *version));
    let again = Command::read(*number, *version, &written).unwrap();
    assert_eq!(again, command);
    assert_eq!(written, body, "one form for each command");
}

/// The body of a posted event, a CloudEvent if the first byte is odd: an event within its limits,
/// or a problem.
pub(crate) fn event(bytes: &[u8]) {
    let Some((flags, body)) = bytes.split_first() else { return };
    let is_cloudevent = flags & 1 == 1;
    match read_event_for_fuzzing(body, is_cloudevent) {
        Err(problem) => {
            assert!(problem["code"].is_string() && problem["status"].is_u64(), "{problem}");
        }
        Ok(event) => {
            serde_json::from_slice::<&serde_json::value::RawValue>(&event.payload).unwrap();
            let type_text = event.event_type.as_str();
            assert!(
                is_cloudevent || type_text.parse() == Ok(event.event_type.clone()),
                "{type_text}"
            );
            assert!(event.data_len() <= 64 << 10 && event.labels.len() <= 32);
            assert_eq!(event.cloudevent.is_some(), is_cloudevent);
            assert!(
                event.cloudevent.as_ref().is_none_or(|cloud| cloud.attributes.len() <= 64),
                "{event:?}"
            );
            assert!(
                event.dedup.as_ref().is_none_or(|dedup| is_dedup_id(&dedup.id, is_cloudevent)),
                "{:?}",
                event.dedup
            );
            let verbatim =
                body.windows(event.payload.len()).any(|window| *window == *event.payload);
            assert!(verbatim || is_cloudevent, "the payload is not as it came");
        }
    }
}

fn is_dedup_id(id: &str, is_cloudevent: bool) -> bool {
    // The dedup id of a CloudEvent is made of two parts.
    !id.is_empty()
        && (is_cloudevent || id.chars().count() <= 255 && !id.chars().any(char::is_control))
}

/// A configuration file: refused with reasons, or in effect. The effective configuration, read
/// again, says the same.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Config::from_toml(text) {
        Err(error) => assert!(!error.to_string().is_empty()),
        // The effective configuration masks the token, so it cannot be read again.
        Ok(config) if config.keys.admin_token.is_some() => drop(config.effective()),
        Ok(config) => {
            let effective = config.effective();
            match Config::from_toml(&effective) {
                Ok(again) => assert_eq!(again.effective(), effective),
                Err(error) => panic!("{error}\n{effective}"),
            }
        }
    }
}

/// The URL of an endpoint: the verdict stays the same for the stored form of the URL.
pub(crate) fn url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let rules = EgressRules { allow: Vec::new() };
    if let Ok((url, _)) = rules.judge_text(text) {
        assert!(matches!(url.scheme(), "http" | "https") && url.has_host(), "{url}");
        assert!(rules.judge_text(url.as_str()).is_ok(), "{url}");
    }
}
