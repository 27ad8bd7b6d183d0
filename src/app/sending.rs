//! The parts that push events: the runtime, the sender, the scheduler. [`super::App::start`] starts
//! them, and a reload replaces their settings.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::{Shared, StartError};
use crate::base::live::Live;
use crate::base::random;
use crate::base::threads::{Thread, spawn_critical};
use crate::commands::Records;
use crate::commit::SchedulerHint;
use crate::config::Config;
use crate::delivery::attempts::{AttemptSettings, Attempter, AttempterPorts};
use crate::delivery::scheduler::{RAISED_TIMES, Scheduler, SchedulerLimits, SchedulerPorts};
use crate::delivery::sender::{Sender, SenderConfig, SenderError};
use crate::rules::breaker::BreakerPolicy;
use crate::rules::egress::EgressRules;
use crate::rules::retry::RetryPolicy;

/// Maximum number of deliveries ready in memory, for all endpoints together. If one endpoint's own
/// limit is higher, the higher limit counts.
const QUEUED_MAX: usize = 65_536;

/// The runtime for requests to receivers.
pub(super) fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sender")
        .enable_all()
        .build()
}

/// The sender of test events, for the threads of the API. Connections are not kept, because each
/// belongs to the thread that opened it.
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

/// Settings of deliveries, replaced by a reload.
pub(super) struct LiveSending {
    attempts: Arc<Live<AttemptSettings>>,
    limits: Arc<Live<SchedulerLimits>>,
    in_flight_max: usize,
}

impl LiveSending {
    /// Maximum number of attempts under way after any reload.
    pub(super) fn in_flight_max(&self) -> usize {
        self.in_flight_max
    }

    /// Replaces the settings for later attempts and turns. Kept connections are not used again,
    /// because their networks may no longer be allowed.
    ///
    /// # Errors
    /// If no sender can be made from this configuration. Then nothing has changed.
    pub(super) fn reload(&self, config: &Config) -> Result<(), SenderError> {
        self.attempts.set(attempt_settings(config)?);
        self.limits.set(limits(config));
        Ok(())
    }
}

/// Starts the scheduler's thread, if the server delivers.
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
        tracing::warn!(
            "nothing is delivered, because the server was started with --no-deliver; deliveries \
             wait"
        );
        return Ok((None, live));
    }
    let attempts = Attempter {
        runtime: runtime.handle().clone(),
        shared: Arc::new(AttempterPorts {
            records: Records::new(shared.journal.clone()),
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
    let scheduler =
        Scheduler::new(ports, limits, attempts).with_live_limits(Arc::clone(&live.limits));
    let stop = shared.stop.clone();
    let drain = shared.config.server.shutdown / 2;
    let thread = spawn_critical("scheduler", move || scheduler.run(&stop, drain))
        .map_err(StartError::Threads)?;
    Ok((Some(thread), live))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
