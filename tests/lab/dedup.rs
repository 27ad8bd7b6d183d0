//! 200 posts race with the same dedup id, and again after a restart, a kill, and a kill with loss
//! of the state. All answers name the same event.

use std::collections::BTreeSet;
use std::path::Path;

use reqwest::Client as Http;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Client, Process};
use crate::scenario::{Outcome, Plan, keep};

const RACERS: usize = 200;

pub(crate) fn run(plan: &Plan) -> Outcome {
    let data = plan.dir.join("data");
    let (mut server, _) = Process::boot(&data);
    let key = server.org("pulls").key;
    let mut ids = Vec::new();
    for round in 0..plan.rounds {
        let dedup_id = format!("order-{}-{round}", plan.seed);
        let first = race(&server.url, &key, &dedup_id, 1);
        assert_eq!(server.stop().0, Some(0));
        server = Process::boot(&data).0;
        assert_eq!(race(&server.url, &key, &dedup_id, 0), first, "stored twice after a restart");
        server.kill();
        server = Process::boot(&data).0;
        assert_eq!(race(&server.url, &key, &dedup_id, 0), first, "stored twice after a kill");
        server.kill();
        remove_state(&data);
        server = Process::boot(&data).0;
        assert_eq!(race(&server.url, &key, &dedup_id, 0), first, "stored twice after a rebuild");
        ids.push(first);
    }
    assert_eq!(
        Client::new(&server.url, &key).inbox_ids(),
        ids,
        "stored twice: the inbox has others"
    );
    assert_eq!(server.stop().0, Some(0));
    keep("dedup", &data);
    Outcome::Passed(format!("{} posts, {} events", ids.len() * RACERS * 4, ids.len()))
}

fn remove_state(data: &Path) {
    std::fs::remove_dir_all(data.join("sled")).unwrap();
}

/// Sends all posts at once, each on a connection of its own. Exactly `firsts` of the answers must
/// be 202. Returns the event id that all answers name.
fn race(url: &str, key: &str, dedup_id: &str, firsts: usize) -> String {
    drop(rustls::crypto::ring::default_provider().install_default());
    let http = Http::builder().no_proxy().build().unwrap();
    let body = json!({"type": "race.event", "payload": {"n": 1}, "dedup_id": dedup_id}).to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answers: Vec<(u16, Value)> = runtime.block_on(async {
        let mut racers = JoinSet::new();
        for _ in 0..RACERS {
            let request = http.post(format!("{url}/api/events")).header("X-API-Key", key);
            let request = request.header("Content-Type", "application/json").body(body.clone());
            racers.spawn(async move {
                let answer = request.send().await.unwrap();
                let status = answer.status().as_u16();
                (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
            });
        }
        racers.join_all().await
    });
    let ids: BTreeSet<_> =
        answers.iter().map(|(_, answer)| answer["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 1, "stored twice: one dedup id, and answers name {ids:?}");
    let accepted = answers.iter().filter(|(status, _)| *status == 202).count();
    assert_eq!(accepted, firsts, "stored twice: {accepted} posts were accepted as the first");
    assert!(answers.iter().all(|(status, _)| matches!(status, 200 | 202)), "{answers:?}");
    ids.into_iter().next().unwrap()
}
