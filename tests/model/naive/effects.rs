//! The effects of a command with an allowed outcome.

use std::collections::BTreeMap;

use triggerd::commands::{
    AckEvent, AckOutcome, Applied, Applying, CancelDeliveries, ChangeOrg, Command, CreateOrg,
    CreateOrgOutcome, DeleteEndpointOutcome, DropDead, DropOutcome, EndKeyOutcome,
    EndReplayOutcome, EraseEvent, EraseOutcome, PutEndpointOutcome, RetryDelivery, RetryOutcome,
    RotateKey, RouteEvent, SettleAttempt, SettleOutcome, StartReplayOutcome, StepReplayOutcome,
    SubmitEvent, SubmitOutcome,
};
use triggerd::model::delivery::{Trigger, Verdict};
use triggerd::model::endpoint::Endpoint;
use triggerd::model::event::{EventStatus, NewEvent};
use triggerd::model::id::{EventId, KeyId, OrgNo};
use triggerd::model::key::Key;
use triggerd::model::operational_event::OperationalEventKind;
use triggerd::model::org::InboxMode;
use triggerd::model::time::{Now, Timestamp};
use triggerd::store::{KeyAdded, Stored};

use super::{Deletion, Naive, NaiveDelivery, NaiveEvent, NaiveOrg, Stands, families, made, valid};

/// Returns true if an event with this status leaves the inbox.
fn leaves(mode: InboxMode, status: EventStatus) -> bool {
    match status {
        EventStatus::Accepted | EventStatus::Dead => false,
        EventStatus::Delivered => mode != InboxMode::AckOnly,
        EventStatus::Acknowledged => true,
    }
}

