//! Random steps, and the comparisons after each.

use std::collections::BTreeSet;

use triggerd::base::clock::Clock;
use triggerd::commands::{
    AckEvent, Applied, Applying, CancelDeliveries, Command, CreateKey, CreateOrg, DeleteEndpoint,
    DropDead, EndKey, EndReplay, EraseEvent, ExpireDedup, ExpireKeys, NoteKeysUsed, NoteRouteCrash,
    PutEndpoint, RetryDelivery, RotateKey, RouteEvent, SettleAttempt, StartReplay, StepReplay,
    SubmitEvent, SubmitOutcome, command_of_turn,
};
use triggerd::model::authority::Authority;
use triggerd::model::delivery::{
    AttemptError, AttemptOutcome, DeadReason, ErrorCode, Trigger, Verdict,
};
use triggerd::model::endpoint::{DisabledReason, Endpoint, EndpointSettings, SealedSecret};
use triggerd::model::event::{Dedup, NewEvent};
use triggerd::model::id::{EndpointId, EventId, IdSource, KeyId, OrgId, OrgNo, ReplayId};
use triggerd::model::key::{Key, Scope, Scopes};
use triggerd::model::operational_event::{OperationalEvent, OperationalEventKind};
use triggerd::model::org::{InboxMode, Org, Tier};
use triggerd::model::replay::{ReplayCursor, ReplayEnd, ReplayOnly, ReplayRequest};
use triggerd::model::routing::RouteReasons;
use triggerd::model::time::Timestamp;
use triggerd::store::{ReplayTurn, Store};

