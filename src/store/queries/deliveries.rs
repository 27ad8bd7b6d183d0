//! Due deliveries: the queries of the scheduler.

use std::sync::Arc;

use crate::journal::Position;
use crate::model::delivery::Trigger;
use crate::model::endpoint::Endpoint;
use crate::model::event::EventType;
use crate::model::id::{EndpointId, EventId, OrgId, OrgNo};
use crate::model::time::{Look, Timestamp};
use crate::store::change::block_of;
use crate::store::rows::schema::{DeliveryRow, DeliveryState};
use crate::store::rows::state::State;
use crate::store::{StateError, Store};

/// Number of rows of pending events that are read at once.
const PENDING_ROWS_AT_ONCE: usize = 16;

/// An endpoint with waiting deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingEndpoint {
    /// The id of the endpoint.
    pub endpoint: EndpointId,
    /// When the endpoint's first delivery is due; a delivery routed to be sent at once is due now.
    pub next_due: Look,
}

/// An endpoint as the scheduler sees it.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The organization of the endpoint.
    pub org: OrgNo,
    /// True if the organization is suspended, so that its deliveries wait.
    pub is_suspended: bool,
    /// The endpoint with its current settings.
    pub endpoint: Arc<Endpoint>,
}

impl Destination {
    /// Returns true if attempts may be made at all.
    pub fn takes_attempts(&self) -> bool {
        self.endpoint.is_enabled() && !self.is_suspended
    }
}

/// The data for the next attempt of a delivery.
#[derive(Clone, Debug)]
pub struct DueDelivery {
    /// The organization of the event.
    pub org: OrgNo,
    /// The public id of the organization, for people; absent only if the organization's row is
    /// lost.
    pub org_id: Option<OrgId>,
    /// True if the organization is suspended, so that the delivery waits.
    pub is_suspended: bool,
    /// The endpoint with its current settings.
    pub endpoint: Arc<Endpoint>,
    /// The endpoint's number in its organization.
    pub endpoint_number: u32,
    /// The id of the event.
    pub event: EventId,
    /// The type of the event.
    pub event_type: EventType,
    /// The time at which the event was accepted.
    pub received_at: Timestamp,
    /// When the attempt is due.
    pub due: Look,
    /// The journal position of the event.
    pub position: Position,
    /// The time since which every attempt to the endpoint has failed.
    pub failing_since: Option<Timestamp>,
    /// The steady time of `failing_since`.
    pub failing_from: Option<Timestamp>,
    /// The value of `failing_since` that was reported to the organization. Absent if no failure was
    /// reported, or if the recovery was reported since.
    pub failing_told: Option<Timestamp>,
    /// The number of attempts so far.
    pub attempts: u32,
    /// The number of attempts before the schedule began again.
    pub base: u32,
    /// The journal position of the last attempt.
    pub last_attempt: Option<Position>,
    /// The cause of the next attempt.
    pub trigger: Trigger,
}

/// Number of rows that are read at once to find the next event in order.
const ORDERED_ROWS_AT_ONCE: usize = 1_024;
/// Number of due deliveries that are read to find the first event among them.
const DUE_ROWS_AT_ONCE: usize = 64;

/// The next deliveries of an endpoint with strict ordering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InOrder {
    /// The events to send, one after the other.
    pub events: Vec<EventId>,
    /// The reason why the list of events ends.
    pub then: Then,
    /// The event at which the next search begins.
    pub mark: EventId,
    /// The due time of the first delivery whose producer asked for a later time.
    pub later: Option<Timestamp>,
}

/// The state of the deliveries after the events that can be sent in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// No delivery waits after the events.
    End,
    /// More deliveries may wait.
    More,
    /// A delivery that failed is due at this time. Later events wait for it.
    Retry(Timestamp),
    /// An earlier event is not routed yet and may have to come first.
    Unrouted,
}

impl InOrder {
    /// Takes events in order, up to the first that must wait, and notes the reason.
    fn take(
        &mut self,
        waiting: impl Iterator<Item = (EventId, Option<Timestamp>)>,
        unrouted: EventId,
        limit: usize,
    ) {
        for (event, due_at) in waiting {
            let then = match due_at {
                _ if event > unrouted => Then::Unrouted,
                Some(due_at) => Then::Retry(due_at),
                None if self.events.len() == limit => Then::More,
                None => {
                    self.events.push(event);
                    continue;
                }
            };
            (self.then, self.mark) = (then, event);
            break;
        }
    }
}

