//! `triggerd verify` and `triggerd rebuild` with the real binary: damage is found and named, whole
//! frames are saved, and `verify` changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use triggerd::cli::demo::receiver::Receiver;
use triggerd::model::id::{EventId, ReplayId};

use crate::harness::{Client, PATIENCE, Process, command};

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

fn first_segment(data: &Path) -> PathBuf {
    data.join("journal/00000000000000000001.seg")
}

/// The offset of the event's frame in the first segment.
fn frame_of(data: &Path, id: &str) -> usize {
    let bytes = fs::read(first_segment(data)).unwrap();
    // Numbers in the body of a frame are little-endian.
    let mut id = id.parse::<EventId>().unwrap().to_bytes();
    id.reverse();
    let at = bytes.windows(16).position(|window| window == id).expect("the event's frame is there");
    at - 17 - 4 - 18 // behind the frame's header, the organization's number and the key that posted it
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
        (code, &report["well"], &report["state"]["standing"]),
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
    assert_eq!((code, &report["state"]["standing"]), (Some(0), &json!("equal")), "{text}");
    fs::remove_dir_all(data.join("sled")).unwrap();
    let (code, report, text) = verify(&data);
    assert_eq!((code, &report["state"]["standing"]), (Some(0), &json!("not_compared")), "{text}");
    let absent = command(&dir.path().join("nothing"), &["verify"]);
    assert_ne!(absent.0, Some(0));
    assert!(!dir.path().join("nothing").exists());
}

#[test]
fn a_row_changed_behind_the_servers_back_is_named_and_a_rebuild_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (key, waiting) = filled(&data);
    let store =
        triggerd::store::Store::open(&data.join("sled"), 8 << 20, triggerd::journal::Position::MAX)
            .unwrap();
    let ack = triggerd::commands::AckEvent {
        org: triggerd::model::id::OrgNo(0),
        event: waiting[0].parse().unwrap(),
        at: triggerd::model::time::Timestamp(1),
    };
    let applied = store.applied();
    let command_of_nobody = triggerd::commands::Command::AckEvent(ack);
    triggerd::commands::apply(
        &store,
        std::iter::once((applied, &command_of_nobody)),
        applied,
        &mut triggerd::commands::Results::default(),
    )
    .unwrap();
    store.close().unwrap();
    drop(store);
    let (code, report, text) = verify(&data);
    assert_eq!((code, &report["state"]["standing"]), (Some(3), &json!("different")), "{text}");
    let differences = &report["state"]["differences"];
    let named = &differences["first"][0];
    assert_eq!((&named["kind"], &named["id"]), (&json!("event"), &json!(waiting[0])), "{text}");
    assert_eq!(
        (&named["label"], &named["organization"]),
        (&json!("test.event"), &json!("Pulls")),
        "{text}"
    );
    assert!(named["was"].as_str().unwrap().starts_with("acknowledged"), "{text}");
    assert!(named["is"].as_str().unwrap().starts_with("accepted, in the inbox"), "{text}");
    let list = fs::read_to_string(differences["list"].as_str().unwrap()).unwrap();
    assert!(list.contains(&waiting[0]) && list.contains("test.event"), "{list}");
    fs::remove_file(differences["list"].as_str().unwrap()).unwrap();
    let list = dir.path().join("list.txt");
    let (_, text) = command(&data, &["verify", "--list", list.to_str().unwrap()]);
    let told = [
        "DIFFERENT event",
        &waiting[0],
        "(Pulls)",
        "`triggerd rebuild` computes the state",
        "list.txt",
    ];
    assert!(told.iter().all(|part| text.contains(part)) && !text.contains("OrgNo("), "{text}");
    let (_, text) = command(&data, &["verify", "--list", list.to_str().unwrap()]);
    assert!(
        text.contains("cannot be written") && text.contains("File exists"),
        "nothing is written over: {text}"
    );
    let list = dir.path().join("second.txt");
    let (_, text) = command(&data, &["verify", "--verbose", "--list", list.to_str().unwrap()]);
    assert!(
        text.contains("events (OrgNo(0)")
            && fs::read_to_string(list).unwrap().contains(&waiting[0]),
        "{text}"
    );
    let (code, text) = command(&data, &["rebuild"]);
    assert!(code == Some(0) && text.contains("the state is rebuilt"), "{text}");
    assert_eq!(verify(&data).0, Some(0));
    let server = Process::start(&data);
    assert_eq!(Client::new(&server.url, &key).inbox_ids(), waiting);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table: one row follows the other")]
