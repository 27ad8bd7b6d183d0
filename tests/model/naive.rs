//! The model: the contract in plain maps. Shares the types of `model` with the product, but no
//! code.

use std::collections::{BTreeMap, BTreeSet};

use triggerd::commands::{
    AckEvent, AckOutcome, Applied, Applying, CancelDeliveries, Command, CreateOrgOutcome,
    DeleteEndpointOutcome, DropDead, DropOutcome, EndKeyOutcome, EndReplayOutcome, EraseOutcome,
    PutEndpointOutcome, RetryDelivery, RetryOutcome, RotateKey, SettleAttempt, SettleOutcome,
    StartReplayOutcome, StepReplayOutcome, SubmitEvent, SubmitOutcome,
};
use triggerd::model::delivery::{Trigger, Verdict};
use triggerd::model::endpoint::{Endpoint, TypePattern};
use triggerd::model::event::{EventStatus, NewEvent};
use triggerd::model::id::{EndpointId, EventId, KeyId, OrgNo, ReplayId};
use triggerd::model::key::{Key, Scope, Scopes};
use triggerd::model::operational_event::OperationalEventKind;
use triggerd::model::org::{InboxMode, Org};
use triggerd::model::time::Timestamp;
use triggerd::store::{GRACE_KEYS_PER_LINE, KeyAdded, Refusal, Stored};

use crate::replays::NaiveReplay;

/// All organizations and their events.
#[derive(Clone, Default)]
pub(crate) struct Naive {
    pub(crate) orgs: Vec<NaiveOrg>,
    pub(crate) last_event: Option<EventId>,
}

#[derive(Clone)]
pub(crate) struct NaiveOrg {
    pub(crate) org: Org,
    pub(crate) keys: Vec<Key>,
    pub(crate) used: BTreeMap<KeyId, Timestamp>,
    /// For each key that a rotation made: the first key of its line.
    lines: BTreeMap<KeyId, KeyId>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// All endpoints that ever existed, in the order of their creation.
    pub(crate) made: Vec<EndpointId>,
    pub(crate) events: BTreeMap<EventId, NaiveEvent>,
    pub(crate) replays: BTreeMap<ReplayId, NaiveReplay>,
    /// The beginning of the current streak of failures, by endpoint.
    pub(crate) failing: BTreeMap<EndpointId, Timestamp>,
    /// The streak at the last `triggerd.endpoint.failing`, unless a recovery was reported since.
    pub(crate) failing_told: BTreeMap<EndpointId, Timestamp>,
}