impl Store {
    /// Returns the first endpoint after `after` with waiting deliveries (`None`: from the
    /// beginning).
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn next_waiting_endpoint(
        &self,
        after: Option<EndpointId>,
    ) -> Result<Option<WaitingEndpoint>, StateError> {
        let state = self.read();
        let from = EndpointId(after.map_or(0, |id| id.0.saturating_add(1)));
        let pending = state
            .pending
            .range((from, EventId(0))..=(EndpointId(u128::MAX), EventId(u128::MAX)), 1)?;
        let due = state.due.range(
            (from, Timestamp(0), EventId(0))
                ..=(EndpointId(u128::MAX), Timestamp(u64::MAX), EventId(u128::MAX)),
            1,
        )?;
        let pending = pending.first().map(|((endpoint, _), _)| (*endpoint, Look::Now));
        let due = due.first().map(|((endpoint, at, _), _)| (*endpoint, Look::At(*at)));
        let first = pending.into_iter().chain(due).min();
        Ok(first.map(|(endpoint, next_due)| WaitingEndpoint { endpoint, next_due }))
    }

    /// Returns at most `limit` waiting deliveries of the endpoint with their due times, also times
    /// after `now`. The first due comes first. A delivery without a due time is due since its event
    /// was accepted, by the time in the event's id. Ids and due times are steady times, so a wall
    /// clock that is set back changes nothing.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn waiting_for(
        &self,
        endpoint: EndpointId,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Timestamp, EventId)>, StateError> {
        let state = self.read();
        let due = state.due.range(
            (endpoint, Timestamp(0), EventId(0))
                ..=(endpoint, Timestamp(u64::MAX), EventId(u128::MAX)),
            limit,
        )?;
        let mut waiting: Vec<_> =
            due.into_iter().map(|((_, due_at, event), _)| (due_at, event)).collect();
        let pending = pending(&state, endpoint, limit)?.into_iter();
        waiting.extend(pending.map(|event| (Timestamp(event.unix_ms()).min(now), event)));
        waiting.sort_unstable();
        waiting.truncate(limit);
        Ok(waiting)
    }

    /// Returns at most `limit` due deliveries of the endpoint from `mark` on, in the order in which
    /// their events were accepted. Stops at a delivery that failed and is due later. A delivery
    /// whose producer asked for a later time takes its place when this time has come. Reads a
    /// bounded number of rows.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn waiting_in_order(
        &self,
        (org, endpoint): (OrgNo, EndpointId),
        mark: EventId,
        now: Timestamp,
        limit: usize,
    ) -> Result<InOrder, StateError> {
        let state = self.read();
        let unrouted = first_unrouted(&state, org)?;
        let (mark, later) = look_at_due(&state, endpoint, mark, now)?;
        // Events whose hint was lost take their place too.
        let mark = pending_first(&state, endpoint)?.map_or(mark, |first| first.min(mark));
        let first = pending_from(&state, endpoint, mark, limit)?;
        let tried = state
            .deliveries
            .range((endpoint, mark)..=(endpoint, EventId(u128::MAX)), ORDERED_ROWS_AT_ONCE)?;
        // Events after the last row that was read are unknown.
        let seen =
            |all: bool, last: Option<EventId>| last.filter(|_| !all).unwrap_or(EventId(u128::MAX));
        let last = seen(first.len() < limit, first.last().copied()).min(seen(
            tried.len() < ORDERED_ROWS_AT_ONCE,
            tried.last().map(|((_, event), _)| *event),
        ));
        let tried = tried.iter().filter_map(|((_, event), row)| match row.state {
            DeliveryState::Waiting(at) if at <= now => Some((*event, None)),
            DeliveryState::Waiting(at) if row.attempts > 0 => Some((*event, Some(at))),
            DeliveryState::Waiting(_) | DeliveryState::Dead(..) | DeliveryState::Canceled => None,
        });
        let mut waiting: Vec<_> =
            first.into_iter().map(|event| (event, None)).chain(tried).collect();
        waiting.sort_unstable();
        let mut found = InOrder { events: Vec::new(), then: Then::End, mark: last, later };
        if last < EventId(u128::MAX) {
            found.then = Then::More;
        }
        let known = waiting.into_iter().take_while(|(event, _)| *event <= last);
        found.take(known, unrouted, limit);
        found.mark = found.events.first().copied().unwrap_or(found.mark).min(unrouted);
        Ok(found)
    }

    /// Returns the data for the next attempt. `None` if the delivery does not wait any more, or the
    /// endpoint is deleted.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn due_delivery(
        &self,
        endpoint: EndpointId,
        event: EventId,
    ) -> Result<Option<DueDelivery>, StateError> {
        let state = self.read();
        let Some(target) = state.endpoints.get(endpoint)? else { return Ok(None) };
        let Some((first, block)) = block_of(&state, target.org, event)? else { return Ok(None) };
        let Some((index, entry)) = block.find(event) else { return Ok(None) };
        let Some(event_type) = block.event_type(entry) else { return Ok(None) };
        // A first attempt has no row, so sled is not asked.
        let next = if state.is_pending(endpoint, (first, index))? {
            Some(NextAttempt::FIRST)
        } else {
            state.deliveries.get((endpoint, event))?.and_then(|row| NextAttempt::of(&row))
        };
        let Some(NextAttempt { due, attempts, base, last_attempt, trigger }) = next else {
            return Ok(None);
        };
        let health = state.health.get(endpoint)?;
        let org = state.orgs.get(target.org)?;
        Ok(Some(DueDelivery {
            org: target.org,
            org_id: org.as_ref().map(|row| row.org.id),
            is_suspended: org.is_some_and(|row| row.suspended_at.is_some()),
            endpoint: Arc::clone(&target.endpoint),
            endpoint_number: target.number,
            event,
            event_type: event_type.clone(),
            received_at: entry.received_at,
            due,
            position: entry.position,
            failing_since: health.as_ref().and_then(|health| health.failing_since),
            failing_from: health.as_ref().and_then(|health| health.failing_from),
            failing_told: health.and_then(|health| health.failing_told),
            attempts,
            base,
            last_attempt,
            trigger,
        }))
    }

    /// Returns the endpoint with its current settings, and its organization.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn destination(&self, id: EndpointId) -> Result<Option<Destination>, StateError> {
        destination(&self.read(), id)
    }

    /// Returns the organization of a delivery to a deleted endpoint.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn delivery_org(
        &self,
        endpoint: EndpointId,
        event: EventId,
    ) -> Result<Option<OrgNo>, StateError> {
        let state = self.read();
        if let Some(row) = state.deliveries.get((endpoint, event))? {
            return Ok(Some(row.org));
        }
        let row = state.pending.at_or_before((endpoint, EventId(0)), (endpoint, event))?;
        Ok(row.map(|(_, row)| row.org))
    }

    /// Returns the steady time at which the oldest undelivered event of an endpoint that takes
    /// attempts was accepted. `None` if there is no such event. The time comes from the event's id, so a clock
    /// that is set back does not change the age. Reads a bounded number of endpoints and rows; with
    /// very many dead letters on an endpoint, the returned time can be too late.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn oldest_waiting(&self, now: Timestamp) -> Result<Option<Timestamp>, StateError> {
        const ENDPOINTS_MAX: usize = 256;
        const ROWS_MAX: usize = 64;
        let (mut oldest, mut after) = (None, None);
        for _ in 0..ENDPOINTS_MAX {
            let Some(found) = self.next_waiting_endpoint(after)? else { break };
            after = Some(found.endpoint);
            let state = self.read();
            if !destination(&state, found.endpoint)?.is_some_and(|it| it.takes_attempts()) {
                continue;
            }
            let (first, last) =
                ((found.endpoint, EventId(0)), (found.endpoint, EventId(u128::MAX)));
            let rows = state.deliveries.range(first..=last, ROWS_MAX)?;
            let overdue = rows.iter().find(|(_, row)| match row.state {
                DeliveryState::Waiting(at) => row.attempts > 0 || at <= now,
                DeliveryState::Dead(..) | DeliveryState::Canceled => false,
            });
            let overdue = overdue.map(|((_, event), _)| Timestamp(event.unix_ms()));
            let pending =
                pending(&state, found.endpoint, 1)?.first().map(|event| Timestamp(event.unix_ms()));
            oldest = [oldest, overdue, pending].into_iter().flatten().min();
        }
        Ok(oldest)
    }
}

