//! Lookups of names, on threads of their own. Used by the resolver, for deliveries and for tests of
//! endpoints alike.
//!
//! A lookup by the system (`getaddrinfo`) blocks its thread until the name servers answer or glibc
//! gives up, which can take minutes. Nothing can end it earlier: a caller that leaves frees only
//! itself. So lookups have their own threads, and each organization has a share of them, which
//! counts until the *thread* is free again. A lookup that must wait for its turn has not begun.
//! Equal names that an organization looks up at the same moment share one lookup, so a name that
//! hangs holds one thread, however many attempts need it.
//!
//! An asynchronous resolver would need no threads. But it knows neither `/etc/nsswitch.conf` nor
//! the modules named there (such as those of systemd-resolved, mDNS and LDAP), so triggerd would
//! find other addresses than every other program of the machine.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::base::library_errors::system_words;
use crate::base::metrics::Metrics;
use crate::base::shares::{Exhausted, Share, Shares};
use crate::base::threads::spawn_critical;
use crate::model::id::OrgNo;

#[cfg(test)]
#[path = "lookups_tests.rs"]
mod tests;

/// Maximum number of lookups at one time, each on its own thread.
const THREADS_MAX: usize = 64;
/// Maximum number of lookups at one time for each organization. Sixteen organizations whose lookups
/// all hang still leave threads for others.
const EACH: u64 = 4;
/// A thread without work ends after this time.
const IDLE: Duration = Duration::from_secs(10);

/// The addresses of a name, or the reason why there are none, in the system's words.
pub(super) type Found = Result<Vec<IpAddr>, String>;
/// The organization that asks, and the name.
type Key = (OrgNo, String);

/// The error for a lookup that got no thread in time, so that nothing was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no thread was free in time to look up the name")]
pub struct NoLookup(pub Exhausted);

/// The lookups of the process, which all senders share.
pub struct Lookups {
    queue: Mutex<Queue>,
    /// Notified when a lookup may begin.
    changed: Condvar,
    shares: Arc<Shares<OrgNo>>,
    metrics: Arc<Metrics>,
    look_up: Box<dyn Fn(&str) -> Found + Send + Sync>,
}

#[derive(Default)]
struct Queue {
    /// Lookups that have not begun, in the order in which they were asked for.
    waiting: VecDeque<Arc<Lookup>>,
    /// Lookups that wait or run.
    by_key: HashMap<Key, Arc<Lookup>>,
    threads: usize,
    /// Threads that wait for a lookup.
    idle: usize,
}

/// One lookup, for all callers that asked for it.
struct Lookup {
    key: Key,
    stage: watch::Sender<Stage>,
}

enum Stage {
    Waiting,
    Running,
    Done(Found),
}

/// A caller's part in a lookup. A lookup that has not begun is given up with its last caller.
pub(super) struct Asked(watch::Receiver<Stage>);

impl Asked {
    /// Waits until a thread looks up the name.
    pub(super) async fn begun(&mut self) {
        // The error of a lost lookup comes with its result.
        drop(self.0.wait_for(|stage| !matches!(stage, Stage::Waiting)).await);
    }

    /// Waits for the addresses.
    pub(super) async fn found(mut self) -> Found {
        let done = self.0.wait_for(|stage| matches!(stage, Stage::Done(_))).await;
        match done.as_deref() {
            Ok(Stage::Done(found)) => found.clone(),
            Ok(Stage::Waiting | Stage::Running) | Err(_) => {
                Err("the lookup was given up".to_owned())
            }
        }
    }
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups").field("shares", &self.shares).finish_non_exhaustive()
    }
}

