//! A simulated year of steady traffic: what is on disk becomes flat. The committer, the journal,
//! the state, retention, snapshots and compaction are real, with their default ages; the clock is
//! moved by hand. A part of the inbox stays unread, some deliveries are retried, and some endpoints
//! never accept anything.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use triggerd::base::clock::Clock;
use triggerd::commands::{
    AckEvent, Applied, Command, CreateOrg, ExpireDedup, PutEndpoint, Records, RouteEvent,
    SettleAttempt, SubmitEvent, SubmitOutcome,
};
use triggerd::commit::{Engine, Space, recover};
use triggerd::config::Config;
use triggerd::data_dir::DataDir;
use triggerd::journal::{Files, OsFiles, Reader};
use triggerd::model::delivery::{
    AttemptError, AttemptOutcome, DeadReason, ErrorCode, Trigger, Verdict,
};
use triggerd::model::endpoint::{Endpoint, EndpointSettings, SealedSecret};
use triggerd::model::event::{Dedup, NewEvent};
use triggerd::model::id::{EndpointId, EventId, KeyId, OrgId, OrgNo};
use triggerd::model::key::{Key, Scopes};
use triggerd::model::org::{InboxMode, Org, Tier};
use triggerd::model::routing::RouteReasons;
use triggerd::model::time::Timestamp;
use triggerd::pipeline::{Ages, DiskLimits, Retention};
use triggerd::store::{SEGMENT_BYTES, Store};

use crate::care::{Care, CareLimits};
use crate::opening::open_state;
use crate::random::Random;
use crate::system::engine;

pub(crate) mod figures;

const START_MS: u64 = 1_800_000_000_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
const DAYS_OF_MONTH: u64 = 30;
const MONTHS: u64 = 12;
/// The first months, in which the disk fills: open events stay for 90 days.
const FILLING_MONTHS: usize = 3;
/// How far a month may be from the average of the months behind the filling months.
const FLAT_WITHIN: f64 = 0.05;
/// Commands that are committed at once.
const GROUP: usize = 200;
const DEDUP_WINDOW_MS: u64 = 7 * DAY_MS;
/// Approximate bytes of the journal for each event, to scale segments and snapshots.
const BYTES_PER_EVENT: u64 = 1_500;

/// The organization that pulls, and leaves one in twenty events unread.
const PULLS: OrgNo = OrgNo(0);
/// The organization whose endpoints accept, at times after retries.
const PUSHES: OrgNo = OrgNo(1);
/// The organization whose endpoint never accepts.
const FAILS: OrgNo = OrgNo(2);
/// The endpoints of each organization.
const ENDPOINTS: [(OrgNo, &[u128]); 3] = [(PULLS, &[]), (PUSHES, &[11, 12]), (FAILS, &[13])];

/// What a month shows at its end. Bytes on disk are averages over its days.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Month {
    pub(crate) taken: u64,
    pub(crate) kept: u64,
    pub(crate) journal: u64,
    pub(crate) snapshots: u64,
    pub(crate) sled: u64,
}

/// Disk space that sled takes before it uses space again, however few the rows are: the file grows
/// to some segments.
const SLED_MIN: u64 = 6 * SEGMENT_BYTES as u64;
/// Disk space by which sled's file grows and shrinks, because it has whole segments.
const SLED_STEP: u64 = SEGMENT_BYTES as u64;

/// Disk space by which the journal of a small year grows and shrinks: four of its segments.
const JOURNAL_STEP: u64 = 4 * (64 << 10);

/// Takes a figure out of a month.
pub(crate) type Figure = fn(&Month) -> u64;

/// The figures that must be flat: names, values, and deviations that mean nothing.
const FIGURES: [(&str, Figure, u64); 4] = [
    ("events kept", |month| month.kept, 0),
    ("journal", |month| month.journal, JOURNAL_STEP),
    ("snapshots", |month| month.snapshots, 0),
    ("state", |month| month.sled.max(SLED_MIN), SLED_STEP),
];

