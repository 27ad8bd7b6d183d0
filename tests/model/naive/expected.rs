//! The outcomes that the contract allows for a command.

use triggerd::commands::{
    AckOutcome, Applied, Applying, ChangeOrgOutcome, Command, CreateOrgOutcome,
    DeleteEndpointOutcome, DropOutcome, EndKeyOutcome, EraseOutcome, PutEndpointOutcome,
    RetryDelivery, RetryOutcome, SettleAttempt, SettleOutcome, SubmitEvent, SubmitOutcome,
};
use triggerd::model::delivery::Verdict;
use triggerd::model::endpoint::Endpoint;
use triggerd::model::event::NewEvent;
use triggerd::model::id::{EndpointId, EventId, KeyId, OrgNo};
use triggerd::model::key::Key;
use triggerd::model::operational_event::OperationalEventKind;
use triggerd::model::time::{Now, Timestamp};
use triggerd::store::{KeyAdded, Refusal};

use super::{Naive, NaiveEvent, Stands, made, valid};

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

fn added_if(holds: bool) -> KeyAdded {
    if holds { KeyAdded::Added } else { KeyAdded::NotFound }
}

impl Naive {
    /// Returns the outcomes allowed now.
    pub(crate) fn expected(&self, command: &Command) -> Expected {
        let exactly = |applied: Applied| Expected::Exactly(Ok(applied));
        if let Some(refused) = self.refused(command) {
            return Expected::Exactly(Err(refused));
        }
        match command.action() {
            Command::CreateOrg(_) => {
                let number = OrgNo(u32::try_from(self.orgs.len()).unwrap());
                exactly(Applied::CreateOrg(CreateOrgOutcome::Created(number)))
            }
            Command::CreateKey(_) | Command::RotateKey(_) | Command::EndKey(_) => {
                self.expected_of_key(command)
            }
            Command::PutEndpoint(put) => {
                let is_there = self.org(put.org).is_some();
                let (done, not_found) = (PutEndpointOutcome::Put, PutEndpointOutcome::NotFound);
                exactly(Applied::PutEndpoint(if is_there { done } else { not_found }))
            }
            Command::DeleteEndpoint(gone) => {
                let is_there = self.has_endpoint(gone.org, gone.endpoint);
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
            Command::EndOverlaps(_) => exactly(Applied::EndOverlaps(())),
            Command::NoteLoss(_) => exactly(Applied::NoteLoss(())),
            Command::ChangeOrg(_) => exactly(Applied::ChangeOrg(ChangeOrgOutcome::Changed)),
            Command::DeleteOrg(delete) => {
                exactly(Applied::DeleteOrg(self.expected_of_deletion(delete.org)))
            }
            Command::ExpireAudit(_) => exactly(Applied::ExpireAudit(())),
            Command::ForgetDeleted(_) => exactly(Applied::ForgetDeleted(())),
            of_event => self.expected_of_event(of_event),
        }
    }

    fn expected_of_key(&self, command: &Command) -> Expected {
        let exactly = |applied: Applied| Expected::Exactly(Ok(applied));
        match command.action() {
            Command::CreateKey(make) => {
                exactly(Applied::CreateKey(added_if(self.org(make.org).is_some())))
            }
            Command::RotateKey(rotate) => {
                let is_valid = self.has_key(rotate.org, rotate.old, made(&rotate.new));
                exactly(Applied::RotateKey(added_if(is_valid)))
            }
            Command::EndKey(end) => {
                let is_valid = self.has_key(end.org, end.key, end.at);
                if is_valid && !self.may_end(command, end.key) {
                    return Expected::Exactly(Err(Refusal::Forbidden));
                }
                let (ended, not_found) = (EndKeyOutcome::Ended, EndKeyOutcome::NotFound);
                exactly(Applied::EndKey(if is_valid { ended } else { not_found }))
            }
            other => panic!("{other:?} is about no key"),
        }
    }

    fn expected_of_event(&self, action: &Command) -> Expected {
        let exactly = |applied: Applied| Expected::Exactly(Ok(applied));
        match action {
            Command::SubmitEvent(submit) => self.expected_of(submit),
            Command::AckEvent(ack) => match self.event(ack.org, ack.event) {
                None => exactly(Applied::AckEvent(AckOutcome::NotFound)),
                Some(event) => exactly(Applied::AckEvent(AckOutcome::Acknowledged {
                    at: event.acknowledged_at.unwrap_or(ack.at),
                })),
            },
            Command::SettleAttempt(settle) => match self.settles(settle) {
                Some(Stands::Waiting(_)) => Expected::Stored(self.operational_events_of(settle)),
                Some(Stands::Canceled) => Expected::Canceled(self.operational_events_of(settle)),
                _ => exactly(Applied::SettleAttempt(SettleOutcome::NoEffect)),
            },
            Command::RetryDelivery(retry) => {
                exactly(Applied::RetryDelivery(self.expected_of_retry(retry)))
            }
            Command::EraseEvent(erase) => match self.event(erase.org, erase.event) {
                None => exactly(Applied::EraseEvent(EraseOutcome::NotFound)),
                Some(event) => exactly(Applied::EraseEvent(EraseOutcome::Erased {
                    at: event.erased_at.unwrap_or(erase.at),
                })),
            },
            Command::DropDead(drop) => {
                let event = self.event(drop.org, drop.event);
                let delivery = event.and_then(|event| event.deliveries.get(&drop.endpoint));
                let is_dead =
                    delivery.is_some_and(|delivery| matches!(delivery.stands, Stands::Dead(_)));
                let (dropped, not_found) = (DropOutcome::Dropped, DropOutcome::NotFound);
                exactly(Applied::DropDead(if is_dead { dropped } else { not_found }))
            }
            Command::RouteEvent(_) => exactly(Applied::RouteEvent(())),
            Command::NoteRouteCrash(_) => exactly(Applied::NoteRouteCrash(())),
            Command::CancelDeliveries(_) => exactly(Applied::CancelDeliveries(())),
            other => panic!("{other:?} is about no event"),
        }
    }

    fn expected_of_retry(&self, retry: &RetryDelivery) -> RetryOutcome {
        let erased_at = self.event(retry.org, retry.event).and_then(|event| event.erased_at);
        match erased_at {
            Some(at) if self.has_endpoint(retry.org, retry.endpoint) => RetryOutcome::Erased { at },
            _ if self.can_retry(retry) => RetryOutcome::Queued,
            _ => RetryOutcome::NotFound,
        }
    }

    /// Returns true if the key is valid at this time.
    fn has_key(&self, org: OrgNo, key: KeyId, at: Now) -> bool {
        let has = |known: &Key| known.id == key && valid(known, at);
        self.org(org).is_some_and(|org| org.keys.iter().any(has))
    }

    fn has_endpoint(&self, org: OrgNo, endpoint: EndpointId) -> bool {
        self.org(org).is_some_and(|org| org.endpoint(endpoint).is_some())
    }

    /// Returns the refusal of a command whose key is not valid or lacks a scope.
    fn refused(&self, command: &Command) -> Option<Refusal> {
        let (key, at, needs) = self.authority(command)?;
        let org = self.org(command.org()?)?;
        let known = org.keys.iter().find(|known| known.id == key);
        match known.filter(|known| valid(known, at)) {
            None => Some(Refusal::NotAuthorized),
            Some(known) if !known.scopes.covers(needs) => Some(Refusal::Forbidden),
            Some(_) => org.is_suspended.then_some(Refusal::Suspended),
        }
    }

    /// Returns true unless the command's key is another key that is in its grace period or ends
    /// before the key to be ended.
    fn may_end(&self, command: &Command, other: KeyId) -> bool {
        let by = self.authority(command).map(|(by, ..)| by);
        let keys = command.org().and_then(|org| self.org(org)).map_or(&[][..], |org| &org.keys);
        let find = |id: KeyId| keys.iter().find(|key| key.id == id);
        let end = |key: &Key| key.ends_at().unwrap_or(Timestamp(u64::MAX));
        let (Some(by), Some(other)) = (by.and_then(find), find(other)) else { return true };
        by.id == other.id || (by.ended_at.is_none() && end(other) <= end(by))
    }

    fn event(&self, org: OrgNo, event: EventId) -> Option<&NaiveEvent> {
        self.org(org)?.events.get(&event)
    }

    /// Returns the state of the delivery, if the attempt is new.
    fn settles(&self, settle: &SettleAttempt) -> Option<Stands> {
        let event = self.event(settle.org, settle.event)?;
        let delivery = event.deliveries.get(&settle.endpoint)?;
        (delivery.attempts < settle.number).then_some(delivery.stands)
    }

    /// Returns the kinds of the settlement's true operational events, each once.
    fn operational_events_of(&self, settle: &SettleAttempt) -> Vec<OperationalEventKind> {
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
                OperationalEventKind::DiskLow
                | OperationalEventKind::InboxExpired
                | OperationalEventKind::KeyExpiring => false,
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
        let same_id = org.events.iter().chain(&org.expired).filter(|(id, event)| {
            event.event.dedup.as_ref().is_some_and(|known| known.id == dedup.id)
                && Timestamp(id.unix_ms()).max(event.received_at) >= dedup.window_start
        });
        let same = |event: &NewEvent| {
            event.event_type == submit.event.event_type && event.payload == submit.event.payload
        };
        let known: Vec<_> =
            same_id.map(|(id, event)| (*id, event.received_at, same(&event.event))).collect();
        if known.is_empty() { Expected::Accepted } else { Expected::Known(known) }
    }
}
