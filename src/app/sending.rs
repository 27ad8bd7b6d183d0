//! The parts that push events: the runtime, the sender, the scheduler. Called by [`super::App::start`].

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::{Shared, StartError};
use crate::base::random;
use crate::base::threads::{Thread, spawn_critical};
use crate::commit::SchedulerHint;
use crate::delivery::attempts::{Attempter, AttempterPorts};
use crate::delivery::scheduler::{Scheduler, SchedulerLimits, SchedulerPorts};
use crate::delivery::sender::{Sender, SenderConfig};
use crate::rules::breaker::BreakerPolicy;
use crate::rules::egress::EgressRules;
use crate::rules::retry::RetryPolicy;

/// Deliveries kept ready in memory, all endpoints together, unless one endpoint alone may have more.
const QUEUED_MAX: usize = 65_536;

/// What requests are sent on.
pub(super) fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("sender").enable_all().build()
}

/// Sends what tries an endpoint out, from the threads of the API: connections are not kept, because they belong to the
/// thread that made them.
pub(super) fn tester(shared: &Shared) -> Result<Sender, StartError> {
    sender(shared, 0)
}

fn sender(shared: &Shared, idle_connections_per_host: usize) -> Result<Sender, StartError> {
    let settings = &shared.config.delivery;
    let egress = Arc::new(EgressRules { allow: shared.config.egress.allow_networks.clone() });
    let config = SenderConfig {
        connect_timeout: settings.connect_timeout,
        timeout: settings.timeout,
        idle_connections_per_host,
        ..SenderConfig::new(egress)
    };
    Sender::new(config).map_err(StartError::Sender)
}

pub(super) fn start_scheduler(
    shared: &Shared,
    runtime: &Runtime,
    queue: crossbeam_channel::Receiver<SchedulerHint>,
) -> Result<Thread, StartError> {
    let settings = &shared.config.delivery;
    let limits = SchedulerLimits {
        in_flight: settings.max_in_flight,
        in_flight_per_org: settings.max_in_flight_per_org,
        in_flight_per_endpoint: settings.max_in_flight_per_endpoint,
        queue_per_endpoint: settings.queue_per_endpoint,
        queued: settings.queue_per_endpoint.max(QUEUED_MAX),
        breaker: BreakerPolicy {
            failures_in_a_row: settings.breaker_failures_in_a_row,
            window: settings.breaker_window,
            failure_share: settings.breaker_failure_share,
            pause_ms: milliseconds(settings.breaker_pause),
            pause_ms_max: milliseconds(settings.breaker_pause_max),
        },
    };
    let attempts = Attempter {
        runtime: runtime.handle().clone(),
        shared: Arc::new(AttempterPorts {
            journal: shared.journal.clone(),
            intake: shared.intake.clone(),
            sender: sender(shared, settings.max_in_flight_per_endpoint)?,
            vault: Arc::clone(&shared.vault),
            policy: RetryPolicy {
                schedule_ms: settings.retry_schedule.iter().map(|wait| milliseconds(*wait)).collect(),
                jitter_share: settings.jitter_share,
            },
            disable_after_ms: milliseconds(settings.disable_after),
            failing_after_ms: milliseconds(settings.failing_after),
            clock: shared.clock.clone(),
            metrics: Arc::clone(&shared.metrics),
        }),
    };
    let ports = SchedulerPorts {
        store: Arc::clone(&shared.store),
        intake: shared.intake.clone(),
        hints: Arc::clone(&shared.hints),
        queue,
        clock: shared.clock.clone(),
        jitter: random::unit,
        breakers: Arc::clone(&shared.breakers),
        metrics: Arc::clone(&shared.metrics),
    };
    let scheduler = Scheduler::new(ports, limits, attempts);
    let stop = shared.stop.clone();
    let drain = shared.config.server.shutdown / 2;
    spawn_critical("scheduler", move || scheduler.run(&stop, drain)).map_err(StartError::Threads)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
