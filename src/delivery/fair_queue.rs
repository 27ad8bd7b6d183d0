//! Decides whose turn it is: organizations take turns, and the endpoints of each take turns within.
//! Used by the scheduler.
//!
//! Each organization has a share of the attempts in flight. So endpoints that hang never exhaust
//! the share of another organization, and an organization with a thousand endpoints gets no more
//! turns than any other. A quarter of the share is kept for healthy endpoints, so that hanging
//! endpoints of an organization leave them some room. Every step takes the same time for any number
//! of endpoints.
//!
//! The last eighth of all attempts in flight is kept for organizations that have none, one each.
//! Otherwise two dozen organizations whose endpoints hang would together keep all others out.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::model::id::{EndpointId, OrgNo};

/// Limits for attempts, of an organization or of all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Maximum number of attempts in flight.
    pub(super) in_flight: usize,
    /// Maximum number of unsettled attempts, in flight or not.
    pub(super) unsettled: usize,
}

/// Attempts begun and not ended, of an organization or of all.
#[derive(Clone, Copy, Debug, Default)]
struct Begun {
    in_flight: usize,
    unsettled: usize,
}

impl Begun {
    fn fits(self, room: Room) -> bool {
        self.in_flight < room.in_flight && self.unsettled < room.unsettled
    }

    fn begin(&mut self) {
        self.in_flight += 1;
        self.unsettled += 1;
    }
}

/// The health of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndpointHealth {
    /// The endpoint accepted the last request; or its health is unknown, with no attempt in flight.
    Healthy,
    /// The endpoint did not accept the last request; or its health is unknown, with an attempt in
    /// flight.
    Degraded,
}

/// Endpoints that wait for a turn, by turn number.
type Ready = BTreeMap<u64, EndpointId>;

#[derive(Debug, Default)]
struct Org {
    begun: Begun,
    /// Attempts in flight to endpoints that were degraded at the start of the attempt.
    degraded_in_flight: usize,
    /// Healthy endpoints that wait for a turn.
    healthy: Ready,
    /// Degraded endpoints that wait for a turn.
    degraded: Ready,
    /// Set while the organization stands in the line.
    in_line: bool,
}

impl Org {
    /// The set with the endpoint that is next, if an endpoint waits and the limits have room.
    fn next_ready(&mut self, room: Room, holds_degraded: bool) -> Option<&mut Ready> {
        let degraded_fit = !holds_degraded && self.has_room(room);
        let degraded = self.degraded.keys().next().copied().filter(|_| degraded_fit);
        let healthy = self.healthy.keys().next().copied();
        let healthy_first = match (healthy, degraded) {
            _ if !self.begun.fits(room) => return None,
            (None, None) => return None,
            (Some(healthy), Some(degraded)) => healthy < degraded,
            (healthy, None | Some(_)) => healthy.is_some(),
        };
        Some(if healthy_first { &mut self.healthy } else { &mut self.degraded })
    }

    /// Returns true if the limits have room for another attempt to a degraded endpoint.
    fn has_room(&self, room: Room) -> bool {
        let degraded_max = (room.in_flight - room.in_flight / 4).max(1);
        self.begun.fits(room) && self.degraded_in_flight < degraded_max
    }

    fn is_idle(&self) -> bool {
        let nobody_asks = self.healthy.is_empty() && self.degraded.is_empty();
        nobody_asks && self.begun.unsettled == 0 && self.begun.in_flight == 0 && !self.in_line
    }
}

/// The order of turns, and the limits over all organizations and within each.
#[derive(Debug)]
pub(super) struct FairQueue {
    room: Room,
    room_per_org: Room,
    begun: Begun,
    orgs: HashMap<OrgNo, Org>,
    line: VecDeque<OrgNo>,
    /// The number of the last turn asked for.
    asked: u64,
    /// Set while degraded endpoints get turns only by [`FairQueue::next_degraded`].
    holds_degraded: bool,
}

