//! More than six days of hundreds of endpoints, or of thousands in a gate: schedules are kept,
//! jitter is spread, hopeless endpoints get few requests, and every delivery ends. Each rule is a
//! judge of the simulated requests. A control breaks one thing in a small simulation, and the judge
//! must notice.

use std::collections::BTreeMap;

use super::harness::LIMITS;
use super::simulation::{
    DAY, FLOOD_AT, HOUR, Hearing, Kind, MINUTE, Plan, Request, Rest, SECOND, START, Seen, TIMEOUT,
    grain, number, simulate,
};
use super::*;
use crate::model::endpoint::DisabledReason;
use crate::rules::retry::RetryPolicy;

/// Number of endpoints unless `TRIGGERD_SIMULATED_ENDPOINTS` sets another one.
const ENDPOINTS: u32 = 600;
/// Enough endpoints to show the broken thing.
const ENDPOINTS_OF_A_CONTROL: u32 = 200;
const SEED: u64 = 20_260_131;
/// The waits of the retry schedule.
const WAITS: [u64; 9] = [
    5 * SECOND,
    5 * MINUTE,
    30 * MINUTE,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    14 * HOUR,
    20 * HOUR,
    24 * HOUR,
];
const DISABLED_AFTER: u64 = 5 * DAY;
/// The longest pause of a breaker, with jitter.
const LONGEST_PAUSE: u64 = 360 * SECOND;

fn plan(endpoints: u32) -> Plan {
    Plan {
        endpoints,
        seed: SEED,
        policy: RetryPolicy { schedule_ms: WAITS.into(), jitter_share: 0.2 },
        limits: SchedulerLimits {
            in_flight: 1_024,
            in_flight_per_org: 64,
            in_flight_per_endpoint: 16,
            queue_per_endpoint: 20,
            queued: 2_000,
            ..LIMITS
        },
        disable_after_ms: DISABLED_AFTER,
        ends_at: 20 * DAY,
        restarts_at: vec![6 * MINUTE, 60 * HOUR],
        fast_by_ms: 0,
        deaf: false,
        stubborn: false,
        forgetful: false,
        hearing: Hearing::Good,
    }
}

/// A rule: its name, and a judge that returns the violations.
type Rule = (&'static str, fn(&Plan, &Seen) -> Vec<String>);

const RULES: [Rule; 9] = [
    ("nothing is early", nothing_is_early),
    ("the schedule is kept to", the_schedule_is_kept_to),
    ("jitter is spread", jitter_is_spread),
    ("Retry-After is kept to", retry_after_is_kept_to),
    ("410 is the last request", gone_is_the_last_request),
    ("the hopeless are left alone", the_hopeless_are_left_alone),
    ("five days of failure disable", five_days_of_failure_disable),
    ("everything comes to its end", everything_comes_to_its_end),
    ("bounds and restarts hold", bounds_and_restarts_hold),
];

/// Returns the names of the violated rules, and prints the violations.
fn broken_rules(plan: &Plan, seen: &Seen) -> Vec<&'static str> {
    let mut broken = Vec::new();
    for (name, judge) in RULES {
        let faults = judge(plan, seen);
        if !faults.is_empty() {
            println!(
                "{name}: {} faults, such as {:?}",
                faults.len(),
                &faults[..faults.len().min(3)]
            );
            broken.push(name);
        }
    }
    broken
}

/// All requests, with the kind of their endpoint.
fn requests(seen: &Seen) -> impl Iterator<Item = (Kind, EndpointId, &Request)> {
    seen.requests.iter().flat_map(|((endpoint, _), requests)| {
        requests.iter().map(move |request| (Kind::of(number(*endpoint)), *endpoint, request))
    })
}

/// Two successive requests of a delivery.
struct Pair {
    kind: Kind,
    endpoint: EndpointId,
    /// True for the endpoint's first delivery; during its short waits the endpoint has no other.
    is_alone: bool,
    /// The wait of the schedule, without jitter.
    wait: u64,
    /// The time between the requests.
    waited: u64,
    /// The `Retry-After` of the first answer.
    asked: u64,
    /// Delay of the second request after its due time.
    late: u64,
    second_at: u64,
}

