//! The comparisons between the system and the naive model.

use triggerd::commands::Records;
use triggerd::model::delivery::DeliveryStatus;
use triggerd::model::endpoint::Endpoint;
use triggerd::model::id::{EndpointId, EventId, OrgNo};
use triggerd::model::time::{Look, Now, Timestamp};
use triggerd::rules::type_filter::TypeFilter;
use triggerd::store::{
    DeadQuery, Delivery, DeliveryQuery, DeliverySituation, InboxQuery, Routing, Store,
};

use crate::gone::{check_events, check_gone};
use crate::naive::{Deletion, Naive, NaiveDelivery, NaiveEvent, NaiveOrg, Stands};
use crate::replays::check_replays;
use crate::steps::TYPES;

pub(crate) fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    is: &T,
    should: &T,
) -> Result<(), String> {
    if is == should { Ok(()) } else { Err(format!("{what}: {is:?}, expected {should:?}")) }
}

pub(crate) fn check_all(
    naive: &Naive,
    (store, records): (&Store, &Records),
    now: Timestamp,
) -> Result<(), String> {
    for (number, org) in naive.orgs.iter().enumerate() {
        let number = OrgNo(u32::try_from(number).unwrap());
        check_org(org, number, store, (500, now))
            .map_err(|fault| format!("after: {number:?}: {fault}"))?;
        check_payloads(org, number, store, records)?;
    }
    check_counts(naive, store).map_err(|fault| format!("after: {fault}"))
}

pub(crate) fn check_counts(naive: &Naive, store: &Store) -> Result<(), String> {
    let counts = store.counts().map_err(|error| error.to_string())?;
    let events = || naive.orgs.iter().flat_map(|org| org.events.values());
    let count = |wanted: fn(Stands) -> bool| {
        events()
            .flat_map(|event| event.deliveries.values())
            .filter(|delivery| wanted(delivery.stands))
            .count() as u64
    };
    same("events counted", &counts.events, &(events().count() as u64))?;
    same(
        "open events counted",
        &counts.open,
        &naive.orgs.iter().map(|org| org.inbox().len() as u64).sum(),
    )?;
    same(
        "waiting counted",
        &counts.waiting,
        &count(|stands| matches!(stands, Stands::Waiting(_))),
    )?;
    same("dead counted", &counts.dead, &count(|stands| matches!(stands, Stands::Dead(_))))
}

pub(crate) fn check_org(
    naive: &NaiveOrg,
    org: OrgNo,
    store: &Store,
    (limit, now): (usize, Timestamp),
) -> Result<(), String> {
    check_inbox(naive, org, store, limit)?;
    check_inbox_of_one_type(naive, org, store, TYPES[limit % TYPES.len()])?;
    check_due(naive, store, now)?;
    check_accounts(naive, org, store)?;
    check_deliveries(naive, org, store, limit)?;
    check_dead_letters(naive, org, store, limit)?;
    check_replays(naive, org, store)?;
    check_events(naive, org, store, limit)?;
    naive.expired.keys().try_for_each(|event| check_gone(naive, org, *event, store))?;
    naive.events.keys().try_for_each(|event| check_event(naive, org, *event, store))
}

pub(crate) fn failed(error: &triggerd::store::StateError) -> String {
    error.to_string()
}