#[derive(Clone)]
pub(crate) struct NaiveEvent {
    pub(crate) event: NewEvent,
    pub(crate) received_at: Timestamp,
    pub(crate) acknowledged_at: Option<Timestamp>,
    /// Set when the payload is hidden and no delivery is made any more.
    pub(crate) erased_at: Option<Timestamp>,
    /// True while the event waits for a worker.
    pub(crate) unrouted: bool,
    pub(crate) crashes: u8,
    /// True once the event has left the inbox for good.
    pub(crate) left: bool,
    pub(crate) deliveries: BTreeMap<EndpointId, NaiveDelivery>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NaiveDelivery {
    pub(crate) stands: Stands,
    pub(crate) attempts: u32,
    /// Attempts before the current start of the retry schedule.
    pub(crate) base: u32,
    /// True if the first attempt is due with the event, and no later command changed the time.
    pub(crate) at_once: bool,
    /// The reason of the next attempt.
    pub(crate) trigger: Trigger,
}

impl NaiveDelivery {
    fn retry(&mut self, retry: &RetryDelivery) {
        match self.stands {
            // The first attempt is due at once already.
            Stands::Waiting(_) if self.attempts == 0 && self.at_once => return,
            // The delivery was due without the retry.
            Stands::Waiting(at) if at <= retry.at => return,
            Stands::Waiting(_) => {}
            Stands::Accepted | Stands::Dead(_) | Stands::Canceled => {
                (self.base, self.at_once) = (self.attempts, false);
            }
        }
        (self.stands, self.trigger) = (Stands::Waiting(retry.at), retry.trigger);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stands {
    Waiting(Timestamp),
    Accepted,
    /// Given up at this time.
    Dead(Timestamp),
    Canceled,
}

/// The outcomes of a command allowed by the contract.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Exactly(Applying),
    /// The event is accepted as new.
    Accepted,
    /// The attempt is settled, and operational events of these kinds are stored in this order.
    Stored(Vec<OperationalEventKind>),
    /// Same as `Stored`, for an already canceled delivery.
    Canceled(Vec<OperationalEventKind>),
    /// The event is a duplicate of one of these (flag true), or has its dedup id with another
    /// content (flag false).
    Known(Vec<(EventId, Timestamp, bool)>),
}

impl Expected {
    pub(crate) fn allows(&self, outcome: &Applying) -> bool {
        match (self, outcome) {
            (Self::Exactly(expected), outcome) => expected == outcome,
            (Self::Stored(kinds), Ok(Applied::SettleAttempt(SettleOutcome::Settled(told))))
            | (Self::Canceled(kinds), Ok(Applied::SettleAttempt(SettleOutcome::Canceled(told)))) => {
                told.iter().map(|told| told.kind).eq(kinds.iter().copied())
            }
            (Self::Accepted, Ok(Applied::SubmitEvent(outcome))) => {
                matches!(outcome, SubmitOutcome::Accepted { .. })
            }
            (
                Self::Known(known),
                Ok(Applied::SubmitEvent(SubmitOutcome::Duplicate { id, received_at })),
            ) => known.contains(&(*id, *received_at, true)),
            (Self::Known(known), Ok(Applied::SubmitEvent(SubmitOutcome::Mismatch { id }))) => {
                known.iter().any(|(known, _, same)| known == id && !same)
            }
            (Self::Stored(_) | Self::Canceled(_) | Self::Accepted | Self::Known(_), _) => false,
        }
    }
}

impl NaiveEvent {
    pub(crate) fn status(&self) -> EventStatus {
        let any = |wanted: fn(Stands) -> bool| {
            self.deliveries.values().any(|delivery| wanted(delivery.stands))
        };
        if self.acknowledged_at.is_some() {
            EventStatus::Acknowledged
        } else if any(|stands| matches!(stands, Stands::Waiting(_))) {
            EventStatus::Accepted
        } else if any(|stands| matches!(stands, Stands::Dead(_))) || self.crashes >= 3 {
            EventStatus::Dead
        } else if any(|stands| stands == Stands::Accepted) {
            EventStatus::Delivered
        } else {
            EventStatus::Accepted
        }
    }
}

impl NaiveOrg {
    /// Records the line of the new key, and ends keys of the line that are too many in their grace.
    fn bound_line(&mut self, rotate: &RotateKey) {
        let line = self.lines.get(&rotate.old).copied().unwrap_or(rotate.old);
        self.lines.insert(rotate.new.id, line);
        loop {
            let of_line = |key: &&Key| self.lines.get(&key.id).copied().unwrap_or(key.id) == line;
            let leaving: Vec<_> =
                self.keys.iter().filter(of_line).filter(|key| key.ended_at.is_some()).collect();
            let valid = leaving.iter().filter(|key| valid(key, rotate.new.created_at));
            if valid.clone().count() <= GRACE_KEYS_PER_LINE {
                return;
            }
            let others = valid.filter(|key| ![rotate.old, rotate.new.id].contains(&key.id));
            let Some(first) = others.map(|key| (key.ended_at, key.id)).min() else { return };
            self.keys.retain(|key| key.id != first.1);
            self.used.remove(&first.1);
        }
    }

    /// Returns the inbox, oldest event first.
    pub(crate) fn inbox(&self) -> Vec<(EventId, EventStatus)> {
        self.events
            .iter()
            .filter(|(_, event)| !event.left)
            .map(|(id, event)| (*id, event.status()))
            .collect()
    }

    /// Returns the deliveries waiting for the endpoint, in the order of their due times. The flag
    /// is true if a first attempt at once is among them, which is due now at the latest.
    pub(crate) fn waiting(
        &self,
        endpoint: EndpointId,
        now: Timestamp,
    ) -> (Vec<(Timestamp, EventId)>, bool) {
        let (mut waits, mut any_at_once) = (Vec::new(), false);
        for (id, event) in &self.events {
            let Some(delivery) = event.deliveries.get(&endpoint) else { continue };
            let Stands::Waiting(at) = delivery.stands else { continue };
            let at_once = delivery.attempts == 0 && delivery.at_once;
            any_at_once |= at_once;
            waits.push((if at_once { Timestamp(id.unix_ms()).min(now) } else { at }, *id));
        }
        waits.sort_unstable();
        (waits, any_at_once)
    }

    pub(crate) fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.id == id)
    }

    /// Returns all endpoints that exist or ever had a delivery.
    pub(crate) fn all_endpoints(&self) -> BTreeSet<EndpointId> {
        let past = self.events.values().flat_map(|event| event.deliveries.keys().copied());
        self.endpoints.iter().map(|endpoint| endpoint.id).chain(past).collect()
    }

