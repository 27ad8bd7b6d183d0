//! Random commands.

use triggerd::commands::{
    AckEvent, CancelDeliveries, ChangeOrg, Command, CreateKey, CreateOrg, DeleteEndpoint, DropDead,
    EndKey, EndOverlaps, EraseEvent, ExpireAudit, ExpireDedup, ExpireKeys, NoteKeysUsed,
    NoteRouteCrash, PutEndpoint, RetryDelivery, RotateKey, RouteEvent, SettleAttempt, SubmitEvent,
};
use triggerd::model::audit::Origin;
use triggerd::model::authority::Authority;
use triggerd::model::delivery::{
    AttemptError, AttemptOutcome, DeadReason, ErrorCode, Trigger, Verdict,
};
use triggerd::model::endpoint::{DisabledReason, Endpoint, EndpointSettings, SealedSecret};
use triggerd::model::event::{Dedup, NewEvent};
use triggerd::model::id::{EndpointId, EventId, KeyId, OrgId, OrgNo};
use triggerd::model::key::{Key, Scope, Scopes};
use triggerd::model::operational_event::{OperationalEvent, OperationalEventKind};
use triggerd::model::org::{InboxMode, Org, Tier};
use triggerd::model::routing::RouteReasons;
use triggerd::model::time::Timestamp;

use super::{PATTERNS, TYPES, WINDOW_MS, World};
use crate::naive::Stands;

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

impl World {
    /// Makes a command of the API come from a key of the organization, which may have ended, or from
    /// the operator.
    pub(super) fn by_somebody(&mut self, org: OrgNo, command: Command) -> Command {
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
        let is_operators = matches!(command, Command::ChangeOrg(_));
        if !asks && !is_operators {
            return command;
        }
        let key = (!is_operators).then(|| self.some_key(org));
        let (needs, at) = (Scope::InboxRead.into(), self.moment());
        let request_id = self.id().to_string();
        let origin = command.kind().is_audited.then_some(Origin { address: None, request_id });
        command.requested_from(Authority { key, needs, at }, (origin, None))
    }

