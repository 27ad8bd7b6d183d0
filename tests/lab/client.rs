//! The load: several clients post single events and batches, send some of them twice, and confirm
//! some, until stopped or until the server is gone.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Client};
use crate::ledger::{Ledger, Sent};
use crate::random::Random;

/// The organization whose events are pulled; the events of [`PUSHES`] are pushed.
pub(crate) const PULLS: &str = "pulls";
pub(crate) const PUSHES: &str = "pushes";

/// Payload sizes as in the field: many small, few near the limit. Each has its cumulative
/// percentage.
const MIXED: &[(u64, usize)] =
    &[(50, 256), (75, 2 << 10), (90, 8 << 10), (98, 64 << 10), (100, 255 << 10)];

/// The load on one server, and the counts of failed requests.
pub(crate) struct Load<'a> {
    pub(crate) url: &'a str,
    /// Names of the organizations, with their keys.
    pub(crate) orgs: &'a [(&'static str, String)],
    pub(crate) ledger: &'a Ledger,
    /// Part of each tag, so that no two loads share a tag.
    pub(crate) round: u64,
    pub(crate) seed: u64,
    pub(crate) clients: u64,
    /// Bytes of every payload; mixed sizes if `None`.
    pub(crate) bytes: Option<usize>,
    /// Events of the previous load without an answer.
    pub(crate) again: Mutex<Vec<Sent>>,
    pub(crate) stop: AtomicBool,
    /// Number of answers other than 2xx.
    pub(crate) refused: AtomicU64,
    /// Number of clients ended by a request without an answer.
    pub(crate) unanswered: AtomicU64,
}

impl<'a> Load<'a> {
    pub(crate) fn new(
        url: &'a str,
        orgs: &'a [(&'static str, String)],
        ledger: &'a Ledger,
        round: u64,
    ) -> Self {
        Self {
            url,
            orgs,
            ledger,
            round,
            seed: round,
            clients: 4,
            bytes: None,
            again: Mutex::default(),
            stop: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
        }
    }

    /// A load that also repeats the requests of former rounds that got no answer.
    pub(crate) fn repeating(
        url: &'a str,
        orgs: &'a [(&'static str, String)],
        ledger: &'a Ledger,
        (round, random): (u64, &mut Random),
    ) -> Self {
        let again = ledger.read().unanswered().into();
        Self { seed: random.next(), again, ..Self::new(url, orgs, ledger, round) }
    }

    /// Runs `meanwhile` under load, then stops the load. A client ends when a request gets no
    /// answer.
    pub(crate) fn during<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            for number in 0..self.clients {
                scope.spawn(move || OneClient::new(self, number).run());
            }
            // The load also stops when `meanwhile` fails: else the clients would never end.
            let _at_end = StopAtEnd(&self.stop);
            meanwhile()
        })
    }
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The server gave no answer.
struct Gone;

struct OneClient<'a> {
    load: &'a Load<'a>,
    number: u64,
    count: u64,
    random: Random,
    clients: Vec<Client>,
    /// Events to confirm later.
    mine: Vec<String>,
}

impl<'a> OneClient<'a> {
    fn new(load: &'a Load<'a>, number: u64) -> Self {
        let clients = load.orgs.iter().map(|(_, key)| Client::new(load.url, key)).collect();
        Self {
            load,
            number,
            count: 0,
            random: Random::new(load.seed ^ (number << 32)),
            clients,
            mine: Vec::new(),
        }
    }

