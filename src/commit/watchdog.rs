//! The watchdog checks that the committer and the flusher make progress. sled 0.34.7 can deadlock,
//! and a disk can hang: then a restart is better than a server that accepts requests and answers
//! none. A restart loses nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::base::exit_code::fatal;
use crate::base::failpoint::{self, Switch};
use crate::base::threads::{Signal, Stop};

/// Number of looks, one a second, without progress after which the process ends. Looks are counted
/// instead of time, because a suspended process did not hang.
const LOOKS_MAX: u32 = 10;

/// Progress of a watched thread.
#[derive(Debug, Default)]
pub struct Progress {
    busy: AtomicBool,
    steps: AtomicU64,
}

impl Progress {
    /// Notes the beginning or an advance of work.
    pub fn busy(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.busy.store(true, Ordering::SeqCst);
    }

    /// Notes the end of work.
    pub fn idle(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.busy.store(false, Ordering::SeqCst);
    }
}

/// Looks once a second until `stop` is set, and calls `alive` at each look that finds progress in
/// all threads. Ends the process when a thread makes none.
pub fn watch(threads: &[(&str, Arc<Progress>)], stop: &Stop, alive: impl Fn()) {
    let mut judges: Vec<Judge> = threads.iter().map(|_| Judge::default()).collect();
    let pause = Signal::new();
    while !stop.is_set() {
        let slept = Instant::now();
        pause.wait(Duration::from_secs(1));
        if failpoint::is_on(Switch::WatchdogByTime) && slept.elapsed() > Duration::from_secs(2) {
            fatal("the committer did not respond for 2 s");
        }
        let mut all_alive = true;
        for ((name, progress), judge) in threads.iter().zip(&mut judges) {
            match judge
                .look(progress.busy.load(Ordering::SeqCst), progress.steps.load(Ordering::Relaxed))
            {
                Judgement::Alive => {}
                Judgement::Waiting => all_alive = false,
                Judgement::Hangs => fatal(&format!("the {name} has made no progress for 10 s")),
            }
        }
        if all_alive {
            alive();
        }
    }
}

#[derive(Debug, Default)]
struct Judge {
    last_steps: u64,
    looks: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Alive,
    Waiting,
    Hangs,
}

impl Judge {
    fn look(&mut self, busy: bool, steps: u64) -> Judgement {
        if !busy || steps != self.last_steps {
            *self = Self { last_steps: steps, looks: 0 };
            return Judgement::Alive;
        }
        self.looks += 1;
        if self.looks >= LOOKS_MAX { Judgement::Hangs } else { Judgement::Waiting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_that_makes_no_step_for_ten_looks_hangs() {
        let mut judge = Judge::default();
        assert!((0..100).all(|_| judge.look(false, 7) == Judgement::Alive), "idle is not hanging");
        assert!(
            (0..100).all(|steps| judge.look(true, steps) == Judgement::Alive),
            "slow is not hanging"
        );
        let looks: Vec<_> = (0..10).map(|_| judge.look(true, 99)).collect();
        assert!(looks[..9].iter().all(|look| *look == Judgement::Waiting), "{looks:?}");
        assert_eq!(looks[9], Judgement::Hangs);
    }
}