/// Simulates a year with this many events a month, below this directory.
pub(crate) fn run(dir: &Path, events_a_month: u64) -> Vec<Month> {
    let mut year = Year::new(dir, events_a_month);
    let mut months = Vec::new();
    for number in 1..=MONTHS {
        months.push(year.month());
        println!("month {number}: {:?}", months.last());
    }
    year.end();
    months
}

/// Returns the figures that are not flat after the first quarter.
pub(crate) fn faults(months: &[Month]) -> Vec<String> {
    let flat = &months[FILLING_MONTHS..];
    let mut faults = Vec::new();
    for (name, figure, step) in FIGURES {
        let average = flat.iter().map(figure).sum::<u64>() / flat.len() as u64;
        let far = flat.iter().map(|month| figure(month).abs_diff(average)).max().unwrap_or(0);
        let share = as_f64(far.saturating_sub(step)) / as_f64(average);
        if share > FLAT_WITHIN {
            faults.push(format!("{name} is up to {:.1} % off its average", share * 100.0));
        }
    }
    faults
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn as_f64(figure: u64) -> f64 {
    figure as f64
}

struct Year {
    clock: Clock,
    store: Arc<Store>,
    engine: Arc<Engine>,
    care: Care,
    retention: Retention,
    ages: Ages,
    limits: DiskLimits,
    data_dir: DataDir,
    committer: std::thread::JoinHandle<()>,
    events_a_day: u64,
    random: Random,
    sent: u64,
    /// The events to be confirmed, by day.
    confirms: BTreeMap<u64, Vec<EventId>>,
    /// The deliveries to be tried again, by day.
    retries: BTreeMap<u64, Vec<Try>>,
    day: u64,
}

/// An attempt to be made.
#[derive(Clone, Copy)]
struct Try {
    org: OrgNo,
    endpoint: EndpointId,
    event: EventId,
    number: u32,
}

impl Year {
    fn new(dir: &Path, events_a_month: u64) -> Self {
        let clock = Clock::manual(START_MS);
        let month_bytes = events_a_month * BYTES_PER_EVENT;
        let segment_bytes = (month_bytes / 64).clamp(64 << 10, 32 << 20);
        let mut data_dir = DataDir::open(dir).unwrap();
        let files: Arc<dyn Files> = Arc::new(OsFiles);
        let opened =
            triggerd::journal::open(&data_dir.journal(), Arc::clone(&files), segment_bytes);
        let (writer, reader, _) = opened.unwrap();
        data_dir.complete(Timestamp(START_MS)).unwrap();
        let records = Records::new(reader.clone());
        let store = Arc::new(open_state((dir, false), &files, &records));
        recover(&store, &records, &Space::default()).unwrap();
        let (engine, committer) = engine(&store, clock.clone(), (writer, records));
        let care = care(&engine, &data_dir, (&reader, files), month_bytes);
        let committer = std::thread::spawn(|| committer.run());
        let config = Config::from_toml("").unwrap();
        let retention = Retention::new(&reader, &engine, None);
        let mut year = Self {
            clock,
            store,
            engine,
            care,
            retention,
            ages: Ages::of(&config.retention, &config.tiers),
            limits: DiskLimits::of(&config.retention),
            data_dir,
            committer,
            events_a_day: events_a_month / DAYS_OF_MONTH,
            random: Random::new(12),
            sent: 0,
            confirms: BTreeMap::new(),
            retries: BTreeMap::new(),
            day: 0,
        };
        year.make_orgs();
        year
    }

    fn end(self) {
        self.engine.intake.close();
        self.committer.join().unwrap();
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }

    fn commit(&self, commands: Vec<Command>) -> Vec<Applied> {
        let mut applied = Vec::new();
        let mut commands = commands.into_iter().peekable();
        while commands.peek().is_some() {
            let group: Vec<_> = commands.by_ref().take(GROUP).collect();
            let outcomes = self.engine.intake.submit_all(group).unwrap().wait().unwrap();
            applied.extend(outcomes.into_iter().map(Result::unwrap));
        }
        applied
    }

    fn make_orgs(&mut self) {
        for (number, endpoints) in ENDPOINTS {
            let (id, created_at) = (u128::from(number.0) + 1, self.now());
            let name = format!("Acme {id}");
            let key = Key {
                id: KeyId(id + 100),
                name: name.clone(),
                hash: "$".into(),
                check: [0; 8],
                scopes: Scopes::all(),
                created_at,
                expires_at: None,
                ended_at: None,
            };
            let (id, tier, inbox_mode) = (OrgId(id), Tier::Pro, InboxMode::Auto);
            let org = Org { id, name, tier, inbox_mode, created_at };
            self.commit(vec![Command::CreateOrg(CreateOrg { number, org, key: Some(key) })]);
            for id in endpoints {
                let (settings, secret) =
                    (EndpointSettings::default(), SealedSecret::new(vec![7; 72]));
                let endpoint = Endpoint::new(EndpointId(*id), settings, secret, created_at);
                let put = PutEndpoint { org: number, endpoint, sets_enabled: true };
                self.commit(vec![Command::PutEndpoint(put)]);
            }
        }
    }

    /// Lives a month. Returns its figures.
    fn month(&mut self) -> Month {
        let mut month = Month { taken: self.sent, ..Month::default() };
        for _ in 0..DAYS_OF_MONTH {
            self.day();
            month.kept += self.store.counts().unwrap().events;
            month.journal += allocated(&self.data_dir.journal(), "seg");
            month.snapshots += allocated(&self.data_dir.journal(), "snap");
            month.sled += allocated(&self.data_dir.state(), "");
        }
        let Month { taken, kept, journal, snapshots, sled } = month;
        let [kept, journal, snapshots, sled] =
            [kept, journal, snapshots, sled].map(|sum| sum / DAYS_OF_MONTH);
        Month { taken: self.sent - taken, kept, journal, snapshots, sled }
    }

    fn day(&mut self) {
        self.clock.advance_ms(DAY_MS);
        self.send();
        self.route();
        let due = self.retries.remove(&self.day).unwrap_or_default();
        self.attempt(&due);
        self.confirm();
        self.forget_dedup_ids();
        while self.retention.call(&self.engine, (&self.ages, &self.limits)).unwrap() {}
        self.store.write_back().unwrap();
        self.care.snapshots();
        self.care.compaction();
        self.day += 1;
    }

    /// Sends new events: a third of them is pulled, one in twenty goes to the endpoint that fails.
    fn send(&mut self) {
        let (mut commands, received_at) = (Vec::new(), self.now());
        for _ in 0..self.events_a_day {
            self.sent += 1;
            let org = match self.random.below(20) {
                0 => FAILS,
                1..8 => PULLS,
                _ => PUSHES,
            };
            let payload = vec![b'1'; 100 + self.random.index(800)].into();
            let dedup = self.random.one_in(2).then(|| self.dedup());
            let event = NewEvent {
                event_type: "order.created".parse().unwrap(),
                dedup,
                labels: Vec::new(),
                occurred_at: None,
                deliver_after: None,
                payload,
                cloudevent: None,
            };
            let submit = SubmitEvent { org, by: None, id: EventId(0), received_at, event };
            commands.push(Command::SubmitEvent(Box::new(submit)));
        }
        let orgs: Vec<_> = commands.iter().map(Command::org).collect();
        for (org, applied) in orgs.into_iter().zip(self.commit(commands)) {
            let Applied::SubmitEvent(SubmitOutcome::Accepted { id, .. }) = applied else {
                panic!("an event was refused: {applied:?}")
            };
            if org == Some(PULLS) && !self.random.one_in(20) {
                let day = self.day + self.random.below(3);
                self.confirms.entry(day).or_default().push(id);
            }
        }
    }

    /// Forgets old dedup ids, which a server does every second and each time a bounded number.
    fn forget_dedup_ids(&self) {
        let before = self.now().minus_ms(DEDUP_WINDOW_MS);
        for _ in 0..=self.events_a_day / 5_000 {
            self.commit(vec![Command::ExpireDedup(ExpireDedup { before })]);
        }
    }

    fn dedup(&self) -> Dedup {
        let mixed = u128::from(self.sent).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        Dedup {
            id: self.sent.to_string(),
            digest: *mixed.to_be_bytes().first_chunk().unwrap(),
            fingerprint: [0; 8],
            window_start: self.now().minus_ms(DEDUP_WINDOW_MS),
        }
    }

    /// Routes everything that waits, operational events too, and makes the first attempts.
    fn route(&mut self) {
        loop {
            let waiting = self.store.unrouted_after((OrgNo(0), EventId(0)), 5_000).unwrap();
            if waiting.is_empty() {
                return;
            }
            let (mut commands, mut tries) = (Vec::new(), Vec::new());
            for (org, event) in waiting {
                let of_org = ENDPOINTS.into_iter().find(|(known, _)| *known == org);
                let endpoints: Vec<_> =
                    of_org.into_iter().flat_map(|(_, ids)| ids).map(|id| EndpointId(*id)).collect();
                let at = |endpoint: &EndpointId| Try { org, endpoint: *endpoint, event, number: 1 };
                tries.extend(endpoints.iter().map(at));
                let (due_at, reasons) = (self.now(), RouteReasons::default());
                let route = RouteEvent { org, event, endpoints, due_at, reasons };
                commands.push(Command::RouteEvent(route));
            }
            self.commit(commands);
            self.attempt(&tries);
        }
    }

    /// Makes attempts. One in ten first attempts fails and is made again the next day; those of the
    /// failing endpoint fail three times.
    fn attempt(&mut self, tries: &[Try]) {
        let mut commands = Vec::new();
        for one in tries {
            let Try { org, endpoint, event, number } = *one;
            let due = self.store.due_delivery(endpoint, event).unwrap();
            let fails = org == FAILS || (number == 1 && self.random.one_in(10));
            let verdict = match (fails, number) {
                (false, _) => Verdict::Delivered,
                (true, 3..) => Verdict::Dead(DeadReason::AttemptsExhausted),
                (true, _) => {
                    let again = Try { number: number + 1, ..*one };
                    self.retries.entry(self.day + 1).or_default().push(again);
                    Verdict::RetryAt(self.now().plus_ms(DAY_MS))
                }
            };
            let error = AttemptError { code: ErrorCode::HttpStatus, detail: String::new() };
            let outcome = AttemptOutcome {
                status: Some(if fails { 500 } else { 200 }),
                error: fails.then_some(error),
                body: vec![b'x'; if fails { 200 } else { 0 }],
                ..AttemptOutcome::new(self.now(), 5)
            };
            commands.push(Command::SettleAttempt(Box::new(SettleAttempt {
                org,
                endpoint,
                event,
                number,
                trigger: Trigger::Schedule,
                outcome,
                verdict,
                disables: None,
                previous: due.and_then(|due| due.last_attempt),
                operational_events: Vec::new(),
            })));
        }
        self.commit(commands);
    }

    fn confirm(&mut self) {
        let at = self.now();
        let events = self.confirms.remove(&self.day).unwrap_or_default();
        let ack = |event| Command::AckEvent(AckEvent { org: PULLS, event, at });
        self.commit(events.into_iter().map(ack).collect());
    }
}

/// The care of the default configuration, with snapshots as seldom for the traffic as there.
fn care(
    engine: &Arc<Engine>,
    data_dir: &DataDir,
    (reader, files): (&Reader, Arc<dyn Files>),
    month_bytes: u64,
) -> Care {
    let limits = CareLimits {
        snapshot_bytes: month_bytes / 16,
        grace: Duration::from_hours(1),
        // Expired events give hints. A pass over everything takes most of the time of a year.
        pass_every: 5 * Duration::from_hours(24),
        steps_max: 100_000,
    };
    let journal = (data_dir.journal(), files);
    Care::new(engine, journal, (reader, data_dir.format_file()), limits)
}

/// The disk space of the files with this extension in the directory, and in the directories in it;
/// of all files if the extension is empty.
fn allocated(dir: &Path, extension: &str) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes += allocated(&path, extension);
        } else if extension.is_empty() || path.extension() == Some(extension.as_ref()) {
            bytes += std::fs::metadata(&path).map_or(0, |facts| facts.blocks() * 512);
        }
    }
    bytes
}