pub(crate) fn check_accounts(naive: &NaiveOrg, org: OrgNo, store: &Store) -> Result<(), String> {
    let endpoints = store.endpoints_of(org).map_err(|error| failed(&error))?;
    let endpoints: Vec<_> = endpoints.iter().map(|endpoint| Endpoint::clone(endpoint)).collect();
    same("endpoints", &endpoints, &naive.endpoints)?;
    let keys = store.keys_of(org).map_err(|error| failed(&error))?;
    let found: Vec<_> =
        keys.iter().map(|found| (found.key().clone(), found.last_used_at())).collect();
    let expected: Vec<_> =
        naive.keys.iter().map(|key| (key.clone(), naive.used.get(&key.id).copied())).collect();
    same("keys", &found, &expected)?;
    let known = store.org_by_id(naive.org.id).map_err(|error| failed(&error))?;
    let is_over = naive.deletion == Deletion::Over;
    let expected = Some((org, naive.org.clone())).filter(|_| !is_over);
    same("organization", &known, &expected)?;
    if is_over {
        return Ok(());
    }
    let overview = store.org_overview(naive.org.id, Now::new(Timestamp(0), Timestamp(0)));
    let overview = overview.map_err(|error| failed(&error))?.ok_or("no overview")?;
    let counted = naive.events.len() as u64;
    same(
        "overview",
        &(overview.suspended_at.is_some(), overview.deletion.is_some(), overview.events),
        &(naive.is_suspended, naive.deletion == Deletion::UnderWay, counted),
    )
}

