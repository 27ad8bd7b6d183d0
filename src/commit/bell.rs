//! Wakes requests that wait for an event: those that wait for one of its type, and no others.
//!
//! The committer only notes down which inboxes grew, and only while somebody waits. A thread of its own looks into the state for
//! what came, once for an organization and not once for each that waits there, and wakes whom it concerns: a few of each
//! organization at a time, so that a crowd that waits for the same does not come all at once. A note can be lost: every few
//! seconds it looks at all organizations where somebody waits, from where it was.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::base::sabotage::{self, Switch};
use crate::base::threads::{Signal, Stop};
use crate::model::event::EventType;
use crate::model::id::{EventId, OrgNo};
use crate::store::{InboxNews, Store};

/// How often it is looked without a note.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Of one organization so many are woken at a time,
const WOKEN_AT_ONCE: usize = 8;
/// and more after this pause.
const PAUSE: Duration = Duration::from_millis(1);
/// Waiting requests that are looked at while nobody else can begin or end to wait.
const WAITERS_AT_ONCE: usize = 512;

/// Which types a request waits for.
pub type WantsType = Box<dyn Fn(&EventType) -> bool + Send + Sync>;

/// Who waits for events.
#[derive(Clone, Default)]
pub struct InboxBell(Arc<Inner>);

#[derive(Default)]
struct Inner {
    orgs: Mutex<HashMap<OrgNo, Waiters>>,
    /// How many requests wait: none most of the time, and then ringing costs one load.
    count: AtomicUsize,
    grown: Mutex<HashSet<OrgNo>>,
    signal: Signal,
}

impl fmt::Debug for InboxBell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxBell").field("waiting", &self.0.count).finish_non_exhaustive()
    }
}

/// Those of one organization.
struct Waiters {
    /// What came up to this event was looked at, or was there before anybody waited.
    seen: EventId,
    next: u64,
    by_number: BTreeMap<u64, Waiter>,
    /// Those of them that are to be woken.
    due: BTreeSet<u64>,
}

struct Waiter {
    wants: WantsType,
    woken: Arc<Notify>,
}

/// Somebody who waits.
#[derive(Debug)]
pub struct InboxListener {
    bell: InboxBell,
    org: OrgNo,
    number: u64,
    woken: Arc<Notify>,
}

impl InboxBell {
    /// Begins to wait for what is behind `newest`, the newest event there is. Listen first, then look into the inbox, then wait: so
    /// nothing is missed in between.
    pub fn listen(&self, org: OrgNo, newest: EventId, wants: WantsType) -> InboxListener {
        let woken = Arc::new(Notify::new());
        let mut orgs = self.orgs();
        let new = || Waiters { seen: newest, next: 0, by_number: BTreeMap::new(), due: BTreeSet::new() };
        let waiters = orgs.entry(org).or_insert_with(new);
        let number = waiters.next;
        waiters.next += 1;
        waiters.by_number.insert(number, Waiter { wants, woken: Arc::clone(&woken) });
        if self.0.count.fetch_add(1, Ordering::SeqCst) == 0 {
            // The thread may sleep without an end.
            self.0.signal.notify();
        }
        InboxListener { bell: self.clone(), org, number, woken }
    }

    /// Notes down that events came for these organizations. Never waits.
    pub fn ring(&self, orgs: &[OrgNo]) {
        if orgs.is_empty() || self.0.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        self.0.grown.lock().unwrap_or_else(PoisonError::into_inner).extend(orgs);
        self.0.signal.notify();
    }

    /// Ends [`InboxBell::run`].
    pub fn stop(&self) {
        self.0.signal.notify();
    }

    /// Wakes who waits, until `stop`.
    pub fn run(&self, store: &Store, stop: &Stop) {
        let (mut looked, mut due) = (Instant::now(), HashSet::new());
        while !stop.is_set() {
            // Without anybody who waits there is nothing to look for.
            let pause = match (due.is_empty(), self.0.count.load(Ordering::SeqCst)) {
                (false, _) => PAUSE,
                (true, 0) => Duration::MAX,
                (true, _) => LOOK_EVERY,
            };
            self.0.signal.wait(pause);
            let mut grown = std::mem::take(&mut *self.0.grown.lock().unwrap_or_else(PoisonError::into_inner));
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

    /// Notes down who is to be woken in an organization for what came since the last time.
    fn find(&self, store: &Store, org: OrgNo) {
        let Some(seen) = self.orgs().get(&org).map(|waiters| waiters.seen) else { return };
        let news = match store.inbox_news(org, seen) {
            Ok(news) => news,
            Err(error) => {
                tracing::error!(org = org.0, %error, "waiting requests could not be woken");
                return;
            }
        };
        if news.seen <= seen && !sabotage::is_on(Switch::WaitersWokenByAll) {
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

    /// Wakes some of an organization; says whether there are more.
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
    sabotage::is_on(Switch::WaitersWokenByAll)
        || !news.is_complete
        || news.types.iter().any(|event_type| (waiter.wants)(event_type))
}

impl InboxListener {
    /// Waits until something came that is wanted; at once if it did since this listener was made or last waited.
    pub async fn rung(&mut self) {
        self.woken.notified().await;
    }
}

impl Drop for InboxListener {
    fn drop(&mut self) {
        let mut orgs = self.bell.orgs();
        if let Some(waiters) = orgs.get_mut(&self.org) {
            waiters.by_number.remove(&self.number);
            waiters.due.remove(&self.number);
            if waiters.by_number.is_empty() {
                orgs.remove(&self.org);
            }
        }
        self.bell.0.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
#[path = "bell_tests.rs"]
mod tests;