    /// Returns the enabled endpoints for this type: by name, below `x.*`, or without any pattern.
    pub(crate) fn wanting(&self, event_type: &str) -> Vec<EndpointId> {
        let wants = |endpoint: &Endpoint| is_wanted(&endpoint.settings.event_types, event_type);
        let wanting =
            self.endpoints.iter().filter(|endpoint| endpoint.is_enabled() && wants(endpoint));
        let ids: BTreeSet<_> = wanting.map(|endpoint| endpoint.id).collect();
        ids.into_iter().collect()
    }
}

/// Returns true if an event with this status leaves the inbox.
fn leaves(mode: InboxMode, status: EventStatus) -> bool {
    match status {
        EventStatus::Accepted | EventStatus::Dead => false,
        EventStatus::Delivered => mode != InboxMode::AckOnly,
        EventStatus::Acknowledged => true,
    }
}

/// Returns true if an endpoint with these patterns wants this type. Operational events need a
/// pattern.
pub(crate) fn endpoint_wants(patterns: &[TypePattern], event_type: &str) -> bool {
    is_wanted(patterns, event_type) && !(patterns.is_empty() && event_type.starts_with("triggerd."))
}

/// Returns true if a pattern is this type or an `x.*` above it, or if there are no patterns.
pub(crate) fn is_wanted(patterns: &[TypePattern], event_type: &str) -> bool {
    let matches = |pattern: &str| match pattern.strip_suffix("*") {
        // After the words comes any of the three separators, whichever the pattern has.
        Some(prefix) => ['.', '/', ':']
            .iter()
            .any(|mark| event_type.starts_with(&format!("{}{mark}", &prefix[..prefix.len() - 1]))),
        None => pattern == event_type,
    };
    patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern.as_str()))
}

fn ended_at(settle: &SettleAttempt) -> Timestamp {
    settle.outcome.started_at.plus_ms(settle.outcome.duration_ms.into())
}

fn added_if(holds: bool) -> KeyAdded {
    if holds { KeyAdded::Added } else { KeyAdded::NotFound }
}

/// Returns true if `Naive::done` must apply the command; some effects are applied elsewhere.
fn took_effect(applied: &Applied) -> bool {
    match applied {
        Applied::CreateKey(added) | Applied::RotateKey(added) => *added == KeyAdded::Added,
        Applied::EndKey(outcome) => *outcome == EndKeyOutcome::Ended,
        Applied::PutEndpoint(outcome) => *outcome == PutEndpointOutcome::Put,
        Applied::DeleteEndpoint(outcome) => *outcome == DeleteEndpointOutcome::Deleted,
        Applied::RetryDelivery(outcome) => *outcome == RetryOutcome::Queued,
        Applied::DropDead(outcome) => *outcome == DropOutcome::Dropped,
        Applied::StartReplay(outcome) => *outcome == StartReplayOutcome::Started,
        Applied::StepReplay(outcome) => *outcome == StepReplayOutcome::Stepped,
        Applied::EndReplay(outcome) => *outcome == EndReplayOutcome::Ended,
        Applied::CreateOrg(_)
        | Applied::SubmitEvent(_)
        | Applied::AckEvent(_)
        | Applied::SettleAttempt(_)
        | Applied::EraseEvent(_) => false,
        _ => true,
    }
}

fn valid(key: &Key, at: Timestamp) -> bool {
    key.expires_at.is_none_or(|end| at < end) && key.ended_at.is_none_or(|end| at < end)
}

impl Naive {
    pub(crate) fn org(&self, org: OrgNo) -> Option<&NaiveOrg> {
        self.orgs.get(usize::try_from(org.0).unwrap())
    }

    pub(crate) fn org_mut(&mut self, org: OrgNo) -> Option<&mut NaiveOrg> {
        self.orgs.get_mut(usize::try_from(org.0).unwrap())
    }

    fn event_mut(&mut self, org: OrgNo, event: EventId) -> Option<&mut NaiveEvent> {
        self.org_mut(org)?.events.get_mut(&event)
    }