pub(crate) fn check_inbox(
    naive: &NaiveOrg,
    org: OrgNo,
    store: &Store,
    limit: usize,
) -> Result<(), String> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let query = InboxQuery { after, limit, types: TypeFilter::default(), since: None };
        let page = store.inbox(org, &query).map_err(|error| failed(&error))?;
        found.extend(page.items.iter().map(|item| (item.id, item.status)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    same("inbox", &found, &naive.inbox())
}

pub(crate) fn check_inbox_of_one_type(
    naive: &NaiveOrg,
    org: OrgNo,
    store: &Store,
    wanted: &str,
) -> Result<(), String> {
    let query = InboxQuery { after: None, limit: 500, types: wanted.parse().unwrap(), since: None };
    let found: Vec<_> = store
        .inbox(org, &query)
        .map_err(|error| failed(&error))?
        .items
        .iter()
        .map(|item| item.id)
        .collect();
    let is_wanted = |id: &EventId| {
        naive.events.get(id).is_some_and(|event| event.event.event_type.as_str() == wanted)
    };
    let expected: Vec<_> = naive.inbox().into_iter().map(|(id, _)| id).filter(is_wanted).collect();
    same("inbox of one type", &found, &expected)
}

/// Compares the waiting deliveries. A first attempt at once is due whatever the clock says.
pub(crate) fn check_due(naive: &NaiveOrg, store: &Store, now: Timestamp) -> Result<(), String> {
    for endpoint in naive.all_endpoints() {
        let (waiting, any_at_once) = naive.waiting(endpoint, now);
        same(
            "due",
            &store.waiting_for(endpoint, now, 1_000).map_err(|error| failed(&error))?,
            &waiting,
        )?;
        let before = EndpointId(endpoint.0.saturating_sub(1));
        let cursor = store.next_waiting_endpoint(Some(before)).map_err(|error| failed(&error))?;
        let cursor =
            cursor.filter(|cursor| cursor.endpoint == endpoint).map(|cursor| cursor.next_due);
        let look = |at: Timestamp| if any_at_once { Look::Now } else { Look::At(at) };
        let first = waiting.first().map(|(at, _)| look(*at));
        same("waiting endpoint", &cursor, &first)?;
    }
    Ok(())
}

/// Compares the state of an event and its deliveries; both sides may lack the event.
pub(crate) fn check_event(
    naive: &NaiveOrg,
    org: OrgNo,
    id: EventId,
    store: &Store,
) -> Result<(), String> {
    let found = store.event(org, id).map_err(|error| failed(&error))?;
    let found = found.map(|found| {
        (found.status, found.received_at, (found.acknowledged_at, found.erased_at), found.in_inbox)
    });
    let known = naive.events.get(&id);
    let of = |event: &NaiveEvent| {
        (event.status(), event.received_at, (event.acknowledged_at, event.erased_at), !event.left)
    };
    same("event", &found, &known.map(of))?;
    let Some(event) = known else { return Ok(()) };
    let unrouted = store.unrouted(org, id).map_err(|error| failed(&error))?;
    let found = unrouted.map(|found| (found.event_type, found.received_at, found.deliver_after));
    let waits = (event.event.event_type.clone(), event.received_at, event.event.deliver_after);
    same("unrouted", &found, &event.unrouted.then_some(waits))?;
    let routing = store.routing(org, id).map_err(|error| failed(&error))?;
    same("routing", &(routing == Some(Routing::Waits)), &event.unrouted)?;
    for (endpoint, delivery) in &event.deliveries {
        check_delivery(naive, (org, *endpoint, id), delivery, store)?;
    }
    let of = |endpoint: &EndpointId| {
        let lives = naive.endpoint(*endpoint).is_some();
        event
            .deliveries
            .get(endpoint)
            .map(|delivery| (*endpoint, known_summary(id, delivery, lives)))
    };
    let expected: Vec<_> = naive.made.iter().filter_map(of).collect();
    same("deliveries of an event", &listed(naive, org, store, (Some(id), 2))?, &expected)
}

/// Compares a delivery of an event, and the delivery as it waits.
fn check_delivery(
    naive: &NaiveOrg,
    (org, endpoint, event): (OrgNo, EndpointId, EventId),
    delivery: &NaiveDelivery,
    store: &Store,
) -> Result<(), String> {
    let living = naive.endpoint(endpoint).map(|endpoint| endpoint.id);
    let found = store.due_delivery(endpoint, event).map_err(|error| failed(&error))?;
    let found = found.map(|found| (found.org, found.attempts, found.base, found.trigger));
    let waits = matches!(delivery.stands, Stands::Waiting(_)) && living.is_some();
    let due = (org, delivery.attempts, delivery.base, delivery.trigger);
    same("due delivery", &found, &waits.then_some(due))?;
    let number = naive.made.iter().position(|made| *made == endpoint).map_or(0, |at| at + 1);
    let number = u32::try_from(number).unwrap();
    let found = store.delivery(org, event, number).map_err(|error| failed(&error))?;
    let found = found.map(|found| {
        (found_summary(&found.delivery, naive), found.endpoint.map(|living| living.id))
    });
    same("delivery", &found, &Some((known_summary(event, delivery, living.is_some()), living)))
}

/// The state of a delivery and its attempts, in a form common to the system and the model.
type Summary = (EventId, DeliveryStatus, Option<Timestamp>, u32);

fn known_summary(event: EventId, known: &NaiveDelivery, endpoint_lives: bool) -> Summary {
    let (status, at) = match known.stands {
        Stands::Waiting(_) if !endpoint_lives => (DeliveryStatus::Canceled, None),
        Stands::Waiting(at) if known.attempts == 0 => (DeliveryStatus::Pending, Some(at)),
        Stands::Waiting(at) => (DeliveryStatus::Retrying, Some(at)),
        Stands::Accepted => (DeliveryStatus::Delivered, None),
        Stands::Dead(_) => (DeliveryStatus::Dead, None),
        Stands::Canceled => (DeliveryStatus::Canceled, None),
    };
    (event, status, at, known.attempts)
}

fn found_summary(found: &Delivery, naive: &NaiveOrg) -> Summary {
    let received_at = naive.events.get(&found.event).map(|event| event.received_at);
    // The store has a first attempt at once as due from its event's arrival; the route may have
    // named an earlier time.
    let at = found.situation.next_attempt_at();
    let known =
        naive.events.get(&found.event).and_then(|event| event.deliveries.get(&found.endpoint));
    let at_once = known.is_some_and(|known| known.at_once && known.attempts == 0);
    let at = match known.map(|known| known.stands) {
        Some(Stands::Waiting(due)) if at_once && at.is_some() && at == received_at => Some(due),
        _ => at,
    };
    (found.event, found.situation.status(), at, found.attempts)
}

/// Returns the deliveries of the organization, or of one event, page by page.
pub(crate) fn listed(
    naive: &NaiveOrg,
    org: OrgNo,
    store: &Store,
    (event, limit): (Option<EventId>, usize),
) -> Result<Vec<(EndpointId, Summary)>, String> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let query = DeliveryQuery {
            status: None,
            endpoint: None,
            event,
            since: None,
            until: None,
            after,
            limit,
        };
        let page = store.deliveries(org, &query).map_err(|error| failed(&error))?;
        found.extend(page.items.iter().map(|item| (item.endpoint, found_summary(item, naive))));
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

/// Compares the lists of deliveries: by endpoint, oldest endpoint first, then newest event first.
pub(crate) fn check_deliveries(
    naive: &NaiveOrg,
    org: OrgNo,
    store: &Store,
    limit: usize,
) -> Result<(), String> {
    let found = listed(naive, org, store, (None, limit))?;
    let of_endpoint = |endpoint: &EndpointId| {
        let endpoint = *endpoint;
        let events = naive.events.iter().rev();
        events.filter_map(move |(id, event)| {
            Some((
                endpoint,
                known_summary(
                    *id,
                    event.deliveries.get(&endpoint)?,
                    naive.endpoint(endpoint).is_some(),
                ),
            ))
        })
    };
    let expected: Vec<_> = naive.made.iter().flat_map(of_endpoint).collect();
    same("deliveries", &found, &expected)
}

/// Returns the dead letters of the organization page by page: times of death, events, endpoints.
fn dead_letters(
    org: OrgNo,
    store: &Store,
    limit: usize,
    oldest_first: bool,
) -> Result<Vec<(Timestamp, EventId, EndpointId)>, String> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let (endpoint, since, until, with_deleted) = (None, None, None, !oldest_first);
        let query = DeadQuery { endpoint, since, until, after, limit, oldest_first, with_deleted };
        let page = store.dead_letters(org, &query).map_err(|error| failed(&error))?;
        found.extend(page.items.iter().map(|item| match item.situation {
            DeliverySituation::Dead(_, at) => (at, item.event, item.endpoint),
            other => panic!("no dead letter: {other:?}"),
        }));
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

/// Compares the lists of dead letters, which are sorted by time of death, event and endpoint. The
/// list with the newest first includes deleted endpoints; the list with the oldest first does not.
pub(crate) fn check_dead_letters(
    naive: &NaiveOrg,
    org: OrgNo,
    store: &Store,
    limit: usize,
) -> Result<(), String> {
    for oldest_first in [true, false] {
        let found = dead_letters(org, store, limit, oldest_first)?;
        let dead = |(endpoint, delivery): (&EndpointId, &NaiveDelivery)| match delivery.stands {
            Stands::Dead(at) if !oldest_first || naive.endpoint(*endpoint).is_some() => {
                Some((at, *endpoint))
            }
            _ => None,
        };
        let of_event = |(id, event): (&EventId, &NaiveEvent)| {
            let id = *id;
            event
                .deliveries
                .iter()
                .filter_map(dead)
                .map(move |(at, endpoint)| (at, id, endpoint))
                .collect::<Vec<_>>()
        };
        let mut expected: Vec<_> = naive.events.iter().flat_map(of_event).collect();
        expected.sort_unstable();
        if !oldest_first {
            expected.reverse();
        }
        same("dead letters", &found, &expected)?;
    }
    Ok(())
}

/// Checks that the payload of each event is at its position in the journal. The payload of an
/// erased event may be gone.
pub(crate) fn check_payloads(
    naive: &NaiveOrg,
    org: OrgNo,
    store: &Store,
    records: &Records,
) -> Result<(), String> {
    for (id, event) in &naive.events {
        let found = store.event(org, *id).map_err(|error| error.to_string())?;
        let position = found.map(|found| found.position).unwrap_or_default();
        let submit = records.event(*id, position).map_err(|error| format!("after: {error}"))?;
        let payload = &submit.event.payload;
        let is_erased = event.erased_at.is_some() && payload.is_empty();
        let expected = if is_erased { payload } else { &event.event.payload };
        same("after: its place in the journal", &(submit.id, payload), &(*id, expected))?;
    }
    Ok(())
}
