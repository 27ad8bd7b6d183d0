//! Random steps of replays.

use std::collections::BTreeSet;

use triggerd::commands::{
    Command, EndReplay, RouteEvent, StartReplay, StepReplay, command_of_turn,
};
use triggerd::model::id::{EndpointId, OrgNo, ReplayId};
use triggerd::model::replay::{ReplayCursor, ReplayEnd, ReplayOnly, ReplayRequest};
use triggerd::model::routing::RouteReasons;
use triggerd::model::time::Timestamp;
use triggerd::store::ReplayTurn;

use super::{PATTERNS, WINDOW_MS, World};
use crate::replays::{NaiveReplay, check_replays};

impl World {
    /// Starts, continues or ends a replay, or takes a wrong step.
    pub(super) fn replay(&mut self, org: OrgNo) -> Result<(), String> {
        let naive = self.naive.org(org).expect("it was made");
        let known: Vec<_> =
            naive.replays.iter().map(|(id, replay)| (*id, replay.ended.is_none())).collect();
        let running: Vec<_> = known.iter().filter(|(_, runs)| *runs).map(|(id, _)| *id).collect();
        match self.random.below(8) {
            0 if !known.is_empty() => {
                let (replay, _) = self.random.pick(&known).unwrap_or((ReplayId(1), false));
                let end = EndReplay { org, replay, end: ReplayEnd::Requested, at: self.now() };
                self.submit(&[vec![Command::EndReplay(end)]])
            }
            1 => self.submit_one(org, Self::wrong_step),
            2 | 3 if !running.is_empty() => {
                let turns = 1 + self.random.below(3);
                let replay = self.random.pick(&running).unwrap_or(ReplayId(1));
                self.go_on(org, replay, turns).map(|_| ())
            }
            _ => self.whole_replay(org),
        }
    }

    fn start_replay(&mut self, org: OrgNo) -> Option<StartReplay> {
        let only = self.random.pick(ReplayOnly::ALL)?;
        let endpoint =
            if self.random.one_in(3) { self.some_endpoint(org).map(|it| it.id) } else { None };
        let endpoint = if self.random.one_in(20) { Some(EndpointId(5)) } else { endpoint };
        let mut time = |now: Timestamp| {
            self.random.one_in(4).then(|| now.minus_ms(self.random.below(WINDOW_MS)))
        };
        let now = Timestamp(self.clock.now_ms());
        let (since, until) = (time(now), time(now));
        let pattern = self.random.pick(&PATTERNS)?.parse().unwrap();
        let event_types = if self.random.one_in(3) { vec![pattern] } else { Vec::new() };
        let request = ReplayRequest { endpoint, since, until, event_types, only };
        Some(StartReplay { org, replay: ReplayId(self.id()), request, at: self.now() })
    }

    /// Starts a replay and continues it as far as possible, through kills. If the replay finishes,
    /// no other command came in between, and its counts must be exact.
    fn whole_replay(&mut self, org: OrgNo) -> Result<(), String> {
        if self.random.one_in(2) {
            let events = self.naive.org(org).into_iter().flat_map(|org| &org.events);
            let unrouted = events.filter(|(_, event)| event.unrouted).map(|(event, _)| *event);
            let route = |event| {
                Command::RouteEvent(RouteEvent {
                    org,
                    event,
                    endpoints: vec![],
                    due_at: Timestamp(0),
                    reasons: RouteReasons::default(),
                })
            };
            let commands: Vec<_> = unrouted.map(route).collect();
            if !commands.is_empty() {
                self.submit(&[commands])?;
            }
        }
        let Some(start) = self.start_replay(org) else { return Ok(()) };
        let replay = start.replay;
        self.submit(&[vec![Command::StartReplay(start)]])?;
        let naive = self.naive.org(org).expect("it was made");
        let Some(begun) = naive.replays.get(&replay) else { return Ok(()) };
        let whole = naive.whole(begun);
        if self.random.one_in(2) || !self.go_on(org, replay, u64::MAX)? {
            return Ok(());
        }
        let naive = self.naive.org(org).expect("it was made");
        let counted = naive.replays.get(&replay).map(NaiveReplay::counted);
        let finished =
            naive.replays.get(&replay).and_then(|replay| replay.ended).map(|(end, _)| end);
        if finished == Some(ReplayEnd::Finished) && counted.as_ref() != Some(&whole) {
            return Err(format!("replays: {counted:?}, expected {whole:?}"));
        }
        Ok(())
    }

    /// Takes at most `turns` steps. Returns true if the replay is over.
    fn go_on(&mut self, org: OrgNo, replay: ReplayId, turns: u64) -> Result<bool, String> {
        for _ in 0..turns {
            let at = self.now();
            let turn = self
                .system
                .store()
                .replay_turn((org, replay), at, &BTreeSet::new())
                .map_err(|error| error.to_string())?;
            match turn {
                ReplayTurn::Over => return Ok(true),
                ReplayTurn::Wait(_) => return Ok(false),
                turn @ (ReplayTurn::Step(_) | ReplayTurn::End(_)) => {
                    if self.random.one_in(60) {
                        self.system.restart_after_kill();
                    }
                    let mut commands: Vec<_> =
                        command_of_turn((org, replay), turn, at).into_iter().collect();
                    if self.random.one_in(4) {
                        commands.extend(commands.clone()); // a doubled command has no effect
                    }
                    self.submit(&[commands])?;
                    check_replays(
                        self.naive.org(org).expect("it was made"),
                        org,
                        self.system.store(),
                    )?;
                }
            }
        }
        Ok(false)
    }

    /// Makes a step of a possibly unknown replay, from a possibly wrong position.
    fn wrong_step(&mut self, org: OrgNo) -> Option<Command> {
        let known: Vec<_> = self.naive.org(org)?.replays.keys().copied().collect();
        let replay = self.random.pick(&known).unwrap_or(ReplayId(1));
        let endpoint = self.some_endpoint(org).map_or(EndpointId(5), |endpoint| endpoint.id);
        let from = self.some_event(org)?;
        let events = vec![self.some_event(org)?, self.some_event(org)?];
        let cursor =
            ReplayCursor { number: 1 + u32::try_from(self.random.below(3)).unwrap(), from };
        let reached = self.some_event(org).filter(|_| self.random.one_in(2));
        let step = StepReplay {
            org,
            replay,
            cursor,
            endpoint,
            events,
            examined: 2,
            reached,
            at: self.now(),
        };
        Some(Command::StepReplay(step))
    }
}
