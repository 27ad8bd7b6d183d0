//! A few hot rows are rewritten at full speed, for as long as wanted. sled 0.34.7 can deadlock
//! then; the way in which triggerd uses it must prevent that. The rows are written back once at the
//! server's pace, and once without a pause.
//!
//! The lab runs itself with `hot-child PAUSE_MS SECONDS DIR`, because the watchdog ends a process
//! that hangs.

use std::path::Path;
use std::process::{Command as Program, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use triggerd::base::clock::Clock;
use triggerd::base::failpoint;
use triggerd::base::threads::{Stop, Thread, spawn_critical};
use triggerd::base::vault::Vault;
use triggerd::commands::{
    AckEvent, Applied, Applying, Command, ExpireDedup, NoteKeysUsed, PutEndpoint, Records,
    RouteEvent, SettleAttempt, SubmitOutcome,
};
use triggerd::commit::{Engine, Flusher, Progress, Space, WRITE_BACK_AFTER, recover, watch};
use triggerd::data_dir::{DataDir, Place, read_secrets_key};
use triggerd::delivery::secrets;
use triggerd::journal::{self, OsFiles, ReadLog as _};
use triggerd::model::delivery::{AttemptOutcome, DeadReason, Trigger, Verdict};
use triggerd::model::endpoint::{Endpoint, EndpointSettings, SealedSecret, Secret};
use triggerd::model::event::Dedup;
use triggerd::model::id::{EndpointId, EventId, KeyId, OrgNo};
use triggerd::model::routing::{RouteReason, RouteReasons};
use triggerd::model::time::Timestamp;
use triggerd::rules::type_filter::TypeFilter;
use triggerd::store::{InboxQuery, Store};

use crate::harness::{PATIENCE, command, settings};
use crate::scenario::{Outcome, Plan};
use crate::system::{create_org, engine, submit};

const ORG: OrgNo = OrgNo(0);
const ENDPOINT: EndpointId = EndpointId(50);
const SEGMENT_BYTES: u64 = 32 << 20;
/// Number of concurrent writers; one sync serves all of them.
const WRITERS: u64 = 8;
/// Events in one turn of a writer: few, for most turns to change rows of the turn before.
const EVENTS: u64 = 4;
/// Deduplication window in milliseconds.
const WINDOW_MS: u64 = 1_000;
/// Small, as the state is: on a real server, too, the cache holds only a part of the state.
const CACHE_BYTES: u64 = 8 << 20;

pub(crate) fn run(plan: &Plan) -> Outcome {
    let data = plan.dir.join("data");
    let rhythm = run_child(&data, WRITE_BACK_AFTER, plan.rounds.div_ceil(4));
    let rush = run_child(&data, Duration::ZERO, (plan.rounds * 3).div_ceil(4));
    std::fs::write(data.with_extension("toml"), settings(&data, "")).unwrap();
    let (code, report) = command(&data, &["verify"]);
    assert_eq!(code, Some(0), "verify finds:\n{report}");
    Outcome::Passed(format!("as the server does: {rhythm}; without a pause: {rush}; verified"))
}

/// Runs a child. Returns the last line of its output.
fn run_child(data: &Path, pause: Duration, seconds: u64) -> String {
    let output = Program::new(std::env::current_exe().unwrap())
        .args([
            "hot-child",
            &pause.as_millis().to_string(),
            &seconds.to_string(),
            data.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    assert!(code != Some(70), "the watchdog or a failure ended it with 70:\n{said}");
    assert_eq!(code, Some(0), "{said}");
    said.lines().last().unwrap_or_default().to_owned()
}

/// `hot-child PAUSE_MS SECONDS DIR`: runs the parts of the server below HTTP under full load.
pub(crate) fn child(arguments: &[String]) -> ExitCode {
    let [pause, seconds, dir] = arguments else { return ExitCode::from(2) };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    failpoint::arm(&std::env::var("TRIGGERD_FAILPOINTS").unwrap_or_default()).unwrap();
    let system = System::start(Path::new(dir), Duration::from_millis(pause.parse().unwrap()));
    let (began, wanted) = (Instant::now(), Duration::from_secs(seconds.parse().unwrap()));
    let turns = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (system, turns) = (&system, &turns);
            scope.spawn(move || {
                let mut number = writer;
                while began.elapsed() < wanted {
                    system.turn(number);
                    number += WRITERS;
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while began.elapsed() < wanted {
                system.look();
            }
        });
    });
    let (seconds, metrics) = (began.elapsed().as_secs_f64(), Arc::clone(&system.engine.metrics));
    system.stop();
    let write_backs = metrics.write_back_seconds.get_sample_count();
    let rows = metrics.write_back_rows.get();
    assert!(write_backs > 0, "nothing was written back");
    #[expect(clippy::cast_precision_loss, reason = "rates are for people")]
    let (per_second, rate) = (write_backs as f64 / seconds, rows as f64 / seconds);
    println!(
        "{} turns, {write_backs} write-backs ({per_second:.0}/s) of {rows} rows ({rate:.0}/s) in \
         {seconds:.0} s",
        turns.into_inner()
    );
    ExitCode::SUCCESS
}

/// The running parts of a server.
struct System {
    engine: Arc<Engine>,
    flush: triggerd::commit::Flush,
    threads: [Thread; 2],
    secret: SealedSecret,
    _data_dir: DataDir,
}

impl System {
    fn start(dir: &Path, pause: Duration) -> Self {
        let mut data_dir = DataDir::open(dir).unwrap();
        let (writer, reader, _) =
            journal::open(&data_dir.journal(), Arc::new(OsFiles), SEGMENT_BYTES).unwrap();
        data_dir.complete(Timestamp(1)).unwrap();
        let store = Arc::new(Store::open(&data_dir.state(), CACHE_BYTES, reader.end()).unwrap());
        recover(&store, &Records::new(reader.clone()), &Space::default()).unwrap();
        let (engine, committer) = engine(&store, Clock::system(), (writer, Records::new(reader)));
        let (flush, flushing) = (committer.flush(), Arc::<Progress>::default());
        let committing = committer.progress();
        let flusher = Flusher {
            engine: Arc::clone(&engine),
            flush: flush.clone(),
            after: pause,
            progress: Arc::clone(&flushing),
        };
        let threads = [
            spawn_critical("committer", || committer.run()).unwrap(),
            spawn_critical("flusher", || flusher.run()).unwrap(),
        ];
        let watched = [("committer", committing), ("flusher", flushing)];
        // The watchdog runs until the process ends, so that it also ends a stop that hangs.
        spawn_critical("watchdog", move || watch(&watched, &Stop::new(), || {})).unwrap();
        let secret = sealed_secret(&data_dir, dir);
        let system = Self { engine, flush, threads, secret, _data_dir: data_dir };
        if system.engine.store.key(KeyId(2)).unwrap().is_none() {
            system.submit(vec![create_org()]);
        }
        system
    }

    fn submit(&self, commands: Vec<Command>) -> Vec<Applying> {
        self.engine.intake.submit_all(commands).unwrap().wait().unwrap()
    }

    /// Takes a few events through their whole life. Each table is changed, mostly in rows changed a
    /// moment ago.
    fn turn(&self, number: u64) {
        let now = Timestamp(Clock::system().now_ms());
        let events = (0..EVENTS)
            .map(|place| submit(0, Some(dedup(number * EVENTS + place, now)), b"{}".to_vec()));
        let accepted = self.submit(events.collect());
        let ids: Vec<EventId> = accepted
            .iter()
            .map(|outcome| match outcome {
                Ok(Applied::SubmitEvent(SubmitOutcome::Accepted { id, .. })) => *id,
                other => panic!("{other:?}"),
            })
            .collect();
        let touch = Command::NoteKeysUsed(NoteKeysUsed { used: vec![(KeyId(2), now)], at: now });
        let routes = ids.iter().map(|event| route(*event, now));
        self.submit([touch, self.put_endpoint(now)].into_iter().chain(routes).collect());
        self.submit(
            ids.iter()
                .enumerate()
                .map(|(place, event)| settle(*event, 1, first_verdict(place, now)))
                .collect(),
        );
        let second = ids
            .iter()
            .enumerate()
            .skip(1)
            .map(|(place, event)| settle(*event, 2, second_verdict(place)));
        self.submit(second.collect());
        let mut last: Vec<_> = ids
            .iter()
            .map(|event| Command::AckEvent(AckEvent { org: ORG, event: *event, at: now }))
            .collect();
        last.push(Command::ExpireDedup(ExpireDedup { before: now.minus_ms(WINDOW_MS) }));
        self.submit(last);
    }

    fn put_endpoint(&self, now: Timestamp) -> Command {
        let settings =
            EndpointSettings { url: "https://example.com/".into(), ..EndpointSettings::default() };
        let endpoint = Endpoint {
            updated_at: now,
            ..Endpoint::new(ENDPOINT, settings, self.secret.clone(), Timestamp(1))
        };
        Command::PutEndpoint(PutEndpoint { org: ORG, endpoint, sets_enabled: true })
    }

    /// Reads as requests and workers do meanwhile.
    fn look(&self) {
        let query =
            InboxQuery { after: None, limit: 10, types: TypeFilter::default(), since: None };
        self.engine.store.inbox(ORG, &query).unwrap();
        self.engine.store.waiting_for(ENDPOINT, Timestamp(u64::MAX), 10).unwrap();
        self.engine.store.unrouted_after((ORG, EventId(0)), 10).unwrap();
        self.engine.store.counts().unwrap();
    }

    fn stop(self) {
        let deadline = Instant::now() + PATIENCE;
        self.engine.intake.close();
        self.engine.stop.set();
        let [committer, flusher] = self.threads;
        assert!(committer.join_until(deadline), "the committer ends");
        self.flush.wake();
        assert!(flusher.join_until(deadline), "the flusher ends");
        self.engine.store.close().unwrap();
    }
}

fn dedup(number: u64, now: Timestamp) -> Dedup {
    let mut digest = [0; 14];
    digest[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    digest[8..].copy_from_slice(&now.0.to_be_bytes()[2..]);
    Dedup {
        id: format!("{number}-{}", now.0),
        digest,
        fingerprint: [0; 8],
        window_start: now.minus_ms(WINDOW_MS),
    }
}

/// Seals a secret with the directory's key, which `verify` checks.
fn sealed_secret(data_dir: &DataDir, dir: &Path) -> SealedSecret {
    let key = read_secrets_key(dir, Place::DataDir).unwrap();
    let vault = Vault::new(&key.unwrap_or_else(|| data_dir.make_secrets_key().unwrap()));
    secrets::seal(&vault, ENDPOINT, &Secret::new([7; 32])).unwrap()
}

fn route(event: EventId, due_at: Timestamp) -> Command {
    let reasons = RouteReasons::record([(1, RouteReason::TypeWanted)]);
    let endpoints = vec![ENDPOINT];
    Command::RouteEvent(RouteEvent { org: ORG, event, endpoints, due_at, reasons })
}

fn settle(event: EventId, number: u32, verdict: Verdict) -> Command {
    let outcome = AttemptOutcome { status: Some(200), ..AttemptOutcome::new(Timestamp(1), 1) };
    let settle = SettleAttempt {
        org: ORG,
        endpoint: ENDPOINT,
        event,
        number,
        trigger: Trigger::Schedule,
        outcome,
        verdict,
        disables: None,
        previous: None,
        operational_events: Vec::new(),
    };
    Command::SettleAttempt(Box::new(settle))
}

/// The first event of a turn is accepted at once; the others wait for a retry.
fn first_verdict(place: usize, now: Timestamp) -> Verdict {
    if place == 0 { Verdict::Delivered } else { Verdict::RetryAt(now.plus_ms(1_000)) }
}

fn second_verdict(place: usize) -> Verdict {
    if place == 1 { Verdict::Dead(DeadReason::AttemptsExhausted) } else { Verdict::Delivered }
}
