//! The connections of a worker: their number, their deadlines, and room for new ones.
//!
//! A task looks at all connections a few times a second, and more often while there are too many.
//! Then another connection ends for each newcomer; `eviction` has the order in which they end.
//!
//! While no connection can end, newcomers wait in the kernel's queue. A connection without a
//! request, or with a slow client, can end after a few tenths of a second. Busy connections are
//! marked, one for each newcomer on a spare place, and close after their answer. So newcomers get
//! in by as many at a time as there are spare places, each time after some answers.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::base::failpoint::{self, Switch};
use crate::http::edge::answers::Answers;
use crate::http::edge::connection_state::{Outlook, Phase, Pressure, Shared, Stall};
use crate::http::edge::eviction::{Holders, Moment, Rank};
use crate::http::error::Code;

/// Pause of the task between two looks at all connections.
const LOOK_EVERY: Duration = Duration::from_millis(225);
/// The additional pause, and the only one while there are too many connections.
const LOOK_SOON: Duration = Duration::from_millis(25);
/// Time within which a marked connection should close. After it, another one is marked as well.
const MARK_HOLDS: Duration = Duration::from_millis(250);
/// Maximum time between the decision to close a connection and its end.
const END_WITHIN: Duration = Duration::from_secs(5);
/// The same while there are too many connections.
const END_SOON: Duration = Duration::from_millis(500);
/// Maximum time by which a late worker spares the connections that could make room.
const LAG_MAX: Duration = Duration::from_secs(2);
/// Maximum time to read and discard the rest of a body after the answer, so the peer gets the
/// answer.
const REST_MAX: Duration = Duration::from_secs(2);
/// Minimum rate at which a peer must take its answer, in bytes a second. The kernel reports
/// progress only when about half of its buffer is taken, which is 64 KiB for a long answer: a peer
/// with less time than needed for 64 KiB at this rate must be faster.
const TAKE_BYTES_PER_SECOND_MIN: usize = 1 << 10;
/// Maximum time for an untaken answer when little room is left for other answers. With the kernel's
/// buffer, a peer that takes 4 KiB a second stays connected.
const STALL_MAX_UNDER_PRESSURE: Duration = Duration::from_secs(20);
/// Maximum number of candidates found by a single search.
const CANDIDATES: usize = 64;

/// The limits on a worker's connections.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Patience {
    /// Maximum number of connections of a worker.
    pub(in crate::http) connections_max: usize,
    /// The same with the spare ones for newcomers. No further connection is accepted.
    pub(in crate::http) places: usize,
    /// Maximum time for a head, from its first byte on; for the first head, from the beginning of
    /// the connection.
    pub(in crate::http) head: Duration,
    /// Maximum time without a request.
    pub(in crate::http) idle: Duration,
    /// Maximum time for an untaken answer with too little progress.
    pub(in crate::http) stall: Duration,
}

/// All connections of a worker.
#[derive(Debug)]
pub(in crate::http) struct Connections {
    patience: Patience,
    answers: std::sync::Arc<Answers>,
    next: Cell<u64>,
    open: RefCell<BTreeMap<u64, Rc<Shared>>>,
    holders: RefCell<Holders>,
    /// The next connections to go, the first at the end, each with its `since` at the time of the
    /// search.
    candidates: RefCell<Vec<(u64, Instant)>>,
    is_watched: Cell<bool>,
    /// When the last search found nobody to go, and the weight of the newcomer's holder.
    in_vain: Cell<Option<(Instant, u32)>>,
    /// Wakes the task when a newcomer found no room.
    no_room: Rc<Notify>,
    /// The time by which the task last ran late.
    lag: Cell<Duration>,
    pressure: Rc<Pressure>,
}

/// The slot of a connection among the others of its worker. Dropping the slot gives it back.
#[derive(Debug)]
pub(in crate::http) struct Slot {
    shared: Rc<Shared>,
    number: u64,
    connections: Weak<Connections>,
}

impl Slot {
    pub(in crate::http) fn shared(&self) -> &Rc<Shared> {
        &self.shared
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(connections) = self.connections.upgrade() {
            connections.gone(self.number);
        }
    }
}

