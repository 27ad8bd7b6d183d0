//! The thread that takes replays further, step by step, each stored before the next is looked for. It knows nothing that
//! the state does not: what a crash interrupts goes on after the next start. Without a replay it sleeps.

use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::Clock;
use crate::base::sabotage::{self, Switch};
use crate::base::threads::{Signal, Stop};
use crate::commit::Intake;
use crate::model::command::Command;
use crate::model::replay::ReplayWait;
use crate::model::time::Timestamp;
use crate::store::{ReplayTurn, StateError, Store};

/// Steps that are stored together.
const STEPS_AT_ONCE: usize = 32;
/// When it is looked again whether an endpoint that was busy is so no more,
const WHILE_BUSY: Duration = Duration::from_millis(20);
/// and when after something went wrong, or was missed.
const AT_LAST: Duration = Duration::from_secs(1);

/// What takes replays further.
pub struct Replayer {
    /// The state.
    pub store: Arc<Store>,
    /// Where commands go.
    pub intake: Intake,
    /// The time.
    pub clock: Clock,
    /// Given when there is something to do.
    pub wake: Signal,
}

impl Replayer {
    /// Works until it is asked to stop. Whoever asks gives the signal too.
    pub fn run(self, stop: &Stop) {
        while !stop.is_set() {
            let pause = self.round(stop).unwrap_or_else(|error| {
                tracing::error!(%error, "replays do not go on");
                AT_LAST
            });
            if !pause.is_zero() {
                self.wake.wait(pause);
            }
        }
    }

    /// A step of each replay that can go on; how long to wait for the next round.
    fn round(&self, stop: &Stop) -> Result<Duration, StateError> {
        let running = self.store.running_replays();
        if running.is_empty() {
            return Ok(Duration::MAX);
        }
        let (mut steps, mut any, mut pause) = (Vec::new(), false, AT_LAST);
        for replay in running {
            if stop.is_set() {
                return Ok(Duration::ZERO);
            }
            match self.store.replay_turn(replay, Timestamp(self.clock.now_ms()))? {
                ReplayTurn::Do(command) => steps.push(sabotaged(*command)),
                ReplayTurn::Wait(ReplayWait::EndpointDisabled) | ReplayTurn::Over => {}
                ReplayTurn::Wait(ReplayWait::EndpointBusy | ReplayWait::Routing) => pause = WHILE_BUSY,
            }
            if steps.len() == STEPS_AT_ONCE {
                any = true;
                if !self.intake.push_and_wait(std::mem::take(&mut steps)) {
                    return Ok(AT_LAST);
                }
            }
        }
        any |= !steps.is_empty();
        let stored = self.intake.push_and_wait(steps);
        Ok(match (stored, any) {
            (true, true) => Duration::ZERO,
            (true, false) => pause,
            (false, _) => AT_LAST,
        })
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