fn a_damaged_journal_is_salvaged_around_the_frame_that_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (key, waiting) = filled(&data);
    let lost = &waiting[5];
    let at = frame_of(&data, lost);
    let segment = first_segment(&data);
    flip(&segment, at + 60);
    let damaged = fs::read(&segment).unwrap();
    let Err((status, log)) = Process::try_start(&data, "", &[]) else {
        panic!("damage was not found")
    };
    assert!(status.code() == Some(3) && log.contains("triggerd rebuild --skip-damaged"), "{log}");
    let (code, report, text) = verify(&data);
    assert_eq!((code, &report["well"]), (Some(3), &json!(false)), "{text}");
    let damage = &report["journal"]["damages"][0];
    assert_eq!(
        (&damage["offset"], &damage["file"]),
        (&json!(at), &json!(segment.display().to_string())),
        "{text}"
    );
    let (code, text) = command(&data, &["rebuild"]);
    assert!(
        code == Some(3)
            && text.contains("--skip-damaged")
            && fs::read(&segment).unwrap() == damaged,
        "{text}"
    );

    let (code, text) = command(&data, &["rebuild", "--skip-damaged", "--json"]);
    assert_eq!(code, Some(0), "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let salvaged = &report["salvaged"];
    assert_eq!(
        (&salvaged["lost"][0]["offset"], salvaged["lost"].as_array().unwrap().len()),
        (&json!(at), 1),
        "{text}"
    );
    assert!(salvaged["rows_that_differ"]["events"].as_u64().unwrap() >= 1, "{text}");
    let named = &salvaged["differences"]["first"];
    let (first, all) = (&named[0], named.as_array().unwrap());
    assert_eq!(
        (&first["id"], &first["kind"], &first["is"]),
        (&json!(lost), &json!("event"), &Value::Null),
        "{text}"
    );
    assert_eq!(
        (&first["label"], &first["organization"]),
        (&json!("test.event"), &json!("Pulls")),
        "{text}"
    );
    assert_eq!(all.len(), 1, "what stands beside it in its block is the same: {text}");
    let list = fs::read_to_string(salvaged["differences"]["list"].as_str().unwrap()).unwrap();
    assert!(list.starts_with(&format!("LOST      event {lost} (test.event) of org_")), "{list}");
    assert!(salvaged["raw"].is_null(), "{text}");
    let aside = salvaged["files"][0].as_str().unwrap();
    assert!(
        aside.contains("journal-damaged-1") && fs::read(aside).unwrap() == damaged,
        "kept as it was"
    );
    let (code, report, text) = verify(&data);
    assert_eq!(
        (code, &report["journal"]["given_up_before"].as_array().map(Vec::len)),
        (Some(0), &Some(1)),
        "{text}"
    );
    // Everything else exists, in order; the next start and a rebuild from nothing agree.
    let server = Process::start(&data);
    let client = Client::new(&server.url, &key);
    let expected: Vec<_> = waiting.iter().filter(|id| *id != lost).cloned().collect();
    assert_eq!(client.inbox_ids(), expected);
    assert!(client.inbox().iter().all(|event| event["payload"] == json!("x".repeat(100))));
    assert_eq!(client.send_once("d-15", &json!(1)).status, 202, "its dedup id went with it");
    assert_eq!(client.send_once("d-16", &json!("x".repeat(100))).status, 200, "others did not");
    assert_eq!(server.stop().0, Some(0));
    fs::remove_dir_all(data.join("sled")).unwrap();
    let server = Process::start(&data);
    assert_eq!(Client::new(&server.url, &key).inbox().len(), expected.len() + 1);
}

