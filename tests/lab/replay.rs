//! kill -9 while many dead letters are replayed: the replay continues after each start, queues and
//! counts each dead letter once, and each arrives.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Client, PATIENCE, Process};
use crate::random::Random;
use crate::receiver::Receiver;
use crate::scenario::{Outcome, Plan, keep};
use crate::server::IN_FLIGHT;

/// The receiver refuses each third attempt: a higher share could open the circuit breaker.
const REFUSED_OF: u64 = 3;
const BATCH: u64 = 500;
/// Longest time between a start and the next kill, in milliseconds.
const LIFE_MS_MAX: u64 = 120;
/// Number of dead letters for each kill: the server sends at its own bounded pace.
const DEAD_PER_KILL: u64 = 500;
const KILLS_MIN: u64 = 4;
/// Least duration of the replay without kills in seconds, unless all deliveries can wait at once.
const SECONDS: u64 = 5;
const RATE_MIN: u64 = 200;

pub(crate) fn run(plan: &Plan) -> Outcome {
    let (data, mut random, receiver) =
        (plan.dir.join("data"), Random::new(plan.seed), Receiver::start());
    let (server, _) = Process::boot(&data);
    let org = server.org("replays");
    let dead = die(&org, &receiver, plan.rounds);
    let path = start_slowly(&org, (plan.rounds / SECONDS).max(RATE_MIN));
    let kills_most = KILLS_MIN + plan.rounds / DEAD_PER_KILL;
    let (server, kills, while_running) =
        kill_until_finished(server, &org, &path, (kills_most, &mut random));
    let org = Client::new(&server.url, &org.key);
    wait_until(|| org.get(&path).json["state"] == "finished");
    let replay = org.get(&path).json;
    let count = json!(dead.len());
    assert_eq!(
        replay["queued"], count,
        "dead letters were queued, and there were so many: {replay}"
    );
    assert_eq!((&replay["examined"], &replay["progress"]), (&count, &json!(1.0)), "{replay}");
    wait_until(|| endpoint(&org)["waiting"] == 0);
    assert_eq!(receiver.missing(dead.iter()), 0, "dead letters were replayed and never came");
    assert_eq!(endpoint(&org)["dead_letters"], 0, "all of them were accepted");
    let log = receiver.log();
    let twice = dead.iter().filter(|id| log[*id].requests > 1).count() as u64;
    assert!(twice <= kills * IN_FLIGHT, "{twice} came more than once after {kills} kills");
    assert_eq!(org.inbox_ids(), [] as [&str; 0], "what was accepted has left");
    let reported = listed(&org, "/api/events?type=triggerd.delivery.dead&limit=500").len();
    assert_eq!(reported, dead.len(), "each death was reported once");
    assert_eq!(server.stop().0, Some(0));
    keep("replay", &data);
    Outcome::Passed(format!(
        "{} dead letters replayed through {kills} kills, {while_running} of them while it ran; \
         each queued once, {twice} came twice",
        dead.len()
    ))
}

/// Starts a replay of all dead letters, slow enough to be killed before its end. Returns its path.
fn start_slowly(org: &Client, rate_per_second: u64) -> String {
    let rate = json!({ "rate_per_second": rate_per_second });
    assert_eq!(org.patch(&format!("/api/endpoints/{}", only_endpoint(org)), &rate).status, 200);
    let asked = org.post("/api/replays", &json!({"only": "failed"}));
    assert_eq!(asked.status, 202, "{asked:?}");
    format!("/api/replays/{}", asked.id())
}

/// Makes `count` dead letters. Returns the ids of their events.
fn die(org: &Client, receiver: &Receiver, count: u64) -> BTreeSet<String> {
    let made = org.post("/api/endpoints", &json!({"url": receiver.url(), "retry_schedule": []}));
    assert_eq!(made.status, 201, "{made:?}");
    receiver.refuse_each(REFUSED_OF);
    let wanted = count * REFUSED_OF;
    for first in (0..wanted).step_by(usize::try_from(BATCH).unwrap()) {
        let events: Vec<Value> = (first..wanted.min(first + BATCH))
            .map(|n| json!({"type": "a.b", "payload": {"n": n}}))
            .collect();
        assert_eq!(org.post("/api/events/batch", &json!({ "events": events })).status, 200);
        // Few deliveries wait at a time, as in the field.
        wait_until(|| endpoint(org)["waiting"].as_u64().unwrap() < 2 * BATCH);
    }
    wait_until(|| endpoint(org)["waiting"] == 0);
    receiver.refuse_each(0);
    let letters = listed(org, "/api/dead-letters?limit=500");
    let dead: BTreeSet<_> =
        letters.iter().map(|letter| letter["event_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(dead.len() as u64, count, "dead letters to begin with");
    dead
}

/// Returns all items of a list, page by page.
fn listed(org: &Client, list: &str) -> Vec<Value> {
    let (mut items, mut path) = (Vec::new(), list.to_owned());
    loop {
        let page = org.get(&path);
        assert_eq!(page.status, 200, "{page:?}");
        items.extend(page.json["data"].as_array().unwrap().iter().cloned());
        match page.json["next_cursor"].as_str().filter(|_| page.json["has_more"] == true) {
            Some(cursor) => path = format!("{list}&cursor={cursor}"),
            None => return items,
        }
    }
}

/// Looks less often than `until`, to leave the processor to the server.
fn wait_until(holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited in vain");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn endpoint(org: &Client) -> Value {
    org.get(&format!("/api/endpoints/{}/stats", only_endpoint(org))).json
}

fn only_endpoint(org: &Client) -> String {
    org.get("/api/endpoints").json["data"][0]["id"].as_str().unwrap().to_owned()
}

/// Kills the server at random moments. Returns the server, the number of kills, and how many of the
/// kills hit a running replay. The progress of the replay never goes back.
fn kill_until_finished(
    mut server: Process,
    org: &Client,
    path: &str,
    (kills_most, random): (u64, &mut Random),
) -> (Process, u64, u64) {
    let (mut kills, mut while_running) = (0, 0);
    let (mut queued, mut progress) = (0, 0.0);
    let data: &Path = &server.data_dir.clone();
    while kills < kills_most {
        std::thread::park_timeout(Duration::from_micros(random.below(LIFE_MS_MAX * 1_000)));
        server.kill();
        if random.one_in(3) {
            Process::boot_and_kill(data, Duration::from_micros(random.below(200_000)));
            kills += 1;
        }
        kills += 1;
        server = Process::boot(data).0;
        let replay = Client::new(&server.url, &org.key).get(path).json;
        let now = (replay["queued"].as_u64().unwrap(), replay["progress"].as_f64().unwrap());
        assert!(
            now.0 >= queued && now.1 >= progress,
            "it goes back from {queued}, {progress}: {replay}"
        );
        (queued, progress) = now;
        match replay["state"].as_str() {
            Some("running") => while_running += 1,
            // The replay is over, but its deliveries are still on their way: the remaining kills
            // hit those.
            other => assert_eq!(other, Some("finished"), "{replay}"),
        }
    }
    assert!(while_running > 0, "it was over before the first kill");
    (server, kills, while_running)
}
