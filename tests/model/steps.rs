//! Random steps, and the comparisons after each.

use tempfile::TempDir;
use triggerd::base::clock::Clock;
use triggerd::commands::{Applied, Applying, Command, SubmitOutcome};
use triggerd::model::id::{EventId, IdSource, OrgNo};
use triggerd::model::time::{Now, Timestamp};
use triggerd::store::Store;

use crate::checks::{
    check_accounts, check_all, check_counts, check_dead_letters, check_due, check_event,
    check_inbox, check_org,
};
use crate::naive::Naive;
use crate::random::Random;
use crate::world::{Break, SEQUENCES_PER_WORLD, System};

mod commands;
mod deletion;
mod expiry;
mod replays;

/// The deduplication window of these tests in milliseconds.
const WINDOW_MS: u64 = 60_000;
pub(crate) const TYPES: [&str; 5] =
    ["order.created", "order.paid", "order.item.added", "order/item:sent", "user"];
const PATTERNS: [&str; 5] = ["order.*", "order.paid", "user", "order.item.*", "order/item:*"];

/// Runs one directory through its sequences. Returns the first fault.
pub(crate) fn run_world(seed: u64, broken: Break) -> Result<(), String> {
    let mut random = Random::new(seed);
    let clock = Clock::manual(1_800_000_000_000);
    let mut world = World {
        system: System::new(clock.clone(), broken),
        naive: Naive::default(),
        ids: IdSource::after(0),
        clock,
        random: Random::new(random.next()),
        touched: Vec::new(),
    };
    for number in 0..SEQUENCES_PER_WORLD {
        world.sequence().map_err(|fault| format!("sequence {number}: {fault}"))?;
    }
    world.end()
}

struct World {
    system: System,
    naive: Naive,
    ids: IdSource,
    clock: Clock,
    random: Random,
    /// Events of the last step.
    touched: Vec<EventId>,
}

impl World {
    /// Makes an organization and runs its steps.
    fn sequence(&mut self) -> Result<(), String> {
        let made = self.create_org();
        self.submit(&[vec![made]])?;
        let org = OrgNo(u32::try_from(self.naive.orgs.len() - 1).unwrap());
        let steps = match self.random.below(20) {
            0 => 80,
            1..7 => 16,
            _ => 6,
        };
        let copied = self.random.one_in(20).then(|| self.copy());
        for number in 0..steps {
            let step = self.random.below(100);
            self.step(org, step).map_err(|fault| format!("step {number} ({step}): {fault}"))?;
            self.check_org(org)?;
        }
        if self.random.one_in(4) {
            self.delete_org(org).map_err(|fault| format!("deletion: {fault}"))?;
        }
        copied.map_or(Ok(()), |copied| self.restore(copied))
    }

    /// Copies the directory, with the model as it is now.
    fn copy(&mut self) -> (TempDir, Naive) {
        (self.system.slow_copy(&mut self.random), self.naive.clone())
    }

    /// Goes on with the copy, as if nothing had happened since.
    fn restore(&mut self, (copy, naive): (TempDir, Naive)) -> Result<(), String> {
        self.system.restore(copy);
        self.naive = naive;
        self.check_all().map_err(|fault| format!("after the restore of a copy: {fault}"))
    }