impl FairQueue {
    pub(super) fn new(room: Room, room_per_org: Room) -> Self {
        Self {
            room,
            room_per_org,
            begun: Begun::default(),
            orgs: HashMap::new(),
            line: VecDeque::new(),
            asked: 0,
            holds_degraded: false,
        }
    }

    /// Holds the turns of degraded endpoints back, or ends this.
    pub(super) fn hold_degraded(&mut self, holds: bool) {
        let ends = std::mem::replace(&mut self.holds_degraded, holds) && !holds;
        if ends {
            self.line_up_all();
        }
    }

    /// Number of degraded endpoints that wait for a turn.
    pub(super) fn degraded(&self) -> usize {
        self.orgs.values().map(|org| org.degraded.len()).sum()
    }

    /// Returns the degraded endpoint that has waited longest, if the limits have room. Looks at each
    /// organization.
    pub(super) fn next_degraded(&mut self) -> Option<EndpointId> {
        let fits = self.begun.fits(self.room);
        let orgs = self.orgs.values_mut().filter(|org| fits && org.has_room(self.room_per_org));
        let longest =
            orgs.min_by_key(|org| org.degraded.keys().next().copied().unwrap_or(u64::MAX));
        longest?.degraded.pop_first().map(|(_, endpoint)| endpoint)
    }

    /// Replaces the limits. Attempts beyond them continue, and organizations that now have room
    /// return to the line.
    pub(super) fn set_rooms(&mut self, room: Room, room_per_org: Room) {
        (self.room, self.room_per_org) = (room, room_per_org);
        self.line_up_all();
    }

    fn line_up_all(&mut self) {
        let orgs: Vec<OrgNo> = self.orgs.keys().copied().collect();
        for org in orgs {
            self.line_up(org);
        }
    }

