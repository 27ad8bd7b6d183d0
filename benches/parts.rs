//! Measures the parts of an event's way: `cargo bench`. Compare figures only within a run: the load
//! of the machine is in all of them.

#![expect(clippy::unwrap_used, reason = "a bench that cannot run should say so at once")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use triggerd::base::clock::Clock;
use triggerd::commands::{self, Command, Records, Results};
use triggerd::commit::Intake;
use triggerd::journal::{OsFiles, Position, open};
use triggerd::model::endpoint::{Endpoint, EndpointSettings, SealedSecret};
use triggerd::model::event::Dedup;
use triggerd::model::id::EndpointId;
use triggerd::model::time::Timestamp;
use triggerd::rules::{fan_out, signature};
use triggerd::store::Store;

#[path = "../tests/shared/system.rs"]
mod system;
use system::{create_org, engine, submit};

const GROUP: usize = 64;
const SEGMENT_BYTES: u64 = 32 << 20;

/// Makes events of 1 KiB with well-spread dedup ids.
fn events(from: u128) -> Vec<Command> {
    let event = |number: u128| {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes();
        let digest = mixed.first_chunk().copied().unwrap_or_default();
        let dedup = Dedup {
            id: number.to_string(),
            digest,
            fingerprint: [0; 8],
            window_start: Timestamp(0),
        };
        submit(number, Some(dedup), vec![b' '; 1024])
    };
    (from..from + GROUP as u128).map(event).collect()
}

fn apply(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), 32 << 20, Position::MAX).unwrap();
    commands::apply(
        &store,
        std::iter::once((Position(1), &create_org())),
        Position(2),
        &mut Results::default(),
    )
    .unwrap();
    let mut next = 1;
    let mut group = c.benchmark_group("apply");
    group.throughput(Throughput::Elements(GROUP as u64));
    group.bench_function("64 events, written back every 4,096 rows", |b| {
        let commands = || {
            next += GROUP as u128;
            events(next)
        };
        let apply = |commands: Vec<Command>| {
            commands::apply(
                &store,
                commands.iter().map(|command| (Position(3), command)),
                Position(4),
                &mut Results::default(),
            )
            .unwrap();
            if store.layer_rows() > 4_096 {
                store.write_back().unwrap();
            }
        };
        b.iter_batched(commands, apply, BatchSize::SmallInput);
    });
}

/// Starts the committer on its own thread, over a journal on disk.
fn start_committer(dir: &std::path::Path) -> (Intake, triggerd::base::threads::Thread) {
    let (writer, reader, _report) =
        open(&dir.join("journal"), Arc::new(OsFiles), SEGMENT_BYTES).unwrap();
    let store = Arc::new(Store::open(&dir.join("sled"), 32 << 20, Position::MAX).unwrap());
    let (engine, committer) = engine(&store, Clock::system(), (writer, Records::new(reader)));
    let intake = engine.intake.clone();
    (intake, triggerd::base::threads::spawn_critical("committer", || committer.run()).unwrap())
}

fn ingest(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let (intake, thread) = start_committer(dir.path());
    intake.submit_all(vec![create_org()]).unwrap().wait().unwrap();
    let mut next = 1;
    let mut group = c.benchmark_group("ingest");
    for size in [1, GROUP] {
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(format!("{size} events with one sync"), |b| {
            let commands = || {
                next += GROUP as u128;
                let mut commands = events(next);
                commands.truncate(size);
                commands
            };
            b.iter_batched(
                commands,
                |commands| intake.submit_all(commands).unwrap().wait().unwrap(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
    intake.close();
    thread.join_until(std::time::Instant::now() + std::time::Duration::from_secs(10));
}

fn rules(c: &mut Criterion) {
    let endpoint = |number: u128| {
        let event_types = vec!["order.*".parse().unwrap(), "invoice.paid".parse().unwrap()];
        let settings = EndpointSettings { event_types, ..EndpointSettings::default() };
        Endpoint::new(EndpointId(number), settings, SealedSecret::new(vec![7; 72]), Timestamp(0))
    };
    let endpoints: Vec<_> = (1..=100).map(|number| (number, endpoint(number.into()))).collect();
    let event_type = "order.created".parse().unwrap();
    c.bench_function("fan-out to 100 endpoints", |b| {
        let endpoints =
            || black_box(&endpoints).iter().map(|(number, endpoint)| (*number, endpoint));
        b.iter(|| fan_out::judge(endpoints(), &event_type));
    });
    let body = vec![b' '; 1024];
    c.bench_function("signature of 1 KiB", |b| {
        b.iter(|| signature::sign(&[&[7; 32]], "evt_1", 1, black_box(&body)));
    });
}

criterion_group!(parts, rules, apply, ingest);
criterion_main!(parts);
