//! `triggerd verify` and `triggerd rebuild` with the real binary: damage is found and named, whole
//! frames are saved, and `verify` changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use triggerd::cli::demo::receiver::Receiver;
use triggerd::commands::{AckEvent, Command, Results, apply};
use triggerd::journal::Position;
use triggerd::model::id::{EventId, OrgNo};
use triggerd::model::time::Timestamp;
use triggerd::store::Store;

use crate::harness::{Client, PATIENCE, Process, command, first_segment};

#[path = "damage_salvage.rs"]
mod salvage;

fn verify(data: &Path) -> (Option<i32>, Value, String) {
    let (code, text) = command(data, &["verify", "--json"]);
    (code, serde_json::from_str(&text).unwrap_or_default(), text)
}

/// Every file below a directory, with its content and modification time.
fn everything(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    let mut directories = vec![dir.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let changed = fs::metadata(&path).unwrap().modified().unwrap();
                found.insert(path.clone(), (fs::read(&path).unwrap(), changed));
            }
        }
    }
    found
}

/// Fills a data directory with two organizations, deliveries and acknowledgements, and stops the
/// server. Returns the key of the pulling organization and the ids of its events.
fn filled(data: &Path) -> (String, Vec<String>) {
    let server = Process::start(data);
    let (pulls, pushes) = (server.org("Pulls"), server.org("Pushes"));
    let receiver = Receiver::start().unwrap();
    receiver.answer_next([500]);
    pushes.push_to(&receiver.url());
    let ids: Vec<_> =
        (0..40).map(|n| pulls.send_once(&format!("d-{n}"), &json!("x".repeat(100))).id()).collect();
    for n in 0..40 {
        pushes.send_once(&format!("d-{n}"), &json!(n));
    }
    receiver.wait_for(40, PATIENCE);
    ids.iter().take(10).for_each(|id| assert_eq!(pulls.ack(id).status, 200));
    assert_eq!(server.stop().0, Some(0));
    receiver.stop();
    (pulls.key, ids[10..].to_vec())
}

/// The offset of the event's frame in the first segment.
fn frame_of(data: &Path, id: &str) -> usize {
    let bytes = fs::read(first_segment(data)).unwrap();
    // Numbers in the body of a frame are little-endian.
    let mut id = id.parse::<EventId>().unwrap().to_bytes();
    id.reverse();
    let at = bytes.windows(16).position(|window| window == id).expect("the event's frame is there");
    // The id is behind the frame's header, the organization's number and the key that posted it.
    at - 17 - 4 - 18
}

fn flip(file: &Path, offset: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[offset] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn verify_finds_nothing_in_a_good_directory_and_changes_nothing_there() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    filled(&data);
    let before = everything(&data);
    let (code, report, text) = verify(&data);
    assert_eq!(
        (code, &report["well"], &report["state"]["result"]),
        (Some(0), &json!(true), &json!("equal")),
        "{text}"
    );
    assert_eq!((&report["events"], &report["organizations"]), (&json!(80), &json!(2)), "{text}");
    assert_eq!(report["journal"]["commands"]["submit_event"], json!(80), "{text}");
    let (code, text) = command(&data, &["verify"]);
    assert!(
        code == Some(0) && text.contains("no damage was found") && text.contains("submit_event"),
        "{text}"
    );
    assert!(everything(&data) == before, "looking changed something");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside it");
    // A state that is missing or behind is no damage; `verify` refuses a running server.
    let server = Process::start(&data);
    let (code, _, text) = verify(&data);
    assert!(code == Some(4) && text.contains("in use"), "{text}");
    assert_eq!(command(&data, &["rebuild"]).0, Some(4));
    server.org("Late").send("a", &json!(1));
    server.kill();
    let (code, report, text) = verify(&data);
    assert_eq!((code, &report["state"]["result"]), (Some(0), &json!("equal")), "{text}");
    fs::remove_dir_all(data.join("sled")).unwrap();
    let (code, report, text) = verify(&data);
    assert_eq!((code, &report["state"]["result"]), (Some(0), &json!("not_compared")), "{text}");
    let absent = command(&dir.path().join("nothing"), &["verify"]);
    assert_ne!(absent.0, Some(0));
    assert!(!dir.path().join("nothing").exists());
}

/// Acknowledges an event in the state of a stopped server, without the journal.
fn acknowledge_behind_its_back(data: &Path, event: &str) {
    let store = Store::open(&data.join("sled"), 8 << 20, Position::MAX).unwrap();
    let ack = AckEvent { org: OrgNo(0), event: event.parse().unwrap(), at: Timestamp(1) };
    let (command, applied) = (Command::AckEvent(ack), store.applied());
    let mut results = Results::default();
    apply(&store, std::iter::once((applied, &command)), applied, &mut results).unwrap();
    store.close().unwrap();
}

