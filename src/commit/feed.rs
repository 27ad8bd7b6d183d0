//! Tells those who watch what just happened: events that were accepted and attempts that were settled, after they are on
//! stable storage. Nothing is kept for anybody who does not watch, and who watches too slowly misses some and is told how
//! many. Each organization has a channel of its own, so that nobody misses anything, or learns anything, because of another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};

use crate::base::shares::{Exhausted, Share, Shares};
use crate::commands::{Applied, Became, Command, SettleAttempt, SettleOutcome, SubmitOutcome};
use crate::model::delivery::{AttemptError, Verdict};
use crate::model::endpoint::DisabledReason;
use crate::model::event::EventType;
use crate::model::id::{EndpointId, EventId, OrgNo};
use crate::model::time::Timestamp;

/// Happenings that a listener may be behind: a power of two.
const BEHIND_MAX: usize = 1_024;
/// Listeners of one organization,
const LISTENERS_PER_ORG_MAX: u64 = 8;
/// and of all together; how they are shared says [`Shares`].
const LISTENERS_MAX: u64 = 256;

/// Something that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// An event was taken in; not one that was known already.
    Accepted {
        /// Which.
        event: EventId,
        /// Its type.
        event_type: EventType,
        /// When.
        received_at: Timestamp,
    },
    /// An attempt was settled.
    Attempted(Attempted),
}

/// What an attempt brought, without what the receiver said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// Of which event.
    pub event: EventId,
    /// Where to.
    pub endpoint: EndpointId,
    /// The first attempt is 1.
    pub number: u32,
    /// When the request began,
    pub started_at: Timestamp,
    /// and how long it took.
    pub duration_ms: u32,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// None: accepted.
    pub error: Option<AttemptError>,
    /// What follows from it; none: the delivery had been canceled meanwhile.
    pub verdict: Option<Verdict>,
    /// Why the endpoint gets nothing from now on.
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
            error: settle.outcome.error.clone().map(|error| error.without_receivers_words(settle.outcome.status)),
            verdict: Some(settle.verdict).filter(|_| !matches!(outcome, SettleOutcome::Canceled(_))),
            disables: settle.disables,
        }
    }
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The next thing that happened.
    Happening(Arc<Happening>),
    /// It was too slow for so many.
    Missed(u64),
}

/// Where it is told. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Inner>);

impl Default for Feed {
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
    /// Of all channels: nobody listens most of the time, and then telling costs one load.
    listeners: AtomicUsize,
}

#[derive(Debug)]
struct Channel {
    sender: broadcast::Sender<Arc<Happening>>,
    listeners: usize,
}

/// Hears what happens in one organization from its making on.
#[derive(Debug)]
pub struct FeedListener {
    feed: Feed,
    _place: Share<OrgNo>,
    org: OrgNo,
    receiver: broadcast::Receiver<Arc<Happening>>,
}

impl Feed {
    /// Begins to listen.
    ///
    /// # Errors
    /// When too many do.
    pub fn listen(&self, org: OrgNo) -> Result<FeedListener, Exhausted> {
        let place = self.0.places.take(org, 1)?;
        let mut channels = self.0.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Channel { sender: broadcast::Sender::new(BEHIND_MAX), listeners: 0 };
        let channel = channels.entry(org).or_insert_with(new);
        channel.listeners += 1;
        self.0.listeners.fetch_add(1, Ordering::SeqCst);
        Ok(FeedListener { feed: self.clone(), _place: place, org, receiver: channel.sender.subscribe() })
    }

    /// Tells what became of commands that are applied. Never waits for a listener.
    pub(super) fn tell<'a>(&self, applied: impl Iterator<Item = (&'a Command, &'a Became)>) {
        if self.0.listeners.load(Ordering::SeqCst) == 0 {
            return;
        }
        let channels = self.0.channels.lock().unwrap_or_else(PoisonError::into_inner);
        for (command, became) in applied {
            let Some(channel) = command.org().and_then(|org| channels.get(&org)) else { continue };
            for happening in happenings(command, became) {
                // Nobody but a listener that is about to leave can have gone meanwhile.
                drop(channel.sender.send(Arc::new(happening)));
            }
        }
    }
}

impl FeedListener {
    /// Waits for the next thing that happens.
    pub async fn next(&mut self) -> Heard {
        match self.receiver.recv().await {
            Ok(happening) => Heard::Happening(happening),
            Err(RecvError::Lagged(missed)) => Heard::Missed(missed),
            // The channel stays as long as it has a listener.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }

    /// What has happened already; none if that was all.
    pub fn try_next(&mut self) -> Option<Heard> {
        match self.receiver.try_recv() {
            Ok(happening) => Some(Heard::Happening(happening)),
            Err(TryRecvError::Lagged(missed)) => Some(Heard::Missed(missed)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

impl Drop for FeedListener {
    fn drop(&mut self) {
        let mut channels = self.feed.0.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get_mut(&self.org) {
            channel.listeners -= 1;
            if channel.listeners == 0 {
                channels.remove(&self.org);
            }
        }
        self.feed.0.listeners.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The happenings of an applied command: an event, or an attempt and the events that it caused.
fn happenings(command: &Command, became: &Became) -> Vec<Happening> {
    match (command, became) {
        (Command::SubmitEvent(submit), Ok(Applied::SubmitEvent(SubmitOutcome::Accepted { id, received_at }))) => {
            let event_type = submit.event.event_type.clone();
            let accepted = Happening::Accepted { event: *id, event_type, received_at: *received_at };
            vec![accepted]
        }
        (Command::SettleAttempt(settle), Ok(Applied::SettleAttempt(outcome))) if *outcome != SettleOutcome::Moot => {
            let attempted = Happening::Attempted(Attempted::of(settle, outcome));
            let told = outcome.told().iter().map(|told| Happening::Accepted {
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
#[path = "feed_tests.rs"]
mod tests;
