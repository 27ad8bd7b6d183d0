//! The thread that advances replays, step by step. Each step is stored before the next is computed,
//! and the state holds the whole progress, so a replay continues after a crash. Without a replay
//! the thread sleeps, and polls every few seconds in case a wakeup was lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::base::failpoint::{self, Switch};
use crate::base::threads::Signal;
use crate::commands::{Command, EndReplay, command_of_turn};
use crate::commit::Engine;
use crate::model::id::{EndpointId, OrgNo, ReplayId};
use crate::model::replay::ReplayWait;
use crate::model::time::Timestamp;
use crate::store::{ReplayTurn, StateError};

/// Maximum number of steps in one batch of commands.
const STEPS_AT_ONCE: usize = 32;
/// The pause before busy endpoints are looked at again. The pause grows by the same amount for
/// every [`MANY`] running replays.
const WHILE_BUSY: Duration = Duration::from_millis(20);
/// Number of running replays after which the pause becomes longer.
const MANY: usize = 32;
/// How often the thread looks for a replay when no wakeup comes.
const NAP: Duration = Duration::from_secs(5);
/// The longest pause while replays run, and the pause after a failure.
const AT_LAST: Duration = Duration::from_secs(1);

/// Advances the running replays of all organizations.
pub struct Replayer {
    /// The shared parts of the server.
    pub engine: Arc<Engine>,
    /// Set when a replay begins or can continue.
    pub wake: Signal,
}

impl Replayer {
    /// Works until the engine stops. The caller also sets `wake`, so that the thread does not sleep
    /// on.
    pub fn run(self) {
        let mut rounds = 0usize;
        while !self.engine.stop.is_set() {
            let pause = self.round(rounds).unwrap_or_else(|error| {
                tracing::error!(%error, "replays failed; they are retried");
                AT_LAST
            });
            rounds = rounds.wrapping_add(1);
            if !pause.is_zero() {
                self.wake.wait(pause);
            }
        }
    }

    /// Takes a step of each replay that can continue; returns the wait before the next round.
    fn round(&self, rounds: usize) -> Result<Duration, StateError> {
        let mut running = self.engine.store.running_replays();
        self.engine.metrics.replays_running.set(i64::try_from(running.len()).unwrap_or(i64::MAX));
        if running.is_empty() {
            return Ok(if failpoint::is_on(Switch::ScanOff) { Duration::MAX } else { NAP });
        }
        if self.engine.intake.is_disk_low() {
            // Steps of a replay are large; the remaining space is for acknowledgements.
            return Ok(AT_LAST);
        }
        // Each round begins with another replay, so that no replay always comes last.
        let first = rounds % running.len();
        running.rotate_left(first);
        self.advance(running)
    }

    /// Takes a step of each of these replays that can continue; returns the wait before the next
    /// round. An endpoint gets at most one step in a batch, because the room for the next step is
    /// known only when this step is stored.
    fn advance(&self, running: Vec<(OrgNo, ReplayId)>) -> Result<Duration, StateError> {
        let while_busy =
            WHILE_BUSY.saturating_mul(u32::try_from(1 + running.len() / MANY).unwrap_or(u32::MAX));
        let (mut steps, mut any, mut pause) = (Vec::new(), false, AT_LAST);
        let mut taken = BTreeSet::new();
        for replay in running {
            if self.engine.stop.is_set() {
                return Ok(Duration::ZERO);
            }
            let steady = Timestamp(self.engine.clock.steady_ms());
            match self.engine.store.replay_turn(replay, steady, &taken)? {
                turn @ (ReplayTurn::Step(_) | ReplayTurn::End(_)) => {
                    let command = self.command_of(replay, turn, steady);
                    taken.extend(command.as_ref().and_then(added_to));
                    steps.extend(command.map(armed_failpoints));
                }
                ReplayTurn::Wait(ReplayWait::EndpointDisabled | ReplayWait::DiskFull)
                | ReplayTurn::Over => {}
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

    /// Returns the command for a turn of a replay. Deliveries are due by the steady time; users see
    /// the end of a replay as a wall time.
    fn command_of(
        &self,
        replay: (OrgNo, ReplayId),
        turn: ReplayTurn,
        steady: Timestamp,
    ) -> Option<Command> {
        let is_end = matches!(turn, ReplayTurn::End(_));
        let at = if is_end { Timestamp(self.engine.clock.now_ms()) } else { steady };
        command_of_turn(replay, turn, at)
    }

    /// Returns true if the steps were stored; otherwise the next round computes them again.
    fn store_steps(&self, steps: Vec<Command>) -> bool {
        let count = steps.len();
        let ends: Vec<EndReplay> = steps.iter().filter_map(end_of).collect();
        let stored = self.engine.intake.push_and_wait(steps);
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
        let queued =
            self.engine.store.replay(*org, *replay, *at).ok().flatten().map(|replay| replay.queued);
        let organization = self.engine.store.org_id(*org).ok().flatten().map(|id| id.to_string());
        tracing::info!(organization, %replay, why = end.name(), queued, "a replay ended");
    }
}

/// The endpoint to which a step adds deliveries, if any.
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

/// Returns the command, without the last event of a step if the failpoint is on: a test must notice
/// the lost delivery.
fn armed_failpoints(mut command: Command) -> Command {
    if let Command::StepReplay(step) = &mut command
        && failpoint::is_on(Switch::ReplaySkips)
    {
        step.events.pop();
    }
    command
}