#[test]
fn a_row_changed_behind_the_servers_back_is_named_and_a_rebuild_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (key, waiting) = filled(&data);
    acknowledge_behind_its_back(&data, &waiting[0]);
    let (code, report, text) = verify(&data);
    assert_eq!((code, &report["state"]["result"]), (Some(3), &json!("different")), "{text}");
    let differences = &report["state"]["differences"];
    let named = &differences["first"][0];
    assert_eq!((&named["kind"], &named["id"]), (&json!("event"), &json!(waiting[0])), "{text}");
    let names = (&named["label"], &named["organization"]);
    assert_eq!(names, (&json!("test.event"), &json!("Pulls")), "{text}");
    assert!(named["was"].as_str().unwrap().starts_with("acknowledged"), "{text}");
    assert!(named["is"].as_str().unwrap().starts_with("accepted, in the inbox"), "{text}");
    let list = fs::read_to_string(differences["list"].as_str().unwrap()).unwrap();
    assert!(list.contains(&waiting[0]) && list.contains("test.event"), "{list}");
    fs::remove_file(differences["list"].as_str().unwrap()).unwrap();
    let (code, text) = command(&data, &["rebuild"]);
    assert!(code == Some(0) && text.contains("the state is rebuilt"), "{text}");
    assert_eq!(verify(&data).0, Some(0));
    let server = Process::start(&data);
    assert_eq!(Client::new(&server.url, &key).inbox_ids(), waiting);
}

#[test]
fn differences_are_listed_in_words_and_a_list_is_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (_, waiting) = filled(&data);
    acknowledge_behind_its_back(&data, &waiting[0]);
    let list = dir.path().join("list.txt");
    let to_list = ["verify", "--list", list.to_str().unwrap()];
    let (_, text) = command(&data, &to_list);
    let expected = [
        "DIFFERENT event",
        &waiting[0],
        "(Pulls)",
        "`triggerd rebuild` computes the state",
        "list.txt",
    ];
    assert!(expected.iter().all(|part| text.contains(part)) && !text.contains("OrgNo("), "{text}");
    let (_, text) = command(&data, &to_list);
    let refused = ["cannot be written", "File exists"].map(|part| text.contains(part));
    assert_eq!(refused, [true; 2], "nothing is written over: {text}");
    let list = dir.path().join("second.txt");
    let (_, text) = command(&data, &["verify", "--verbose", "--list", list.to_str().unwrap()]);
    assert!(text.contains("events (OrgNo(0)"), "{text}");
    assert!(fs::read_to_string(list).unwrap().contains(&waiting[0]), "{text}");
}

/// Writes an organization's events into several segments and flips a byte of the second event in
/// the first segment. Returns the key and the ids.
pub(crate) fn rotten(data: &Path) -> (String, Vec<String>) {
    let server = Process::start(data);
    let org = server.org("Pulls");
    let ids: Vec<_> = (0..12).map(|_| org.send("a.b", &json!("x".repeat(200_000))).id()).collect();
    assert_eq!(server.stop().0, Some(0));
    assert!(fs::read_dir(data.join("journal")).unwrap().count() > 1);
    flip(&first_segment(data), frame_of(data, &ids[1]) + 1_000);
    (org.key, ids)
}

#[test]
fn a_frame_that_rots_is_never_served_and_can_be_passed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (key, ids) = rotten(&data);
    let server = Process::start(&data);
    let org = Client::new(&server.url, &key);
    let page = org.get("/api/inbox?limit=5").json;
    assert_eq!(
        (page["data"].as_array().unwrap().len(), &page["data"][0]["id"]),
        (1, &json!(ids[0])),
        "what is before it"
    );
    let path = format!("/api/inbox?limit=5&cursor={}", page["next_cursor"].as_str().unwrap());
    let refused = org.get(&path);
    assert!(refused.status == 500 && refused.text.contains(&ids[1]), "{refused:?}");
    let health = org.get("/health");
    assert_eq!(
        (health.status, &health.json["checks"]["journal"]),
        (503, &json!("damaged")),
        "{health:?}"
    );
    crate::harness::until(|| (org.metric("triggerd_journal_damaged") == 1.0).then_some(()));
    assert_eq!(org.ack(&ids[1]).status, 200);
    let expected: Vec<_> = ids.iter().filter(|id| **id != ids[1]).cloned().collect();
    assert_eq!(org.inbox_ids(), expected);
}

#[test]
fn verify_and_rebuild_take_another_directory_for_their_temporary_state() {
    let dir = tempfile::tempdir().unwrap();
    let (data, scratch) = (dir.path().join("data"), dir.path().join("scratch"));
    let server = Process::start(&data);
    server.org("Acme").send("a", &json!(1));
    assert_eq!(server.stop().0, Some(0));
    for name in ["verify", "rebuild"] {
        let (code, text) = command(&data, &[name, "--scratch", scratch.to_str().unwrap()]);
        assert!(code == Some(1) && text.contains("another directory with --scratch"), "{text}");
    }
    fs::create_dir(&scratch).unwrap();
    for name in ["verify", "rebuild"] {
        let (code, text) = command(&data, &[name, "--scratch", scratch.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{text}");
    }
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "nothing is left in it");
}

#[test]
fn a_directory_without_a_journal_is_no_backup() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.with_extension("toml"), crate::harness::settings(&data, "")).unwrap();
    let (code, text) = command(&data, &["verify"]);
    assert!(code == Some(3) && text.contains("has no journal"), "{text}");
}