/// All pairs whose first request has ended.
fn pairs(seen: &Seen) -> impl Iterator<Item = Pair> {
    let mut before = None;
    seen.requests.iter().flat_map(move |((endpoint, _), requests)| {
        let is_alone = before.replace(*endpoint) != Some(*endpoint);
        requests.windows(2).zip(WAITS).filter_map(move |(pair, wait)| {
            Some(Pair {
                kind: Kind::of(number(*endpoint)),
                endpoint: *endpoint,
                is_alone,
                wait,
                waited: pair[1].began_at.0 - pair[0].ended_at?.0,
                asked: pair[0].asked_ms,
                late: pair[1].began_at.0.saturating_sub(pair[1].due_at.0),
                second_at: pair[1].began_at.0 - START.0,
            })
        })
    })
}

fn nothing_is_early(_: &Plan, seen: &Seen) -> Vec<String> {
    let early = requests(seen).filter(|(.., request)| request.began_at < request.due_at);
    early.map(|(kind, endpoint, request)| format!("{kind:?} {endpoint:?}: {request:?}")).collect()
}

/// Each wait is within 20 % of the default schedule. A request is late only by the room that
/// hanging endpoints of the organization take; after five failures, also by a pause of the breaker.
fn the_schedule_is_kept_to(_: &Plan, seen: &Seen) -> Vec<String> {
    let mut faults = Vec::new();
    for pair in pairs(seen).filter(|pair| pair.kind != Kind::Hopeless) {
        let Pair { kind, endpoint, is_alone, wait, waited, asked, late, second_at } = pair;
        let slack = 2 * TIMEOUT + 2 * grain(second_at);
        let late_max = if is_alone && wait <= 2 * HOUR { slack } else { slack + LONGEST_PAUSE };
        let (least, most) = (wait * 4 / 5, (wait * 6 / 5).max(asked) + late_max);
        if waited < least || waited > most || late > late_max {
            faults
                .push(format!("{kind:?} {endpoint:?}: waited {waited} for {wait}, late by {late}"));
        }
    }
    let attempts_max = seen.requests.values().map(Vec::len).max();
    if attempts_max != Some(WAITS.len() + 1) {
        faults.push(format!("{attempts_max:?} attempts at most"));
    }
    // First attempts of healthy endpoints.
    for (kind, endpoint, first) in requests(seen).filter(|(kind, ..)| *kind == Kind::Accepts) {
        let late = first.began_at.0.saturating_sub(first.due_at.0);
        if late > 2 * TIMEOUT {
            faults.push(format!("{kind:?} {endpoint:?}: first attempt late by {late}"));
        }
    }
    faults
}

/// Long waits are spread evenly over their range; the steps of the clock are small beside them. A
/// chi-square of ten buckets (nine degrees of freedom) beyond 40 has a probability of one in
/// 100,000.
fn jitter_is_spread(_: &Plan, seen: &Seen) -> Vec<String> {
    const BUCKETS: u64 = 10;
    let mut buckets = [0_u32; 10];
    let long = pairs(seen)
        .filter(|pair| pair.wait >= 5 * HOUR && pair.kind != Kind::Hopeless && pair.late <= MINUTE);
    for pair in long {
        let least = pair.wait * 4 / 5;
        let place = pair.waited.saturating_sub(least) * BUCKETS / (pair.wait * 2 / 5);
        buckets[usize::try_from(place.min(BUCKETS - 1)).unwrap()] += 1;
    }
    let expected = f64::from(buckets.iter().sum::<u32>()) / 10.0;
    let chi_square: f64 =
        buckets.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
    println!("jitter of {expected} waits a bucket: {buckets:?}, chi-square {chi_square:.1}");
    let enough = expected >= 20.0 && chi_square <= 40.0;
    if enough { Vec::new() } else { vec![format!("{buckets:?}: {chi_square}")] }
}

