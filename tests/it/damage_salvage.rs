//! A rebuild saves everything but the damaged frames, and names what is lost.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use triggerd::model::id::{EventId, ReplayId};

use super::{filled, flip, frame_of, rotten, verify};
use crate::harness::{Client, Process, command, first_segment};

/// Start, verify and a plain rebuild all find the damage at this offset, and none changes it.
fn assert_is_found(data: &Path, at: usize) {
    let segment = first_segment(data);
    let damaged = fs::read(&segment).unwrap();
    let Err((status, log)) = Process::try_start(data, "", &[]) else {
        panic!("damage was not found")
    };
    assert!(status.code() == Some(3) && log.contains("triggerd rebuild --skip-damaged"), "{log}");
    let (code, report, text) = verify(data);
    assert_eq!((code, &report["well"]), (Some(3), &json!(false)), "{text}");
    let damage = &report["journal"]["damages"][0];
    assert_eq!(
        (&damage["offset"], &damage["file"]),
        (&json!(at), &json!(segment.display().to_string())),
        "{text}"
    );
    let (code, text) = command(data, &["rebuild"]);
    assert!(
        code == Some(3)
            && text.contains("--skip-damaged")
            && fs::read(&segment).unwrap() == damaged,
        "{text}"
    );
}

/// Asserts that the report of a rebuild names the lost event, at this offset, and nothing else.
/// Returns the file that keeps the damaged segment.
fn assert_is_all_that_is_lost(report: &Value, lost: &str, at: usize) -> String {
    let salvaged = &report["salvaged"];
    assert_eq!(
        (&salvaged["lost"][0]["offset"], salvaged["lost"].as_array().unwrap().len()),
        (&json!(at), 1),
        "{report}"
    );
    assert!(salvaged["rows_that_differ"]["events"].as_u64().unwrap() >= 1, "{report}");
    let named = salvaged["differences"]["first"].as_array().unwrap();
    assert_eq!(named.len(), 1, "the other rows of its block are the same: {report}");
    let of_event = ["id", "kind", "is", "label", "organization"].map(|name| &named[0][name]);
    let expected = [json!(lost), json!("event"), Value::Null, json!("test.event"), json!("Pulls")];
    assert_eq!(of_event, expected.each_ref(), "{report}");
    let list = fs::read_to_string(salvaged["differences"]["list"].as_str().unwrap()).unwrap();
    assert!(list.starts_with(&format!("LOST      event {lost} (test.event) of org_")), "{list}");
    assert!(salvaged["raw"].is_null(), "{report}");
    salvaged["files"][0].as_str().unwrap().to_owned()
}

#[test]
fn a_damaged_journal_is_salvaged_around_the_frame_that_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (key, waiting) = filled(&data);
    let lost = &waiting[5];
    let at = frame_of(&data, lost);
    flip(&first_segment(&data), at + 60);
    let damaged = fs::read(first_segment(&data)).unwrap();
    assert_is_found(&data, at);
    let (code, text) = command(&data, &["rebuild", "--skip-damaged", "--json"]);
    assert_eq!(code, Some(0), "{text}");
    let aside = assert_is_all_that_is_lost(&serde_json::from_str(&text).unwrap(), lost, at);
    let is_as_it_was = fs::read(&aside).unwrap() == damaged;
    assert!(aside.contains("journal-damaged-1") && is_as_it_was, "{aside}");
    let (code, report, text) = verify(&data);
    let given_up = report["journal"]["given_up_before"].as_array().map(Vec::len);
    assert_eq!((code, given_up), (Some(0), Some(1)), "{text}");
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

/// Creates two replays that wait, and ends them. Returns their ids.
fn two_ended_replays(org: &Client, data: &Path) -> [String; 2] {
    let off = org.endpoint(&json!({"url": "http://127.0.0.1:1/", "enabled": false}));
    let replays =
        [0, 1].map(|_| org.post("/api/replays", &json!({"only": "all", "endpoint_id": off})).id());
    // Each replay has begun with the endpoint, so its end is its last mention.
    let has_begun = |replay: &String| places(data, replay_bytes(replay)).len() == 2;
    crate::harness::until(|| replays.iter().all(has_begun).then_some(()));
    for path in replays.each_ref().map(|id| format!("/api/replays/{id}")) {
        assert_eq!(org.delete(&path).json["state"], "canceled");
    }
    replays
}