fn ended_at(settle: &SettleAttempt) -> Timestamp {
    settle.outcome.started_at.plus_ms(settle.outcome.duration_ms.into())
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

impl NaiveOrg {
    fn new(make: &CreateOrg) -> Self {
        Self {
            org: make.org.clone(),
            is_suspended: false,
            deletion: Deletion::NotAsked,
            keys: make.key.iter().cloned().collect(),
            used: BTreeMap::new(),
            families: BTreeMap::new(),
            endpoints: Vec::new(),
            made: Vec::new(),
            events: BTreeMap::new(),
            expired: BTreeMap::new(),
            replays: BTreeMap::new(),
            failing: BTreeMap::new(),
            failing_told: BTreeMap::new(),
        }
    }
}

impl NaiveOrg {
    /// Returns an event that was just stored; `left` is true outside the inbox.
    fn new_event(&self, event: NewEvent, received_at: Timestamp, left: bool) -> NaiveEvent {
        NaiveEvent {
            event,
            received_at,
            acknowledged_at: None,
            erased_at: None,
            unrouted: !self.endpoints.is_empty(),
            crashes: 0,
            left,
            deliveries: BTreeMap::new(),
        }
    }
}

impl Naive {
    /// Ends a key for good after a command met the key expired.
    fn end_if_over(&mut self, org: Option<OrgNo>, key: KeyId, at: Now) {
        let keys = org.and_then(|org| self.org_mut(org)).map(|org| &mut org.keys);
        for known in keys.into_iter().flatten().filter(|known| known.id == key && !valid(known, at))
        {
            known.ended_at = Some(Timestamp(0));
        }
    }

    /// Applies the command, given its allowed outcome.
    pub(crate) fn take_over(&mut self, command: &Command, outcome: &Applying) {
        let before = self.named(command);
        self.take_over_requested(command, outcome);
        if outcome.is_ok() {
            self.record(command, &before);
        }
    }

    fn take_over_requested(&mut self, command: &Command, outcome: &Applying) {
        if let Some((key, at, _)) = self.authority(command) {
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
                let maker = self.authority(command).map(|(maker, ..)| maker);
                let mut keys = self.org(make.org).into_iter().flat_map(|org| &org.keys);
                let maker = keys.find(|key| Some(key.id) == maker);
                let maker_expires = maker.and_then(|maker| maker.expires_at);
                let expires_at = [make.key.expires_at, maker_expires].into_iter().flatten().min();
                let ended_at = maker.and_then(|maker| maker.ended_at);
                self.add_key(make.org, &Key { expires_at, ended_at, ..make.key.clone() });
            }
            (action, Ok(applied)) => self.take_over_action(action, applied),
            (_, Err(_)) => {}
        }
    }

    fn take_over_action(&mut self, command: &Command, outcome: &Applied) {
        match (command, outcome) {
            (Command::CreateOrg(make), Applied::CreateOrg(CreateOrgOutcome::Created(_))) => {
                self.orgs.push(NaiveOrg::new(make));
            }
            (
                Command::SubmitEvent(submit),
                Applied::SubmitEvent(SubmitOutcome::Accepted { id, received_at }),
            ) => {
                self.accepted(submit, *id, *received_at);
            }
            (Command::AckEvent(ack), Applied::AckEvent(AckOutcome::Acknowledged { at })) => {
                if let Some(event) = self.event_mut(ack.org, ack.event) {
                    event.acknowledged_at = Some(*at);
                }
            }
            (Command::SettleAttempt(settle), Applied::SettleAttempt(settled))
                if *settled != SettleOutcome::NoEffect =>
            {
                for stored in settled.stored() {
                    self.store_operational_event(settle, stored);
                }
                self.done(command);
            }
            (Command::EraseEvent(erase), Applied::EraseEvent(EraseOutcome::Erased { at })) => {
                self.erase(erase, *at);
            }
            (command, applied) if took_effect(applied) => self.done(command),
            _ => {}
        }
        self.leave_inbox(command);
    }

    fn accepted(&mut self, submit: &SubmitEvent, id: EventId, received_at: Timestamp) {
        self.last_event = Some(id);
        let Some(org) = self.org_mut(submit.org) else { return };
        let left = submit.event.event_type.as_str().starts_with("triggerd.");
        let event = org.new_event(submit.event.clone(), received_at, left);
        org.events.insert(id, event);
    }

    fn erase(&mut self, erase: &EraseEvent, at: Timestamp) {
        let Some(event) = self.event_mut(erase.org, erase.event) else { return };
        let was_erased = event.erased_at.is_some();
        (event.erased_at, event.left) = (Some(at), true);
        event.unrouted = false;
        // Also deliveries to deleted endpoints that the command does not name.
        for delivery in event.deliveries.values_mut() {
            if delivery.stands != Stands::Accepted && !was_erased {
                delivery.stands = Stands::Canceled;
            }
        }
    }

    /// Moves events out of the inbox after the commands that can do it. The inbox mode of that time
    /// counts, and only for the events of the command.
    fn leave_inbox(&mut self, command: &Command) {
        // Apart from erasing, only these commands move events out of the inbox.
        let (org, events) = match command {
            Command::AckEvent(AckEvent { org, event, .. })
            | Command::DropDead(DropDead { org, event, .. }) => (*org, vec![*event]),
            Command::CancelDeliveries(CancelDeliveries { org, events, .. }) => {
                (*org, events.clone())
            }
            Command::SettleAttempt(settle) => (settle.org, vec![settle.event]),
            _ => return,
        };
        let Some(org) = self.org_mut(org) else { return };
        let mode = org.org.inbox_mode;
        for event in events {
            if let Some(event) = org.events.get_mut(&event) {
                event.left |= leaves(mode, event.status());
            }
        }
    }

    /// Changes an organization's settings.
    fn org_changed(&mut self, change: &ChangeOrg) {
        let Some(org) = self.org_mut(change.org) else { return };
        org.org.name = change.name.clone().unwrap_or_else(|| org.org.name.clone());
        org.org.tier = change.tier.unwrap_or(org.org.tier);
        org.org.inbox_mode = change.inbox_mode.unwrap_or(org.org.inbox_mode);
        org.is_suspended = change.suspended.unwrap_or(org.is_suspended);
    }

    /// Adds an operational event: an event like any other, but never in the inbox.
    fn store_operational_event(&mut self, settle: &SettleAttempt, stored: &Stored) {
        let Some(org) = self.org_mut(settle.org) else { return };
        match stored.kind {
            OperationalEventKind::EndpointFailing => {
                let streak = org.failing.get(&settle.endpoint).copied();
                org.failing_told.extend(streak.map(|streak| (settle.endpoint, streak)));
            }
            OperationalEventKind::EndpointRecovered => {
                org.failing_told.remove(&settle.endpoint);
            }
            OperationalEventKind::EndpointDisabled
            | OperationalEventKind::DeliveryDead
            | OperationalEventKind::DiskLow
            | OperationalEventKind::InboxExpired
            | OperationalEventKind::KeyExpiring => {}
        }
        let payload = settle
            .operational_events
            .iter()
            .find(|operational_event| operational_event.kind == stored.kind)
            .map(|operational_event| operational_event.payload.clone());
        self.store_own_event(settle.org, stored, ended_at(settle), payload.unwrap_or_default());
    }

    /// Adds an operational event, which waits for a worker.
    pub(super) fn store_own_event(
        &mut self,
        org: OrgNo,
        stored: &Stored,
        occurred_at: Timestamp,
        payload: Box<[u8]>,
    ) {
        self.last_event = Some(stored.id);
        let Some(org) = self.org_mut(org) else { return };
        let event = NewEvent {
            event_type: stored.kind.event_type(),
            dedup: None,
            labels: Vec::new(),
            occurred_at: Some(occurred_at),
            deliver_after: None,
            payload,
            cloudevent: None,
        };
        let event = org.new_event(event, stored.received_at, true);
        org.events.insert(stored.id, event);
    }

    fn done(&mut self, command: &Command) {
        match command {
            Command::ExpireKeys(_)
            | Command::RotateKey(_)
            | Command::EndKey(_)
            | Command::NoteKeysUsed(_) => self.keys_done(command),
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
            Command::EndOverlaps(over) => {
                let endpoints = self.orgs.iter_mut().flat_map(|org| &mut org.endpoints);
                for known in endpoints.filter(|known| over.endpoints.contains(&known.id)) {
                    known.retiring.retain(|retiring| retiring.until > over.at);
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
            Command::ForgetDeleted(forget) => self.forget(forget),
            Command::ExpireAudit(expire) => self.expire_audit(expire.before),
            Command::ChangeOrg(change) => self.org_changed(change),
            Command::DeleteOrg(delete) => self.delete_org(delete.org),
            delivering => self.delivering(delivering),
        }
    }

    fn keys_done(&mut self, command: &Command) {
        match command {
            Command::ExpireKeys(expire) => {
                for key in &expire.keys {
                    for number in 0..self.orgs.len() {
                        self.end_if_over(u32::try_from(number).ok().map(OrgNo), *key, expire.at);
                    }
                }
            }
            Command::RotateKey(rotate) => self.rotated(rotate),
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
            _ => {}
        }
    }

    fn rotated(&mut self, rotate: &RotateKey) {
        let at = made(&rotate.new);
        let keys = self.org_mut(rotate.org).map(|org| &mut org.keys);
        let Some(old) = keys.into_iter().flatten().find(|key| key.id == rotate.old) else {
            return;
        };
        let was = old.clone();
        // The new key ends no later than the old key would have.
        let Key { scopes, expires_at, ended_at, .. } = *old;
        let end = ended_at.map_or(rotate.old_ends_at, |end| end.min(rotate.old_ends_at));
        old.ended_at = Some(if end <= at.steady { Timestamp(0) } else { end });
        let new = Key { scopes, expires_at, ended_at, ..rotate.new.clone() };
        self.add_key(rotate.org, &new);
        if let Some(org) = self.org_mut(rotate.org) {
            families::bound(org, rotate, &was);
        }
    }

    fn routed(&mut self, route: &RouteEvent) {
        let there: Vec<_> = self.org(route.org).map_or(Vec::new(), |org| {
            route.endpoints.iter().copied().filter(|id| org.endpoint(*id).is_some()).collect()
        });
        let Some(event) = self.event_mut(route.org, route.event).filter(|event| event.unrouted)
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

    fn delivering(&mut self, command: &Command) {
        match command {
            Command::RouteEvent(route) => self.routed(route),
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
            org.keys.retain(|known| valid(known, made(key)));
            org.used.retain(|id, _| org.keys.iter().any(|known| known.id == *id));
            org.keys.push(key.clone());
        }
    }
}
