//! Connections that wait to be used again, by where they lead; and those whose answer's body is still being read beside
//! the attempts. Called by the sender; knows nothing of requests.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::answer::Body;
use super::exchange::Link;

/// How long a connection is kept while nothing is sent over it.
const IDLE_KEPT: Duration = Duration::from_secs(30);
/// How often those that are too old or were closed are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Connections kept in all; beyond, the one goes that waited longest.
const IDLE_MAX: usize = 1_024;
/// How long the rest of a body may take whose verdict is made. Some receivers end their own work when nobody listens any
/// more, so they are listened to for a while.
const REST_WITHIN: Duration = Duration::from_secs(5);
/// Bodies whose rest is read at a time: from one place,
const RESTS_PER_PLACE_MAX: usize = 16;
/// and in all. Beyond, the connection is closed.
const RESTS_MAX: usize = 512;

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) is_secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

/// Connections that are not in use.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    idle_per_place: usize,
}

#[derive(Default)]
struct State {
    /// The longest idle first. No list is empty.
    idle: HashMap<Place, VecDeque<Idle>>,
    idle_count: usize,
    rests: HashMap<Place, usize>,
    rest_count: usize,
    /// Whether somebody looks for old ones.
    is_looked_after: bool,
}

struct Idle {
    link: Link,
    since: Instant,
}

impl Pool {
    /// One that keeps at most so many connections to one place.
    pub(super) fn new(idle_per_place: usize) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), idle_per_place }))
    }

    /// The connection to the place that was used last, if there is one that still stands as far as is known.
    pub(super) fn take(&self, place: &Place) -> Option<Link> {
        loop {
            let mut idle = self.0.state().take_last(place)?;
            if idle.since.elapsed() < IDLE_KEPT && idle.link.is_quiet() {
                return Some(idle.link);
            }
        }
    }

    /// Takes a connection back behind an answer's head: at once if its body is over, else when the rest of it was read.
    pub(super) fn take_back(&self, place: Place, mut link: Link, mut body: Body) {
        if body.is_read() {
            return self.keep(&place, link, &body);
        }
        let Some(rest) = Rest::begin(&self.0, &place) else { return };
        let pool = self.clone();
        drop(tokio::spawn(async move {
            let read = link.read(&mut body, Body::is_read);
            if tokio::time::timeout(REST_WITHIN, read).await.is_ok() {
                pool.keep(&place, link, &body);
            }
            drop(rest);
        }));
    }

    fn keep(&self, place: &Place, link: Link, body: &Body) {
        if self.0.idle_per_place == 0 || !body.frees_connection() {
            return;
        }
        let mut state = self.0.state();
        let idle = state.idle.entry(place.clone()).or_default();
        idle.push_back(Idle { link, since: Instant::now() });
        let is_over = idle.len() > self.0.idle_per_place;
        state.idle_count += 1;
        // They are closed when nobody is held up by it.
        let mut closed = Vec::new();
        if is_over {
            closed.extend(state.take_first(place));
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
    fn take_first(&mut self, place: &Place) -> Option<Idle> {
        self.take_with(place, VecDeque::pop_front)
    }

    fn take_last(&mut self, place: &Place) -> Option<Idle> {
        self.take_with(place, VecDeque::pop_back)
    }

    fn take_with(&mut self, place: &Place, take: fn(&mut VecDeque<Idle>) -> Option<Idle>) -> Option<Idle> {
        let idle = self.idle.get_mut(place)?;
        let taken = take(idle)?;
        if idle.is_empty() {
            self.idle.remove(place);
        }
        self.idle_count = self.idle_count.saturating_sub(1);
        Some(taken)
    }

    /// The place whose first connection waits longest.
    fn longest_idle(&self) -> Option<Place> {
        let firsts = self.idle.iter().filter_map(|(place, idle)| Some((idle.front()?.since, place)));
        firsts.min_by_key(|(since, _)| *since).map(|(_, place)| place.clone())
    }

    /// Takes out what is too old or was closed.
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

/// Looks for connections that are too old as long as there are any. When its runtime ends, another one may go on.
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
                // Told under the lock, so that whoever keeps the next one begins anew.
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
            // If it was over, somebody else may have begun meanwhile; a second one does no harm.
            state.is_looked_after = false;
        }
    }
}

/// A body whose rest is read.
struct Rest {
    shared: Arc<Shared>,
    place: Place,
}

impl Rest {
    /// None if there are as many as there may be.
    fn begin(shared: &Arc<Shared>, place: &Place) -> Option<Self> {
        let mut state = shared.state();
        let of_place = state.rests.get(place).copied().unwrap_or(0);
        if state.rest_count >= RESTS_MAX || of_place >= RESTS_PER_PLACE_MAX {
            return None;
        }
        state.rest_count += 1;
        state.rests.insert(place.clone(), of_place + 1);
        drop(state);
        Some(Self { shared: Arc::clone(shared), place: place.clone() })
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.rest_count = state.rest_count.saturating_sub(1);
        if let Some(of_place) = state.rests.get_mut(&self.place) {
            *of_place = of_place.saturating_sub(1);
            if *of_place == 0 {
                state.rests.remove(&self.place);
            }
        }
    }
}