    fn step(&mut self, org: OrgNo, step: u64) -> Result<(), String> {
        match step {
            0..24 => self.submit_one(org, Self::submit_event),
            24..32 => self.submit_race(org),
            32..43 => self.submit_one(org, Self::ack),
            43..55 => self.submit_one(org, Self::route),
            55..68 => self.submit_one(org, Self::settle),
            68..71 => self.submit_one(org, Self::repeat),
            71 => self.submit_one(org, Self::erase),
            72..78 => self.submit_one(org, Self::put_endpoint),
            78..80 => self.submit_one(org, Self::delete_endpoint),
            80..82 => self.submit_one(org, Self::cancel),
            82..84 => self.submit_one(org, Self::key_change),
            84 => self.submit_one(org, Self::org_change),
            85..88 => self.replay(org),
            88..90 => {
                self.pass_time();
                let due = vec![self.expire(), self.expire_audit(), self.end_overlaps()];
                self.submit(&[due])
            }
            90..92 => self.expire_events(org),
            92 => {
                self.system.write_back();
                Ok(())
            }
            93..95 => {
                let times = if self.random.one_in(4) { 6 } else { 1 };
                self.system.compact(times);
                Ok(())
            }
            95 if self.random.one_in(5) => self.pass_days(),
            95 => Ok(()),
            _ => self.accident(org),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }

    fn moment(&self) -> Now {
        Now::new(self.now(), Timestamp(self.clock.steady_ms()))
    }

    fn id(&mut self) -> u128 {
        self.ids.next(self.clock.now_ms(), self.random.bytes())
    }

    /// Moves the clock, mostly forwards.
    fn pass_time(&mut self) {
        let now = self.clock.now_ms();
        if self.random.one_in(5) {
            let back = now.saturating_sub(self.random.below(WINDOW_MS));
            self.clock.set_ms(back);
        } else {
            self.clock.set_ms(now + self.random.below(WINDOW_MS / 2));
        }
    }

    // ---- commands -------------------------------------------------------------------------------

    fn submit_one(
        &mut self,
        org: OrgNo,
        make: impl FnOnce(&mut Self, OrgNo) -> Option<Command>,
    ) -> Result<(), String> {
        let Some(command) = make(self, org) else { return Ok(()) };
        let command = if self.random.one_in(3) { self.by_somebody(org, command) } else { command };
        self.submit(&[vec![command]])
    }

    /// Submits for several callers at once, some with several events. A dedup id may come more than
    /// once.
    fn submit_race(&mut self, org: OrgNo) -> Result<(), String> {
        let callers = 1 + self.random.below(4);
        let submissions = (0..callers).map(|_| {
            let events = 1 + self.random.below(4);
            (0..events)
                .filter_map(|_| {
                    if self.random.one_in(6) { self.ack(org) } else { self.submit_event(org) }
                })
                .collect()
        });
        let mut submissions: Vec<Vec<Command>> = submissions.collect();
        submissions.retain(|commands| !commands.is_empty());
        self.submit(&submissions)
    }

    fn submit(&mut self, submissions: &[Vec<Command>]) -> Result<(), String> {
        let outcomes = self.system.submit(submissions.to_vec());
        for (command, outcome) in submissions.iter().flatten().zip(outcomes.iter().flatten()) {
            self.take_over(command, outcome)?;
        }
        let (asked, answered) =
            (submissions.iter().flatten().count(), outcomes.iter().flatten().count());
        if asked == answered {
            Ok(())
        } else {
            Err(format!("{asked} commands, {answered} outcomes"))
        }
    }

    fn take_over(&mut self, command: &Command, outcome: &Applying) -> Result<(), String> {
        self.naive.steady = self.moment().steady;
        let expected = self.naive.expected(command);
        if !expected.allows(outcome) {
            return Err(format!("outcome {outcome:?}, expected {expected:?} of {command:?}"));
        }
        let new: Vec<EventId> = match outcome {
            Ok(Applied::SubmitEvent(SubmitOutcome::Accepted { id, .. })) => vec![*id],
            Ok(Applied::SettleAttempt(settled)) => {
                settled.stored().iter().map(|stored| stored.id).collect()
            }
            _ => Vec::new(),
        };
        if !self.naive.last_event.iter().chain(&new).is_sorted_by(|before, id| before < id) {
            return Err(format!(
                "outcome {outcome:?} goes back behind {:?}",
                self.naive.last_event
            ));
        }
        self.naive.take_over(command, outcome);
        self.touched.extend(new);
        let command = command.action();
        self.touched.extend(match (command, outcome) {
            (Command::AckEvent(ack), _) => Some(ack.event),
            (Command::EraseEvent(erase), _) => Some(erase.event),
            (Command::RouteEvent(route), _) => Some(route.event),
            (Command::NoteRouteCrash(crash), _) => Some(crash.event),
            (Command::SettleAttempt(settle), _) => Some(settle.event),
            (Command::RetryDelivery(retry), _) => Some(retry.event),
            (Command::DropDead(drop), _) => Some(drop.event),
            _ => None,
        });
        if let Command::StepReplay(step) = command {
            self.touched.extend(&step.events);
        }
        Ok(())
    }

    // ---- replays --------------------------------------------------------------------------------

    // ---- accidents ------------------------------------------------------------------------------

    fn accident(&mut self, org: OrgNo) -> Result<(), String> {
        // Opening a directory costs more than all steps between two accidents, so most sequences
        // have none.
        let accident = self.random.below(40);
        match accident {
            0 => self.system.restart_after_kill(),
            1 => self.system.restart_in_good_order(),
            2 => self.system.restart_without_state(&mut self.random),
            3 | 4 => self.cut_power(org)?,
            5 => self.system.restart_after_failed_care(&mut self.random),
            6 => {
                let (naive, now) = (&self.naive, self.now());
                return self
                    .system
                    .with_copy(|store, records| check_all(naive, (store, records), now));
            }
            _ => return Ok(()),
        }
        self.check_all().map_err(|fault| format!("after accident {accident}: {fault}"))
    }

    /// Cuts the power. Of the unanswered commands, any number from the first on may be there.
    fn cut_power(&mut self, org: OrgNo) -> Result<(), String> {
        let count = self.random.below(4);
        let mut last = self.system.store().counts().map_err(|error| error.to_string())?.last_id;
        let mut unanswered = Vec::new();
        for _ in 0..count {
            let Some(Command::SubmitEvent(mut submit)) = self.submit_event(org) else { continue };
            submit.by = None;
            last = IdSource::after(last).next(self.clock.now_ms(), self.random.bytes());
            (submit.id, submit.received_at, submit.event.dedup) = (EventId(last), self.now(), None);
            unanswered.push(Command::SubmitEvent(submit));
        }
        self.system.restart_after_power_cut(&unanswered, &mut self.random);
        let mut before_is_there = true;
        for command in &unanswered {
            let Command::SubmitEvent(submit) = command else { continue };
            let found =
                self.system.store().event(org, submit.id).map_err(|error| error.to_string())?;
            if found.is_some() && !before_is_there {
                return Err(format!(
                    "after a power cut {} is there, and the one before it is not",
                    submit.id
                ));
            }
            before_is_there = found.is_some();
            if before_is_there {
                let accepted =
                    SubmitOutcome::Accepted { id: submit.id, received_at: submit.received_at };
                self.take_over(command, &Ok(Applied::SubmitEvent(accepted)))?;
            }
        }
        Ok(())
    }

    // ---- comparisons ----------------------------------------------------------------------------

    /// Compares the inbox, due deliveries, accounts and events of the last step; now and then
    /// everything.
    fn check_org(&mut self, org: OrgNo) -> Result<(), String> {
        let limit = 1 + usize::try_from(self.random.below(40)).unwrap();
        let touched = std::mem::take(&mut self.touched);
        let looks_at_dead_letters = self.random.one_in(3);
        let naive = self.naive.org(org).expect("it was made");
        let store = self.system.store();
        if self.random.one_in(20) {
            check_org(naive, org, store, (limit, self.now()))?;
            return check_counts(&self.naive, store);
        }
        check_inbox(naive, org, store, limit)?;
        check_due(naive, store, self.now())?;
        check_accounts(naive, org, store)?;
        self.naive.check_audit(Some(org), store, (limit, limit % 2 == 0))?;
        if looks_at_dead_letters {
            check_dead_letters(naive, org, store, limit)?;
        }
        for event in touched {
            check_event(naive, org, event, store)?;
        }
        Ok(())
    }

    fn check_all(&self) -> Result<(), String> {
        self.naive.check_audit(None, self.system.store(), (500, true))?;
        check_all(&self.naive, (self.system.store(), self.system.records()), self.now())
    }

    /// Checks that a rebuild gives the same rows, without contradictions between rows.
    fn end(&mut self) -> Result<(), String> {
        self.check_all()?;
        let text = |store: &Store| store.dump().map_err(|error| error.to_string());
        let before = text(self.system.store())?;
        self.system.restart_without_state(&mut self.random);
        let rebuilt = text(self.system.store())?;
        if let Some((was, is)) = before.lines().zip(rebuilt.lines()).find(|(was, is)| was != is) {
            return Err(format!("after a rebuild a row is {is}, it was {was}"));
        }
        let contradictions =
            self.system.store().contradictions(3).map_err(|error| error.to_string())?;
        if contradictions.is_empty() { Ok(()) } else { Err(contradictions.join("; ")) }
    }
}
