//! Whose turn it is: organizations take turns, and within one its endpoints do. Used by the scheduler.
//!
//! An organization has a share of its own in what may be on its way. So its endpoints, however many hang, never take what
//! the others need; and one with a thousand endpoints does not come a thousand times before the next. Every step costs the
//! same, however many there are.

use std::collections::{HashMap, VecDeque};

use crate::model::id::{EndpointId, OrgNo};

/// Bounds of what was begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// On their way.
    pub(super) in_flight: usize,
    /// Begun and not settled, whether on their way or not.
    pub(super) unsettled: usize,
}

/// What was begun.
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

#[derive(Debug, Default)]
struct Org {
    begun: Begun,
    /// Lanes that have something to send and may send it.
    ready: VecDeque<EndpointId>,
    /// Whether it stands in the line.
    in_line: bool,
}

/// The order of turns, and the bounds over all lanes and over those of one organization.
#[derive(Debug)]
pub(super) struct Turns {
    room: Room,
    room_per_org: Room,
    begun: Begun,
    orgs: HashMap<OrgNo, Org>,
    line: VecDeque<OrgNo>,
}

impl Turns {
    pub(super) fn new(room: Room, room_per_org: Room) -> Self {
        Self { room, room_per_org, begun: Begun::default(), orgs: HashMap::new(), line: VecDeque::new() }
    }

    /// Attempts on their way.
    pub(super) fn in_flight(&self) -> usize {
        self.begun.in_flight
    }

    /// Attempts that are begun and not settled.
    pub(super) fn unsettled(&self) -> usize {
        self.begun.unsettled
    }

    /// This lane is to have a turn. Only once until it has had it.
    pub(super) fn ask(&mut self, org: OrgNo, endpoint: EndpointId) {
        self.orgs.entry(org).or_default().ready.push_back(endpoint);
        self.line_up(org);
    }

    /// Whose turn it is now; none if nobody asks, or those who do have as much on its way as they may.
    pub(super) fn next(&mut self) -> Option<EndpointId> {
        while self.begun.fits(self.room) {
            let org_no = self.line.pop_front()?;
            let Some(org) = self.orgs.get_mut(&org_no) else { continue };
            org.in_line = false;
            // One without room comes back when it has some.
            let endpoint = if org.begun.fits(self.room_per_org) { org.ready.pop_front() } else { None };
            self.line_up(org_no);
            if endpoint.is_some() {
                return endpoint;
            }
        }
        None
    }

    /// An attempt was begun.
    pub(super) fn began(&mut self, org: OrgNo) {
        self.begun.begin();
        self.orgs.entry(org).or_default().begun.begin();
    }

    /// Its request is over.
    pub(super) fn over(&mut self, org_no: OrgNo) {
        self.begun.in_flight = self.begun.in_flight.saturating_sub(1);
        if let Some(org) = self.orgs.get_mut(&org_no) {
            org.begun.in_flight = org.begun.in_flight.saturating_sub(1);
        }
        self.line_up(org_no);
    }

    /// It is settled.
    pub(super) fn settled(&mut self, org_no: OrgNo) {
        self.begun.unsettled = self.begun.unsettled.saturating_sub(1);
        if let Some(org) = self.orgs.get_mut(&org_no) {
            org.begun.unsettled = org.begun.unsettled.saturating_sub(1);
        }
        self.line_up(org_no);
    }

    /// Puts an organization into the line if it asks and has room; forgets one that has nothing.
    fn line_up(&mut self, org_no: OrgNo) {
        let Some(org) = self.orgs.get_mut(&org_no) else { return };
        if org.ready.is_empty() && org.begun.unsettled == 0 && org.begun.in_flight == 0 && !org.in_line {
            self.orgs.remove(&org_no);
        } else if !org.in_line && !org.ready.is_empty() && org.begun.fits(self.room_per_org) {
            org.in_line = true;
            self.line.push_back(org_no);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(in_flight: usize, per_org: usize) -> Turns {
        let room = |in_flight| Room { in_flight, unsettled: in_flight * 2 };
        Turns::new(room(in_flight), room(per_org))
    }

    #[test]
    fn organizations_take_turns_and_then_their_endpoints() {
        let mut turns = turns(100, 100);
        for endpoint in 1..=4 {
            turns.ask(OrgNo(1), EndpointId(endpoint));
        }
        turns.ask(OrgNo(2), EndpointId(20));
        turns.ask(OrgNo(3), EndpointId(30));
        turns.ask(OrgNo(2), EndpointId(21));
        let order: Vec<u128> = std::iter::from_fn(|| turns.next()).map(|endpoint| endpoint.0).collect();
        assert_eq!(order, [1, 20, 30, 2, 21, 3, 4]);
        assert!(turns.orgs.is_empty(), "nobody is remembered who has nothing");
    }

    #[test]
    fn an_organization_without_room_waits_for_its_own_and_holds_back_nobody() {
        let mut turns = turns(5, 2);
        for endpoint in 1..=4 {
            turns.ask(OrgNo(1), EndpointId(endpoint));
        }
        for endpoint in [1, 2] {
            assert_eq!(turns.next(), Some(EndpointId(endpoint)));
            turns.began(OrgNo(1));
        }
        assert_eq!(turns.next(), None);
        turns.ask(OrgNo(2), EndpointId(9));
        assert_eq!(turns.next(), Some(EndpointId(9)));
        turns.began(OrgNo(2));
        turns.over(OrgNo(1));
        assert_eq!(turns.next(), Some(EndpointId(3)), "the request is over, whether settled or not");
        turns.began(OrgNo(1));
        turns.over(OrgNo(1));
        turns.over(OrgNo(1));
        turns.began(OrgNo(1)); // as if one had begun meanwhile: four are not settled
        assert_eq!(turns.next(), None, "too many are not settled");
        turns.settled(OrgNo(1));
        assert_eq!(turns.next(), Some(EndpointId(4)));
        assert_eq!((turns.in_flight(), turns.unsettled()), (2, 4));
    }

    #[test]
    fn all_together_have_a_bound_too() {
        let mut turns = turns(2, 2);
        for org in 1..=3 {
            turns.ask(OrgNo(org), EndpointId(u128::from(org)));
        }
        for org in 1..=2 {
            assert!(turns.next().is_some());
            turns.began(OrgNo(org));
        }
        assert_eq!(turns.next(), None);
        turns.over(OrgNo(2));
        assert_eq!(turns.next(), Some(EndpointId(3)));
    }
}
