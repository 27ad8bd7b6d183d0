//! Activity stream: tells watchers about events that were accepted and attempts that were settled,
//! after the sync. Nothing is kept without a watcher, and a watcher that is too slow is told how
//! many items were missed. Each organization has its own channel, so that watchers neither miss nor
//! learn anything because of another organization.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};

use crate::base::shares::{Exhausted, Share, Shares};
use crate::commands::{Applied, Applying, Command, SettleAttempt, SettleOutcome, SubmitOutcome};
use crate::model::delivery::{AttemptError, Verdict};
use crate::model::endpoint::DisabledReason;
use crate::model::event::EventType;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;

/// Number of items by which a listener may be behind; a power of two.
const BEHIND_MAX: usize = 1_024;
/// Maximum number of listeners per organization.
const LISTENERS_PER_ORG_MAX: u64 = 8;
/// Maximum number of listeners of all organizations; [`Shares`] divides them.
const LISTENERS_MAX: u64 = 256;

/// An item of the activity stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activity {
    /// An event was accepted. Duplicates are not reported.
    Accepted {
        /// The id of the event.
        event: EventId,
        /// The type of the event.
        event_type: EventType,
        /// The time at which the event was received.
        received_at: Timestamp,
    },
    /// An attempt was settled.
    Attempted(Attempted),
}

/// The result of an attempt, without the receiver's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// The event of the delivery.
    pub event: EventId,
    /// The endpoint of the delivery.
    pub endpoint: EndpointId,
    /// Attempt number; the first attempt is 1.
    pub number: u32,
    /// The time at which the request began.
    pub started_at: Timestamp,
    /// Duration of the request in milliseconds.
    pub duration_ms: u32,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The error; absent if the receiver accepted the event.
    pub error: Option<AttemptError>,
    /// The consequence for the delivery; absent if the delivery was canceled meanwhile.
    pub verdict: Option<Verdict>,
    /// The reason for disabling the endpoint, if this attempt disables it.
    pub disables: Option<DisabledReason>,
}

impl Attempted {
    fn of(settle: &SettleAttempt, outcome: &SettleOutcome) -> Self {
        Self {
            event: settle.event,
            endpoint: settle.endpoint,
            number: settle.number,
            started_at: settle.outcome.started_at,
            duration_ms: settle.outcome.duration_ms,
            status: settle.outcome.status,
            error: settle
                .outcome
                .error
                .clone()
                .map(|error| error.without_receivers_words(settle.outcome.status)),
            verdict: Some(settle.verdict)
                .filter(|_| !matches!(outcome, SettleOutcome::Canceled(_))),
            disables: settle.disables,
        }
    }
}

/// The next message for a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The next item of the stream.
    Activity(Arc<Activity>),
    /// Number of items missed by a listener that was too slow.
    Missed(u64),
}

/// Sender of the activity stream. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ActivityStream(Arc<Inner>);

impl Default for ActivityStream {
    fn default() -> Self {
        Self(Arc::new(Inner {
            channels: Mutex::default(),
            listeners: AtomicUsize::new(0),
            places: Shares::new(LISTENERS_MAX, LISTENERS_PER_ORG_MAX),
        }))
    }
}

#[derive(Debug)]
struct Inner {
    places: Arc<Shares<OrgNo>>,
    channels: Mutex<HashMap<OrgNo, Channel>>,
    /// Number of listeners of all channels. Mostly 0, and then sending costs one load.
    listeners: AtomicUsize,
}

#[derive(Debug)]
struct Channel {
    sender: broadcast::Sender<Arc<Activity>>,
    listeners: usize,
}

/// Receives the activity of an organization, from the listener's creation on.
#[derive(Debug)]
pub struct ActivityListener {
    activity_stream: ActivityStream,
    _place: Share<OrgNo>,
    org: OrgNo,
    receiver: broadcast::Receiver<Arc<Activity>>,
}

impl ActivityStream {
    /// Starts listening to an organization.
    ///
    /// # Errors
    /// When the organization, or all together, have too many listeners.
    pub fn listen(&self, org: OrgNo) -> Result<ActivityListener, Exhausted> {
        let place = self.0.places.take(org, 1)?;
        let mut channels = self.0.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Channel { sender: broadcast::Sender::new(BEHIND_MAX), listeners: 0 };
        let channel = channels.entry(org).or_insert_with(new);
        channel.listeners += 1;
        self.0.listeners.fetch_add(1, Ordering::SeqCst);
        Ok(ActivityListener {
            activity_stream: self.clone(),
            _place: place,
            org,
            receiver: channel.sender.subscribe(),
        })
    }

    /// Sends the outcomes of applied commands to listeners. Never waits for a listener.
    pub(super) fn tell<'a>(&self, applied: impl Iterator<Item = (&'a Command, &'a Applying)>) {
        if self.0.listeners.load(Ordering::SeqCst) == 0 {
            return;
        }
        let channels = self.0.channels.lock().unwrap_or_else(PoisonError::into_inner);
        for (command, became) in applied {
            let Some(channel) = command.org().and_then(|org| channels.get(&org)) else { continue };
            for activity in activities(command, became) {
                // Sending fails only if the last listener is leaving.
                drop(channel.sender.send(Arc::new(activity)));
            }
        }
    }
}

impl ActivityListener {
    /// Waits for the next item.
    pub async fn next(&mut self) -> Heard {
        match self.receiver.recv().await {
            Ok(activity) => Heard::Activity(activity),
            Err(RecvError::Lagged(missed)) => Heard::Missed(missed),
            // The channel exists as long as its listeners, so this does not happen.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Returns the next item, or `None` without waiting.
    pub fn try_next(&mut self) -> Option<Heard> {
        match self.receiver.try_recv() {
            Ok(activity) => Some(Heard::Activity(activity)),
            Err(TryRecvError::Lagged(missed)) => Some(Heard::Missed(missed)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

impl Drop for ActivityListener {
    fn drop(&mut self) {
        let mut channels =
            self.activity_stream.0.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get_mut(&self.org) {
            channel.listeners -= 1;
            if channel.listeners == 0 {
                channels.remove(&self.org);
            }
        }
        self.activity_stream.0.listeners.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Returns the items of an applied command: an event, or an attempt and its operational events.
fn activities(command: &Command, became: &Applying) -> Vec<Activity> {
    match (command, became) {
        (
            Command::SubmitEvent(submit),
            Ok(Applied::SubmitEvent(SubmitOutcome::Accepted { id, received_at })),
        ) => {
            let event_type = submit.event.event_type.clone();
            let accepted = Activity::Accepted { event: *id, event_type, received_at: *received_at };
            vec![accepted]
        }
        (Command::SettleAttempt(settle), Ok(Applied::SettleAttempt(outcome)))
            if *outcome != SettleOutcome::NoEffect =>
        {
            let attempted = Activity::Attempted(Attempted::of(settle, outcome));
            let told = outcome.told().iter().map(|told| Activity::Accepted {
                event: told.id,
                event_type: told.kind.event_type(),
                received_at: told.received_at,
            });
            std::iter::once(attempted).chain(told).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
#[path = "activity_stream_tests.rs"]
mod tests;
