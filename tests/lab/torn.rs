//! Only a part of the last group reached the disk. The start cuts the group, and no frame of the
//! group comes back when the next group ends where a frame began.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Client, Process};
use crate::random::Random;
use crate::scenario::{Outcome, Plan, keep};

pub(crate) fn run(plan: &Plan) -> Outcome {
    let data = plan.dir.join("data");
    let (mut server, _) = Process::boot(&data);
    let key = server.org("pulls").key;
    let mut random = Random::new(plan.seed);
    let mut stored = Vec::new();
    for n in 0..5 {
        stored.push(event(&format!("old-{n}"))["payload"].clone());
        assert_eq!(
            Client::new(&server.url, &key).post("/api/events", &event(&format!("old-{n}"))).status,
            202
        );
    }
    for round in 0..plan.rounds {
        let names = ["one", "two", "new"].map(|name| format!("{name}-{round:04}"));
        let [one, two, new] = names.each_ref().map(|name| event(name));
        let batch = Client::new(&server.url, &key)
            .post("/api/events/batch", &json!({ "events": [one, two] }));
        assert_eq!(batch.status, 200, "{batch:?}");
        server.kill();
        // As if the power had failed before the group was synced: no answer was sent, and no state
        // has the group.
        let kept = tear(&data, &names, round, &mut random);
        std::fs::remove_dir_all(data.join("sled")).unwrap();
        server = Process::boot(&data).0;
        if kept {
            stored.push(one["payload"].clone());
        }
        assert_eq!(payloads(&server, &key), stored, "a torn group is cut");
        // The event is exactly as long as the first frame of the torn group.
        assert_eq!(Client::new(&server.url, &key).post("/api/events", &new).status, 202);
        stored.push(new["payload"].clone());
        server.kill();
        server = Process::boot(&data).0;
        assert_eq!(payloads(&server, &key), stored, "what was cut came back");
    }
    assert_eq!(server.stop().0, Some(0));
    keep("torn", &data);
    Outcome::Passed(format!("{} events, none came back", stored.len()))
}

fn event(name: &str) -> Value {
    json!({"type": "torn.event", "payload": {"name": name, "fill": "x".repeat(300)}})
}

fn payloads(server: &Process, key: &str) -> Vec<Value> {
    Client::new(&server.url, key).inbox().iter().map(|event| event["payload"].clone()).collect()
}

/// Zeroes a part of the last group. Returns true if the first frame of the group stays whole.
fn tear(data: &Path, names: &[String; 3], round: u64, random: &mut Random) -> bool {
    let file = last_segment(data);
    let mut bytes = std::fs::read(&file).unwrap();
    let place = |name: &String| {
        bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap()
    };
    let (one, two) = (place(&names[0]), place(&names[1]));
    let part = match round % 3 {
        0 => one..one + 1 + random.index(200),
        1 => one..one + 1,
        _ => two..two + 1 + random.index(200),
    };
    let kept = part.start == two;
    bytes[part].fill(0);
    std::fs::write(file, bytes).unwrap();
    kept
}

fn last_segment(data: &Path) -> PathBuf {
    std::fs::read_dir(data.join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some("seg".as_ref()))
        .max()
        .unwrap()
}