    /// Number of attempts in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.begun.in_flight
    }

    /// Number of attempts begun and not settled.
    pub(super) fn unsettled(&self) -> usize {
        self.begun.unsettled
    }

    /// Asks for a turn and returns its number. An endpoint must not ask again before its turn.
    pub(super) fn ask(
        &mut self,
        org_no: OrgNo,
        endpoint: EndpointId,
        health: EndpointHealth,
    ) -> u64 {
        self.asked += 1;
        let org = self.orgs.entry(org_no).or_default();
        let ready =
            if health == EndpointHealth::Healthy { &mut org.healthy } else { &mut org.degraded };
        ready.insert(self.asked, endpoint);
        self.line_up(org_no);
        self.asked
    }

    /// Moves a waiting endpoint to the healthy endpoints, with the same turn number.
    pub(super) fn recovered(&mut self, org_no: OrgNo, turn: u64) {
        let Some(org) = self.orgs.get_mut(&org_no) else { return };
        if let Some(endpoint) = org.degraded.remove(&turn) {
            org.healthy.insert(turn, endpoint);
            self.line_up(org_no);
        }
    }

    /// Returns the endpoint whose turn it is; `None` if no endpoint waits, or the limits have no
    /// room.
    pub(super) fn next(&mut self) -> Option<EndpointId> {
        while self.begun.fits(self.room) {
            let org_no = self.next_in_line()?;
            let Some(org) = self.orgs.get_mut(&org_no) else { continue };
            org.in_line = false;
            // An organization without room returns to the line when an attempt ends.
            let ready = org.next_ready(self.room_per_org, self.holds_degraded);
            let next = ready.and_then(Ready::pop_first);
            self.line_up(org_no);
            if let Some((_, endpoint)) = next {
                return Some(endpoint);
            }
        }
        None
    }

    /// Takes the first organization out of the line; in the last eighth, the first one without an
    /// attempt in flight, which takes a look at each organization before it. The others keep their
    /// places.
    fn next_in_line(&mut self) -> Option<OrgNo> {
        let is_scarce = self.begun.in_flight >= self.room.in_flight - self.room.in_flight / 8;
        let may_begin = |org_no: &OrgNo| !is_scarce || !self.has_attempts(*org_no);
        self.line.remove(self.line.iter().position(may_begin)?)
    }

    /// True if the organization has an attempt in flight.
    pub(super) fn has_attempts(&self, org_no: OrgNo) -> bool {
        self.orgs.get(&org_no).is_some_and(|org| org.begun.in_flight > 0)
    }

    /// True while turns of degraded endpoints are held back.
    pub(super) fn is_holding(&self) -> bool {
        self.holds_degraded
    }

    /// Records the beginning of an attempt.
    pub(super) fn began(&mut self, org: OrgNo, health: EndpointHealth) {
        self.begun.begin();
        let org = self.orgs.entry(org).or_default();
        org.begun.begin();
        org.degraded_in_flight += usize::from(health == EndpointHealth::Degraded);
    }

    /// Records the end of a request; `health` is the health at the beginning of its attempt.
    pub(super) fn over(&mut self, org_no: OrgNo, health: EndpointHealth) {
        self.begun.in_flight = self.begun.in_flight.saturating_sub(1);
        if let Some(org) = self.orgs.get_mut(&org_no) {
            org.begun.in_flight = org.begun.in_flight.saturating_sub(1);
            let was_degraded = usize::from(health == EndpointHealth::Degraded);
            org.degraded_in_flight = org.degraded_in_flight.saturating_sub(was_degraded);
        }
        self.line_up(org_no);
    }

    /// Records the settling of an attempt.
    pub(super) fn settled(&mut self, org_no: OrgNo) {
        self.begun.unsettled = self.begun.unsettled.saturating_sub(1);
        if let Some(org) = self.orgs.get_mut(&org_no) {
            org.begun.unsettled = org.begun.unsettled.saturating_sub(1);
        }
        self.line_up(org_no);
    }

    /// Puts an organization in the line if an endpoint waits and there is room; forgets an
    /// organization without work.
    fn line_up(&mut self, org_no: OrgNo) {
        let Some(org) = self.orgs.get_mut(&org_no) else { return };
        if org.is_idle() {
            self.orgs.remove(&org_no);
        } else if !org.in_line && org.next_ready(self.room_per_org, self.holds_degraded).is_some() {
            org.in_line = true;
            self.line.push_back(org_no);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::EndpointHealth::{Degraded, Healthy};
    use super::*;

    fn turns(in_flight: usize, per_org: usize) -> FairQueue {
        let room = |in_flight| Room { in_flight, unsettled: in_flight * 2 };
        FairQueue::new(room(in_flight), room(per_org))
    }

    #[test]
    fn organizations_take_turns_and_then_their_endpoints() {
        let mut turns = turns(100, 100);
        for endpoint in 1..=4 {
            turns.ask(OrgNo(1), EndpointId(endpoint), Healthy);
        }
        turns.ask(OrgNo(2), EndpointId(20), Healthy);
        turns.ask(OrgNo(3), EndpointId(30), Healthy);
        turns.ask(OrgNo(2), EndpointId(21), Healthy);
        let order: Vec<u128> =
            std::iter::from_fn(|| turns.next()).map(|endpoint| endpoint.0).collect();
        assert_eq!(order, [1, 20, 30, 2, 21, 3, 4]);
        assert!(turns.orgs.is_empty(), "nobody is remembered who has nothing");
    }

    #[test]
    fn an_organization_without_room_waits_for_its_own_and_holds_back_nobody() {
        let mut turns = turns(5, 2);
        for endpoint in 1..=4 {
            turns.ask(OrgNo(1), EndpointId(endpoint), Healthy);
        }
        for endpoint in [1, 2] {
            assert_eq!(turns.next(), Some(EndpointId(endpoint)));
            turns.began(OrgNo(1), Healthy);
        }
        assert_eq!(turns.next(), None);
        turns.ask(OrgNo(2), EndpointId(9), Healthy);
        assert_eq!(turns.next(), Some(EndpointId(9)));
        turns.began(OrgNo(2), Healthy);
        turns.over(OrgNo(1), Healthy);
        assert_eq!(
            turns.next(),
            Some(EndpointId(3)),
            "the request is over, whether settled or not"
        );
        turns.began(OrgNo(1), Healthy);
        turns.over(OrgNo(1), Healthy);
        turns.over(OrgNo(1), Healthy);
        turns.began(OrgNo(1), Healthy); // Another attempt began meanwhile: four are unsettled.
        assert_eq!(turns.next(), None, "too many are not settled");
        turns.settled(OrgNo(1));
        assert_eq!(turns.next(), Some(EndpointId(4)));
        assert_eq!((turns.in_flight(), turns.unsettled()), (2, 4));
    }

    #[test]
    fn the_last_eighth_is_for_organizations_without_an_attempt() {
        let mut turns = turns(16, 8);
        let begin = |turns: &mut FairQueue, org: u32, endpoint: u128| {
            assert_eq!(turns.next(), Some(EndpointId(endpoint)));
            turns.began(OrgNo(org), Healthy);
        };
        for (org, endpoint) in (0..16).map(|n| (1 + n % 2, 100 + n)) {
            turns.ask(OrgNo(org), EndpointId(endpoint.into()), Healthy);
        }
        for (org, endpoint) in (0..14).map(|n| (1 + n % 2, 100 + n)) {
            begin(&mut turns, org, endpoint.into());
        }
        assert_eq!((turns.next(), turns.in_flight()), (None, 14));
        for endpoint in [200, 201] {
            turns.ask(OrgNo(3), EndpointId(endpoint), Healthy);
        }
        begin(&mut turns, 3, 200);
        assert_eq!(turns.next(), None, "one each");
        turns.ask(OrgNo(4), EndpointId(300), Healthy);
        begin(&mut turns, 4, 300);
        turns.over(OrgNo(4), Healthy);
        turns.over(OrgNo(3), Healthy);
        begin(&mut turns, 3, 201);
        turns.over(OrgNo(3), Healthy);
        assert_eq!(turns.next(), None);
        turns.over(OrgNo(2), Healthy);
        begin(&mut turns, 1, 114);
        turns.over(OrgNo(1), Healthy);
        begin(&mut turns, 2, 115);
    }

    #[test]
    fn all_together_have_a_bound_too() {
        let mut turns = turns(2, 2);
        for org in 1..=3 {
            turns.ask(OrgNo(org), EndpointId(u128::from(org)), Healthy);
        }
        for org in 1..=2 {
            assert!(turns.next().is_some());
            turns.began(OrgNo(org), Healthy);
        }
        assert_eq!(turns.next(), None);
        turns.over(OrgNo(2), Healthy);
        assert_eq!(turns.next(), Some(EndpointId(3)));
    }

    #[test]
    fn a_quarter_is_kept_for_endpoints_that_work_and_they_do_not_keep_the_others_out() {
        let mut turns = turns(100, 8);
        for endpoint in 1..=9 {
            turns.ask(OrgNo(1), EndpointId(endpoint), Degraded);
        }
        for endpoint in 1..=6 {
            assert_eq!(turns.next(), Some(EndpointId(endpoint)));
            turns.began(OrgNo(1), Degraded);
        }
        assert_eq!(turns.next(), None);
        for endpoint in [20, 21, 22] {
            turns.ask(OrgNo(1), EndpointId(endpoint), Healthy);
        }
        for endpoint in [20, 21] {
            assert_eq!(turns.next(), Some(EndpointId(endpoint)));
            turns.began(OrgNo(1), Healthy);
        }
        assert_eq!(turns.next(), None, "eight are on their way");
        turns.over(OrgNo(1), Healthy);
        assert_eq!(turns.next(), Some(EndpointId(22)));
        turns.began(OrgNo(1), Healthy);
        turns.ask(OrgNo(1), EndpointId(20), Healthy);
        turns.over(OrgNo(1), Degraded);
        assert_eq!(turns.next(), Some(EndpointId(7)), "it asked before");
        turns.began(OrgNo(1), Degraded);
        turns.over(OrgNo(1), Healthy);
        assert_eq!(turns.next(), Some(EndpointId(20)));
        assert_eq!(turns.next(), None);
        turns.recovered(OrgNo(1), 9);
        assert_eq!(turns.next(), Some(EndpointId(9)), "it has recovered");
    }
}