impl Connections {
    pub(in crate::http) fn new(patience: Patience, answers: std::sync::Arc<Answers>) -> Rc<Self> {
        Rc::new(Self {
            patience,
            answers,
            next: Cell::new(0),
            open: RefCell::default(),
            holders: RefCell::new(Holders::new(patience.connections_max)),
            candidates: RefCell::default(),
            is_watched: Cell::new(false),
            in_vain: Cell::new(None),
            no_room: Rc::default(),
            lag: Cell::default(),
            pressure: Rc::default(),
        })
    }

    /// Takes a slot for a new connection of this holder. If there are too many connections,
    /// another one goes.
    pub(in crate::http) fn accept(self: &Rc<Self>, holder: Option<IpAddr>) -> Slot {
        if !self.is_watched.replace(true) {
            actix_web::rt::spawn(watch(Rc::downgrade(self), Rc::clone(&self.no_room)));
        }
        let (now, number) = (Instant::now(), self.next.replace(self.next.get() + 1));
        let shared = Rc::new(Shared::new(now, Rc::clone(&self.pressure), holder));
        self.holders.borrow_mut().came(holder);
        self.open.borrow_mut().insert(number, Rc::clone(&shared));
        if self.is_crowded() && (self.is_in_vain(now, holder) || !self.make_room(now, holder)) {
            self.no_room.notify_one();
        }
        Slot { shared, number, connections: Rc::downgrade(self) }
    }

    /// True if a search has just found nobody to go for this holder, or for one with less weight. A
    /// search for each newcomer of a busy crowd would take the processor from the requests.
    fn is_in_vain(&self, now: Instant, holder: Option<IpAddr>) -> bool {
        self.in_vain.get().is_some_and(|(at, weight)| {
            let is_fresh = now.saturating_duration_since(at) < LOOK_SOON;
            is_fresh && self.holders.borrow().weight(holder) >= weight
        })
    }

    fn gone(&self, number: u64) {
        if let Some(shared) = self.open.borrow_mut().remove(&number) {
            self.holders.borrow_mut().gone(shared.holder);
        }
    }

    /// Notes and returns whether there are too many connections.
    fn is_crowded(&self) -> bool {
        let is_crowded = self.open.borrow().len() > self.patience.connections_max;
        self.pressure.is_crowded.set(is_crowded);
        is_crowded
    }

    /// Ends connections that take too long, and makes room if there are too many.
    fn look(&self, now: Instant) {
        let open = self.open.borrow();
        let stall_max = if self.answers.is_short() {
            STALL_MAX_UNDER_PRESSURE.min(self.patience.stall)
        } else {
            self.patience.stall
        };
        let is_crowded = self.is_crowded();
        let end_within = if is_crowded { END_SOON + self.lag.get() } else { END_WITHIN };
        for shared in open.values() {
            if !is_crowded {
                shared.marked.set(None);
            }
            if let Some(outlook) = self.overdue(shared, now, (stall_max, end_within)) {
                shared.close_soon(outlook, now);
            }
        }
        let going = open
            .values()
            .filter(|shared| shared.outlook.get() != Outlook::Open || shared.leaving.get())
            .count();
        let excess = (open.len() - going).saturating_sub(self.patience.connections_max);
        // The newest ones found no room when they came.
        let asking: Vec<_> = open.values().rev().take(excess).map(|shared| shared.holder).collect();
        drop(open);
        // A holder that found no room under this weight finds none with more.
        let mut without_room = u32::MAX;
        let mut waiting = Vec::new();
        for holder in asking {
            let weight = self.holders.borrow().weight(holder);
            if weight >= without_room || !self.make_room(now, holder) {
                without_room = without_room.min(weight);
                waiting.push(holder);
            }
        }
        self.mark_busy(now, waiting);
    }

    /// Marks busy connections, as many as there are newcomers of the holders `waiting`, if no
    /// further newcomer can be accepted. A marked connection closes after its answer.
    fn mark_busy(&self, now: Instant, mut waiting: Vec<Option<IpAddr>>) {
        let (open, holders) = (self.open.borrow(), self.holders.borrow());
        if waiting.is_empty() || open.len() < self.patience.places {
            return;
        }
        let holds = MARK_HOLDS + self.lag.get();
        let (mut marked, mut busy) = (0, Vec::new());
        for (number, shared) in open.iter() {
            if shared.outlook.get() != Outlook::Open || shared.leaving.get() {
                continue;
            }
            match shared.marked.get() {
                Some(at) if now.saturating_duration_since(at) < holds => marked += 1,
                // A request that takes longer ends some time.
                Some(_) if shared.phase.get() != Phase::Head => {}
                Some(_) | None => {
                    shared.marked.set(None);
                    busy.push((Reverse(holders.busy_count(shared.holder)), *number, shared));
                }
            }
        }
        busy.sort_unstable_by_key(|(count, number, _)| (*count, *number));
        waiting.sort_unstable_by_key(|holder| holders.busy_count(*holder));
        waiting.truncate(waiting.len().saturating_sub(marked));
        for (holder, (Reverse(count), _, shared)) in waiting.into_iter().zip(busy) {
            if count >= holders.busy_count(holder) {
                shared.marked.set(Some(now));
            }
        }
    }

