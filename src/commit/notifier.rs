//! Notifier: wakes the requests that wait for an event, but only when an event of a wanted type
//! came.
//!
//! The committer only notes which inboxes grew, and only while a request waits. A thread of its own
//! looks into the state for new events, once per organization and not once per request. The thread
//! wakes a few requests of each organization at a time, so that a crowd does not come back all at
//! once. Notes can be lost: every few seconds the thread looks at all organizations with waiting
//! requests.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::base::failpoint::{self, Switch};
use crate::base::threads::{Signal, Stop};
use crate::model::event::EventType;
use crate::model::id::{EventId, OrgNo};
use crate::store::{InboxNews, Store};

/// Interval at which inboxes are read even without a note.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Maximum number of requests per organization woken before a [`PAUSE`].
const WOKEN_AT_ONCE: usize = 8;
/// Pause between two rounds of waking.
const PAUSE: Duration = Duration::from_millis(1);
/// Number of waiting requests checked under one lock. Requests cannot begin or end to wait
/// meanwhile.
const WAITERS_AT_ONCE: usize = 512;

/// Returns true for event types in which a request is interested.
pub type WantsType = Box<dyn Fn(&EventType) -> bool + Send + Sync>;

/// All requests waiting for events. Cheap to clone.
#[derive(Clone, Default)]
pub struct InboxNotifier(Arc<Inner>);

#[derive(Default)]
struct Inner {
    orgs: Mutex<HashMap<OrgNo, Waiters>>,
    /// Number of waiting requests. Mostly 0, and then a note costs one load.
    count: AtomicUsize,
    grown: Mutex<HashSet<OrgNo>>,
    signal: Signal,
}

impl fmt::Debug for InboxNotifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxNotifier").field("waiting", &self.0.count).finish_non_exhaustive()
    }
}

/// The waiting requests of an organization.
struct Waiters {
    /// Events up to this id were looked at, or were there before the first request waited.
    seen: EventId,
    next: u64,
    by_number: BTreeMap<u64, Waiter>,
    /// Numbers of the requests to be woken.
    due: BTreeSet<u64>,
}

struct Waiter {
    wants: WantsType,
    woken: Arc<Notify>,
}

/// A waiting request. Dropping the listener ends the wait.
#[derive(Debug)]
pub struct InboxListener {
    notifier: InboxNotifier,
    org: OrgNo,
    number: u64,
    woken: Arc<Notify>,
}

impl InboxNotifier {
    /// Begins to wait for events after `newest`, the newest event there is. Listen first, then read
    /// the inbox, then wait: in this order no event is missed.
    pub fn listen(&self, org: OrgNo, newest: EventId, wants: WantsType) -> InboxListener {
        let woken = Arc::new(Notify::new());
        let mut orgs = self.orgs();
        let new =
            || Waiters { seen: newest, next: 0, by_number: BTreeMap::new(), due: BTreeSet::new() };
        let waiters = orgs.entry(org).or_insert_with(new);
        let number = waiters.next;
        waiters.next += 1;
        waiters.by_number.insert(number, Waiter { wants, woken: Arc::clone(&woken) });
        if self.0.count.fetch_add(1, Ordering::SeqCst) == 0 {
            // The thread may sleep without a deadline.
            self.0.signal.notify();
        }
        InboxListener { notifier: self.clone(), org, number, woken }
    }

    /// Notes new events for these organizations. Never waits.
    pub fn note(&self, orgs: &[OrgNo]) {
        if orgs.is_empty() || self.0.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        self.0.grown.lock().unwrap_or_else(PoisonError::into_inner).extend(orgs);
        self.0.signal.notify();
    }

    /// Wakes [`InboxNotifier::run`], which then sees `stop`.
    pub fn stop(&self) {
        self.0.signal.notify();
    }

    /// Wakes waiting requests until `stop` is set.
    pub fn run(&self, store: &Store, stop: &Stop) {
        let (mut looked, mut due) = (Instant::now(), HashSet::new());
        while !stop.is_set() {
            // Without waiting requests there is nothing to look for.
            let pause = match (due.is_empty(), self.0.count.load(Ordering::SeqCst)) {
                (false, _) => PAUSE,
                (true, 0) => Duration::MAX,
                (true, _) => LOOK_EVERY,
            };
            self.0.signal.wait(pause);
            let mut grown =
                std::mem::take(&mut *self.0.grown.lock().unwrap_or_else(PoisonError::into_inner));
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                grown.extend(self.orgs().keys());
            }
            for org in grown {
                self.find(store, org);
                due.insert(org);
            }
            due.retain(|org| self.wake(*org));
        }
    }

    /// Reads an organization's new events and marks the requests that want one of them as due.
    fn find(&self, store: &Store, org: OrgNo) {
        let Some(seen) = self.orgs().get(&org).map(|waiters| waiters.seen) else { return };
        let news = match store.inbox_news(org, seen) {
            Ok(news) => news,
            Err(error) => {
                tracing::error!(org = org.0, %error, "waiting requests could not be woken");
                return;
            }
        };
        if news.seen <= seen && !failpoint::is_on(Switch::WaitersWokenByAll) {
            return;
        }
        let mut from = 0;
        loop {
            let mut orgs = self.orgs();
            let Some(waiters) = orgs.get_mut(&org) else { return };
            let mut count = 0;
            for (number, waiter) in waiters.by_number.range(from..).take(WAITERS_AT_ONCE) {
                (from, count) = (number + 1, count + 1);
                if is_wanted(&news, waiter) {
                    waiters.due.insert(*number);
                }
            }
            if count < WAITERS_AT_ONCE {
                waiters.seen = waiters.seen.max(news.seen);
                return;
            }
        }
    }

    /// Wakes a few due requests of an organization. Returns true if more are due.
    fn wake(&self, org: OrgNo) -> bool {
        let mut orgs = self.orgs();
        let Some(waiters) = orgs.get_mut(&org) else { return false };
        for _ in 0..WOKEN_AT_ONCE {
            let Some(number) = waiters.due.pop_first() else { break };
            if let Some(waiter) = waiters.by_number.get(&number) {
                waiter.woken.notify_one();
            }
        }
        !waiters.due.is_empty()
    }

    fn orgs(&self) -> MutexGuard<'_, HashMap<OrgNo, Waiters>> {
        self.0.orgs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_wanted(news: &InboxNews, waiter: &Waiter) -> bool {
    failpoint::is_on(Switch::WaitersWokenByAll)
        || !news.is_complete
        || news.types.iter().any(|event_type| (waiter.wants)(event_type))
}

impl InboxListener {
    /// Waits until a wanted event came. Returns at once if such an event came since this listener
    /// was made or last waited.
    pub async fn notified(&mut self) {
        self.woken.notified().await;
    }
}

impl Drop for InboxListener {
    fn drop(&mut self) {
        let mut orgs = self.notifier.orgs();
        if let Some(waiters) = orgs.get_mut(&self.org) {
            waiters.by_number.remove(&self.number);
            waiters.due.remove(&self.number);
            if waiters.by_number.is_empty() {
                orgs.remove(&self.org);
            }
        }
        self.notifier.0.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
#[path = "notifier_tests.rs"]
mod tests;
