//! The clock steps by an hour or a day either way, back to 1970, and home again, with a restart at
//! every second step. Nothing is lost, dedup ids count, due deliveries are made, and nobody waits
//! in vain.

use std::path::Path;

use serde_json::json;
use triggerd::app::App;
use triggerd::base::clock::Clock;
use triggerd::base::exit_code::ExitCode;
use triggerd::config::Config;

use crate::harness::{Client, until};
use crate::receiver::Receiver;
use crate::scenario::{Outcome, Plan, keep};
use crate::server::config;

const HOME_MS: u64 = 1_800_000_000_000;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// The steps of the clock, in order.
const WALK: [(&str, u64); 8] = [
    ("an hour on", HOME_MS + HOUR_MS),
    ("an hour back", HOME_MS),
    ("another hour back", HOME_MS - HOUR_MS),
    ("a day on", HOME_MS + DAY_MS),
    ("a day back", HOME_MS),
    ("another day back", HOME_MS - DAY_MS),
    ("1970", 0),
    ("home", HOME_MS + DAY_MS),
];

struct Walker {
    app: App,
    clock: Clock,
    key: String,
    pushing: String,
}

impl Walker {
    fn org(&self) -> Client {
        Client::new(&self.url(), &self.key)
    }

    fn url(&self) -> String {
        format!("http://{}", self.app.address())
    }

    fn restart(self, data: &Path) -> Self {
        let now_ms = self.clock.now_ms();
        assert_eq!(self.app.stop(), ExitCode::Clean);
        let (app, clock) = start(data, now_ms);
        Self { app, clock, ..self }
    }

    /// Posts an event and waits for its push, which comes at once, whatever the time is.
    fn push(&self, receiver: &Receiver, number: usize) -> String {
        let id = Client::new(&self.url(), &self.pushing)
            .send("clock.event", &json!({ "n": number }))
            .id();
        until(|| (receiver.missing(std::iter::once(&id)) == 0).then_some(()));
        id
    }
}

fn start(data: &Path, now_ms: u64) -> (App, Clock) {
    let clock = Clock::manual(now_ms);
    (App::start(Config::from_toml(&config(data)).unwrap(), clock.clone()).unwrap(), clock)
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    let mut events = 0;
    for walk in 0..plan.rounds {
        events += walk_once(&plan.dir.join(format!("walk-{walk}")), &Receiver::start());
    }
    Outcome::Passed(format!(
        "{events} events over {} steps each, 0 lost, 0 doubled, all pushed",
        WALK.len()
    ))
}

fn walk_once(data: &Path, receiver: &Receiver) -> usize {
    let (app, clock) = start(data, HOME_MS);
    let admin = Client::new(&format!("http://{}", app.address()), app.admin_token());
    let (key, pushing) = (admin.new_org("pulls").key, admin.new_org("pushes").key);
    let mut walker = Walker { app, clock, key, pushing };
    assert_eq!(Client::new(&walker.url(), &walker.pushing).push_to(&receiver.url()).len(), 32);
    let mut known =
        vec![("first".to_owned(), walker.org().send_once("first", &json!("first")).id())];
    for (number, (step, now_ms)) in WALK.into_iter().enumerate() {
        walker.clock.set_ms(now_ms);
        if number % 2 == 1 {
            walker = walker.restart(data);
        }
        let new = walker.org().send_once(step, &json!(step));
        assert_eq!(new.status, 202, "after {step}: {new:?}");
        // At home, 1970 is outside of any deduplication window; all other steps are inside.
        for (dedup_id, id) in known.iter().filter(|(dedup_id, _)| dedup_id != "1970") {
            let again = walker.org().send_once(dedup_id, &json!(dedup_id));
            assert_eq!(
                (again.status, again.id()),
                (200, id.clone()),
                "after {step}, {dedup_id} is stored twice"
            );
        }
        known.push((step.to_owned(), new.id()));
        let pushed = walker.push(receiver, number);
        assert!(!known.iter().any(|(_, id)| *id == pushed));
        let ids: Vec<_> = known.iter().map(|(_, id)| id.clone()).collect();
        assert_eq!(
            walker.org().inbox_ids(),
            ids,
            "after {step}: in acceptance order, nothing lost"
        );
    }
    walker = walker.restart(data);
    assert_eq!(walker.org().inbox_ids().len(), known.len());
    assert_eq!(walker.app.stop(), ExitCode::Clean);
    keep("clock", data);
    known.len() + WALK.len()
}