    /// Returns the new outlook of a connection that takes too long, or `None` for any other.
    fn overdue(
        &self,
        shared: &Shared,
        now: Instant,
        (stall_max, end_within): (Duration, Duration),
    ) -> Option<Outlook> {
        let since = |then: Instant| now.saturating_duration_since(then);
        let is_due = since(shared.outlook_since.get()) > end_within;
        match shared.outlook.get() {
            Outlook::Open if shared.leaving.get() && shared.is_arriving() && is_due => {
                return Some(Outlook::Ended);
            }
            Outlook::Open => {}
            Outlook::Refused(_) | Outlook::Yielding | Outlook::Closing => {
                return is_due.then_some(Outlook::Ended);
            }
            Outlook::Ended => return None,
        }
        if let Some(stall) = shared.stall() {
            return outlook_of_stall(shared, stall, now, stall_max);
        }
        match (shared.phase.get(), shared.head_began.get()) {
            (Phase::Head, Some(began)) if since(began) >= self.patience.head => {
                Some(Outlook::Refused(Code::RequestTimeout))
            }
            (Phase::Head, None) if since(shared.since.get()) >= self.patience.idle => {
                Some(Outlook::Closing)
            }
            (Phase::Rest, _) if since(shared.since.get()) >= REST_MAX.min(self.patience.head) => {
                Some(Outlook::Closing)
            }
            (Phase::Head | Phase::Body(_) | Phase::Chunked | Phase::Answer | Phase::Rest, _) => {
                None
            }
        }
    }

    /// Makes a single connection go, for a newcomer of this holder. Returns false if none can.
    fn make_room(&self, now: Instant, asking: Option<IpAddr>) -> bool {
        if failpoint::is_on(Switch::ConnectionsUnwatched) {
            return false;
        }
        let mut candidates = self.candidates.borrow_mut();
        let (open, holders) = (self.open.borrow(), self.holders.borrow());
        let moment = Moment { now, lag: self.lag.get(), long_idle: self.patience.head };
        for may_search in [true, false] {
            while let Some((number, since)) = candidates.pop() {
                let shared = open.get(&number).filter(|shared| shared.since.get() == since);
                let Some((shared, (_, rank, _))) = shared
                    .and_then(|shared| Some((shared, holders.sort_key(shared, asking, &moment)?)))
                else {
                    continue;
                };
                match rank {
                    Rank::WithoutRequest => shared.close_soon(Outlook::Yielding, now),
                    Rank::SlowBody | Rank::Waits => shared.ask_to_leave(now),
                    Rank::Answered | Rank::UntakenAnswer => shared.close_soon(Outlook::Ended, now),
                }
                return true;
            }
            if may_search {
                let order = |(number, shared): (&u64, &Rc<Shared>)| {
                    Some((holders.sort_key(shared, asking, &moment)?, *number))
                };
                let mut all: Vec<_> = open.iter().filter_map(order).collect();
                all.sort_unstable();
                all.truncate(CANDIDATES);
                candidates
                    .extend(all.into_iter().rev().map(|((.., since), number)| (number, since)));
            }
        }
        self.in_vain.set(Some((now, holders.weight(asking))));
        false
    }
}

/// Returns the new outlook of a connection whose peer takes its answer too slowly; begins a new
/// measurement for a peer that is fast enough.
fn outlook_of_stall(
    shared: &Shared,
    stall: Stall,
    now: Instant,
    stall_max: Duration,
) -> Option<Outlook> {
    let waited = now.saturating_duration_since(stall.since);
    if waited < stall_max {
        return None;
    }
    let seconds = usize::try_from(waited.as_secs()).unwrap_or(usize::MAX);
    if stall.taken < seconds.saturating_mul(TAKE_BYTES_PER_SECOND_MIN) {
        return Some(Outlook::Ended);
    }
    shared.measure_stall_from(now);
    None
}