/// The next attempt of a delivery.
struct NextAttempt {
    due: Look,
    attempts: u32,
    base: u32,
    last_attempt: Option<Position>,
    trigger: Trigger,
}

impl NextAttempt {
    /// The first attempt of a delivery that is due at once.
    const FIRST: Self = Self {
        due: Look::Now,
        attempts: 0,
        base: 0,
        last_attempt: None,
        trigger: Trigger::Schedule,
    };

    /// Returns the next attempt of a delivery with a row, or `None` if the delivery does not wait.
    fn of(row: &DeliveryRow) -> Option<Self> {
        let DeliveryRow { attempts, base, last_attempt, trigger, .. } = *row;
        match row.state {
            DeliveryState::Waiting(at) => {
                Some(Self { due: Look::At(at), attempts, base, last_attempt, trigger })
            }
            DeliveryState::Dead(..) | DeliveryState::Canceled => None,
        }
    }
}

fn destination(state: &State, id: EndpointId) -> Result<Option<Destination>, StateError> {
    let Some(row) = state.endpoints.get(id)? else { return Ok(None) };
    let (org, endpoint) = (row.org, Arc::clone(&row.endpoint));
    Ok(Some(Destination { org, is_suspended: state.is_suspended(org)?, endpoint }))
}

/// Returns the oldest event of the organization that is not routed. The largest id if there is no
/// such event.
fn first_unrouted(state: &State, org: OrgNo) -> Result<EventId, StateError> {
    let first = state.unrouted.range((org, EventId(0))..=(org, EventId(u128::MAX)), 1)?;
    Ok(first.first().map_or(EventId(u128::MAX), |((_, event), _)| *event))
}

