//! Property tests: random commands give the same rows, whenever and on whichever thread the rows
//! are written back.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;
use crate::model::retention::{Cutoffs, ExpiringBlock};
use crate::store::{FreshHandling, Walked};

fn any_verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        3 => Just(Verdict::Delivered),
        2 => (30u64..60).prop_map(|at| Verdict::RetryAt(Timestamp(at))),
        1 => Just(Verdict::Dead(DeadReason::AttemptsExhausted)),
        1 => Just(Verdict::Dead(DeadReason::Gone)),
    ]
}

/// A command with few possible ids, so that commands concern the same things.
fn any_command() -> impl Strategy<Value = Command> {
    let event = 1u128..40;
    let endpoint = prop_oneof![8 => 50u128..53, 1 => 53u128..60];
    prop_oneof![
        4 => (event.clone(), proptest::option::of(0u8..5)).prop_map(|(id, dedup)| {
            let text = dedup.map(|n| char::from(b'a' + n).to_string());
            submit(id, 1, text.as_deref().map(|text| (text, 1)))
        }),
        2 => endpoint.clone().prop_map(put_endpoint),
        1 => endpoint.clone().prop_map(|id| Command::DeleteEndpoint(DeleteEndpoint { org: ORG,
        endpoint: EndpointId(id) })),
        4 => (event.clone(), proptest::collection::btree_set(endpoint.clone(), 0..3),
        any::<bool>()).prop_map(
            |(event, endpoints, later)| {
                let due_at = if later { LATER } else { AT_ONCE };
                route(event, &endpoints.into_iter().collect::<Vec<_>>(), due_at)
            }
        ),
        4 => (event.clone(), endpoint.clone(), 1u32..4, any_verdict()).prop_map(
            |(event, endpoint, number, verdict)| settle(event, endpoint, number, verdict)
        ),
        2 => (event.clone(), endpoint.clone(), 0u8..4).prop_map(|(event, endpoint, kind)| {
            let (event, endpoint) = (EventId(event), EndpointId(endpoint));
            match kind {
                0 => Command::DropDead(DropDead { org: ORG, endpoint, event }),
                _ => retry(event.0, endpoint.0, kind == 1),
            }
        }),
        2 => event.clone().prop_map(ack),
        1 => (event.clone(), endpoint.clone()).prop_map(|(event, endpoint)| erase(event,
        &[endpoint])),
        2 => any_expiry(),
        1 => (endpoint, proptest::collection::vec(event.prop_map(EventId),
        1..5)).prop_map(|(endpoint, events)| {
            Command::CancelDeliveries(CancelDeliveries { org: ORG, endpoint: EndpointId(endpoint),
            events })
        }),
    ]
}

/// Lets events of a block expire. All endpoints that can exist are named.
fn any_expiry() -> impl Strategy<Value = Command> {
    let block = prop_oneof![3 => Just(1u128), 1 => Just(65), 2 => 1u128..40];
    (block, 1u64..3, 1u64..3, 1u64..3, 1u64..3, any::<bool>()).prop_map(
        |(first, finished, dead, open, erased, forgets)| {
            if forgets {
                let deleted_before = Position::MAX;
                return ForgetDeleted { org: ORG, before: Timestamp(finished), deleted_before }
                    .into();
            }
            let endpoints = (50..60).map(EndpointId).collect();
            Command::ExpireEvents(ExpireEvents {
                org: ORG,
                blocks: vec![ExpiringBlock { first: EventId(first), endpoints }],
                cutoffs: Cutoffs {
                    finished: Timestamp(finished),
                    dead: Timestamp(dead),
                    open: Timestamp(open),
                    erased: Timestamp(erased),
                    now: Timestamp(3),
                },
                looked_at: Position::MAX,
                report: None,
            })
        },
    )
}

/// The file of seeds that found a failure.
const KEPT: &str = "proptest-regressions/commands/apply_random_tests.txt";

/// Names the file of seeds, so that the tests find the file from any directory.
fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::with_cases(cases);
    let kept = default
        .failure_persistence
        .as_ref()
        .map(|_| Box::new(FileFailurePersistence::Direct(KEPT)) as _);
    ProptestConfig { failure_persistence: kept, ..default }
}