    fn run(mut self) {
        while !self.load.stop.load(Ordering::SeqCst) {
            let again = self.load.again.lock().unwrap().pop();
            let done = match again {
                Some(sent) => self.post(&sent),
                None => self.act(),
            };
            if done.is_err() {
                self.load.unanswered.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
    }

    fn act(&mut self) -> Result<(), Gone> {
        match self.random.below(100) {
            0..55 => {
                let org = self.some_org();
                let sent = self.event(org);
                self.post(&sent)
            }
            55..75 => {
                let org = self.some_org();
                let sent = self.event(org);
                self.post(&sent)?;
                if sent.dedup_id().is_some() { self.post(&sent) } else { Ok(()) }
            }
            75..88 => self.post_batch(),
            _ => self.confirm(),
        }
    }

    fn some_org(&mut self) -> &'static str {
        self.load.orgs[self.random.index(self.load.orgs.len())].0
    }

    fn event(&mut self, org: &str) -> Sent {
        self.count += 1;
        let mark = ["", "d"][self.random.index(2)];
        let share = self.random.below(100);
        let mixed = MIXED.iter().find(|(upto, _)| share < *upto).map_or(256, |(_, bytes)| *bytes);
        let tag = format!("{org}-{}-{}-{}{mark}", self.load.round, self.number, self.count);
        let bytes = self.load.bytes.unwrap_or(mixed);
        let sent = Sent { tag, bytes };
        let sent = Sent { bytes: sent.payload().len(), ..sent };
        self.load.ledger.sending(&sent);
        sent
    }

    fn client_of(&self, tag: &str) -> &Client {
        let place = self.load.orgs.iter().position(|(org, _)| tag.starts_with(org)).unwrap();
        &self.clients[place]
    }

    fn post(&mut self, sent: &Sent) -> Result<(), Gone> {
        let answer = ask(self.client_of(&sent.tag), "/api/events", body(sent))?;
        match answer.status {
            200 | 202 => self.stored(sent, &answer.json),
            _ => _ = self.load.refused.fetch_add(1, Ordering::SeqCst),
        }
        Ok(())
    }

    fn post_batch(&mut self) -> Result<(), Gone> {
        let org = self.some_org();
        let events: Vec<_> = (0..=self.random.below(5)).map(|_| self.event(org)).collect();
        let bodies: Vec<_> = events.iter().map(body).collect();
        let text = format!("{{\"events\":[{}]}}", bodies.join(","));
        let answer = ask(self.client_of(&events[0].tag), "/api/events/batch", text)?;
        if answer.status != 200 {
            self.load.refused.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        for (sent, result) in events.iter().zip(answer.json["results"].as_array().unwrap()) {
            match result["status"].as_str() {
                Some("accepted" | "duplicate") => self.stored(sent, result),
                _ => panic!("a good item of a batch was rejected: {result}"),
            }
        }
        Ok(())
    }

    fn stored(&mut self, sent: &Sent, receipt: &Value) {
        let id = receipt["id"].as_str().unwrap();
        self.load.ledger.stored(&sent.tag, id);
        // An event that was sent twice is confirmed once: it may expire before the second time.
        if sent.tag.starts_with(PULLS) && self.mine.last().is_none_or(|last| last != id) {
            self.mine.push(id.to_owned());
        }
    }

    /// Confirms one of the older events, sometimes twice.
    fn confirm(&mut self) -> Result<(), Gone> {
        if self.mine.len() < 4 {
            return Ok(());
        }
        let id = self.mine.remove(0);
        self.load.ledger.confirming(&id);
        for turn in 0..=self.random.below(2) {
            let answer = ask(self.client_of(PULLS), &format!("/api/ack/{id}"), String::new())?;
            match answer.status {
                200 => self.load.ledger.confirmed(&id),
                // A confirmed event can expire.
                404 if turn > 0 => {}
                404 => panic!("acknowledged event {id} is lost: it cannot be confirmed"),
                _ => _ = self.load.refused.fetch_add(1, Ordering::SeqCst),
            }
        }
        Ok(())
    }
}

fn ask(client: &Client, path: &str, body: String) -> Result<Answer, Gone> {
    let headers = [("Content-Type", "application/json")];
    client.try_request(Method::POST, path, &headers, body).map_err(|_no_answer| Gone)
}

fn body(sent: &Sent) -> String {
    let dedup =
        sent.dedup_id().map_or_else(String::new, |id| format!(",\"dedup_id\":{}", json!(id)));
    format!("{{\"type\":\"lab.event\",\"payload\":{}{dedup}}}", sent.payload())
}