/// Returns the event at which the search in order begins, because an event before `mark` may have
/// become due. Also returns the due time of the next delivery that its producer asked for later.
fn look_at_due(
    state: &State,
    endpoint: EndpointId,
    mark: EventId,
    now: Timestamp,
) -> Result<(EventId, Option<Timestamp>), StateError> {
    let (first, last) = ((endpoint, Timestamp(0), EventId(0)), (endpoint, now, EventId(u128::MAX)));
    let due = state.due.range(first..=last, DUE_ROWS_AT_ONCE)?;
    let mark = match due.iter().map(|((.., event), _)| *event).min() {
        Some(_) if due.len() == DUE_ROWS_AT_ONCE => EventId(0),
        Some(event) => event.min(mark),
        None => mark,
    };
    let (first, last) = (
        (endpoint, now.plus_ms(1), EventId(0)),
        (endpoint, Timestamp(u64::MAX), EventId(u128::MAX)),
    );
    let later = state.due.range(first..=last, 1)?;
    Ok((mark, later.first().map(|((_, at, _), _)| *at)))
}

/// Returns the first event that waits for its first attempt.
fn pending_first(state: &State, endpoint: EndpointId) -> Result<Option<EventId>, StateError> {
    let rows = state.pending.range((endpoint, EventId(0))..=(endpoint, EventId(u128::MAX)), 1)?;
    let Some(((_, first), row)) = rows.first() else { return Ok(None) };
    let block = state.events.promised((row.org, *first))?;
    Ok(block.marked(row.bits).next().map(|entry| entry.id))
}

/// Returns events that wait for their first attempt, in order: at least `limit` events if there are
/// so many.
fn pending(state: &State, endpoint: EndpointId, limit: usize) -> Result<Vec<EventId>, StateError> {
    pending_from(state, endpoint, EventId(0), limit)
}

/// Like [`pending`], from the event `mark` on.
fn pending_from(
    state: &State,
    endpoint: EndpointId,
    mark: EventId,
    limit: usize,
) -> Result<Vec<EventId>, StateError> {
    let mut events = Vec::new();
    // The block of an event begins before the event.
    let block = state.pending.at_or_before((endpoint, EventId(0)), (endpoint, mark))?;
    let mut from = block.map_or(mark, |((_, first), _)| first);
    while events.len() < limit {
        let rows = state
            .pending
            .range((endpoint, from)..=(endpoint, EventId(u128::MAX)), PENDING_ROWS_AT_ONCE)?;
        for ((_, first), row) in &rows {
            let block = state.events.promised((row.org, *first))?;
            let waits = block.marked(row.bits).map(|entry| entry.id);
            events.extend(waits.filter(|event| *event >= mark));
        }
        let Some(((_, last), _)) = rows.last().filter(|_| rows.len() == PENDING_ROWS_AT_ONCE)
        else {
            break;
        };
        from = EventId(last.0.saturating_add(1));
    }
    Ok(events)
}