use crate::checks::{
    check_accounts, check_all, check_counts, check_dead_letters, check_due, check_event,
    check_inbox, check_org,
};
use crate::naive::{Naive, Stands};
use crate::random::Random;
use crate::replays::{NaiveReplay, check_replays};
use crate::world::{Break, SEQUENCES_PER_WORLD, System};

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
        forgotten_before: Timestamp(0),
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
    /// Dedup ids from before this time may be forgotten.
    forgotten_before: Timestamp,
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
        for number in 0..steps {
            let step = self.random.below(100);
            self.step(org, step).map_err(|fault| format!("step {number} ({step}): {fault}"))?;
            self.check_org(org)?;
        }
        Ok(())
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
            82..85 => self.submit_one(org, Self::key_change),
            85..88 => self.replay(org),
            88..91 => {
                self.pass_time();
                let expire = self.expire();
                self.submit(&[vec![expire]])
            }
            91..96 => {
                self.system.write_back();
                Ok(())
            }
            _ => self.accident(org),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }

    fn id(&mut self) -> u128 {
        self.ids.next(self.clock.now_ms(), self.random.bytes())
    }

    /// Moves the clock, mostly forwards; never so far that a forgotten dedup id would count again.
    fn pass_time(&mut self) {
        let now = self.clock.now_ms();
        if self.random.one_in(5) {
            let back = now.saturating_sub(self.random.below(WINDOW_MS));
            self.clock.set_ms(back.max(self.forgotten_before.0 + WINDOW_MS).min(now));
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

    /// Makes a command of the API come from a key of the organization, which may have ended.
    fn by_somebody(&mut self, org: OrgNo, command: Command) -> Command {
        let asks = matches!(
            command,
            Command::AckEvent(_)
                | Command::EraseEvent(_)
                | Command::RetryDelivery(_)
                | Command::DropDead(_)
                | Command::PutEndpoint(_)
                | Command::DeleteEndpoint(_)
                | Command::CreateKey(_)
                | Command::EndKey(_)
                | Command::RotateKey(_)
        );
        let key = self.some_key(org);
        let (key, needs, at) = (Some(key), Scope::InboxRead.into(), self.now());
        if asks { command.requested(Authority { key, needs, at }) } else { command }
    }

    fn some_key(&mut self, org: OrgNo) -> KeyId {
        let known: Vec<_> =
            self.naive.org(org).into_iter().flat_map(|org| &org.keys).map(|key| key.id).collect();
        self.random.pick(&known).unwrap_or(KeyId(3))
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
        let expected = self.naive.expected(command);
        if !expected.allows(outcome) {
            return Err(format!("outcome {outcome:?}, expected {expected:?} of {command:?}"));
        }
        let new: Vec<EventId> = match outcome {
            Ok(Applied::SubmitEvent(SubmitOutcome::Accepted { id, .. })) => vec![*id],
            Ok(Applied::SettleAttempt(settled)) => {
                settled.told().iter().map(|told| told.id).collect()
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

    fn key(&mut self) -> Key {
        let expires_at =
            self.random.one_in(4).then(|| self.now().plus_ms(1 + self.random.below(WINDOW_MS)));
        let (id, created_at) = (KeyId(self.id()), self.now());
        Key {
            id,
            name: "k".into(),
            hash: "$".into(),
            check: [0; 8],
            scopes: Scopes::all(),
            created_at,
            expires_at,
            ended_at: None,
        }
    }

    fn create_org(&mut self) -> Command {
        let inbox_mode = if self.random.one_in(4) { InboxMode::AckOnly } else { InboxMode::Auto };
        let (id, created_at) = (OrgId(self.id()), self.now());
        let org = Org { id, name: format!("Acme {id}"), tier: Tier::Free, inbox_mode, created_at };
        Command::CreateOrg(CreateOrg { number: OrgNo(0), org, key: self.key() })
    }

    fn submit_event(&mut self, org: OrgNo) -> Option<Command> {
        let event_type = self.random.pick(&TYPES)?.parse().unwrap();
        let long = if self.random.one_in(20) { 3_000 } else { 20 };
        let payload = match self.random.below(3) {
            0 => b"{}".to_vec(),
            1 => b"1".to_vec(),
            _ => vec![
                b'0' + u8::try_from(self.random.below(10)).unwrap();
                usize::try_from(self.random.below(long)).unwrap() + 1
            ],
        };
        let dedup = (!self.random.one_in(3)).then(|| self.dedup(org));
        let deliver_after =
            self.random.one_in(8).then(|| self.now().plus_ms(self.random.below(WINDOW_MS)));
        let event = NewEvent {
            event_type,
            dedup,
            labels: Vec::new(),
            occurred_at: None,
            deliver_after,
            payload: payload.into(),
            cloudevent: None,
        };
        let event = with_fingerprint(event);
        let by = self.random.one_in(3).then(|| self.some_key(org));
        let (id, received_at) = (EventId(0), self.now());
        Some(Command::SubmitEvent(Box::new(SubmitEvent { org, by, id, received_at, event })))
    }

    /// Makes one of few dedup ids, so that they meet. The digests of an organization share their
    /// beginnings, to catch an index that compares only beginnings.
    fn dedup(&mut self, org: OrgNo) -> Dedup {
        let number = u8::try_from(self.random.below(7)).unwrap();
        let mut digest = [7; 14];
        digest[0] = number % 2;
        digest[2..6].copy_from_slice(&org.0.to_be_bytes());
        digest[13] = number;
        Dedup {
            id: number.to_string(),
            digest,
            fingerprint: [0; 8],
            window_start: self.now().minus_ms(WINDOW_MS),
        }
    }

    /// Returns an event of the organization; seldom an unknown event or another organization's.
    fn some_event(&mut self, org: OrgNo) -> Option<EventId> {
        if self.random.one_in(15) {
            let other =
                OrgNo(u32::try_from(self.random.below(self.naive.orgs.len() as u64)).unwrap());
            let of_other = self.naive.org(other)?.events.keys().next_back().copied();
            return of_other.or(Some(EventId(99)));
        }
        let ids: Vec<_> = self.naive.org(org)?.events.keys().copied().collect();
        self.random.pick(&ids)
    }

    fn ack(&mut self, org: OrgNo) -> Option<Command> {
        let event = self.some_event(org)?;
        Some(Command::AckEvent(AckEvent { org, event, at: self.now() }))
    }

    fn erase(&mut self, org: OrgNo) -> Option<Command> {
        let event = self.some_event(org)?;
        let known = self.naive.org(org)?.events.get(&event);
        let mut endpoints: Vec<_> =
            known.map_or(Vec::new(), |known| known.deliveries.keys().copied().collect());
        if self.random.one_in(4) {
            endpoints.truncate(1);
            endpoints.push(EndpointId(5)); // an unknown endpoint
        }
        Some(Command::EraseEvent(EraseEvent { org, event, endpoints, at: self.now() }))
    }

    fn route(&mut self, org: OrgNo) -> Option<Command> {
        let event = self.some_event(org)?;
        if self.random.one_in(6) {
            return Some(Command::NoteRouteCrash(NoteRouteCrash { org, event }));
        }
        let known = self.naive.org(org)?.events.get(&event);
        let event_type = known.map_or(TYPES[0], |event| event.event.event_type.as_str());
        let mut endpoints = self.naive.org(org)?.wanting(event_type);
        if self.random.one_in(10) {
            endpoints.push(EndpointId(5)); // as if deleted since the fan-out
        }
        let due_at = match known {
            Some(known) if !self.random.one_in(4) => known
                .event
                .deliver_after
                .map_or(known.received_at, |after| after.max(known.received_at)),
            _ => self.now().plus_ms(self.random.below(1_000)),
        };
        let reasons = RouteReasons::default();
        Some(Command::RouteEvent(RouteEvent { org, event, endpoints, due_at, reasons }))
    }

    fn settle(&mut self, org: OrgNo) -> Option<Command> {
        let events = &self.naive.org(org)?.events;
        let all = events
            .iter()
            .flat_map(|(id, event)| event.deliveries.iter().map(move |(to, one)| (*id, *to, *one)));
        let mut all: Vec<_> = all.collect();
        if !self.random.one_in(5) {
            all.retain(|(_, _, delivery)| matches!(delivery.stands, Stands::Waiting(_)));
        }
        let (event, endpoint, delivery) = self.random.pick(&all)?;
        let now = self.now();
        let verdict = match self.random.below(10) {
            0..5 => Verdict::Delivered,
            5..8 => Verdict::RetryAt(now.plus_ms(self.random.below(WINDOW_MS))),
            8 => Verdict::Dead(DeadReason::AttemptsExhausted),
            _ => Verdict::Dead(DeadReason::Gone),
        };
        let number = (delivery.attempts + u32::from(!self.random.one_in(6))).max(1);
        // An attempt that began later may end earlier.
        let duration_ms = u32::try_from(self.random.below(WINDOW_MS)).unwrap();
        let error = (verdict != Verdict::Delivered)
            .then(|| AttemptError { code: ErrorCode::HttpStatus, detail: String::new() });
        let outcome =
            AttemptOutcome { status: Some(200), error, ..AttemptOutcome::new(now, duration_ms) };
        let settle = SettleAttempt {
            org,
            endpoint,
            event,
            number,
            trigger: delivery.trigger,
            outcome,
            verdict,
            disables: (verdict == Verdict::Dead(DeadReason::Gone)).then_some(DisabledReason::Gone),
            previous: None,
            operational_events: self.operational_events(org, endpoint),
        };
        Some(Command::SettleAttempt(Box::new(settle)))
    }

    /// Returns notices of an attempt, true and false ones.
    fn operational_events(&mut self, org: OrgNo, endpoint: EndpointId) -> Vec<OperationalEvent> {
        let known = self.naive.org(org).and_then(|org| org.failing.get(&endpoint)).copied();
        let failing_since = if self.random.one_in(4) { Some(self.now()) } else { known };
        let mut operational_events = Vec::new();
        for kind in OperationalEventKind::ALL.iter().copied() {
            if self.random.one_in(4) {
                let payload = b"{\"told\":1}".as_slice().into();
                operational_events.push(OperationalEvent {
                    kind,
                    failing_since,
                    id: EventId(0),
                    received_at: Timestamp(0),
                    payload,
                });
            }
        }
        operational_events
    }

    /// Retries any delivery, or drops a dead letter.
    fn repeat(&mut self, org: OrgNo) -> Option<Command> {
        let events = &self.naive.org(org)?.events;
        let all = events
            .iter()
            .flat_map(|(id, event)| event.deliveries.iter().map(move |(to, one)| (*id, *to, *one)));
        let mut all: Vec<_> = all.collect();
        if self.random.one_in(2) {
            all.retain(|(_, _, delivery)| !matches!(delivery.stands, Stands::Waiting(_)));
        }
        let (event, endpoint, _) = self.random.pick(&all)?;
        let at = self.now();
        Some(match self.random.below(4) {
            0 => Command::DropDead(DropDead { org, endpoint, event }),
            kind => {
                let (only_dead, trigger) =
                    (kind == 1, if kind == 1 { Trigger::Replay } else { Trigger::Retry });
                Command::RetryDelivery(RetryDelivery {
                    org,
                    endpoint,
                    event,
                    at,
                    only_dead,
                    trigger,
                })
            }
        })
    }

    // ---- replays --------------------------------------------------------------------------------

    /// Starts, continues or ends a replay, or takes a wrong step.
    fn replay(&mut self, org: OrgNo) -> Result<(), String> {
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

    fn some_endpoint(&mut self, org: OrgNo) -> Option<Endpoint> {
        let endpoints = &self.naive.org(org)?.endpoints;
        let at = self.random.below(endpoints.len() as u64);
        endpoints.get(usize::try_from(at).unwrap()).cloned()
    }

    fn put_endpoint(&mut self, org: OrgNo) -> Option<Command> {
        let pattern = self.random.pick(&PATTERNS)?.parse().unwrap();
        let event_types = if self.random.one_in(2) { Vec::new() } else { vec![pattern] };
        let disabled = self.random.one_in(4).then_some(DisabledReason::ByOwner);
        let updated_at = self.now();
        let known = if self.random.one_in(2) { self.some_endpoint(org) } else { None };
        let known = known.unwrap_or_else(|| {
            let (id, secret) = (EndpointId(self.id()), SealedSecret::new(vec![7; 72]));
            Endpoint::new(id, EndpointSettings::default(), secret, updated_at)
        });
        let settings = EndpointSettings { event_types, ..known.settings };
        let endpoint = Endpoint { settings, disabled, updated_at, ..known };
        let sets_enabled = self.random.one_in(2);
        Some(Command::PutEndpoint(PutEndpoint { org, endpoint, sets_enabled }))
    }

    fn delete_endpoint(&mut self, org: OrgNo) -> Option<Command> {
        self.naive.org(org)?;
        let endpoint = self.some_endpoint(org).map_or(EndpointId(4), |endpoint| endpoint.id);
        Some(Command::DeleteEndpoint(DeleteEndpoint { org, endpoint }))
    }

    /// Cancels deliveries of a deleted endpoint.
    fn cancel(&mut self, org: OrgNo) -> Option<Command> {
        let naive = self.naive.org(org)?;
        let gone: Vec<_> =
            naive.all_endpoints().into_iter().filter(|id| naive.endpoint(*id).is_none()).collect();
        let endpoint = self.random.pick(&gone)?;
        let events = self
            .naive
            .org(org)?
            .waiting(endpoint, self.now())
            .0
            .into_iter()
            .map(|(_, event)| event)
            .take(5)
            .collect();
        Some(Command::CancelDeliveries(CancelDeliveries { org, endpoint, events }))
    }

    fn key_change(&mut self, org: OrgNo) -> Option<Command> {
        self.naive.org(org)?;
        let key = self.some_key(org);
        let at = self.now();
        Some(match self.random.below(5) {
            4 => Command::ExpireKeys(ExpireKeys { keys: vec![key], at }),
            0 => Command::CreateKey(CreateKey { org, key: self.key() }),
            1 => Command::EndKey(EndKey { org, key, at }),
            2 => Command::NoteKeysUsed(NoteKeysUsed { used: vec![(key, at)] }),
            _ => {
                let old_ends_at = at.plus_ms(self.random.below(WINDOW_MS));
                Command::RotateKey(RotateKey { org, old: key, old_ends_at, new: self.key() })
            }
        })
    }

    fn expire(&mut self) -> Command {
        let before = self.now().minus_ms(WINDOW_MS);
        self.forgotten_before = self.forgotten_before.max(before);
        Command::ExpireDedup(ExpireDedup { before })
    }

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
            5 => {
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
        if looks_at_dead_letters {
            check_dead_letters(naive, org, store, limit)?;
        }
        for event in touched {
            check_event(naive, org, event, store)?;
        }
        Ok(())
    }

    fn check_all(&self) -> Result<(), String> {
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

/// Sets the fingerprint: a hash of type and payload, good enough for the model.
fn with_fingerprint(mut event: NewEvent) -> NewEvent {
    let text = [event.event_type.as_str().as_bytes(), &[0], &event.payload].concat();
    if let Some(dedup) = &mut event.dedup {
        let folded = text.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        dedup.fingerprint = folded.to_be_bytes();
    }
    event
}
