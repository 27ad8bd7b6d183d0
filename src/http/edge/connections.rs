//! The connections of a worker: their number, their deadlines, and the order in which they make
//! room.
//!
//! A task looks at all connections a few times a second. When there are too many, connections
//! without a request go first, the longest idle before the others. Next, requests that only wait
//! for an event are answered early. Last go connections whose body or answer makes no progress. A
//! request under work is never ended for others.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use actix_web::rt::net::TcpStream;

use crate::base::failpoint::{self, Switch};
use crate::http::edge::answers::Answers;
use crate::http::edge::connection::Connection;
use crate::http::edge::connection_state::{Outlook, Phase, Shared};
use crate::http::error::Code;

/// How often the task looks at all connections.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Maximum time between the decision to close a connection and its end.
const END_WITHIN: Duration = Duration::from_secs(5);
/// Maximum time to read and discard the rest of a body after the answer, so the peer gets the
/// answer.
const REST_MAX: Duration = Duration::from_secs(2);
/// Minimum rate at which a peer must take its answer, in bytes a second. The kernel reports
/// progress only when about half of its buffer, 64 KiB, is taken: a peer with less time than needed
/// for 64 KiB at this rate must be faster.
const TAKE_BYTES_PER_SECOND_MIN: usize = 1 << 10;
/// Maximum time for an untaken answer when little room is left for other answers. With the kernel's
/// buffer, a peer that takes 4 KiB a second stays connected.
const STALL_MAX_UNDER_PRESSURE: Duration = Duration::from_secs(20);
/// Time for which a connection without a request is spared, because a request may already be here.
const GRACE: Duration = Duration::from_millis(250);
/// Maximum number of candidates found by a single search.
const CANDIDATES: usize = 64;

/// The limits on a worker's connections.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Patience {
    /// Maximum number of connections of a worker.
    pub(in crate::http) connections_max: usize,
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
    /// The next connections to go, the first at the end, each with its `since` at the time of the
    /// search.
    candidates: RefCell<Vec<(u64, Instant)>>,
    is_watched: Cell<bool>,
    /// Bytes of large heads arriving at this worker.
    heads: Rc<Cell<usize>>,
}

impl Connections {
    pub(in crate::http) fn new(patience: Patience, answers: std::sync::Arc<Answers>) -> Rc<Self> {
        Rc::new(Self {
            patience,
            answers,
            next: Cell::new(0),
            open: RefCell::default(),
            candidates: RefCell::default(),
            is_watched: Cell::new(false),
            heads: Rc::default(),
        })
    }

    /// Adds a new connection. If there are too many, another connection goes.
    pub(in crate::http) fn accept(self: &Rc<Self>, stream: TcpStream) -> Connection {
        if !self.is_watched.replace(true) {
            actix_web::rt::spawn(watch(Rc::downgrade(self)));
        }
        let (now, number) = (Instant::now(), self.next.replace(self.next.get() + 1));
        let connection = Connection::new(
            stream,
            Shared::new(now, Rc::clone(&self.heads)),
            (number, Rc::downgrade(self)),
        );
        self.open.borrow_mut().insert(number, Rc::clone(connection.shared()));
        if self.open.borrow().len() > self.patience.connections_max {
            self.make_room(now);
        }
        connection
    }

    pub(in crate::http) fn gone(&self, number: u64) {
        self.open.borrow_mut().remove(&number);
    }

    /// Ends connections that take too long, and makes room if there are too many.
    fn look(&self, now: Instant) {
        let open = self.open.borrow();
        let stall_max = if self.answers.is_short() {
            STALL_MAX_UNDER_PRESSURE.min(self.patience.stall)
        } else {
            self.patience.stall
        };
        for shared in open.values() {
            if let Some(outlook) = self.overdue(shared, now, stall_max) {
                shared.close_soon(outlook, now);
            }
        }
        let going = open
            .values()
            .filter(|shared| shared.outlook.get() != Outlook::Open || shared.leaving.get())
            .count();
        let excess = (open.len() - going).saturating_sub(self.patience.connections_max);
        drop(open);
        for _ in 0..excess {
            self.make_room(now);
        }
    }

