//! Replays in the model: the result of each step, the result of a whole replay, and the comparison.

use std::collections::{BTreeMap, BTreeSet};

use triggerd::commands::{
    Applied, Command, EndReplayOutcome, StartReplay, StartReplayOutcome, StepReplay,
    StepReplayOutcome,
};
use triggerd::model::delivery::Trigger;
use triggerd::model::id::{EndpointId, EventId, OrgNo, ReplayId};
use triggerd::model::replay::{ReplayEnd, ReplayOnly, ReplayRequest};
use triggerd::model::time::Timestamp;
use triggerd::store::Store;

use crate::naive::{Naive, NaiveDelivery, NaiveOrg, Stands, endpoint_wants, is_wanted};

#[derive(Clone)]
pub(crate) struct NaiveReplay {
    pub(crate) request: ReplayRequest,
    created_at: Timestamp,
    /// Events of the requested time, of all types, at the start of the replay.
    events: Vec<EventId>,
    first: EventId,
    /// The endpoints at the start of the replay, by number.
    endpoints: BTreeMap<u32, EndpointId>,
    /// The position in each endpoint that has begun; `None` when the endpoint is done.
    reached: BTreeMap<u32, Option<EventId>>,
    examined: u64,
    queued: u64,
    /// The endpoints that were disabled at their turn.
    skipped: BTreeSet<EndpointId>,
    pub(crate) ended: Option<(ReplayEnd, Timestamp)>,
}

/// The counts of a whole replay without other commands in between.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) queued: u64,
    pub(crate) examined: u64,
}

impl NaiveReplay {
    /// Returns the existing endpoints that were or will be passed over, by number.
    fn skipped(&self, org: &NaiveOrg) -> Vec<EndpointId> {
        let last_begun = self.reached.keys().next_back().copied().unwrap_or(0);
        // An endpoint below the last one begun that has not begun itself never will.
        let begins_or_goes_on = |number: &u32| match self.reached.get(number) {
            Some(at) => at.is_some(),
            None => *number > last_begun,
        };
        let is_open = |number: &u32| self.ended.is_none() && begins_or_goes_on(number);
        let is_off =
            |id: EndpointId| org.endpoint(id).is_some_and(|endpoint| !endpoint.is_enabled());
        let will_be = |number, id| self.request.endpoint.is_none() && is_open(number) && is_off(id);
        let its = self
            .endpoints
            .iter()
            .filter(|(number, id)| self.skipped.contains(id) || will_be(number, **id));
        its.map(|(_, id)| *id).filter(|id| org.endpoint(*id).is_some()).collect()
    }

    /// Leaves out events that have expired.
    pub(crate) fn pass_over(&mut self, expired: &[EventId]) {
        self.events.retain(|event| !expired.contains(event));
    }

    fn is_at(&self, number: u32, from: EventId) -> bool {
        let last_begun = self.reached.keys().next_back().copied().unwrap_or(0);
        let at = match self.reached.get(&number) {
            Some(at) => *at,
            None => {
                (number > last_begun && self.endpoints.contains_key(&number)).then_some(self.first)
            }
        };
        self.ended.is_none() && at == Some(from)
    }
}

impl NaiveOrg {
    fn number(&self, endpoint: EndpointId) -> Option<u32> {
        let place = self.made.iter().position(|made| *made == endpoint)?;
        Some(u32::try_from(place + 1).unwrap())
    }

    /// Returns the state of a delivery after its replay; `None` if unchanged.
    fn replayed(
        &self,
        only: ReplayOnly,
        endpoint: EndpointId,
        event: EventId,
        at: Timestamp,
    ) -> Option<NaiveDelivery> {
        let event =
            self.events.get(&event).filter(|event| !event.unrouted && event.erased_at.is_none())?;
        let known = event.deliveries.get(&endpoint);
        let is_asked = match (only, known.map(|delivery| delivery.stands)) {
            (_, Some(Stands::Waiting(_))) => false,
            (ReplayOnly::Failed, stands) => matches!(stands, Some(Stands::Dead(_))),
            (ReplayOnly::Missing, stands) => stands.is_none(),
            (ReplayOnly::All, _) => true,
        };
        let attempts = known.map_or(0, |delivery| delivery.attempts);
        let stands = Stands::Waiting(at);
        (is_asked && self.endpoint(endpoint).is_some()).then_some(NaiveDelivery {
            stands,
            attempts,
            base: attempts,
            at_once: false,
            trigger: Trigger::Replay,
        })
    }

    /// Returns the final counts of a replay that has just begun.
    pub(crate) fn whole(&self, replay: &NaiveReplay) -> Whole {
        let mut whole = Whole { queued: 0, examined: 0 };
        let only = replay.request.only;
        let all = replay.request.endpoint.is_none();
        let endpoints = replay.endpoints.values().filter_map(|id| self.endpoint(*id));
        for endpoint in endpoints.filter(|endpoint| !all || endpoint.is_enabled()) {
            for event in &replay.events {
                let event_type = self.events[event].event.event_type.as_str();
                let would = self.replayed(only, endpoint.id, *event, Timestamp(0)).is_some();
                let wants = only == ReplayOnly::Failed
                    || endpoint_wants(&endpoint.settings.event_types, event_type);
                whole.examined += u64::from(only != ReplayOnly::Failed || would);
                whole.queued +=
                    u64::from(would && wants && is_wanted(&replay.request.event_types, event_type));
            }
        }
        whole
    }
}

