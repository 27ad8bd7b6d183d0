//! Activity stream: tells watchers about events that were accepted and attempts that were settled,
//! after the sync. The commands themselves make the activity
//! ([`Effects::activity`](crate::store::Effects::activity)). Nothing is kept without a watcher, and
//! a watcher that is too slow is told how many items were missed. Each organization has its own
//! channel, so that watchers neither miss nor learn anything because of another organization.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};

use crate::base::shares::{Exhausted, Share, Shares};
use crate::model::activity::Activity;
use crate::model::id::OrgNo;

/// Number of items by which a listener may be behind; a power of two.
const BEHIND_MAX: usize = 1_024;
/// Maximum number of listeners per organization.
const LISTENERS_PER_ORG_MAX: u64 = 8;
/// Maximum number of listeners of all organizations; [`Shares`] divides them.
const LISTENERS_MAX: u64 = 256;

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
    /// Number of listeners of all channels. Mostly 0, and then no activity is made.
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
    /// The organization, or all together, have too many listeners.
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

    /// Returns true if somebody listens.
    pub(super) fn is_watched(&self) -> bool {
        self.0.listeners.load(Ordering::SeqCst) > 0
    }

    /// Sends the activity of applied commands to listeners. Never waits for a listener.
    pub(super) fn publish(&self, activity: Vec<(OrgNo, Activity)>) {
        if activity.is_empty() {
            return;
        }
        let channels = self.0.channels.lock().unwrap_or_else(PoisonError::into_inner);
        for (org, activity) in activity {
            if let Some(channel) = channels.get(&org) {
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

#[cfg(test)]
#[path = "activity_stream_tests.rs"]
mod tests;