    fn some_key(&mut self, org: OrgNo) -> KeyId {
        let known: Vec<_> =
            self.naive.org(org).into_iter().flat_map(|org| &org.keys).map(|key| key.id).collect();
        self.random.pick(&known).unwrap_or(KeyId(3))
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

    pub(super) fn create_org(&mut self) -> Command {
        let inbox_mode = if self.random.one_in(4) { InboxMode::AckOnly } else { InboxMode::Auto };
        let (id, created_at) = (OrgId(self.id()), self.now());
        let org = Org { id, name: format!("Acme {id}"), tier: Tier::Free, inbox_mode, created_at };
        Command::CreateOrg(CreateOrg { number: OrgNo(0), org, key: Some(self.key()) })
    }

    pub(super) fn submit_event(&mut self, org: OrgNo) -> Option<Command> {
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
    pub(super) fn dedup(&mut self, org: OrgNo) -> Dedup {
        let number = u8::try_from(self.random.below(7)).unwrap();
        let mut digest = [7; 14];
        digest[0] = number % 2;
        digest[2..6].copy_from_slice(&org.0.to_be_bytes());
        digest[13] = number;
        Dedup {
            id: number.to_string(),
            digest,
            fingerprint: [0; 8],
            window_start: self.moment().steady.minus_ms(WINDOW_MS),
        }
    }

    /// Returns an event of the organization; seldom an expired event, an unknown event or another
    /// organization's.
    pub(super) fn some_event(&mut self, org: OrgNo) -> Option<EventId> {
        if self.random.one_in(15) {
            let expired: Vec<_> = self.naive.org(org)?.expired.keys().copied().collect();
            return self.random.pick(&expired).or(Some(EventId(98)));
        }
        if self.random.one_in(15) {
            let other =
                OrgNo(u32::try_from(self.random.below(self.naive.orgs.len() as u64)).unwrap());
            let of_other = self.naive.org(other)?.events.keys().next_back().copied();
            return of_other.or(Some(EventId(99)));
        }
        let ids: Vec<_> = self.naive.org(org)?.events.keys().copied().collect();
        self.random.pick(&ids)
    }

    pub(super) fn ack(&mut self, org: OrgNo) -> Option<Command> {
        let event = self.some_event(org)?;
        Some(Command::AckEvent(AckEvent { org, event, at: self.now() }))
    }

    pub(super) fn erase(&mut self, org: OrgNo) -> Option<Command> {
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

    pub(super) fn route(&mut self, org: OrgNo) -> Option<Command> {
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

    pub(super) fn settle(&mut self, org: OrgNo) -> Option<Command> {
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

    /// Returns operational events of an attempt, true and false ones.
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
    pub(super) fn repeat(&mut self, org: OrgNo) -> Option<Command> {
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

    pub(super) fn some_endpoint(&mut self, org: OrgNo) -> Option<Endpoint> {
        let endpoints = &self.naive.org(org)?.endpoints;
        let at = self.random.below(endpoints.len() as u64);
        endpoints.get(usize::try_from(at).unwrap()).cloned()
    }

    pub(super) fn put_endpoint(&mut self, org: OrgNo) -> Option<Command> {
        let pattern = self.random.pick(&PATTERNS)?.parse().unwrap();
        let event_types = if self.random.one_in(2) { Vec::new() } else { vec![pattern] };
        let disabled = self.random.one_in(4).then_some(DisabledReason::ByOwner);
        let updated_at = self.now();
        let known = if self.random.one_in(2) { self.some_endpoint(org) } else { None };
        let is_new = known.is_none();
        let known = known.unwrap_or_else(|| {
            let (id, secret) = (EndpointId(self.id()), SealedSecret::new(vec![7; 72]));
            Endpoint::new(id, EndpointSettings::default(), secret, updated_at)
        });
        let settings = EndpointSettings { event_types, ..known.settings };
        let mut endpoint = Endpoint { settings, disabled, updated_at, ..known };
        let sets_enabled = self.random.one_in(2);
        if sets_enabled && !is_new {
            endpoint.rotate(SealedSecret::new(vec![8; 72]), self.moment(), WINDOW_MS / 2);
        }
        Some(Command::PutEndpoint(PutEndpoint { org, endpoint, sets_enabled }))
    }

    pub(super) fn delete_endpoint(&mut self, org: OrgNo) -> Option<Command> {
        self.naive.org(org)?;
        let endpoint = self.some_endpoint(org).map_or(EndpointId(4), |endpoint| endpoint.id);
        Some(Command::DeleteEndpoint(DeleteEndpoint { org, endpoint }))
    }

    /// Cancels deliveries of a deleted endpoint.
    pub(super) fn cancel(&mut self, org: OrgNo) -> Option<Command> {
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

    pub(super) fn key_change(&mut self, org: OrgNo) -> Option<Command> {
        self.naive.org(org)?;
        let key = self.some_key(org);
        let (at, moment) = (self.now(), self.moment());
        Some(match self.random.below(5) {
            4 => Command::ExpireKeys(ExpireKeys { keys: vec![key], at: moment }),
            0 => Command::CreateKey(CreateKey { org, key: self.key() }),
            1 => Command::EndKey(EndKey { org, key, at: moment }),
            2 => Command::NoteKeysUsed(NoteKeysUsed { used: vec![(key, at)], at: moment.steady }),
            _ => {
                let old_ends_at = moment.steady.plus_ms(self.random.below(WINDOW_MS));
                Command::RotateKey(RotateKey { org, old: key, old_ends_at, new: self.key() })
            }
        })
    }

    pub(super) fn org_change(&mut self, org: OrgNo) -> Option<Command> {
        self.naive.org(org)?;
        let (id, at) = (self.id(), self.now());
        let mut change =
            ChangeOrg { org, name: None, tier: None, inbox_mode: None, suspended: None, at };
        match self.random.below(6) {
            0 => change.name = Some(format!("Renamed {id}")),
            1 => change.tier = self.random.pick(Tier::ALL),
            2 => change.inbox_mode = self.random.pick(InboxMode::ALL),
            other => change.suspended = Some(other == 3),
        }
        Some(change.into())
    }

    pub(super) fn expire(&self) -> Command {
        Command::ExpireDedup(ExpireDedup { before: self.moment().steady.minus_ms(WINDOW_MS) })
    }

    pub(super) fn expire_audit(&mut self) -> Command {
        let age_ms = self.random.below(WINDOW_MS);
        ExpireAudit { before: self.moment().steady.minus_ms(age_ms) }.into()
    }

    pub(super) fn end_overlaps(&self) -> Command {
        let endpoints = self.naive.orgs.iter().flat_map(|org| &org.endpoints);
        let endpoints = endpoints.map(|endpoint| endpoint.id).collect();
        Command::EndOverlaps(EndOverlaps { endpoints, at: self.moment().steady })
    }
}