impl Naive {
    pub(crate) fn expected_of_replay(&self, command: &Command) -> Applied {
        match command {
            Command::StartReplay(start) => {
                let Some(org) = self.org(start.org) else {
                    return Applied::StartReplay(StartReplayOutcome::NotFound);
                };
                let running = org.replays.values().filter(|replay| replay.ended.is_none()).count();
                Applied::StartReplay(match start.request.endpoint {
                    Some(endpoint) if org.endpoint(endpoint).is_none() => {
                        StartReplayOutcome::NotFound
                    }
                    _ if running >= 10 => StartReplayOutcome::LimitReached,
                    _ => StartReplayOutcome::Started,
                })
            }
            Command::StepReplay(step) => {
                let replay = self.org(step.org).and_then(|org| org.replays.get(&step.replay));
                let is_there =
                    replay.is_some_and(|replay| replay.is_at(step.cursor.number, step.cursor.from));
                let (stepped, not_found) =
                    (StepReplayOutcome::Stepped, StepReplayOutcome::NotFound);
                Applied::StepReplay(if is_there { stepped } else { not_found })
            }
            Command::EndReplay(end) => {
                let is_there =
                    self.org(end.org).is_some_and(|org| org.replays.contains_key(&end.replay));
                Applied::EndReplay(if is_there {
                    EndReplayOutcome::Ended
                } else {
                    EndReplayOutcome::NotFound
                })
            }
            _ => unreachable!("no replay: {command:?}"),
        }
    }

    pub(crate) fn replaying(&mut self, command: &Command) {
        match command {
            Command::StartReplay(start) => {
                let Some(org) = self.org_mut(start.org) else { return };
                let replay = begin(org, start);
                org.replays.insert(start.replay, replay);
            }
            Command::StepReplay(step) => {
                if let Some(org) = self.org_mut(step.org) {
                    take_step(org, step);
                }
            }
            Command::EndReplay(end) => {
                let replay = self.org_mut(end.org).and_then(|org| org.replays.get_mut(&end.replay));
                if let Some(replay) = replay {
                    replay.ended = replay.ended.or(Some((end.end, end.at)));
                }
            }
            _ => {}
        }
    }
}

fn begin(org: &NaiveOrg, start: &StartReplay) -> NaiveReplay {
    let request = start.request.clone();
    let ms = |at: Timestamp| u128::from(at.0) << 80;
    let since = request.since.map_or(0, ms);
    let is_asked_for = |at: Timestamp| {
        request.since.is_none_or(|since| at >= since)
            && request.until.is_none_or(|until| at < until)
    };
    let events = org
        .events
        .iter()
        .filter(|(_, event)| is_asked_for(event.received_at))
        .map(|(id, _)| *id)
        .collect();
    let first = org.events.keys().next().copied().unwrap_or(EventId(1)).max(EventId(since));
    let asked = |endpoint: &EndpointId| request.endpoint.is_none_or(|asked| asked == *endpoint);
    let endpoints = org.made.iter().filter(|endpoint| asked(endpoint));
    let endpoints = endpoints.map(|endpoint| (org.number(*endpoint).unwrap(), *endpoint)).collect();
    NaiveReplay {
        created_at: start.at,
        events,
        first,
        endpoints,
        reached: BTreeMap::new(),
        examined: 0,
        queued: 0,
        skipped: BTreeSet::new(),
        ended: None,
        request,
    }
}

fn take_step(org: &mut NaiveOrg, step: &StepReplay) {
    let only = org.replays[&step.replay].request.only;
    let is_its = org.number(step.endpoint) == Some(step.cursor.number);
    let is_off = org.endpoint(step.endpoint).is_some_and(|endpoint| !endpoint.is_enabled());
    if is_its && is_off && org.replays[&step.replay].request.endpoint.is_none() {
        let replay = org.replays.get_mut(&step.replay).unwrap();
        replay.reached.insert(step.cursor.number, None);
        replay.skipped.insert(step.endpoint);
        return;
    }
    let mut queued = 0;
    for event in step.events.iter().filter(|_| is_its) {
        let Some(delivery) = org.replayed(only, step.endpoint, *event, step.at) else { continue };
        let event = org.events.get_mut(event).unwrap();
        event.deliveries.insert(step.endpoint, delivery);
        // The event has a delivery again.
        event.crashes = 0;
        queued += 1;
    }
    let replay = org.replays.get_mut(&step.replay).unwrap();
    replay.reached.insert(step.cursor.number, step.reached);
    replay.examined += u64::from(step.examined);
    replay.queued += queued;
}

/// Compares the lists of replays, newest first, with their counts.
pub(crate) fn check_replays(naive: &NaiveOrg, org: OrgNo, store: &Store) -> Result<(), String> {
    let found = store.replays(org, Timestamp(0)).map_err(|error| error.to_string())?;
    let found: Vec<_> = found
        .into_iter()
        .map(|it| {
            (
                it.id,
                it.request,
                it.created_at,
                (it.examined, it.queued),
                it.ended,
                it.progress >= 1.0,
                it.skipped,
            )
        })
        .collect();
    let told = |(id, it): (&ReplayId, &NaiveReplay)| {
        let is_whole = matches!(it.ended, Some((ReplayEnd::Finished, _)));
        let skipped = it.skipped(naive);
        (
            *id,
            it.request.clone(),
            it.created_at,
            (it.examined, it.queued),
            it.ended,
            is_whole,
            skipped,
        )
    };
    let expected: Vec<_> = naive.replays.iter().rev().map(told).collect();
    if found == expected {
        Ok(())
    } else {
        Err(format!("replays: {found:?}, expected {expected:?}"))
    }
}

impl NaiveReplay {
    pub(crate) fn counted(&self) -> Whole {
        Whole { queued: self.queued, examined: self.examined }
    }
}
