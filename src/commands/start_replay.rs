//! Command: starts a replay.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::audit::Changing;
use crate::model::id::{EventId, OrgNo, ReplayId};
use crate::model::key::Scope;
use crate::model::replay::{REPLAYS_REMEMBERED, REPLAYS_RUNNING_MAX, ReplayRequest};
use crate::model::time::Timestamp;
use crate::store::rows::schema::{ReplayRow, RunningRow};
use crate::store::{Change, StateError, Unapplied};

/// Starts a replay. Its steps are [`super::StepReplay`] commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartReplay {
    /// The organization of the replay.
    pub org: OrgNo,
    /// The id of the new replay.
    pub replay: ReplayId,
    /// The events and endpoints to be replayed.
    pub request: ReplayRequest,
    /// The time of the start.
    pub at: Timestamp,
}

/// The outcome of [`StartReplay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartReplayOutcome {
    /// The replay has started.
    Started,
    /// The organization or the endpoint does not exist.
    NotFound,
    /// The organization has [`REPLAYS_RUNNING_MAX`] running replays.
    LimitReached,
}

impl Kind for StartReplay {
    const NUMBER: u8 = 18;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Key(Scope::DeliveriesWrite);

    const IS_AUDITED: bool = true;

    type Outcome = StartReplayOutcome;

    plain_body!();

    fn audited(&self) -> Vec<Changing> {
        vec![Changing::Replay(self.replay)]
    }

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<StartReplayOutcome, Unapplied> {
        let Self { org, replay, request, at } = self;
        let Some((next, end)) = self.endpoints(change)? else {
            return Ok(StartReplayOutcome::NotFound);
        };
        let running = change.state.running.range(self.all(), REPLAYS_RUNNING_MAX)?;
        if running.len() >= REPLAYS_RUNNING_MAX {
            return Ok(StartReplayOutcome::LimitReached);
        }
        self.forget_oldest(change)?;
        let (first, last) = self.events(change)?;
        let row = ReplayRow {
            request: request.clone(),
            created_at: *at,
            first,
            last,
            next,
            end,
            cursors: Vec::new(),
            done: 0,
            skipped: Vec::new(),
            examined: 0,
            queued: 0,
            ended: None,
        };
        change.state.replays.insert_new((*org, *replay), row);
        change.state.running.insert_new((*org, *replay), RunningRow);
        change.effects.replays_began = true;
        change.note_id(replay.0)?;
        Ok(StartReplayOutcome::Started)
    }
}

impl StartReplay {
    /// Returns the first number of the replayed endpoints, and the number behind the last. `None`
    /// if the organization or the endpoint does not exist.
    fn endpoints(&self, change: &Change<'_>) -> Result<Option<(u32, u32)>, StateError> {
        let Some(org) = change.state.living_org(self.org)? else { return Ok(None) };
        let Some(endpoint) = self.request.endpoint else {
            return Ok(Some((1, org.next_endpoint)));
        };
        let row = change.state.endpoints.get(endpoint)?.filter(|row| row.org == self.org);
        Ok(row.map(|row| (row.number, row.number.saturating_add(1))))
    }

    /// The keys of all replays of the organization.
    fn all(&self) -> RangeInclusive<(OrgNo, ReplayId)> {
        (self.org, ReplayId(0))..=(self.org, ReplayId(u128::MAX))
    }

    /// Removes the oldest ended replay if there is no room for another.
    fn forget_oldest(&self, change: &mut Change<'_>) -> Result<(), StateError> {
        let known = change.state.replays.range(self.all(), REPLAYS_REMEMBERED)?;
        if known.len() >= REPLAYS_REMEMBERED
            && let Some((oldest, _)) = known.iter().find(|(_, row)| row.ended.is_some())
        {
            change.state.replays.remove(*oldest);
        }
        Ok(())
    }

    /// Returns the first and the last event that can be replayed. Later events are excluded, so
    /// that the replay ends; the first is known, so that progress can be shown.
    fn events(&self, change: &Change<'_>) -> Result<(EventId, EventId), StateError> {
        let Self { org, request, .. } = self;
        let first =
            change.state.events.range((*org, EventId(0))..=(*org, EventId(u128::MAX)), 1)?;
        let first = first.first().and_then(|(_, block)| block.existing().next());
        let first = first.map_or(EventId(1), |(_, entry)| entry.id);
        let last = change.newest_event(*org)?;
        let (since, until) = change.ids_received(*org, request.since, request.until)?;
        Ok((first.max(since), last.min(EventId(until.0.saturating_sub(1)))))
    }
}