    /// Returns the new fate of a connection that takes too long, or `None` for any other.
    fn overdue(&self, shared: &Shared, now: Instant, stall_max: Duration) -> Option<Outlook> {
        let since = |then: Instant| now.saturating_duration_since(then);
        match shared.outlook.get() {
            Outlook::Open => {}
            Outlook::Refused(_) | Outlook::Closing => {
                return (since(shared.outlook_since.get()) > END_WITHIN).then_some(Outlook::Ended);
            }
            Outlook::Ended => return None,
        }
        if let Some(stall) = shared.stall() {
            let waited = since(stall.since);
            if waited < stall_max {
                return None;
            }
            let least =
                usize::try_from(waited.as_secs()).unwrap_or(usize::MAX) * TAKE_BYTES_PER_SECOND_MIN;
            if stall.taken < least {
                return Some(Outlook::Ended);
            }
            shared.measure_stall_from(now);
            return None;
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

    /// Makes a single connection go, if any can.
    fn make_room(&self, now: Instant) {
        if failpoint::is_on(Switch::ConnectionsUnwatched) {
            return;
        }
        let mut candidates = self.candidates.borrow_mut();
        let open = self.open.borrow();
        for may_search in [true, false] {
            while let Some((number, since)) = candidates.pop() {
                let Some(shared) = open.get(&number).filter(|shared| shared.since.get() == since)
                else {
                    continue;
                };
                match self.rank(shared, now) {
                    Some(Rank::WithoutRequest) => shared.close_soon(Outlook::Closing, now),
                    Some(Rank::Waits) => shared.ask_to_leave(),
                    Some(Rank::Slow) => shared.close_soon(Outlook::Ended, now),
                    None => continue,
                }
                return;
            }
            if may_search {
                let rank = |(number, shared): (&u64, &Rc<Shared>)| {
                    Some((self.rank(shared, now)?, shared.since.get(), *number))
                };
                let mut all: Vec<_> = open.iter().filter_map(rank).collect();
                all.sort_unstable();
                all.truncate(CANDIDATES);
                candidates.extend(all.into_iter().rev().map(|(_, since, number)| (number, since)));
            }
        }
    }

    /// Returns the rank of a connection that can make room, or `None` if the connection must stay.
    fn rank(&self, shared: &Shared, now: Instant) -> Option<Rank> {
        if shared.outlook.get() != Outlook::Open || shared.leaving.get() {
            return None;
        }
        let is_old = |since: Instant| now.saturating_duration_since(since) >= self.patience.head;
        match shared.phase.get() {
            Phase::Head if shared.stall().is_none() => {
                let waited = now.saturating_duration_since(shared.since.get());
                (waited >= GRACE).then_some(Rank::WithoutRequest)
            }
            Phase::Answer if shared.waits.get() => Some(Rank::Waits),
            Phase::Body(_) | Phase::Chunked | Phase::Rest if is_old(shared.since.get()) => {
                Some(Rank::Slow)
            }
            Phase::Head | Phase::Answer
                if shared.stall().is_some_and(|stall| is_old(stall.since)) =>
            {
                Some(Rank::Slow)
            }
            Phase::Head | Phase::Body(_) | Phase::Chunked | Phase::Answer | Phase::Rest => None,
        }
    }
}

/// The order in which connections make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    WithoutRequest,
    Waits,
    Slow,
}

/// Looks at the connections at intervals, as long as the worker exists.
async fn watch(connections: Weak<Connections>) {
    loop {
        actix_web::rt::time::sleep(LOOK_EVERY).await;
        let Some(connections) = connections.upgrade() else { return };
        if !failpoint::is_on(Switch::ConnectionsUnwatched) {
            connections.look(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::edge::limit::Payer;
    use crate::model::id::OrgNo;

    #[test]
    fn an_answer_may_wait_as_long_as_the_kernel_needs_to_say_that_some_was_taken() {
        let patience = Patience {
            connections_max: 10,
            head: Duration::from_mins(1),
            idle: Duration::from_mins(1),
            stall: Duration::from_mins(1),
        };
        let answers = std::sync::Arc::new(Answers::new(1 << 20));
        let connections = Connections::new(patience, std::sync::Arc::clone(&answers));
        let began = Instant::now();
        let outlook_after = |seconds| {
            let shared = Rc::new(Shared::new(began, Rc::default()));
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
        let _first: Vec<_> = all_of(Payer::Org(OrgNo(1))).collect();
        assert_eq!(
            [59, 60].map(outlook_after),
            [Outlook::Open, Outlook::Ended],
            "one organization shortens nothing"
        );
        let _second: Vec<_> = all_of(Payer::Org(OrgNo(2))).collect();
        assert_eq!([19, 20].map(outlook_after), [Outlook::Open, Outlook::Ended]);
    }
}