impl Lookups {
    /// Makes a pool without threads; each starts when a lookup needs it.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Self::by(metrics, look_up)
    }

    fn by(
        metrics: Arc<Metrics>,
        look_up: impl Fn(&str) -> Found + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::default(),
            changed: Condvar::new(),
            shares: Shares::new(THREADS_MAX as u64, EACH),
            metrics,
            look_up: Box::new(look_up),
        })
    }

    /// Asks for the addresses of a name. The lookup begins when it is its turn.
    pub(super) fn ask(self: &Arc<Self>, org: OrgNo, name: &str) -> Asked {
        let key = (org, name.to_owned());
        let mut queue = self.lock();
        queue.forget_abandoned();
        if let Some(there) = queue.by_key.get(&key) {
            return Asked(there.stage.subscribe());
        }
        let (stage, asked) = watch::channel(Stage::Waiting);
        let lookup = Arc::new(Lookup { key: key.clone(), stage });
        queue.by_key.insert(key, Arc::clone(&lookup));
        queue.waiting.push_back(lookup);
        self.show(&queue);
        if queue.waiting.len() > queue.idle && queue.threads < THREADS_MAX {
            self.start_thread(&mut queue);
        }
        self.changed.notify_one();
        Asked(asked)
    }

    /// The reason why a lookup of this organization has to wait.
    pub(super) fn exhausted(&self, org: OrgNo) -> Exhausted {
        self.shares.take(org, 1).err().unwrap_or(Exhausted::InAll)
    }

    /// Starts a thread. It is not joined: a lookup can outlast any deadline, and changes nothing.
    fn start_thread(self: &Arc<Self>, queue: &mut Queue) {
        let pool = Arc::clone(self);
        match spawn_critical("lookup", move || pool.work()) {
            Ok(thread) => {
                drop(thread);
                queue.threads += 1;
            }
            // The lookup waits for another thread, or until its caller leaves.
            Err(error) => tracing::warn!(%error, "a thread to look up names could not start"),
        }
    }

    /// The work of a thread.
    fn work(&self) {
        while let Some((lookup, share)) = self.next() {
            lookup.stage.send_replace(Stage::Running);
            let found = (self.look_up)(&lookup.key.1);
            self.lock().by_key.remove(&lookup.key);
            lookup.stage.send_replace(Stage::Done(found));
            drop(share);
        }
    }

    /// Waits for a lookup that may begin; `None` if the thread has had nothing to do for a while.
    fn next(&self) -> Option<(Arc<Lookup>, Share<OrgNo>)> {
        let mut queue = self.lock();
        let mut has_rested = false;
        loop {
            let next = queue.take(&self.shares);
            self.show(&queue);
            if next.is_some() {
                if !queue.waiting.is_empty() {
                    self.changed.notify_one();
                }
                return next;
            }
            if has_rested {
                queue.threads -= 1;
                return None;
            }
            queue.idle += 1;
            let (locked, waited) =
                self.changed.wait_timeout(queue, IDLE).unwrap_or_else(PoisonError::into_inner);
            queue = locked;
            queue.idle -= 1;
            has_rested = waited.timed_out();
        }
    }

    fn show(&self, queue: &Queue) {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.lookups_waiting.set(count(queue.waiting.len() as u64));
        self.metrics.lookups_running.set(count(self.shares.held()));
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Takes the first lookup whose organization has room, with its share.
    fn take(&mut self, shares: &Arc<Shares<OrgNo>>) -> Option<(Arc<Lookup>, Share<OrgNo>)> {
        self.forget_abandoned();
        let mut in_order = self.waiting.iter().enumerate();
        let (place, share) = in_order
            .find_map(|(place, lookup)| Some((place, shares.take(lookup.key.0, 1).ok()?)))?;
        Some((self.waiting.remove(place)?, share))
    }

    /// Removes the waiting lookups that no caller waits for any more.
    fn forget_abandoned(&mut self) {
        let Self { waiting, by_key, .. } = self;
        waiting.retain(|lookup| {
            let is_wanted = lookup.stage.receiver_count() > 0;
            if !is_wanted {
                by_key.remove(&lookup.key);
            }
            is_wanted
        });
    }
}

/// Looks up a name as the system does it.
fn look_up(name: &str) -> Found {
    match (name, 0).to_socket_addrs() {
        Ok(found) => Ok(found.map(|address| address.ip()).collect()),
        Err(error) => Err(system_words(&error.to_string()).to_owned()),
    }
}