/// `Retry-After` only lengthens a wait. Both cases must occur: one kind of endpoint asks for more
/// than the first waits, another for less.
fn retry_after_is_kept_to(_: &Plan, seen: &Seen) -> Vec<String> {
    let asking: Vec<_> = pairs(seen).filter(|pair| pair.asked > 0).collect();
    let short =
        asking.iter().filter(|pair| pair.waited < pair.asked || pair.waited < pair.wait * 4 / 5);
    let mut faults: Vec<_> =
        short.map(|pair| format!("{:?}: {} of {}", pair.kind, pair.waited, pair.asked)).collect();
    let lengthened = asking.iter().filter(|pair| pair.asked > pair.wait * 6 / 5).count();
    let not_shortened = asking.iter().filter(|pair| pair.asked < pair.wait * 4 / 5).count();
    if lengthened == 0 || not_shortened == 0 {
        faults.push("nobody asked".to_owned());
    }
    faults
}

fn gone_is_the_last_request(_: &Plan, seen: &Seen) -> Vec<String> {
    let mut counts: BTreeMap<EndpointId, u32> = BTreeMap::new();
    for (_, endpoint, _) in requests(seen).filter(|(kind, ..)| *kind == Kind::Gone) {
        *counts.entry(endpoint).or_default() += 1;
    }
    let mut faults = Vec::new();
    for (endpoint, rest) in seen.rest.iter().filter(|(id, _)| Kind::of(number(**id)) == Kind::Gone)
    {
        let (asked, why) = (counts.get(endpoint), rest.endpoint.disabled);
        if asked != Some(&1) || why != Some(DisabledReason::Gone) {
            faults.push(format!(
                "{endpoint:?} was asked {asked:?} times and is disabled for {why:?}"
            ));
        }
    }
    faults
}

/// The number of requests does not depend on the backlog. In the first hour: the requests in flight
/// when the breaker opens, and one for each pause. Later: one for each longest pause shortened by
/// 20 %, and those of finding the failure again after a restart.
fn the_hopeless_are_left_alone(plan: &Plan, seen: &Seen) -> Vec<String> {
    let found_out = u64::try_from(plan.limits.in_flight_per_endpoint).unwrap() + 5;
    let by_pauses = |ms: u64| ms / (240 * SECOND) + 8;
    let mut faults = Vec::new();
    let flooded: Vec<_> =
        seen.rest.keys().filter(|id| Kind::of(number(**id)) == Kind::Hopeless).collect();
    for endpoint in &flooded {
        let times = requests(seen)
            .filter(|(_, to, _)| to == *endpoint)
            .map(|(.., it)| it.began_at.0 - START.0);
        let times: Vec<u64> = times.collect();
        for (from, to) in [
            (FLOOD_AT, FLOOD_AT + HOUR),
            (0, DAY),
            (DAY, 2 * DAY),
            (2 * DAY, 3 * DAY),
            (3 * DAY, 4 * DAY),
        ] {
            let asked = times.iter().filter(|at| (from..to).contains(at)).count();
            if asked as u64 > by_pauses(to - from) + 2 * found_out {
                faults.push(format!("{endpoint:?} was asked {asked} times from {from} to {to}"));
            }
        }
    }
    if flooded.is_empty() {
        faults.push("there was none".to_owned());
    }
    faults
}

/// Failing endpoints are disabled after five days, not sooner; only requests in flight may follow.
fn five_days_of_failure_disable(_: &Plan, seen: &Seen) -> Vec<String> {
    let mut after: BTreeMap<EndpointId, u32> = BTreeMap::new();
    for (_, endpoint, request) in requests(seen) {
        *after.entry(endpoint).or_default() +=
            u32::from(request.began_at >= START.plus_ms(DISABLED_AFTER));
    }
    let mut faults = Vec::new();
    for (endpoint, Rest { endpoint: now, .. }) in &seen.rest {
        let kind = Kind::of(number(*endpoint));
        let expected = match kind {
            Kind::Gone => Some(DisabledReason::Gone),
            _ if kind.is_hopeless() => Some(DisabledReason::Failing),
            _ => None,
        };
        let asked_after = after.get(endpoint).copied().unwrap_or(0);
        let too_soon = expected == Some(DisabledReason::Failing)
            && now.updated_at < START.plus_ms(DISABLED_AFTER);
        if now.disabled != expected || too_soon || asked_after > 3 && expected.is_some() {
            faults.push(format!(
                "{kind:?} {endpoint:?}: {:?} at {}, {asked_after} requests after five days",
                now.disabled, now.updated_at
            ));
        }
    }
    faults
}