#[test]
fn what_a_key_posted_is_saved_although_the_making_of_the_key_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let org = server.org("Acme");
    let scopes = json!({"name": "lost-canary", "scopes": ["events:write", "endpoints:write"]});
    let made = org.post("/api/keys/generate", &scopes);
    let (lost, waiting) =
        (org.with_key(made.json["key"].as_str().unwrap()), org.send("a.b", &json!(0)).id());
    let mut expected = vec![waiting];
    expected.extend((1..4).map(|n| lost.send("a.b", &json!(n)).id()));
    assert_eq!(
        lost.post("/api/endpoints", &json!({"url": "http://127.0.0.1:1/", "event_types": ["c"]}))
            .status,
        201
    );
    assert_eq!(server.stop().0, Some(0));
    let segment = first_segment(&data);
    let bytes = fs::read(&segment).unwrap();
    let canary = b"lost-canary";
    let at = bytes
        .windows(canary.len())
        .position(|window| window == canary)
        .expect("the key's name is in its frame");
    flip(&segment, at);
    let (code, text) = command(&data, &["rebuild", "--skip-damaged"]);
    assert_eq!(code, Some(0), "{text}");
    let server = Process::start(&data);
    let (org, lost) = (Client::new(&server.url, &org.key), Client::new(&server.url, &lost.key));
    assert_eq!(org.inbox_ids(), expected);
    assert_eq!(org.get("/api/endpoints").json["data"].as_array().unwrap().len(), 1);
    assert_eq!(lost.send("a.b", &json!(5)).status, 401, "the key itself is lost");
}

/// The offsets of these bytes, in reverse order, in the first segment.
fn places(data: &Path, mut id: [u8; 16]) -> Vec<usize> {
    id.reverse();
    let bytes = fs::read(first_segment(data)).unwrap();
    bytes.windows(16).enumerate().filter(|(_, window)| *window == id).map(|(at, _)| at).collect()
}

#[test]
fn what_comes_back_because_its_end_is_lost_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let org = server.org("Pulls");
    let off = json!({"url": "http://127.0.0.1:1/", "enabled": false});
    let off = org.post("/api/endpoints", &off).id();
    let ids: Vec<_> = (0..3).map(|n| org.send("a.b", &json!(n)).id()).collect();
    let replays =
        [0, 1].map(|_| org.post("/api/replays", &json!({"only": "all", "endpoint_id": off})).id());
    let id_of = |replay: &String| replay.parse::<ReplayId>().unwrap().to_bytes();
    // Each replay has begun with the endpoint, so its end is its last mention.
    crate::harness::until(|| {
        replays.iter().all(|it| places(&data, id_of(it)).len() == 2).then_some(())
    });
    for path in replays.iter().map(|id| format!("/api/replays/{id}")) {
        assert_eq!(org.delete(&path).json["state"], "canceled");
    }
    for id in &ids[1..] {
        assert_eq!(org.delete(&format!("/api/events/{id}")).status, 200);
    }
    org.send("a.b", &json!("last"));
    assert_eq!(server.stop().0, Some(0));
    let lost = [id_of(&replays[1]), ids[1].parse::<EventId>().unwrap().to_bytes()];
    for id in lost {
        flip(&first_segment(&data), *places(&data, id).last().unwrap());
    }
    let (code, text) = command(&data, &["rebuild", "--skip-damaged"]);
    assert_eq!(code, Some(0), "{text}");
    let told: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("ERASED") || line.starts_with("REPLAY"))
        .collect();
    let erased = format!("ERASED    {} is shown again: erase it again", ids[1]);
    let replay = format!("REPLAY    {} runs again: cancel it if it should not", replays[1]);
    assert_eq!(told, [erased, replay], "those alone: {text}");
    let server = Process::start(&data);
    let org = Client::new(&server.url, &org.key);
    let payload = |id: &String| org.get(&format!("/api/events/{id}")).json["payload"].clone();
    assert_eq!((payload(&ids[1]), payload(&ids[2])), (json!(1), Value::Null));
    let state = |id: &String| org.get(&format!("/api/replays/{id}")).json["state"].clone();
    assert_eq!((state(&replays[0]), state(&replays[1])), (json!("canceled"), json!("running")));
}

