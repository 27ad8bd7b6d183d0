//! The order in which connections make room when they run out. `connections` asks this module,
//! which does no I/O.
//!
//! A connection whose holder has more connections than others goes before theirs. A newcomer of
//! such a holder pushes out no connection of a holder with fewer, except for a connection that has
//! had no request for long.
//!
//! Among equals, connections without a request go first, the longest idle before the others. Next
//! go connections whose peer keeps the server waiting: after its answer, within a body, or with an
//! answer that it does not take. Last, requests that only wait for their turn or for events are
//! answered early. A request under work, and a peer that makes progress, is never ended for others.
//!
//! If none of these can go, busy connections are marked, which then close after their answer: those
//! of the holder with the most connections first, the oldest before the others. None closes for a
//! newcomer whose holder has more.
//!
//! The holder of a connection is the address of its peer. A trusted proxy is no holder, because
//! its connections belong to many clients.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::http::edge::connection_state::{Outlook, Phase, Shared};

/// Time for which a connection without a request is spared, because a request may be on its way.
const VACANT_GRACE: Duration = Duration::from_millis(250);
/// Time for which a peer is spared that keeps the server waiting. A body is safe from 8 KiB a
/// second on. The kernel reports that an answer is taken in steps of about 64 KiB, so its reader is
/// safe from 128 KiB a second on.
const SLOW_GRACE: Duration = Duration::from_millis(500);
/// The same two times for a holder of more than half of all connections. Then others cannot be kept
/// out by a single address, however quickly it connects again.
const VACANT_GRACE_OF_MOST: Duration = Duration::from_millis(100);
const SLOW_GRACE_OF_MOST: Duration = Duration::from_millis(250);
/// Holders of at most this part of all connections are equal.
const EQUAL_PART: usize = 8;

/// The order in which connections of one holder make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::http) enum Rank {
    /// No request is in hand; a part of a head may be here.
    WithoutRequest,
    /// The request was answered, and the rest of its body does not end.
    Answered,
    /// The body does not come.
    SlowBody,
    /// The answer is not taken.
    UntakenAnswer,
    /// The request only waits for its turn or for an event.
    Waits,
}

/// The time for which the order is asked.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Moment {
    pub(in crate::http) now: Instant,
    /// The time by which the worker runs late: it may not have read yet what a peer sent in time.
    pub(in crate::http) lag: Duration,
    /// Time after which a connection without a request makes room for anybody.
    pub(in crate::http) long_idle: Duration,
}

/// Sorts the connections that can make room; the smallest goes first.
pub(in crate::http) type SortKey = (Reverse<u32>, Rank, Instant);

/// The number of connections of each holder.
#[derive(Debug, Default)]
pub(in crate::http) struct Holders {
    connections_max: usize,
    connections: HashMap<IpAddr, usize>,
}

/// Returns the holder of a peer's connections. A subscriber has a whole network of IPv6 addresses
/// (RFC 6177), of which the first 64 bits are the network.
pub(in crate::http) fn holder_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

impl Holders {
    pub(in crate::http) fn new(connections_max: usize) -> Self {
        Self { connections_max, connections: HashMap::new() }
    }

    pub(in crate::http) fn came(&mut self, holder: Option<IpAddr>) {
        if let Some(holder) = holder {
            *self.connections.entry(holder).or_insert(0) += 1;
        }
    }

    pub(in crate::http) fn gone(&mut self, holder: Option<IpAddr>) {
        let Some(holder) = holder else { return };
        if let Some(connections) = self.connections.get_mut(&holder) {
            *connections = connections.saturating_sub(1);
            if *connections == 0 {
                self.connections.remove(&holder);
            }
        }
    }

    /// Returns the sort key of a connection that can make room for a newcomer of `asking`, or `None`
    /// if the connection must stay.
    pub(in crate::http) fn sort_key(
        &self,
        shared: &Shared,
        asking: Option<IpAddr>,
        moment: &Moment,
    ) -> Option<SortKey> {
        let Moment { now, lag, long_idle } = *moment;
        let is_most = self.count(shared.holder).saturating_mul(2) > self.connections_max;
        let (vacant, slow) = if is_most {
            (VACANT_GRACE_OF_MOST, SLOW_GRACE_OF_MOST)
        } else {
            (VACANT_GRACE, SLOW_GRACE)
        };
        let rank = rank(shared, now, (vacant + lag, slow + lag))?;
        let (weight, since) = (self.weight(shared.holder), shared.since.get());
        // A holder of many does not push out those who have less, unless they need nothing.
        let is_needless =
            || rank == Rank::WithoutRequest && now.saturating_duration_since(since) >= long_idle;
        let may_go = weight >= self.weight(asking) || is_needless();
        may_go.then_some((Reverse(weight), rank, since))
    }

    /// Returns the number of connections by which busy holders are compared. Each connection of a
    /// trusted proxy counts as the only one of its client.
    pub(in crate::http) fn busy_count(&self, holder: Option<IpAddr>) -> usize {
        holder.map_or(1, |_| self.count(holder))
    }

    fn count(&self, holder: Option<IpAddr>) -> usize {
        holder.and_then(|holder| self.connections.get(&holder)).copied().unwrap_or(0)
    }

    /// Returns 0 for a holder of few connections, and more the more connections another one has. A
    /// power of two is precise enough: the connections of equals go by age.
    pub(in crate::http) fn weight(&self, holder: Option<IpAddr>) -> u32 {
        let count = self.count(holder);
        let is_many = count.saturating_mul(EQUAL_PART) > self.connections_max;
        count.checked_ilog2().filter(|_| is_many).map_or(0, |log| log + 1)
    }
}

fn rank(shared: &Shared, now: Instant, (vacant, slow): (Duration, Duration)) -> Option<Rank> {
    if shared.outlook.get() != Outlook::Open || shared.leaving.get() {
        return None;
    }
    let is_past = |since: Instant, grace: Duration| now.saturating_duration_since(since) >= grace;
    let is_slow = shared.without_progress(now) >= slow;
    match shared.phase.get() {
        Phase::Head | Phase::Answer if shared.stall().is_some() => {
            is_slow.then_some(Rank::UntakenAnswer)
        }
        Phase::Head => {
            let since = shared.vacant_since.get()?;
            is_past(since, vacant).then_some(Rank::WithoutRequest)
        }
        Phase::Rest => is_past(shared.since.get(), vacant).then_some(Rank::Answered),
        Phase::Body(_) | Phase::Chunked if is_slow => Some(Rank::SlowBody),
        Phase::Body(_) | Phase::Chunked | Phase::Answer => {
            shared.waits.get().then_some(Rank::Waits)
        }
    }
}

#[cfg(test)]
#[path = "eviction_tests.rs"]
mod tests;
