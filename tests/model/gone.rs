//! Expired events are gone: nothing shows them, and no crash, rebuild or copy brings them back.

use triggerd::model::id::{EventId, OrgNo};
use triggerd::rules::type_filter::TypeFilter;
use triggerd::store::{EventQuery, Store};

use crate::checks::{failed, listed, same};
use crate::naive::NaiveOrg;

/// Checks that the organization does not have this event, wherever somebody may look for it.
pub(crate) fn check_gone(
    naive: &NaiveOrg,
    org: OrgNo,
    id: EventId,
    store: &Store,
) -> Result<(), String> {
    let event = store.event(org, id).map_err(|error| failed(&error))?;
    same("gone: event", &event.is_some(), &false)?;
    let unrouted = store.unrouted(org, id).map_err(|error| failed(&error))?;
    same("gone: unrouted", &unrouted.is_some(), &false)?;
    let routing = store.routing(org, id).map_err(|error| failed(&error))?;
    same("gone: routing", &routing.is_some(), &false)?;
    for (number, endpoint) in (1..).zip(&naive.made) {
        let due = store.due_delivery(*endpoint, id).map_err(|error| failed(&error))?;
        same("gone: due", &due.is_some(), &false)?;
        let delivery = store.delivery(org, id, number).map_err(|error| failed(&error))?;
        same("gone: delivery", &delivery.is_some(), &false)?;
    }
    same("gone: deliveries", &listed(naive, org, store, (Some(id), 5))?.len(), &0)
}

/// Checks that the list of all events has the events of the model, and no other.
pub(crate) fn check_events(
    naive: &NaiveOrg,
    org: OrgNo,
    store: &Store,
    limit: usize,
) -> Result<(), String> {
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let (types, status, since, until) = (TypeFilter::default(), None, None, None);
        let query = EventQuery { before, limit, types, status, since, until };
        let page = store.events(org, &query).map_err(|error| failed(&error))?;
        found.extend(page.items.iter().map(|item| item.id));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let expected: Vec<_> = naive.events.keys().rev().copied().collect();
    same("events", &found, &expected)
}
