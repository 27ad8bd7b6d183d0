//! The thread that takes replays further, step by step, each stored before the next is looked for. It knows nothing that
//! the state does not: what a crash interrupts goes on after the next start. Without a replay it sleeps,
//! and looks every few seconds whether there is one that nobody told it of.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::Clock;
use crate::base::metrics::Metrics;
use crate::base::sabotage::{self, Switch};
use crate::base::threads::{Signal, Stop};
use crate::commands::{Command, EndReplay, command_of_turn};
use crate::commit::Intake;
use crate::model::id::EndpointId;
use crate::model::replay::ReplayWait;
use crate::model::time::Timestamp;
use crate::store::{ReplayTurn, StateError, Store};

/// Steps that are stored together.
const STEPS_AT_ONCE: usize = 32;
/// When it is looked again whether an endpoint that was busy is so no more; later if there are many replays to look at,
const WHILE_BUSY: Duration = Duration::from_millis(20);
/// that is, more than so many,
const MANY: usize = 32;
/// and whether there is one at all, if nobody says so,
const NAP: Duration = Duration::from_secs(5);
/// and when at last, and after something went wrong.
const AT_LAST: Duration = Duration::from_secs(1);

/// What takes replays further.
pub struct Replayer {
    /// The state.
    pub store: Arc<Store>,
    /// Where commands go.
    pub intake: Intake,
    /// The time.
    pub clock: Clock,
    /// How many run.
    pub metrics: Arc<Metrics>,
    /// Given when there is something to do.
    pub wake: Signal,
}

impl Replayer {
    /// Works until it is asked to stop. Whoever asks gives the signal too.
    pub fn run(self, stop: &Stop) {
        let mut rounds = 0usize;
        while !stop.is_set() {
            let pause = self.round(stop, rounds).unwrap_or_else(|error| {
                tracing::error!(%error, "replays failed; they are retried");
                AT_LAST
            });
            rounds = rounds.wrapping_add(1);
            if !pause.is_zero() {
                self.wake.wait(pause);
            }
        }
    }

    /// A step of each replay that can go on; how long to wait for the next round. Each endpoint is added to by one step
    /// alone: what the next may add is known when that is stored.
    fn round(&self, stop: &Stop, rounds: usize) -> Result<Duration, StateError> {
        let mut running = self.store.running_replays();
        self.metrics.replays_running.set(i64::try_from(running.len()).unwrap_or(i64::MAX));
        if running.is_empty() {
            return Ok(if sabotage::is_on(Switch::ScanOff) { Duration::MAX } else { NAP });
        }
        if self.intake.is_disk_low() {
            // What a replay makes is as large as it likes; what is left is for acks.
            return Ok(AT_LAST);
        }
        // Another one is the first each time, so that none is always too late.
        let first = rounds % running.len();
        running.rotate_left(first);
        let while_busy = WHILE_BUSY.saturating_mul(u32::try_from(1 + running.len() / MANY).unwrap_or(u32::MAX));
        let (mut steps, mut any, mut pause) = (Vec::new(), false, AT_LAST);
        let mut taken = BTreeSet::new();
        for replay in running {
            if stop.is_set() {
                return Ok(Duration::ZERO);
            }
            let steady = Timestamp(self.clock.steady_ms());
            match self.store.replay_turn(replay, steady, &taken)? {
                turn @ (ReplayTurn::Step(_) | ReplayTurn::End(_)) => {
                    // Deliveries are due by the steady time; people see when it ended.
                    let is_end = matches!(turn, ReplayTurn::End(_));
                    let at = if is_end { Timestamp(self.clock.now_ms()) } else { steady };
                    let command = command_of_turn(replay, turn, at);
                    taken.extend(command.as_ref().and_then(added_to));
                    steps.extend(command.map(sabotaged));
                }
                ReplayTurn::Wait(ReplayWait::EndpointDisabled | ReplayWait::DiskFull) | ReplayTurn::Over => {}
                ReplayTurn::Wait(ReplayWait::EndpointBusy | ReplayWait::Routing) => {
                    pause = while_busy.min(AT_LAST);
                }
            }
            if steps.len() == STEPS_AT_ONCE {
                any = true;
                if !self.store_steps(std::mem::take(&mut steps)) {
                    return Ok(AT_LAST);
                }
                taken.clear();
            }
        }
        any |= !steps.is_empty();
        Ok(match (self.store_steps(steps), any) {
            (true, true) => Duration::ZERO,
            (true, false) => pause,
            (false, _) => AT_LAST,
        })
    }

    /// Says whether they were stored; if not, what they found is looked for again.
    fn store_steps(&self, steps: Vec<Command>) -> bool {
        let count = steps.len();
        let ends: Vec<EndReplay> = steps.iter().filter_map(end_of).collect();
        let stored = self.intake.push_and_wait(steps);
        if stored {
            for end in &ends {
                self.tell_end(end);
            }
        } else {
            tracing::warn!(steps = count, "steps of replays could not be stored; they are retried");
        }
        stored
    }

    fn tell_end(&self, EndReplay { org, replay, end, at }: &EndReplay) {
        let queued = self.store.replay(*org, *replay, *at).ok().flatten().map(|replay| replay.queued);
        let organization = self.store.org_id(*org).ok().flatten().map(|id| id.to_string());
        tracing::info!(organization, %replay, why = end.name(), queued, "a replay ended");
    }
}

/// The endpoint that a step has something delivered to.
fn added_to(command: &Command) -> Option<EndpointId> {
    match command {
        Command::StepReplay(step) if !step.events.is_empty() => Some(step.endpoint),
        _ => None,
    }
}

fn end_of(command: &Command) -> Option<EndReplay> {
    match command {
        Command::EndReplay(end) => Some(end.clone()),
        _ => None,
    }
}

/// The step as it is, unless a test must see that deliveries get lost.
fn sabotaged(mut command: Command) -> Command {
    if let Command::StepReplay(step) = &mut command
        && sabotage::is_on(Switch::ReplaySkips)
    {
        step.events.pop();
    }
    command
}