#[test]
fn the_seeds_that_found_something_are_read() {
    let kept = config(1).failure_persistence.expect("they are kept");
    assert!(kept.load_persisted_failures2(Some(file!())).len() >= 2);
}

/// Gives submitted events unique ids in ascending order.
fn with_ids(commands: Vec<Command>) -> Vec<Command> {
    let mut next = 0;
    let number = |mut command| {
        if let Command::SubmitEvent(submit) = &mut command {
            next += 1;
            submit.id = EventId(next);
        }
        command
    };
    commands.into_iter().map(number).collect()
}

/// Stops the other thread when this thread panics; otherwise the scope would wait for ever.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

proptest! {
    // Shrinking is of no use: the same commands rarely repeat a race.
    #![proptest_config(ProptestConfig { max_shrink_iters: 0, ..config(24) })]

    #[test]
    fn the_same_commands_give_the_same_rows_while_another_thread_writes_back_without_a_pause(
        commands in proptest::collection::vec(any_command(), 200..600)
    ) {
        // Arms failpoints for the negative control below.
        crate::base::failpoint::arm(&crate::config::failpoints_from_environment().unwrap_or_default()).unwrap();
        let commands = with_ids(commands);
        let (mut often, mut never) = (Fixture::new(), Fixture::new());
        often.apply(&create_org(InboxMode::Auto, 100));
        never.apply(&create_org(InboxMode::Auto, 100));
        let stop = AtomicBool::new(false);
        let (store, mut position) = (&often.store, often.position);
        std::thread::scope(|scope| {
            let ends = Ends(&stop);
            scope.spawn(|| while !stop.load(Ordering::SeqCst) {
                store.write_back().unwrap();
            });
            let applied: Vec<_> = commands.iter().map(|command| {
                let mut results = Results::default();
                let applied = crate::commands::apply(store, std::iter::once((position, command)),
                position.plus(100), &mut results);
                position = position.plus(100);
                applied.map(|()| results.outcomes)
            }).collect();
            drop(ends);
            for (applied, command) in applied.into_iter().zip(&commands) {
                assert_eq!(applied.unwrap(), [never.became(command)]);
            }
        });
        prop_assert_eq!(often.store.dump().unwrap(), never.store.dump().unwrap());
        often.reopen();
        prop_assert_eq!(often.store.dump().unwrap(), never.store.dump().unwrap(), "also from sled \
            alone");
    }
}