fn replay_bytes(id: &str) -> [u8; 16] {
    id.parse::<ReplayId>().unwrap().to_bytes()
}

#[test]
fn what_comes_back_because_its_end_is_lost_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let org = server.org("Pulls");
    let ids: Vec<_> = (0..3).map(|n| org.send("a.b", &json!(n)).id()).collect();
    let replays = two_ended_replays(&org, &data);
    for id in &ids[1..] {
        assert_eq!(org.delete(&format!("/api/events/{id}")).status, 200);
    }
    org.send("a.b", &json!("last"));
    assert_eq!(server.stop().0, Some(0));
    let lost = [replay_bytes(&replays[1]), ids[1].parse::<EventId>().unwrap().to_bytes()];
    for id in lost {
        flip(&first_segment(&data), *places(&data, id).last().unwrap());
    }
    // The erasures have a snapshot taken, which still has them: it is left out.
    let (code, text) = command(&data, &["rebuild", "--skip-damaged", "--from-start"]);
    assert_eq!(code, Some(0), "{text}");
    let is_named = |line: &&str| line.starts_with("ERASED") || line.starts_with("REPLAY");
    let named: Vec<_> = text.lines().filter(is_named).collect();
    let erased = format!("ERASED    {} is shown again: erase it again", ids[1]);
    let replay = format!("REPLAY    {} runs again: cancel it if it should not", replays[1]);
    assert_eq!(named, [erased, replay], "those alone: {text}");
    let server = Process::start(&data);
    let org = Client::new(&server.url, &org.key);
    let payload = |id: &String| org.get(&format!("/api/events/{id}")).json["payload"].clone();
    assert_eq!((payload(&ids[1]), payload(&ids[2])), (json!(1), Value::Null));
    let state = |id: &String| org.get(&format!("/api/replays/{id}")).json["state"].clone();
    assert_eq!((state(&replays[0]), state(&replays[1])), (json!("canceled"), json!("running")));
}

#[test]
fn an_organization_whose_making_is_lost_leaves_the_others_their_own_events_and_later_ones_too() {
    let named = [
        "LOST      organization org_",
        "LOST      key key_",
        "(Pulls) refer to something that was lost",
        "and ",
        " events, ",
    ];
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
        let expected = ["LOST      event evt_"].iter().chain(named.iter().filter(|_| has_state));
        assert_eq!(expected.into_iter().find(|part| !text.contains(**part)), None, "{text}");
        assert!(!text.contains("OrgNo("), "{text}");
        assert_eq!(verify(&data).0, Some(0));
        let server = Process::start(&data);
        let of_lost = Client::new(&server.url, &key).get("/api/inbox");
        assert_eq!(of_lost.status, 401, "its key is lost with it");
        let inbox = Client::new(&server.url, &third.key).inbox_ids();
        assert_eq!(inbox, [own], "nobody got its events");
        let later = server.org("Fourth").inbox_ids();
        assert_eq!(later, Vec::<String>::new(), "nor does one that comes later");
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

#[test]
fn a_salvage_that_does_not_come_to_its_end_leaves_no_valid_state() {
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
fn a_salvage_does_not_call_expired_events_lost() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start_with(&data, "[retention]\nfinished_seconds = 1\n");
    let org = server.org("Acme");
    let expired = org.send("a.b", &json!(1)).id();
    assert_eq!(org.ack(&expired).status, 200);
    let lost = org.send("a.b", &json!("canary")).id();
    assert_eq!(org.ack(&lost).status, 200);
    let path = format!("/api/events/{expired}");
    crate::harness::until(|| (org.get(&path).status == 404).then_some(()));
    assert_eq!(server.stop().0, Some(0));
    let bytes = fs::read(first_segment(&data)).unwrap();
    let at = bytes.windows(6).position(|window| window == b"canary").unwrap();
    flip(&first_segment(&data), at);
    fs::remove_dir_all(data.join("sled")).unwrap();
    let (code, text) = command(&data, &["rebuild", "--skip-damaged"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("LOST      event {lost}")), "the control: {text}");
    assert!(!text.contains(&expired), "{text}");
}