    /// Returns the outcomes allowed now.
    pub(crate) fn expected(&self, command: &Command) -> Expected {
        let exactly = |applied: Applied| Expected::Exactly(Ok(applied));
        let has_key = |org: OrgNo, key: KeyId, at: Timestamp| {
            self.org(org)
                .is_some_and(|org| org.keys.iter().any(|known| known.id == key && valid(known, at)))
        };
        if let Some(refused) = self.refused(command) {
            return Expected::Exactly(Err(refused));
        }
        match command.action() {
            Command::CreateOrg(_) => {
                let number = OrgNo(u32::try_from(self.orgs.len()).unwrap());
                exactly(Applied::CreateOrg(CreateOrgOutcome::Created(number)))
            }
            Command::CreateKey(make) => {
                exactly(Applied::CreateKey(added_if(self.org(make.org).is_some())))
            }
            Command::RotateKey(rotate) => {
                let is_valid = has_key(rotate.org, rotate.old, rotate.new.created_at);
                exactly(Applied::RotateKey(added_if(is_valid)))
            }
            Command::EndKey(end) => {
                let is_valid = has_key(end.org, end.key, end.at);
                if is_valid && !self.may_end(command, end.key) {
                    return Expected::Exactly(Err(Refusal::Forbidden));
                }
                exactly(Applied::EndKey(if is_valid {
                    EndKeyOutcome::Ended
                } else {
                    EndKeyOutcome::NotFound
                }))
            }
            Command::PutEndpoint(put) => {
                let is_there = self.org(put.org).is_some();
                exactly(Applied::PutEndpoint(if is_there {
                    PutEndpointOutcome::Put
                } else {
                    PutEndpointOutcome::NotFound
                }))
            }
            Command::DeleteEndpoint(gone) => {
                let is_there =
                    self.org(gone.org).is_some_and(|org| org.endpoint(gone.endpoint).is_some());
                let (deleted, not_found) =
                    (DeleteEndpointOutcome::Deleted, DeleteEndpointOutcome::NotFound);
                exactly(Applied::DeleteEndpoint(if is_there { deleted } else { not_found }))
            }
            Command::StartReplay(_) | Command::StepReplay(_) | Command::EndReplay(_) => {
                exactly(self.expected_of_replay(command))
            }
            Command::NoteKeysUsed(_) => exactly(Applied::NoteKeysUsed(())),
            Command::ExpireDedup(_) => exactly(Applied::ExpireDedup(())),
            Command::ExpireKeys(_) => exactly(Applied::ExpireKeys(())),
            Command::NoteLoss(_) => exactly(Applied::NoteLoss(())),
            of_event => self.expected_of_event(of_event),
        }
    }

    fn expected_of_event(&self, action: &Command) -> Expected {
        let exactly = |applied: Applied| Expected::Exactly(Ok(applied));
        match action {
            Command::SubmitEvent(submit) => self.expected_of(submit),
            Command::AckEvent(ack) => {
                match self.org(ack.org).and_then(|org| org.events.get(&ack.event)) {
                    None => exactly(Applied::AckEvent(AckOutcome::NotFound)),
                    Some(event) => exactly(Applied::AckEvent(AckOutcome::Acknowledged {
                        at: event.acknowledged_at.unwrap_or(ack.at),
                    })),
                }
            }
            Command::SettleAttempt(settle) => match self.settles(settle) {
                Some(Stands::Waiting(_)) => Expected::Stored(self.told_by(settle)),
                Some(Stands::Canceled) => Expected::Canceled(self.told_by(settle)),
                _ => exactly(Applied::SettleAttempt(SettleOutcome::NoEffect)),
            },
            Command::RetryDelivery(retry) => match self.erased(retry.org, retry.event) {
                Some(at)
                    if self
                        .org(retry.org)
                        .is_some_and(|org| org.endpoint(retry.endpoint).is_some()) =>
                {
                    exactly(Applied::RetryDelivery(RetryOutcome::Erased { at }))
                }
                _ => {
                    let can = self.can_retry(retry);
                    exactly(Applied::RetryDelivery(if can {
                        RetryOutcome::Queued
                    } else {
                        RetryOutcome::NotFound
                    }))
                }
            },
            Command::EraseEvent(erase) => {
                match self.org(erase.org).and_then(|org| org.events.get(&erase.event)) {
                    None => exactly(Applied::EraseEvent(EraseOutcome::NotFound)),
                    Some(event) => exactly(Applied::EraseEvent(EraseOutcome::Erased {
                        at: event.erased_at.unwrap_or(erase.at),
                    })),
                }
            }
            Command::DropDead(drop) => {
                let event = self.org(drop.org).and_then(|org| org.events.get(&drop.event));
                let delivery = event.and_then(|event| event.deliveries.get(&drop.endpoint));
                let is_dead =
                    delivery.is_some_and(|delivery| matches!(delivery.stands, Stands::Dead(_)));
                exactly(Applied::DropDead(if is_dead {
                    DropOutcome::Dropped
                } else {
                    DropOutcome::NotFound
                }))
            }
            Command::RouteEvent(_) => exactly(Applied::RouteEvent(())),
            Command::NoteRouteCrash(_) => exactly(Applied::NoteRouteCrash(())),
            Command::CancelDeliveries(_) => exactly(Applied::CancelDeliveries(())),
            other => panic!("{other:?} is about no event"),
        }
    }

