//! Command: ends a replay.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::audit::Changing;
use crate::model::id::{OrgNo, ReplayId};
use crate::model::key::Scope;
use crate::model::replay::ReplayEnd;
use crate::model::time::Timestamp;
use crate::store::{Change, Unapplied};

/// Ends a replay. A replay that has ended keeps its first reason and time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndReplay {
    /// The organization of the replay.
    pub org: OrgNo,
    /// The replay to be ended.
    pub replay: ReplayId,
    /// The reason for the end.
    pub end: ReplayEnd,
    /// The time of the end.
    pub at: Timestamp,
}

/// The outcome of [`EndReplay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReplayOutcome {
    /// The replay has ended, now or before.
    Ended,
    /// The organization has no such replay.
    NotFound,
}

impl Kind for EndReplay {
    const NUMBER: u8 = 20;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Key(Scope::DeliveriesWrite);

    const IS_AUDITED: bool = true;

    type Outcome = EndReplayOutcome;

    plain_body!();

    fn audited(&self) -> Vec<Changing> {
        vec![Changing::Replay(self.replay)]
    }

    fn org(&self) -> Option<OrgNo> {
        Some(self.org)
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<EndReplayOutcome, Unapplied> {
        let key = (self.org, self.replay);
        let Some(row) = change.state.replays.load(key)? else {
            return Ok(EndReplayOutcome::NotFound);
        };
        if row.ended.is_none() {
            change.state.replays.edit_promised(key)?.ended = Some((self.end, self.at));
            change.state.running.remove(key);
        }
        Ok(EndReplayOutcome::Ended)
    }
}
