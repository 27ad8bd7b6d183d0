//! Idle connections by destination, and connections whose answer is still being read beside the
//! attempts. Called by the sender; knows nothing of requests.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::answer::Body;
use super::exchange::Link;

/// How long an idle connection is kept.
const IDLE_KEPT: Duration = Duration::from_secs(30);
/// How often old and closed connections are removed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Maximum number of idle connections. Beyond the limit, the longest idle connection is closed.
const IDLE_MAX: usize = 1_024;
/// Maximum time to read the rest of a body after the verdict. Some receivers stop their work when
/// the connection closes, so it stays open for a while.
const REST_WITHIN: Duration = Duration::from_secs(5);
/// Maximum number of rests read at a time from one destination. Beyond the limit, the connection is
/// closed.
const RESTS_PER_ORIGIN_MAX: usize = 16;
/// Maximum number of rests read at a time. Beyond the limit, the connection is closed.
const RESTS_MAX: usize = 512;

/// The destination of a connection: scheme, host and port (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) is_secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

/// Connections that are not used by an attempt.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    idle_per_origin: usize,
}

#[derive(Default)]
struct State {
    /// Idle connections, the longest idle first. No list is empty.
    idle: HashMap<Origin, VecDeque<Idle>>,
    idle_count: usize,
    rests: HashMap<Origin, usize>,
    rest_count: usize,
    /// Set while a task removes old connections.
    is_looked_after: bool,
}

struct Idle {
    link: Link,
    since: Instant,
}

impl Pool {
    /// Makes a pool with at most `idle_per_origin` idle connections to a destination.
    pub(super) fn new(idle_per_origin: usize) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), idle_per_origin }))
    }

    /// Returns the idle connection to the destination that was used last, unless it is too old or
    /// closed.
    pub(super) fn take(&self, origin: &Origin) -> Option<Link> {
        loop {
            let mut idle = self.0.state().take_last(origin)?;
            if idle.since.elapsed() < IDLE_KEPT && idle.link.is_quiet() {
                return Some(idle.link);
            }
        }
    }

    /// Takes a connection after the head of an answer: at once if the body is complete, otherwise
    /// after its rest.
    pub(super) fn take_back(&self, origin: Origin, mut link: Link, mut body: Body) {
        if body.is_read() {
            return self.keep(&origin, link, &body);
        }
        let Some(rest) = Rest::begin(&self.0, &origin) else { return };
        let pool = self.clone();
        drop(tokio::spawn(async move {
            let read = link.read(&mut body, Body::is_read);
            if tokio::time::timeout(REST_WITHIN, read).await.is_ok() {
                pool.keep(&origin, link, &body);
            }
            drop(rest);
        }));
    }

    fn keep(&self, origin: &Origin, link: Link, body: &Body) {
        if self.0.idle_per_origin == 0 || !body.frees_connection() {
            return;
        }
        let mut state = self.0.state();
        let idle = state.idle.entry(origin.clone()).or_default();
        idle.push_back(Idle { link, since: Instant::now() });
        let is_over = idle.len() > self.0.idle_per_origin;
        state.idle_count += 1;
        // Closed after the lock is released, so that no other attempt waits.
        let mut closed = Vec::new();
        if is_over {
            closed.extend(state.take_first(origin));
        }
        if state.idle_count > IDLE_MAX
            && let Some(longest) = state.longest_idle()
        {
            closed.extend(state.take_first(&longest));
        }
        let is_looked_after = std::mem::replace(&mut state.is_looked_after, true);
        drop(state);
        drop(closed);
        if !is_looked_after {
            let looking = Looking(Arc::downgrade(&self.0));
            drop(tokio::spawn(looking.run()));
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_first(&mut self, origin: &Origin) -> Option<Idle> {
        self.take_with(origin, VecDeque::pop_front)
    }

    fn take_last(&mut self, origin: &Origin) -> Option<Idle> {
        self.take_with(origin, VecDeque::pop_back)
    }

    fn take_with(
        &mut self,
        origin: &Origin,
        take: fn(&mut VecDeque<Idle>) -> Option<Idle>,
    ) -> Option<Idle> {
        let idle = self.idle.get_mut(origin)?;
        let taken = take(idle)?;
        if idle.is_empty() {
            self.idle.remove(origin);
        }
        self.idle_count = self.idle_count.saturating_sub(1);
        Some(taken)
    }

    /// The destination with the longest idle connection.
    fn longest_idle(&self) -> Option<Origin> {
        let firsts =
            self.idle.iter().filter_map(|(origin, idle)| Some((idle.front()?.since, origin)));
        firsts.min_by_key(|(since, _)| *since).map(|(_, origin)| origin.clone())
    }

    /// Removes old and closed connections.
    fn take_dead(&mut self) -> Vec<Idle> {
        let mut dead = Vec::new();
        for idle in self.idle.values_mut() {
            for _ in 0..idle.len() {
                let Some(mut one) = idle.pop_front() else { break };
                if one.since.elapsed() < IDLE_KEPT && one.link.is_quiet() {
                    idle.push_back(one);
                } else {
                    dead.push(one);
                }
            }
        }
        self.idle.retain(|_, idle| !idle.is_empty());
        self.idle_count = self.idle_count.saturating_sub(dead.len());
        dead
    }
}

/// The task that removes old connections while there are any. If its runtime ends, another task can
/// start.
struct Looking(Weak<Shared>);

impl Looking {
    async fn run(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(shared) = self.0.upgrade() else { return };
            let mut state = shared.state();
            let dead = state.take_dead();
            let is_over = state.idle_count == 0;
            if is_over {
                // Reset under the lock, so that the next kept connection starts a new task.
                state.is_looked_after = false;
            }
            drop(state);
            drop(dead);
            if is_over {
                return;
            }
        }
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            let mut state = shared.state();
            // After the end of the task another may already run; two tasks do no harm.
            state.is_looked_after = false;
        }
    }
}

/// A slot for reading the rest of a body.
struct Rest {
    shared: Arc<Shared>,
    origin: Origin,
}

impl Rest {
    /// Takes a slot; `None` if a limit is reached.
    fn begin(shared: &Arc<Shared>, origin: &Origin) -> Option<Self> {
        let mut state = shared.state();
        let of_origin = state.rests.get(origin).copied().unwrap_or(0);
        if state.rest_count >= RESTS_MAX || of_origin >= RESTS_PER_ORIGIN_MAX {
            return None;
        }
        state.rest_count += 1;
        state.rests.insert(origin.clone(), of_origin + 1);
        drop(state);
        Some(Self { shared: Arc::clone(shared), origin: origin.clone() })
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.rest_count = state.rest_count.saturating_sub(1);
        if let Some(of_origin) = state.rests.get_mut(&self.origin) {
            *of_origin = of_origin.saturating_sub(1);
            if *of_origin == 0 {
                state.rests.remove(&self.origin);
            }
        }
    }
}