/// Runs in a process of its own, because an armed failpoint stays armed.
#[test]
#[cfg(debug_assertions)]
fn a_write_back_that_forgets_what_changed_meanwhile_is_noticed() {
    let race =
        "the_same_commands_give_the_same_rows_while_another_thread_writes_back_without_a_pause";
    let path = module_path!().split_once("::").unwrap().1;
    let ran = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{path}::{race}")])
        .env("TRIGGERD_FAILPOINTS", "forget_fresh_rows")
        // The failure is caused on purpose, so its seed must not be kept.
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    // The rows differ, or a row promised by another is missing.
    let is_noticed = said.contains("left == right") || said.contains("StateError");
    assert!(is_noticed && said.contains("0 passed; 1 failed"), "{said}");
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn the_same_commands_give_the_same_rows_whenever_they_are_written_back(
        commands in proptest::collection::vec((any_command(), any::<bool>()), 1..120)
    ) {
        let (commands, write_backs): (Vec<_>, Vec<_>) = commands.into_iter().unzip();
        let commands = with_ids(commands);
        let (mut often, mut never) = (Fixture::new(), Fixture::new());
        often.apply(&create_org(InboxMode::Auto, 100));
        never.apply(&create_org(InboxMode::Auto, 100));
        for (command, write_back) in commands.iter().zip(&write_backs) {
            let (a, b) = (often.apply(command), never.apply(command));
            prop_assert_eq!(a, b);
            if *write_back {
                often.store.write_back().unwrap();
            }
        }
        prop_assert_eq!(often.store.dump().unwrap(), never.store.dump().unwrap());
        prop_assert_eq!(often.store.contradictions(5).unwrap(), Vec::<String>::new());
        never.store.write_back().unwrap();
        prop_assert_eq!(often.store.dump().unwrap(), never.store.dump().unwrap());
    }

    #[test]
    fn a_snapshot_has_the_rows_of_its_moment_whatever_changes_meanwhile(
        before in proptest::collection::vec(any_command(), 20..120),
        after in proptest::collection::vec((any_command(), 0u8..4), 20..120),
        (in_memory, in_sled, copies) in any::<(bool, prop::sample::Index, bool)>(),
    ) {
        let (after, steps): (Vec<_>, Vec<_>) = after.into_iter().unzip();
        let count = before.len();
        let commands = with_ids(before.into_iter().chain(after).collect());
        let (mut state, mut expected) = (Fixture::new(), Fixture::new());
        for fixture in [&mut state, &mut expected] {
            fixture.apply(&create_org(InboxMode::Auto, 100));
            for (number, command) in commands[..count].iter().enumerate() {
                if number == in_sled.index(count) {
                    fixture.store.write_back().unwrap();
                }
                drop(fixture.apply(command));
            }
        }
        let fresh = if copies { FreshHandling::Copy } else { FreshHandling::WriteBack };
        let (mut walk, mut rows) = (state.store.begin_snapshot(1 << 20, fresh).unwrap(), vec![]);
        let mut position = state.position;
        for (command, step) in commands[count..].iter().zip(steps) {
            let (results, next) = (&mut Results::default(), position.plus(100));
            crate::commands::apply(&state.store, std::iter::once((position, command)), next,
            results).unwrap();
            position = next;
            match step {
                0 => drop(state.store.write_back().unwrap()),
                1 => if let Walked::Rows(next) = walk.next_rows().unwrap() {
                    rows.extend(next);
                },
                _ => {}
            }
        }
        while let Walked::Rows(next) = walk.next_rows().unwrap() {
            rows.extend(next);
        }
        let mut loaded = Fixture::new();
        let mut load = loaded.store.begin_load(in_memory).unwrap();
        for (key, value) in &rows {
            load.add(key, value).unwrap();
        }
        load.finish(walk.position()).unwrap();
        prop_assert_eq!(loaded.store.dump().unwrap(), expected.store.dump().unwrap());
        // From there on, the same commands give the same state.
        drop(walk);
        loaded.position = expected.position;
        commands[count..].iter().for_each(|command| drop(loaded.apply(command)));
        prop_assert_eq!(loaded.store.dump().unwrap(), state.store.dump().unwrap());
    }

    /// Like a salvaged journal: commands refer to things whose creation was lost.
    #[test]
    fn commands_whose_prerequisites_were_lost_are_outcomes_and_contradict_nothing(
        commands in proptest::collection::vec((any_command(), any::<bool>()), 1..120),
        org_lost: bool
    ) {
        let mut state = Fixture::new();
        if !org_lost {
            state.apply(&create_org(InboxMode::Auto, 100));
        }
        let mut next = 0;
        for (mut command, lost) in commands {
            if let Command::SubmitEvent(submit) = &mut command {
                next += 1;
                submit.id = EventId(next);
            }
            if !lost {
                state.apply(&command);
            }
        }
        prop_assert_eq!(state.store.contradictions(5).unwrap(), Vec::<String>::new());
    }
}

/// Returns the resident memory of this process, in KiB.
fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Without clearing, memory grows to 1.2 GiB.
#[test]
fn what_sled_replaced_does_not_pile_up_in_memory() {
    // Other tests run in this process at the same time.
    const MEMORY_KIB_MAX: u64 = 900 << 10;
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    let endpoints: Vec<u128> = (50..100).collect();
    for endpoint in &endpoints {
        state.apply(&put_endpoint(*endpoint));
    }
    let before = memory_kib();
    for event in 1_000..5_000 {
        state.apply(&submit(event, 1, None));
        state.apply(&route(event, &endpoints, LATER));
        if state.store.fresh_rows() >= 16_384 {
            state.store.write_back().unwrap();
        }
    }
    let grown = memory_kib().saturating_sub(before);
    assert!(grown < MEMORY_KIB_MAX, "{grown} KiB for 400,000 rows");
}
