//! One of a fixed pool of threads that route events: event and endpoints in, a command out.
//!
//! What waits in the channel is a hint. A worker that is told twice, or crashes half way, does no harm: the state knows
//! which events are routed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::base::clock::Clock;
use crate::base::threads::Stop;
use crate::commands::{Command, NoteRouteCrash, RouteEvent};
use crate::commit::{Hints, Intake};
use crate::model::id::{EventId, OrgNo};
use crate::rules::fan_out;
use crate::store::{StateError, Store, Unrouted};

/// Events routed in one go.
const AT_ONCE: usize = 64;
/// Deliveries that are made in one go, if one event has not more.
const WEIGHT_MAX: usize = 2_048;
/// How long a worker sleeps before it looks whether it should stop.
const NAP: Duration = Duration::from_secs(1);

/// What a worker works with.
#[derive(Clone, Debug)]
pub struct WorkerPorts {
    /// The state.
    pub store: Arc<Store>,
    /// Where commands go.
    pub intake: Intake,
    /// Whether hints were missed.
    pub hints: Arc<Hints>,
    /// The time.
    pub clock: Clock,
    /// The hints.
    pub queue: Receiver<(OrgNo, EventId)>,
}

/// Finds out where an event goes: the endpoints of its organization that want it.
type Route = fn(&WorkerPorts, &Unrouted) -> Result<RouteEvent, StateError>;

/// A worker.
#[derive(Debug)]
pub struct Worker {
    ports: WorkerPorts,
    route: Route,
}

impl Worker {
    /// A worker that routes by the endpoints' type patterns.
    pub fn new(ports: WorkerPorts) -> Self {
        Self { ports, route }
    }

    /// Works until it is asked to stop. What is left then is found again at the next start.
    pub fn run(self, stop: &Stop) {
        // How far this worker is with the events whose hints were lost, if it looks for them. They take turns with the
        // queue: under a load that leaves it never empty they would wait for ever.
        let mut missed: Option<(OrgNo, EventId)> = None;
        while !stop.is_set() {
            match self.ports.queue.recv_timeout(if missed.is_some() { Duration::ZERO } else { NAP }) {
                Ok(first) => {
                    let more = self.ports.queue.try_iter().take(AT_ONCE - 1);
                    let events: Vec<_> = std::iter::once(first).chain(more).collect();
                    self.route_all(&events);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if missed.is_none() && self.ports.hints.unrouted_missed.swap(false, Ordering::SeqCst) {
                missed = Some((OrgNo(0), EventId(0)));
            }
            missed = missed.and_then(|after| self.route_missed(after));
        }
    }

    /// The next events whose hints were lost, in the order of the state, stored before more are listed. Gives the last of
    /// them; none: that were all.
    fn route_missed(&self, after: (OrgNo, EventId)) -> Option<(OrgNo, EventId)> {
        let missed = match self.ports.store.unrouted_after(after, AT_ONCE) {
            Ok(missed) => missed,
            Err(error) => {
                tracing::error!(%error, "events that wait for routing cannot be listed; the sweeper starts another try");
                return None;
            }
        };
        let last = *missed.last()?;
        let commands = missed.iter().filter_map(|event| self.route_one(*event));
        self.ports.intake.push_and_wait(commands).then_some(last)
    }

    fn route_all(&self, events: &[(OrgNo, EventId)]) {
        let mut commands: Vec<Command> = events.iter().filter_map(|event| self.route_one(*event)).collect();
        // What goes to many endpoints is stored bit by bit, so that no queue is full of it and nobody waits for all of it.
        while commands.iter().map(Command::weight).sum::<usize>() > WEIGHT_MAX {
            let mut weight = 0;
            let count = commands.iter().take_while(|command| {
                weight += command.weight();
                weight <= WEIGHT_MAX
            });
            let count = count.count().max(1);
            if !self.ports.intake.push_and_wait(commands.drain(..count)) {
                break;
            }
        }
        if !self.ports.intake.push(commands) {
            tracing::warn!("the committer has stopped; events will be routed after a restart");
        }
    }

    fn route_one(&self, (org, event): (OrgNo, EventId)) -> Option<Command> {
        let routed = catch_unwind(AssertUnwindSafe(|| {
            let unrouted = self.ports.store.unrouted(org, event)?;
            unrouted.map(|unrouted| (self.route)(&self.ports, &unrouted)).transpose()
        }));
        match routed {
            Ok(Ok(command)) => command.map(Command::RouteEvent),
            Ok(Err(error)) => {
                tracing::error!(%event, %error, "the event could not be routed; routing is retried");
                None
            }
            Err(_panic) => {
                tracing::error!(%event, "routing this event crashed; routing is given up after 3 crashes");
                Some(Command::NoteRouteCrash(NoteRouteCrash { org, event }))
            }
        }
    }
}

fn route(ports: &WorkerPorts, unrouted: &Unrouted) -> Result<RouteEvent, StateError> {
    let endpoints = ports.store.endpoints_of(unrouted.org)?;
    // What its producer asked for is a time of the wall clock, and what is due is so by the steady time.
    let later = unrouted.deliver_after.filter(|after| *after > unrouted.received_at);
    let due_at = later.map_or(unrouted.received_at, |after| after.plus_ms(ports.clock.ahead_ms()));
    Ok(RouteEvent {
        org: unrouted.org,
        event: unrouted.event,
        endpoints: fan_out::targets(&endpoints, &unrouted.event_type),
        due_at,
    })
}
