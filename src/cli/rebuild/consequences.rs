//! The consequences of a loss in the terms of the API: lost events, keys that work again, commands
//! that refer to missing things. Called by `rebuild`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::cli::audit::bring_up;
use crate::cli::losses::Losses;
use crate::commands::{Record, Records};
use crate::journal::Position;
use crate::model::id::{EventId, KeyId, OrgNo, ReplayId};
use crate::model::key::Key;
use crate::model::time::Timestamp;
use crate::store::{Differences, Named, StateError, Store};

/// Maximum number of differing rows shown.
const NAMED_MAX: usize = 20;

/// Where the computation of the state began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began {
    /// The position of the snapshot, or the beginning of the journal.
    pub(super) position: Position,
    /// The last id that was given before.
    pub(super) last_id: u128,
}

/// The known consequences of a loss.
pub(super) struct Consequences {
    /// The losses in the terms of the API.
    pub(super) losses: Losses,
    /// Differences from the previous state, if readable.
    pub(super) differences: Option<Differences>,
    /// Keys that had ended or been replaced and work again, each with a message for the operator.
    pub(super) revived_keys: Vec<(KeyId, &'static str)>,
    /// Erased events shown again.
    pub(super) shown_again: Vec<EventId>,
    /// Finished replays running again.
    pub(super) running_again: Vec<ReplayId>,
    /// Number of commands referring to missing things, by organization number and kind.
    pub(super) orphans: Orphans,
    /// Ids and names of these organizations, as far as known.
    called: BTreeMap<u32, String>,
}

/// Finds the consequences of a loss, as far as possible.
pub(super) fn consequences(
    store: &Store,
    before: Option<&Store>,
    (log, began): (&Records, Began),
    losses: Losses,
) -> Result<Consequences, StateError> {
    let (orphans, speaking) = orphans(store, log, began)?;
    let mut found = Consequences {
        losses,
        differences: None,
        revived_keys: Vec::new(),
        shown_again: Vec::new(),
        running_again: Vec::new(),
        called: called(&orphans, store, before)?,
        orphans,
    };
    let Some(before) = before else {
        // Only the events referred to by later commands are known.
        for (org, event) in speaking {
            let of = found.org(org.0);
            let line = format!(
                "LOST      event {event} of {of}, received about {}",
                Timestamp(event.unix_ms())
            );
            let entry = || json!({"kind": "event", "id": event, "organization_number": org.0});
            found.losses.add("event", line, entry);
        }
        found.losses.finish();
        return Ok(found);
    };
    // Commands that the previous state had not applied yet are not lost.
    let is_up = before.applied() > log.end() || bring_up(before, log).is_ok();
    if is_up {
        found.differences = before.differences(store, NAMED_MAX).ok();
        found.losses.compare(before, store, change)?;
        found.losses.finish();
    }
    found.note_undone(before, store)?;
    Ok(found)
}

impl Consequences {
    /// The id and the name of an organization, as far as known.
    pub(super) fn org(&self, number: u32) -> String {
        self.called.get(&number).cloned().unwrap_or_else(|| format!("organization number {number}"))
    }

    /// Notes each change of the former state that the loss has undone: keys that ended, payloads
    /// that were erased, and replays that were over.
    fn note_undone(&mut self, before: &Store, store: &Store) -> Result<(), StateError> {
        for org in before.org_numbers().unwrap_or_default().into_values() {
            for key in before.keys_of(org)? {
                let now = store.key(key.key().id)?;
                let revived = now.and_then(|now| revived(key.key(), now.key()));
                self.revived_keys.extend(revived.map(|told| (key.key().id, told)));
            }
        }
        for (org, event) in before.erased_events()? {
            if store.event(org, event)?.is_some_and(|event| event.erased_at.is_none()) {
                self.shown_again.push(event);
            }
        }
        for (org, replay) in store.running_replays() {
            if before
                .replay(org, replay, Timestamp(0))?
                .is_some_and(|replay| replay.ended.is_some())
            {
                self.running_again.push(replay);
            }
        }
        Ok(())
    }
}

/// Returns a message about a key working longer than before the loss.
pub(super) fn revived(before: &Key, now: &Key) -> Option<&'static str> {
    match (before.has_ended(), before.is_leaving()) {
        _ if now.has_ended() => None,
        (true, _) => Some("was no longer valid and works again: revoke it"),
        (false, true) if !now.is_leaving() => {
            Some("was rotated, and its grace period is lost, so that it works on: revoke it")
        }
        (false, _) => None,
    }
}

/// Describes the change of a thing, for people.
fn change(named: &Named) -> String {
    match (&named.here, &named.other) {
        (_, None) => format!("LOST      {named}"),
        (None, Some(now)) => format!("BACK      {named}: it was deleted and exists again ({now})"),
        (Some(was), Some(now)) => format!("CHANGED   {named}: was {was}; is {now}"),
    }
}

/// Finds the ids and names of the organizations to which the orphans belong.
fn called(
    orphans: &Orphans,
    store: &Store,
    before: Option<&Store>,
) -> Result<BTreeMap<u32, String>, StateError> {
    let mut called = BTreeMap::new();
    for (number, _) in orphans.keys() {
        let of = |state: &Store| state.org_called(OrgNo(*number));
        let found = before
            .map(of)
            .transpose()?
            .flatten()
            .map_or_else(|| of(store), |found| Ok(Some(found)))?;
        called.extend(found.map(|(id, name)| (*number, format!("{id} ({name})"))));
    }
    Ok(called)
}

/// Number of commands referring to missing things, by organization number and kind.
pub(super) type Orphans = BTreeMap<(u32, String), u64>;

/// Finds commands whose organization or event is missing from the state because it was lost, and
/// these events. An event that the log or the snapshot has is missing because it has expired.
fn orphans(
    store: &Store,
    log: &Records,
    began: Began,
) -> Result<(Orphans, BTreeSet<(OrgNo, EventId)>), StateError> {
    let (mut found, mut events) = (BTreeMap::new(), BTreeSet::new());
    let mut expired = BTreeSet::new();
    let from = began.position.max(log.first());
    let Ok(records) = log.follow(from) else { return Ok((found, events)) };
    for Record { command, .. } in records.flatten() {
        let Some(org) = command.org() else { continue };
        let has_org = store.org_summary(org)?.is_some();
        for stored in command.action().stored_events().into_iter().filter(|_| has_org) {
            if store.event(org, stored)?.is_none() {
                expired.insert(stored);
            }
        }
        let event = command.event();
        let is_there = match event {
            Some(event) if event.0 <= began.last_id || expired.contains(&event) => true,
            Some(event) => store.event(org, event)?.is_some(),
            None => has_org,
        };
        if !is_there {
            *found.entry((org.0, command.action().kind().name.to_owned())).or_default() += 1;
            events.extend(event.map(|event| (org, event)));
        }
    }
    Ok((found, events))
}
