//! A worker of a fixed pool that routes events: event and endpoints in, a command out.
//!
//! An entry in the channel is only a hint. A repeated hint or a crash halfway does no harm, because
//! the state knows which events are routed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::commands::{Command, NoteRouteCrash, RouteEvent};
use crate::commit::Engine;
use crate::model::id::{EventId, OrgNo};
use crate::rules::fan_out::{self, FanOut};
use crate::store::{StateError, Unrouted};

/// Maximum number of events that are routed together.
const AT_ONCE: usize = 64;
/// Maximum weight of a batch of commands; a single event may exceed it.
const WEIGHT_MAX: usize = 2_048;
/// How long a worker sleeps before it checks the stop flag.
const NAP: Duration = Duration::from_secs(1);

/// Finds the endpoints of an event among those of its organization.
type Route = fn(&Engine, &Unrouted) -> Result<RouteEvent, StateError>;

/// A worker thread and its routing function.
pub struct Worker {
    engine: Arc<Engine>,
    /// Hints: ids of events to route.
    queue: Receiver<(OrgNo, EventId)>,
    route: Route,
}

impl Worker {
    /// A worker that routes by the type patterns of the endpoints.
    pub fn new(engine: Arc<Engine>, queue: Receiver<(OrgNo, EventId)>) -> Self {
        Self { engine, queue, route }
    }

    /// Works until the engine stops. The next start finds the events that remain.
    pub fn run(self) {
        // The position in the pass over events with lost hints; `None` without a pass. The pass
        // takes turns with the queue, because under load the queue is never empty and the pass
        // would wait for ever.
        let mut missed: Option<(OrgNo, EventId)> = None;
        while !self.engine.stop.is_set() {
            match self.queue.recv_timeout(if missed.is_some() { Duration::ZERO } else { NAP }) {
                Ok(first) => {
                    let more = self.queue.try_iter().take(AT_ONCE - 1);
                    let events: Vec<_> = std::iter::once(first).chain(more).collect();
                    self.route_all(&events);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if missed.is_none() && self.engine.hints.unrouted_missed.swap(false, Ordering::SeqCst) {
                missed = Some((OrgNo(0), EventId(0)));
            }
            missed = missed.and_then(|after| self.route_missed(after));
        }
    }

    /// Routes the next events with lost hints in the order of the state, and waits until their
    /// routes are stored. Returns the last of these events, or `None` at the end of the pass.
    fn route_missed(&self, after: (OrgNo, EventId)) -> Option<(OrgNo, EventId)> {
        let missed = match self.engine.store.unrouted_after(after, AT_ONCE) {
            Ok(missed) => missed,
            Err(error) => {
                tracing::error!(%error, "events that wait for routing cannot be listed; the \
                    sweeper starts another try");
                return None;
            }
        };
        let last = *missed.last()?;
        let commands = missed.iter().filter_map(|event| self.route_one(*event));
        self.engine.intake.push_and_wait(commands).then_some(last)
    }

    fn route_all(&self, events: &[(OrgNo, EventId)]) {
        let mut commands: Vec<Command> =
            events.iter().filter_map(|event| self.route_one(*event)).collect();
        // A large fan-out is stored in batches, so that it fills no queue and holds up no other
        // command for long.
        while commands.iter().map(Command::weight).sum::<usize>() > WEIGHT_MAX {
            let mut weight = 0;
            let count = commands.iter().take_while(|command| {
                weight += command.weight();
                weight <= WEIGHT_MAX
            });
            let count = count.count().max(1);
            if !self.engine.intake.push_and_wait(commands.drain(..count)) {
                break;
            }
        }
        if !self.engine.intake.push(commands) {
            tracing::warn!("the committer has stopped; events will be routed after a restart");
        }
    }

    /// The public id of an organization, for log lines.
    fn organization(&self, org: OrgNo) -> Option<String> {
        self.engine.store.org_id(org).ok().flatten().map(|id| id.to_string())
    }

    fn route_one(&self, (org, event): (OrgNo, EventId)) -> Option<Command> {
        let routed = catch_unwind(AssertUnwindSafe(|| {
            let unrouted = self.engine.store.unrouted(org, event)?;
            unrouted.map(|unrouted| (self.route)(&self.engine, &unrouted)).transpose()
        }));
        match routed {
            Ok(Ok(command)) => command.map(Command::RouteEvent),
            Ok(Err(error)) => {
                let organization = self.organization(org);
                tracing::error!(organization, %event, %error, "the event could not be routed; \
                    routing is retried");
                None
            }
            Err(_panic) => {
                let organization = self.organization(org);
                tracing::error!(organization, %event, "routing this event crashed; routing is \
                    given up after 3 crashes");
                Some(Command::NoteRouteCrash(NoteRouteCrash { org, event }))
            }
        }
    }
}

fn route(engine: &Engine, unrouted: &Unrouted) -> Result<RouteEvent, StateError> {
    let endpoints = engine.store.numbered_endpoints(unrouted.org)?;
    let endpoints = endpoints.iter().map(|known| (known.number, &known.endpoint));
    let FanOut { endpoints, reasons } = fan_out::judge(endpoints, &unrouted.event_type);
    // The producer gave a wall time, and due times are steady times.
    let later = unrouted.deliver_after.filter(|after| *after > unrouted.received_at);
    let due_at = later.map_or(unrouted.received_at, |after| after.plus_ms(engine.clock.ahead_ms()));
    Ok(RouteEvent { org: unrouted.org, event: unrouted.event, endpoints, due_at, reasons })
}