    /// Returns the key behind a command, the time of its check, and the scopes needed.
    fn authority(command: &Command) -> Option<(KeyId, Timestamp, Scopes)> {
        match command {
            Command::Requested(requested) => {
                let authority = requested.authority;
                Some((authority.key?, authority.at, authority.needs))
            }
            Command::SubmitEvent(submit) => {
                Some((submit.by?, submit.received_at, Scope::EventsWrite.into()))
            }
            _ => None,
        }
    }

    /// Returns the refusal of a command whose key is not valid or lacks a scope.
    fn refused(&self, command: &Command) -> Option<Refusal> {
        let (key, at, needs) = Self::authority(command)?;
        let known = self.org(command.org()?)?.keys.iter().find(|known| known.id == key);
        match known.filter(|known| valid(known, at)) {
            None => Some(Refusal::NotAuthorized),
            Some(known) if !known.scopes.covers(needs) => Some(Refusal::Forbidden),
            Some(_) => None,
        }
    }

    /// Returns true unless the command's key is another key that is in its grace period or ends
    /// before the key to be ended.
    fn may_end(&self, command: &Command, other: KeyId) -> bool {
        let by = Self::authority(command).map(|(by, ..)| by);
        let keys = command.org().and_then(|org| self.org(org)).map_or(&[][..], |org| &org.keys);
        let find = |id: KeyId| keys.iter().find(|key| key.id == id);
        let end = |key: &Key| key.ends_at().unwrap_or(Timestamp(u64::MAX));
        let (Some(by), Some(other)) = (by.and_then(find), find(other)) else { return true };
        by.id == other.id || (by.ended_at.is_none() && end(other) <= end(by))
    }

    /// Ends a key for good after a command met the key expired.
    fn end_if_over(&mut self, org: Option<OrgNo>, key: KeyId, at: Timestamp) {
        let keys = org.and_then(|org| self.org_mut(org)).map(|org| &mut org.keys);
        for known in keys.into_iter().flatten().filter(|known| known.id == key && !valid(known, at))
        {
            known.ended_at = Some(Timestamp(0));
        }
    }

    fn erased(&self, org: OrgNo, event: EventId) -> Option<Timestamp> {
        self.org(org)?.events.get(&event)?.erased_at
    }

    /// Returns the state of the delivery, if the attempt is new.
    fn settles(&self, settle: &SettleAttempt) -> Option<Stands> {
        let delivery =
            self.org(settle.org)?.events.get(&settle.event)?.deliveries.get(&settle.endpoint)?;
        (delivery.attempts < settle.number).then_some(delivery.stands)
    }

    /// Returns the kinds of the settlement's true notices, each once.
    fn told_by(&self, settle: &SettleAttempt) -> Vec<OperationalEventKind> {
        let Some(org) = self.org(settle.org) else { return Vec::new() };
        let waits = matches!(self.settles(settle), Some(Stands::Waiting(_)));
        let endpoint = org.endpoint(settle.endpoint);
        let accepted = settle.outcome.error.is_none();
        let mut told = org.failing_told.get(&settle.endpoint).copied();
        let mut kinds = Vec::new();
        for operational_event in &settle.operational_events {
            let is_true = match operational_event.kind {
                OperationalEventKind::DeliveryDead => {
                    waits && matches!(settle.verdict, Verdict::Dead(_))
                }
                OperationalEventKind::EndpointDisabled => {
                    endpoint.is_some_and(Endpoint::is_enabled) && settle.disables.is_some()
                }
                OperationalEventKind::EndpointFailing => {
                    let streak = org.failing.get(&settle.endpoint).copied().filter(|_| !accepted);
                    let is_true = endpoint.is_some()
                        && streak.is_some()
                        && operational_event.failing_since == streak
                        && told != streak;
                    told = if is_true { streak } else { told };
                    is_true
                }
                OperationalEventKind::EndpointRecovered => {
                    accepted && endpoint.is_some() && told.take().is_some()
                }
                OperationalEventKind::DiskLow => false,
            };
            kinds.extend(is_true.then_some(operational_event.kind));
        }
        kinds
    }

    /// Any delivery can be retried while its endpoint exists; with `only_dead`, only a dead letter.
    fn can_retry(&self, retry: &RetryDelivery) -> bool {
        let Some(org) = self.org(retry.org) else { return false };
        let delivery =
            org.events.get(&retry.event).and_then(|event| event.deliveries.get(&retry.endpoint));
        org.endpoint(retry.endpoint).is_some()
            && delivery.is_some_and(|delivery| {
                !retry.only_dead || matches!(delivery.stands, Stands::Dead(_))
            })
    }