#[test]
fn an_organization_whose_making_is_lost_leaves_the_others_their_own_events_and_later_ones_too() {
    // Without the old state, the rebuild reports less but saves the same.
    for has_state in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let (key, _) = filled(&data);
        let server = Process::start(&data);
        let third = server.org("Third");
        let own = third.send("a", &json!("third's own")).id();
        assert_eq!(server.stop().0, Some(0));
        // The first frame creates the first organization.
        flip(&first_segment(&data), 64 + 30);
        if !has_state {
            fs::remove_dir_all(data.join("sled")).unwrap();
        }
        let (code, text) = command(&data, &["rebuild", "--skip-damaged"]);
        assert_eq!(code, Some(0), "{text}");
        let named = [
            "LOST      organization org_",
            "LOST      key key_",
            "(Pulls) refer to something that was lost",
            "and ",
            " events, ",
        ];
        let told = ["LOST      event evt_"].iter().chain(named.iter().filter(|_| has_state));
        assert_eq!(told.into_iter().find(|part| !text.contains(**part)), None, "{text}");
        assert!(!text.contains("OrgNo("), "{text}");
        assert_eq!(verify(&data).0, Some(0));
        let server = Process::start(&data);
        assert_eq!(
            Client::new(&server.url, &key).get("/api/inbox").status,
            401,
            "its key is lost with it"
        );
        assert_eq!(
            Client::new(&server.url, &third.key).inbox_ids(),
            [own],
            "nobody got its events"
        );
        assert_eq!(
            server.org("Fourth").inbox_ids(),
            Vec::<String>::new(),
            "nor does one that comes later"
        );
    }
}

#[test]
fn a_missing_middle_and_a_missing_end_are_told_and_the_rest_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let org = server.org("Acme");
    let payload = json!("y".repeat(200_000));
    let ids: Vec<_> = (0..14).map(|_| org.send("a", &payload).id()).collect();
    assert_eq!(server.stop().0, Some(0));
    let mut segments: Vec<_> =
        fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.sort();
    fs::remove_file(&segments[1]).unwrap();
    // Zeros look like an unwritten end of the journal; only the state shows the loss.
    let last = segments.last().unwrap();
    let cut = fs::metadata(last).unwrap().len() - 64;
    fs::write(
        last,
        [&fs::read(last).unwrap()[..64], &vec![0; usize::try_from(cut).unwrap()]].concat(),
    )
    .unwrap();
    let (code, text) = command(&data, &["rebuild", "--skip-damaged"]);
    assert!(
        code == Some(0)
            && text.contains("are missing")
            && text.contains("but the stored state goes to"),
        "{text}"
    );
    assert_eq!(verify(&data).0, Some(0));
    let server = Process::start(&data);
    let left = Client::new(&server.url, &org.key).inbox_ids();
    assert!(
        left.len() < 11 && left.len() > 2 && left.iter().all(|id| ids.contains(id)),
        "{left:?}"
    );
    assert_eq!(Client::new(&server.url, &org.key).send("a", &payload).status, 202);
}

/// Writes an organization's events into several segments and flips a byte of the second event in
/// the first segment. Returns the key and the ids.
fn rotten(data: &Path) -> (String, Vec<String>) {
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
    assert_eq!(org.get("/health").status, 200, "nobody has looked there yet");
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
fn a_salvage_that_does_not_come_to_its_end_leaves_no_state_to_be_believed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    rotten(&data);
    // A directory, which cannot be removed like a file, has the name of the repaired segment's
    // draft.
    let draft = first_segment(&data).with_extension("seg.new");
    fs::create_dir(&draft).unwrap();
    let (code, text) = command(&data, &["rebuild", "--skip-damaged"]);
    assert!(code != Some(0) && text.contains("not finished"), "{text}");
    let (code, _, text) = verify(&data);
    assert_eq!(code, Some(3), "{text}");
    let start = Process::try_start(&data, "", &[]);
    assert_eq!(
        start.err().and_then(|(status, _)| status.code()),
        Some(3),
        "what is lost is not passed over"
    );
    fs::remove_dir(&draft).unwrap();
    let (code, text) = command(&data, &["rebuild", "--skip-damaged"]);
    assert!(code == Some(0) && text.contains("LOST"), "{text}");
    assert_eq!(verify(&data).0, Some(0));
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
