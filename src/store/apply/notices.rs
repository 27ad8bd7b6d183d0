//! Operational events that an attempt causes: stored with its settling, if that made them true.

use super::{Change, Told};
use crate::model::command::SettleAttempt;
use crate::model::delivery::Verdict;
use crate::model::id::EndpointId;
use crate::model::notice::{Notice, NoticeKind};
use crate::model::time::Timestamp;
use crate::store::StateError;

/// How an endpoint stood before an attempt to it was settled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    is_enabled: bool,
    failing_since: Option<Timestamp>,
}

impl Change<'_> {
    pub(super) fn before(&self, endpoint: EndpointId) -> Result<Before, StateError> {
        let is_enabled = self.state.endpoints.get(endpoint)?.is_some_and(|row| row.endpoint.is_enabled());
        let failing_since = self.state.health.get(endpoint)?.and_then(|health| health.failing_since);
        Ok(Before { is_enabled, failing_since })
    }

    /// Whoever judged the attempt saw the state a while ago, and others may have judged theirs at the same time: only what
    /// this settling changed is told.
    /// The delivery of one that was canceled is not dead.
    pub(super) fn tell(
        &mut self,
        command: &SettleAttempt,
        before: Option<Before>,
        was_canceled: bool,
    ) -> Result<Vec<Told>, StateError> {
        let mut told = Vec::new();
        let Some(before) = before else { return Ok(told) };
        for notice in &command.notices {
            self.note_id(notice.id.0)?;
            let is_possible = !(was_canceled && notice.kind == NoticeKind::DeliveryDead);
            if is_possible && self.is_true(command, notice, before)? {
                self.take_in(&command.event_of(notice))?;
                told.push(Told { kind: notice.kind, id: notice.id, received_at: notice.received_at });
            }
        }
        Ok(told)
    }

    fn is_true(&mut self, command: &SettleAttempt, notice: &Notice, before: Before) -> Result<bool, StateError> {
        match notice.kind {
            NoticeKind::DeliveryDead => Ok(matches!(command.verdict, Verdict::Dead(_))),
            NoticeKind::EndpointDisabled => Ok(before.is_enabled && command.disables.is_some()),
            NoticeKind::EndpointFailing => {
                let since = notice.failing_since;
                let fails = command.outcome.error.is_some();
                let goes_on = fails && since.is_some() && since == before.failing_since;
                let Some(health) = self.state.health.edit(command.endpoint)?.filter(|_| goes_on) else {
                    return Ok(false);
                };
                Ok(std::mem::replace(&mut health.failing_told, since) != since)
            }
            NoticeKind::EndpointRecovered => {
                let accepted = command.outcome.error.is_none();
                let health = self.state.health.edit(command.endpoint)?.filter(|_| accepted);
                Ok(health.is_some_and(|health| health.failing_told.take().is_some()))
            }
            // No attempt causes it.
            NoticeKind::DiskLow => Ok(false),
        }
    }
}
