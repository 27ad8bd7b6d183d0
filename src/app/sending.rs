//! The parts that push events: the runtime, the sender, the scheduler. Called by [`super::App::start`], and by a reload,
//! which replaces what the configuration says of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::{Shared, StartError};
use crate::base::live::Live;
use crate::base::random;
use crate::base::threads::{Thread, spawn_critical};
use crate::commit::SchedulerHint;
use crate::config::Config;
use crate::delivery::attempts::{AttemptSettings, Attempter, AttempterPorts};
use crate::delivery::scheduler::{RAISED_TIMES, Scheduler, SchedulerLimits, SchedulerPorts};
use crate::delivery::sender::{Sender, SenderConfig, SenderError};
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
pub(super) fn tester(config: &Config) -> Result<Sender, SenderError> {
    sender(config, 0)
}

fn sender(config: &Config, idle_connections_per_host: usize) -> Result<Sender, SenderError> {
    let settings = &config.delivery;
    let egress = Arc::new(EgressRules { allow: config.egress.allow_networks.clone() });
    let config = SenderConfig {
        connect_timeout: settings.connect_timeout,
        timeout: settings.timeout,
        idle_connections_per_host,
        ..SenderConfig::new(egress)
    };
    Sender::new(config)
}

fn attempt_settings(config: &Config) -> Result<AttemptSettings, SenderError> {
    let settings = &config.delivery;
    Ok(AttemptSettings {
        sender: sender(config, settings.max_in_flight_per_endpoint)?,
        policy: RetryPolicy {
            schedule_ms: settings.retry_schedule.iter().map(|wait| milliseconds(*wait)).collect(),
            jitter_share: settings.jitter_share,
        },
        disable_after_ms: milliseconds(settings.disable_after),
        failing_after_ms: milliseconds(settings.failing_after),
    })
}

fn limits(config: &Config) -> SchedulerLimits {
    let settings = &config.delivery;
    SchedulerLimits {
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
    }
}

/// What a reload replaces.
pub(super) struct LiveSending {
    attempts: Arc<Live<AttemptSettings>>,
    limits: Arc<Live<SchedulerLimits>>,
    in_flight_max: usize,
}

impl LiveSending {
    /// The most attempts on their way that a reload can allow.
    pub(super) fn in_flight_max(&self) -> usize {
        self.in_flight_max
    }

    /// From now on as this configuration says: attempts that begin later, turns that are taken later. Connections that were
    /// kept are not used again, since they may lead to where nothing may go any more.
    ///
    /// # Errors
    /// When there is no sender for it. Then all is as it was.
    pub(super) fn reload(&self, config: &Config) -> Result<(), SenderError> {
        self.attempts.set(attempt_settings(config)?);
        self.limits.set(limits(config));
        Ok(())
    }
}

/// The thread is there only if deliveries are made.
pub(super) fn start_scheduler(
    shared: &Shared,
    runtime: &Runtime,
    (queue, delivers): (crossbeam_channel::Receiver<SchedulerHint>, bool),
) -> Result<(Option<Thread>, LiveSending), StartError> {
    let limits = limits(&shared.config);
    let settings = attempt_settings(&shared.config).map_err(StartError::Sender)?;
    let live = LiveSending {
        attempts: Arc::new(Live::new(settings)),
        limits: Arc::new(Live::new(limits)),
        in_flight_max: limits.in_flight.saturating_mul(RAISED_TIMES),
    };
    if !delivers {
        tracing::warn!("nothing is delivered, because the server was started with --no-deliver; deliveries wait");
        return Ok((None, live));
    }
    let attempts = Attempter {
        runtime: runtime.handle().clone(),
        shared: Arc::new(AttempterPorts {
            journal: shared.journal.clone(),
            intake: shared.intake.clone(),
            settings: Arc::clone(&live.attempts),
            vault: Arc::clone(&shared.vault),
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
    let scheduler = Scheduler::new(ports, limits, attempts).with_live_limits(Arc::clone(&live.limits));
    let stop = shared.stop.clone();
    let drain = shared.config.server.shutdown / 2;
    let thread = spawn_critical("scheduler", move || scheduler.run(&stop, drain)).map_err(StartError::Threads)?;
    Ok((Some(thread), live))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
