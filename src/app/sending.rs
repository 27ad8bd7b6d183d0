//! The parts that push events: the runtime, the sender, the scheduler. [`super::App::start`] starts
//! them, and a reload replaces their settings.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;
use tokio::runtime::Runtime;

use super::StartError;
use crate::base::live::Live;
use crate::base::threads::{Thread, spawn_critical};
use crate::base::units::millis;
use crate::commit::{Engine, SchedulerHint};
use crate::config::Config;
use crate::delivery::attempts::{AttemptSettings, Attempter};
use crate::delivery::lookups::Lookups;
use crate::delivery::scheduler::{RAISED_TIMES, Scheduler, SchedulerLimits};
use crate::delivery::sender::{Sender, SenderConfig, SenderError};
use crate::rules::breaker::BreakerPolicy;
use crate::rules::egress::EgressRules;
use crate::rules::retry::RetryPolicy;

/// Maximum number of deliveries ready in memory, for all endpoints together. If one endpoint's own
/// limit is higher, the higher limit counts.
const QUEUED_MAX: usize = 65_536;

/// The runtime for requests to receivers.
fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sender")
        .enable_all()
        .build()
}

/// The sender of test events, for the threads of the API. Connections are not kept, because each
/// belongs to the thread that opened it.
pub(super) fn tester(config: &Config, lookups: &Arc<Lookups>) -> Result<Sender, SenderError> {
    sender(config, 0, lookups)
}

fn sender(
    config: &Config,
    idle_connections_per_host: usize,
    lookups: &Arc<Lookups>,
) -> Result<Sender, SenderError> {
    let lookups = Arc::clone(lookups);
    let settings = &config.delivery;
    let egress = Arc::new(EgressRules { allow: config.egress.allow_networks.clone() });
    let (connect_timeout, timeout) = (settings.connect_timeout, settings.timeout);
    let idle = idle_connections_per_host;
    Sender::new(SenderConfig::new(connect_timeout, timeout, idle, egress, lookups))
}

fn attempt_settings(
    config: &Config,
    lookups: &Arc<Lookups>,
) -> Result<AttemptSettings, SenderError> {
    let settings = &config.delivery;
    Ok(AttemptSettings {
        sender: sender(config, settings.max_in_flight_per_endpoint, lookups)?,
        policy: RetryPolicy {
            schedule_ms: settings.retry_schedule.iter().map(|wait| millis(*wait)).collect(),
            jitter_share: settings.jitter_share,
        },
        disable_after_ms: millis(settings.disable_after),
        failing_after_ms: millis(settings.failing_after),
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
            pause_ms: millis(settings.breaker_pause),
            pause_ms_max: millis(settings.breaker_pause_max),
        },
    }
}

/// The running parts that push events, and their settings, which a reload replaces.
pub(super) struct Sending {
    pub(super) runtime: Runtime,
    /// The lookups of deliveries and of tests of endpoints.
    pub(super) lookups: Arc<Lookups>,
    /// Absent if the server was started without deliveries.
    scheduler: Option<Thread>,
    attempts: Arc<Live<AttemptSettings>>,
    limits: Arc<Live<SchedulerLimits>>,
    in_flight_max: usize,
}

impl Sending {
    /// Starts the runtime, and the scheduler's thread if the server delivers.
    pub(super) fn start(
        engine: &Arc<Engine>,
        config: &Config,
        (hints, delivers): (Receiver<SchedulerHint>, bool),
    ) -> Result<Self, StartError> {
        let limits = limits(config);
        let lookups = Lookups::new(Arc::clone(&engine.metrics));
        let settings = attempt_settings(config, &lookups).map_err(StartError::Sender)?;
        let mut sending = Self {
            runtime: runtime().map_err(StartError::Threads)?,
            lookups,
            scheduler: None,
            attempts: Arc::new(Live::new(settings)),
            limits: Arc::new(Live::new(limits)),
            in_flight_max: limits.in_flight.saturating_mul(RAISED_TIMES),
        };
        if !delivers {
            return Ok(sending);
        }
        let attempts = Attempter {
            runtime: sending.runtime.handle().clone(),
            engine: Arc::clone(engine),
            settings: Arc::clone(&sending.attempts),
        };
        let scheduler = Scheduler::new(Arc::clone(engine), hints, limits, attempts)
            .with_live_limits(Arc::clone(&sending.limits));
        let (stop, drain) = (engine.stop.clone(), config.server.shutdown / 2);
        let thread = spawn_critical("scheduler", move || scheduler.run(&stop, drain));
        sending.scheduler = Some(thread.map_err(StartError::Threads)?);
        Ok(sending)
    }

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
        self.attempts.set(attempt_settings(config, &self.lookups)?);
        self.limits.set(limits(config));
        Ok(())
    }

    /// Waits for the scheduler, which waits for the attempts under way. Returns true if its thread
    /// ended in time.
    pub(super) fn join(&mut self, deadline: Instant) -> bool {
        self.scheduler.take().is_none_or(|thread| thread.join_until(deadline))
    }
}