/// Every delivery is delivered, dead, or waits for a disabled endpoint.
fn everything_comes_to_its_end(_: &Plan, seen: &Seen) -> Vec<String> {
    let mut faults = Vec::new();
    if seen.ended_at < START.plus_ms(6 * DAY) {
        faults.push(format!("it ended at {}", seen.ended_at));
    }
    for (endpoint, Rest { endpoint: now, health }) in &seen.rest {
        let made = seen.deliveries.get(endpoint).copied().unwrap_or(0);
        let adds_up = health.accepted + health.dead + health.waiting == made && made > 0;
        let all_ended = health.waiting == 0 || now.disabled.is_some();
        let kind = Kind::of(number(*endpoint));
        let as_expected = match kind {
            Kind::Accepts | Kind::Recovers | Kind::AsksFor(_) | Kind::Busy => {
                health.accepted == made
            }
            Kind::Gone => (health.dead, health.waiting) == (1, made - 1),
            Kind::Fails | Kind::Hangs | Kind::Hopeless => {
                health.accepted == 0 && health.waiting > 0
            }
        };
        if !(adds_up && all_ended && as_expected) {
            faults.push(format!("{kind:?} {endpoint:?}: of {made} {health:?}"));
        }
    }
    faults
}

fn bounds_and_restarts_hold(plan: &Plan, seen: &Seen) -> Vec<String> {
    let Seen {
        queued_most,
        queued_for_endpoint_most,
        in_flight_most,
        in_flight_of_org_most,
        restarts,
        ..
    } = seen;
    // Beyond the limit each endpoint queue may hold one id.
    let queued_max = plan.limits.queued + usize::try_from(plan.endpoints).unwrap();
    let found = [*queued_most, *queued_for_endpoint_most, *in_flight_most, *in_flight_of_org_most];
    // The limits of the unbroken plan: a control may have others.
    let limits = self::plan(plan.endpoints).limits;
    let allowed =
        [queued_max, limits.queue_per_endpoint, limits.in_flight, limits.in_flight_per_org];
    let mut faults = Vec::new();
    if found.iter().zip(allowed).any(|(found, allowed)| *found > allowed) {
        faults.push(format!("{found:?} of {allowed:?}"));
    }
    if restarts.len() != 2
        || restarts.iter().any(|(_, same)| !same)
        || restarts.iter().all(|(cut, _)| *cut == 0)
    {
        faults.push(format!("restarts: cut off, and the same due times after it: {restarts:?}"));
    }
    faults
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a gate sets the size")]
fn endpoints_of_all_kinds_over_more_than_six_days() {
    let began = Instant::now();
    let size = std::env::var("TRIGGERD_SIMULATED_ENDPOINTS").ok();
    let endpoints = size.map_or(ENDPOINTS, |size| size.parse().unwrap());
    let plan = plan(endpoints);
    let seen = simulate(plan.clone());
    println!(
        "seed {SEED}: {endpoints} endpoints, {} requests for {} deliveries, {} steps of the clock \
         over {} h, restarts {:?}, {} ids queued at most, {:?}",
        requests(&seen).count(),
        seen.deliveries.values().sum::<u64>(),
        seen.steps,
        (seen.ended_at.0 - START.0) / HOUR,
        seen.restarts,
        seen.queued_most,
        began.elapsed()
    );
    assert_eq!(broken_rules(&plan, &seen), [] as [&str; 0]);
}

/// Simulates a broken plan and checks that the expected rule is violated.
fn breaks(change: impl FnOnce(&mut Plan), expected: &str) {
    let mut plan = plan(ENDPOINTS_OF_A_CONTROL);
    change(&mut plan);
    let broken = broken_rules(&plan, &simulate(plan.clone()));
    assert!(broken.contains(&expected), "{broken:?}");
}

#[test]
fn nothing_is_broken_in_what_the_controls_break() {
    let plan = plan(ENDPOINTS_OF_A_CONTROL);
    assert_eq!(broken_rules(&plan, &simulate(plan.clone())), [] as [&str; 0]);
}

#[test]
fn a_scheduler_that_is_ten_seconds_early_is_noticed() {
    breaks(|plan| plan.fast_by_ms = 10 * SECOND, "nothing is early");
}

#[test]
fn another_schedule_is_noticed() {
    breaks(|plan| plan.policy.schedule_ms[4] = HOUR, "the schedule is kept to");
}

#[test]
fn endpoints_that_are_starved_are_noticed() {
    breaks(|plan| plan.limits.in_flight_per_org = 1, "the schedule is kept to");
}

#[test]
fn waits_without_jitter_are_noticed() {
    breaks(|plan| plan.policy.jitter_share = 0.0, "jitter is spread");
}

#[test]
fn a_retry_after_that_nobody_hears_is_noticed() {
    breaks(|plan| plan.deaf = true, "Retry-After is kept to");
}

#[test]
fn a_410_that_ends_nothing_is_noticed() {
    breaks(|plan| plan.stubborn = true, "410 is the last request");
}

#[test]
fn a_breaker_that_never_opens_is_noticed() {
    let never = |plan: &mut Plan| {
        plan.limits.breaker.failures_in_a_row = u32::MAX;
        plan.limits.breaker.window = 0;
    };
    breaks(never, "the hopeless are left alone");
}

#[test]
fn endpoints_that_nothing_disables_are_noticed() {
    breaks(|plan| plan.disable_after_ms = 0, "five days of failure disable");
}

#[test]
fn what_is_left_undone_is_noticed() {
    breaks(|plan| plan.ends_at = 3 * DAY, "everything comes to its end");
}

#[test]
fn queues_without_a_bound_are_noticed() {
    breaks(|plan| plan.limits.queue_per_endpoint = 1_000, "bounds and restarts hold");
}

#[test]
fn a_restart_that_forgets_is_noticed() {
    breaks(|plan| plan.forgetful = true, "bounds and restarts hold");
}

/// The promise of the scan: a delivery begins within a minute of its due time if nothing holds it
/// back, whatever hints and reports are lost.
fn nothing_waits_for_more_than_a_minute(seen: &Seen) -> Vec<String> {
    let late_max = |kind: Kind, at: u64| {
        let pause = if kind == Kind::Accepts { 0 } else { LONGEST_PAUSE };
        MINUTE + 2 * TIMEOUT + 2 * grain(at) + pause
    };
    let mut faults = Vec::new();
    for (kind, endpoint, request) in
        requests(seen).filter(|(kind, ..)| !kind.is_hopeless() && *kind != Kind::Gone)
    {
        let late = request.began_at.0.saturating_sub(request.due_at.0);
        if late > late_max(kind, request.began_at.0 - START.0) {
            faults.push(format!("{kind:?} {endpoint:?}: late by {late}"));
        }
    }
    for (endpoint, due_at) in &seen.waiting {
        let (kind, late) = (Kind::of(number(*endpoint)), seen.ended_at.0.saturating_sub(due_at.0));
        if !kind.is_hopeless()
            && kind != Kind::Gone
            && late > late_max(kind, seen.ended_at.0 - START.0)
        {
            faults.push(format!("{kind:?} {endpoint:?}: still waits after {late}"));
        }
    }
    faults
}

/// Eight hours in which three of ten hints and reports are lost, and others arrive twice, late or
/// in another order.
fn unreliable_plan() -> Plan {
    Plan {
        hearing: Hearing::Bad,
        ends_at: 8 * HOUR,
        restarts_at: Vec::new(),
        ..plan(ENDPOINTS_OF_A_CONTROL)
    }
}

#[test]
fn whatever_becomes_of_hints_and_reports_nothing_waits_for_more_than_a_minute() {
    let seen = simulate(unreliable_plan());
    println!("{} requests, {} steps of the clock", requests(&seen).count(), seen.steps);
    let faults = nothing_waits_for_more_than_a_minute(&seen);
    assert!(
        faults.is_empty(),
        "{} faults, such as {:?}",
        faults.len(),
        &faults[..faults.len().min(3)]
    );
    assert!(seen.requests.len() > usize::try_from(ENDPOINTS_OF_A_CONTROL).unwrap());
}

#[test]
fn a_scan_that_is_off_is_noticed() {
    let faults = nothing_waits_for_more_than_a_minute(&simulate(Plan {
        hearing: Hearing::BadWithoutScan,
        ..unreliable_plan()
    }));
    assert!(faults.len() > 50, "{faults:?}");
}