    fn expected_of(&self, submit: &SubmitEvent) -> Expected {
        let Some(org) = self.org(submit.org) else {
            return Expected::Exactly(Ok(Applied::SubmitEvent(SubmitOutcome::NotFound)));
        };
        let Some(dedup) = &submit.event.dedup else { return Expected::Accepted };
        let same_id = org.events.iter().filter(|(_, event)| {
            event.event.dedup.as_ref().is_some_and(|known| known.id == dedup.id)
                && event.received_at >= dedup.window_start
        });
        let same = |event: &NewEvent| {
            event.event_type == submit.event.event_type && event.payload == submit.event.payload
        };
        let known: Vec<_> =
            same_id.map(|(id, event)| (*id, event.received_at, same(&event.event))).collect();
        if known.is_empty() { Expected::Accepted } else { Expected::Known(known) }
    }

    /// Applies the command, given its allowed outcome.
    pub(crate) fn take_over(&mut self, command: &Command, outcome: &Applying) {
        if let Some((key, at, _)) = Self::authority(command) {
            self.end_if_over(command.org(), key, at);
        }
        if let (Command::EndKey(end), Ok(Applied::EndKey(EndKeyOutcome::NotFound))) =
            (command.action(), outcome)
        {
            self.end_if_over(Some(end.org), end.key, end.at);
        }
        match (command.action(), outcome) {
            (Command::CreateKey(make), Ok(Applied::CreateKey(KeyAdded::Added))) => {
                // The key ends at the latest with its maker's key.
                let maker = Self::authority(command).map(|(maker, ..)| maker);
                let keys = self.org(make.org).into_iter().flat_map(|org| &org.keys);
                let maker_ends = keys.filter(|key| Some(key.id) == maker).find_map(Key::ends_at);
                let expires_at = [make.key.expires_at, maker_ends].into_iter().flatten().min();
                self.add_key(make.org, &Key { expires_at, ..make.key.clone() });
            }
            (action, Ok(applied)) => self.take_over_action(action, applied),
            (_, Err(_)) => {}
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table: one row follows the other")]
    fn take_over_action(&mut self, command: &Command, outcome: &Applied) {
        match (command, outcome) {
            (Command::CreateOrg(make), Applied::CreateOrg(CreateOrgOutcome::Created(_))) => {
                self.orgs.push(NaiveOrg {
                    org: make.org.clone(),
                    keys: vec![make.key.clone()],
                    used: BTreeMap::new(),
                    lines: BTreeMap::new(),
                    endpoints: Vec::new(),
                    made: Vec::new(),
                    events: BTreeMap::new(),
                    replays: BTreeMap::new(),
                    failing: BTreeMap::new(),
                    failing_told: BTreeMap::new(),
                });
            }
            (
                Command::SubmitEvent(submit),
                Applied::SubmitEvent(SubmitOutcome::Accepted { id, received_at }),
            ) => {
                self.last_event = Some(*id);
                let Some(org) = self.org_mut(submit.org) else { return };
                let event = NaiveEvent {
                    event: submit.event.clone(),
                    received_at: *received_at,
                    acknowledged_at: None,
                    erased_at: None,
                    unrouted: !org.endpoints.is_empty(),
                    crashes: 0,
                    left: submit.event.event_type.as_str().starts_with("triggerd."),
                    deliveries: BTreeMap::new(),
                };
                org.events.insert(*id, event);
            }
            (Command::AckEvent(ack), Applied::AckEvent(AckOutcome::Acknowledged { at })) => {
                if let Some(event) = self.event_mut(ack.org, ack.event) {
                    event.acknowledged_at = Some(*at);
                }
            }
            (Command::SettleAttempt(settle), Applied::SettleAttempt(settled))
                if *settled != SettleOutcome::NoEffect =>
            {
                for told in settled.told() {
                    self.note_told(settle, told);
                }
                self.done(command);
            }
            (Command::EraseEvent(erase), Applied::EraseEvent(EraseOutcome::Erased { at })) => {
                let living: BTreeSet<_> = self.org(erase.org).map_or_else(BTreeSet::new, |org| {
                    org.endpoints.iter().map(|endpoint| endpoint.id).collect()
                });
                let Some(event) = self.event_mut(erase.org, erase.event) else { return };
                let was_erased = event.erased_at.is_some();
                (event.erased_at, event.left) = (Some(*at), true);
                event.unrouted = false;
                for (endpoint, delivery) in &mut event.deliveries {
                    let is_called_off =
                        living.contains(endpoint) || erase.endpoints.contains(endpoint);
                    if is_called_off && delivery.stands != Stands::Accepted && !was_erased {
                        delivery.stands = Stands::Canceled;
                    }
                }
            }
            (command, applied) if took_effect(applied) => self.done(command),
            _ => {}
        }
        // Apart from erasing, only these commands move events out of the inbox.
        let org = match command {
            Command::AckEvent(AckEvent { org, .. })
            | Command::CancelDeliveries(CancelDeliveries { org, .. })
            | Command::DropDead(DropDead { org, .. }) => Some(*org),
            Command::SettleAttempt(settle) => Some(settle.org),
            _ => None,
        };
        let Some(org) = org.and_then(|org| self.org_mut(org)) else { return };
        let mode = org.org.inbox_mode;
        for event in org.events.values_mut() {
            event.left |= leaves(mode, event.status());
        }
    }

    /// Adds an operational event: an event like any other, but never in the inbox.
    fn note_told(&mut self, settle: &SettleAttempt, told: &Stored) {
        self.last_event = Some(told.id);
        let Some(org) = self.org_mut(settle.org) else { return };
        match told.kind {
            OperationalEventKind::EndpointFailing => {
                let streak = org.failing.get(&settle.endpoint).copied();
                org.failing_told.extend(streak.map(|streak| (settle.endpoint, streak)));
            }
            OperationalEventKind::EndpointRecovered => {
                org.failing_told.remove(&settle.endpoint);
            }
            OperationalEventKind::EndpointDisabled
            | OperationalEventKind::DeliveryDead
            | OperationalEventKind::DiskLow => {}
        }
        let payload = settle
            .operational_events
            .iter()
            .find(|operational_event| operational_event.kind == told.kind)
            .map(|operational_event| operational_event.payload.clone());
        let event = NewEvent {
            event_type: told.kind.event_type(),
            dedup: None,
            labels: Vec::new(),
            occurred_at: Some(ended_at(settle)),
            deliver_after: None,
            payload: payload.unwrap_or_default(),
            cloudevent: None,
        };
        let event = NaiveEvent {
            event,
            received_at: told.received_at,
            acknowledged_at: None,
            erased_at: None,
            left: true,
            unrouted: !org.endpoints.is_empty(),
            crashes: 0,
            deliveries: BTreeMap::new(),
        };
        org.events.insert(told.id, event);
    }

    #[expect(clippy::too_many_lines, reason = "a table: one row follows the other")]
    fn done(&mut self, command: &Command) {
        match command {
            Command::ExpireKeys(expire) => {
                for key in &expire.keys {
                    for number in 0..self.orgs.len() {
                        self.end_if_over(u32::try_from(number).ok().map(OrgNo), *key, expire.at);
                    }
                }
            }
            Command::RotateKey(rotate) => {
                let at = rotate.new.created_at;
                let keys = self.org_mut(rotate.org).map(|org| &mut org.keys);
                let Some(old) = keys.into_iter().flatten().find(|key| key.id == rotate.old) else {
                    return;
                };
                // The new key ends no later than the old key would have.
                let Key { scopes, expires_at, ended_at, .. } = *old;
                let end = ended_at.map_or(rotate.old_ends_at, |end| end.min(rotate.old_ends_at));
                old.ended_at = Some(if end <= at { Timestamp(0) } else { end });
                self.add_key(
                    rotate.org,
                    &Key { scopes, expires_at, ended_at, ..rotate.new.clone() },
                );
                if let Some(org) = self.org_mut(rotate.org) {
                    org.bound_line(rotate);
                }
            }
            Command::EndKey(end) => {
                let keys = self.org_mut(end.org).map(|org| &mut org.keys);
                for key in keys.into_iter().flatten().filter(|key| key.id == end.key) {
                    key.ended_at = Some(Timestamp(0));
                }
            }
            Command::NoteKeysUsed(note) => {
                for (key, at) in &note.used {
                    let owner = self
                        .orgs
                        .iter_mut()
                        .find(|org| org.keys.iter().any(|known| known.id == *key));
                    if let Some(org) = owner {
                        let last = org.used.entry(*key).or_insert(*at);
                        *last = (*last).max(*at);
                    }
                }
            }
            Command::PutEndpoint(put) => {
                let Some(org) = self.org_mut(put.org) else { return };
                if let Some(known) =
                    org.endpoints.iter_mut().find(|known| known.id == put.endpoint.id)
                {
                    let disabled =
                        if put.sets_enabled { put.endpoint.disabled } else { known.disabled };
                    if known.disabled.is_some() && disabled.is_none() {
                        org.failing.remove(&put.endpoint.id);
                    }
                    *known = Endpoint { disabled, ..put.endpoint.clone() };
                } else {
                    org.endpoints.push(put.endpoint.clone());
                    org.made.push(put.endpoint.id);
                }
            }
            Command::DeleteEndpoint(gone) => {
                if let Some(org) = self.org_mut(gone.org) {
                    org.endpoints.retain(|endpoint| endpoint.id != gone.endpoint);
                    org.failing.remove(&gone.endpoint);
                    org.failing_told.remove(&gone.endpoint);
                }
            }
            Command::StartReplay(_) | Command::StepReplay(_) | Command::EndReplay(_) => {
                self.replaying(command);
            }
            delivering => self.delivering(delivering),
        }
    }

    fn delivering(&mut self, command: &Command) {
        match command {
            Command::RouteEvent(route) => {
                let there: Vec<_> = self.org(route.org).map_or(Vec::new(), |org| {
                    route
                        .endpoints
                        .iter()
                        .copied()
                        .filter(|id| org.endpoint(*id).is_some())
                        .collect()
                });
                let Some(event) =
                    self.event_mut(route.org, route.event).filter(|event| event.unrouted)
                else {
                    return;
                };
                event.unrouted = false;
                let new = NaiveDelivery {
                    stands: Stands::Waiting(route.due_at),
                    attempts: 0,
                    base: 0,
                    at_once: route.due_at <= event.received_at,
                    trigger: Trigger::Schedule,
                };
                event.deliveries.extend(there.into_iter().map(|id| (id, new)));
            }
            Command::NoteRouteCrash(crash) => {
                if let Some(event) =
                    self.event_mut(crash.org, crash.event).filter(|event| event.unrouted)
                {
                    event.crashes += 1;
                    event.unrouted = event.crashes < 3;
                }
            }
            Command::SettleAttempt(settle) => self.settled(settle),
            Command::RetryDelivery(retry) => {
                let Some(event) = self.event_mut(retry.org, retry.event) else { return };
                let Some(delivery) = event.deliveries.get_mut(&retry.endpoint) else { return };
                delivery.retry(retry);
            }
            Command::DropDead(drop) => {
                let event = self.event_mut(drop.org, drop.event);
                if let Some(delivery) =
                    event.and_then(|event| event.deliveries.get_mut(&drop.endpoint))
                {
                    delivery.stands = Stands::Canceled;
                }
            }
            Command::CancelDeliveries(cancel) => {
                for event in &cancel.events {
                    let event = self.event_mut(cancel.org, *event);
                    let delivery =
                        event.and_then(|event| event.deliveries.get_mut(&cancel.endpoint));
                    if let Some(delivery) =
                        delivery.filter(|delivery| matches!(delivery.stands, Stands::Waiting(_)))
                    {
                        delivery.stands = Stands::Canceled;
                    }
                }
            }
            _ => {}
        }
    }

    fn settled(&mut self, settle: &SettleAttempt) {
        let event = self.event_mut(settle.org, settle.event);
        let Some(delivery) = event.and_then(|event| event.deliveries.get_mut(&settle.endpoint))
        else {
            return;
        };
        delivery.attempts = settle.number;
        if delivery.stands != Stands::Canceled {
            delivery.trigger = Trigger::Schedule;
            delivery.stands = match settle.verdict {
                Verdict::Delivered => Stands::Accepted,
                Verdict::RetryAt(at) => Stands::Waiting(at),
                Verdict::Dead(_) => Stands::Dead(ended_at(settle)),
            };
        }
        let Some(org) = self.org_mut(settle.org) else { return };
        if settle.outcome.error.is_none() {
            org.failing.remove(&settle.endpoint);
        } else if org.endpoint(settle.endpoint).is_some() {
            org.failing.entry(settle.endpoint).or_insert(settle.outcome.started_at);
        }
        let endpoint = org.endpoints.iter_mut().find(|endpoint| endpoint.id == settle.endpoint);
        if let (Some(endpoint), Some(reason)) = (endpoint, settle.disables) {
            endpoint.disabled = endpoint.disabled.or(Some(reason));
            endpoint.updated_at = ended_at(settle);
        }
    }

    /// Adds a key, and removes all ended keys.
    fn add_key(&mut self, org: OrgNo, key: &Key) {
        if let Some(org) = self.org_mut(org) {
            org.keys.retain(|known| valid(known, key.created_at));
            org.used.retain(|id, _| org.keys.iter().any(|known| known.id == *id));
            org.keys.push(key.clone());
        }
    }
}