/// Looks at the connections at intervals, as long as the worker exists.
async fn watch(connections: Weak<Connections>, no_room: Rc<Notify>) {
    let mut pause = LOOK_EVERY;
    loop {
        // A newcomer without room ends the pause: nobody can go just now, but soon somebody can.
        drop(timeout(pause, no_room.notified()).await);
        let began = Instant::now();
        actix_web::rt::time::sleep(LOOK_SOON).await;
        let Some(connections) = connections.upgrade() else { return };
        connections.lag.set(began.elapsed().saturating_sub(LOOK_SOON).min(LAG_MAX));
        if !failpoint::is_on(Switch::ConnectionsUnwatched) {
            connections.look(Instant::now());
        }
        pause = if connections.is_crowded() { Duration::ZERO } else { LOOK_EVERY };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::principal::Principal;
    use crate::model::id::OrgNo;

    #[test]
    fn an_answer_may_wait_as_long_as_the_kernel_needs_to_say_that_some_was_taken() {
        let patience = Patience {
            connections_max: 10,
            places: 11,
            head: Duration::from_mins(1),
            idle: Duration::from_mins(1),
            stall: Duration::from_mins(1),
        };
        let answers = std::sync::Arc::new(Answers::new(1 << 20));
        let connections = Connections::new(patience, std::sync::Arc::clone(&answers));
        let began = Instant::now();
        let outlook_after = |seconds| {
            let shared = Rc::new(Shared::new(began, Rc::default(), None));
            shared.measure_stall_from(began);
            shared.is_stalled.set(true);
            connections.open.borrow_mut().insert(0, Rc::clone(&shared));
            connections.look(began + Duration::from_secs(seconds));
            shared.outlook.get()
        };
        assert_eq!([59, 60].map(outlook_after), [Outlook::Open, Outlook::Ended]);
        let all_of = |org| {
            std::iter::from_fn(move || Some(org)).map_while(|org| answers.take(org, 4_096, 1).ok())
        };
        let _first: Vec<_> = all_of(Principal::Org(OrgNo(1))).collect();
        assert_eq!(
            [59, 60].map(outlook_after),
            [Outlook::Open, Outlook::Ended],
            "one organization shortens nothing"
        );
        let _second: Vec<_> = all_of(Principal::Org(OrgNo(2))).collect();
        assert_eq!([19, 20].map(outlook_after), [Outlook::Open, Outlook::Ended]);
    }

    #[test]
    fn a_busy_connection_is_marked_for_nobody_whose_holder_has_more() {
        let patience = Patience {
            connections_max: 4,
            places: 5,
            head: Duration::from_mins(1),
            idle: Duration::from_mins(1),
            stall: Duration::from_mins(1),
        };
        let [one, few, many] = [1, 2, 3].map(|number| Some(IpAddr::from([192, 0, 2, number])));
        // In the order of their age. A trusted proxy has no holder.
        let holders = [one, None, few, many, few, many, many];
        let marked_for = |waiting: &[Option<IpAddr>]| {
            let connections = Connections::new(patience, std::sync::Arc::new(Answers::new(1)));
            let now = Instant::now();
            for (number, holder) in (0..).zip(holders) {
                connections.holders.borrow_mut().came(holder);
                let shared = Rc::new(Shared::new(now, Rc::default(), holder));
                connections.open.borrow_mut().insert(number, shared);
            }
            connections.mark_busy(now, waiting.to_vec());
            // Newcomers that wait are not counted twice.
            connections.mark_busy(now, waiting.to_vec());
            let open = connections.open.borrow();
            let marked = open.iter().filter(|(_, shared)| shared.marked.get().is_some());
            marked.map(|(number, _)| *number).collect::<Vec<_>>()
        };
        assert_eq!(marked_for(&[many]), [3], "its own oldest");
        assert_eq!(marked_for(&[few]), [3], "the oldest of the holder with most");
        assert_eq!(marked_for(&[many, many, many, many]), [3, 5, 6], "only its own");
        assert_eq!(marked_for(&[few, few, few, few, few, few, few]), [2, 3, 4, 5, 6]);
        for single in [one, None] {
            assert_eq!(marked_for(&[single; 6]), [0, 2, 3, 4, 5, 6], "equals take turns");
        }
    }
}
