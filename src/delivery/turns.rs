//! Whose turn it is: organizations take turns, and within one its endpoints do. Used by the scheduler.
//!
//! An organization has a share of its own in what may be on its way. So its endpoints, however many hang, never take what
//! the others need; and one with a thousand endpoints does not come a thousand times before the next. Within it a quarter
//! of the share is kept for endpoints that work, so that those that hang leave them something. Every step costs the same,
//! however many there are.

use std::collections::{BTreeMap, HashMap, VecDeque};

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

/// What is known of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It accepted what it was last sent, or nothing is known and nothing on its way to it.
    Works,
    /// Anything else.
    InDoubt,
}

/// Lanes that ask, each with its number in the order of asking.
type Ready = BTreeMap<u64, EndpointId>;

#[derive(Debug, Default)]
struct Org {
    begun: Begun,
    /// On their way to endpoints that were in doubt then.
    in_doubt: usize,
    /// Lanes that have something to send and may send it: of endpoints that work,
    ready: Ready,
    /// and of the others.
    ready_in_doubt: Ready,
    /// Whether it stands in the line.
    in_line: bool,
}

impl Org {
    /// Where the lane stands whose turn it is, if there is one and room.
    fn next_ready(&mut self, room: Room) -> Option<&mut Ready> {
        let doubt_fits = self.in_doubt < (room.in_flight - room.in_flight / 4).max(1);
        let in_doubt = self.ready_in_doubt.keys().next().copied().filter(|_| doubt_fits);
        let works = self.ready.keys().next().copied();
        let works_first = match (works, in_doubt) {
            _ if !self.begun.fits(room) => return None,
            (None, None) => return None,
            (Some(works), Some(in_doubt)) => works < in_doubt,
            (works, None | Some(_)) => works.is_some(),
        };
        Some(if works_first { &mut self.ready } else { &mut self.ready_in_doubt })
    }

    fn is_idle(&self) -> bool {
        let nobody_asks = self.ready.is_empty() && self.ready_in_doubt.is_empty();
        nobody_asks && self.begun.unsettled == 0 && self.begun.in_flight == 0 && !self.in_line
    }
}

/// The order of turns, and the bounds over all lanes and over those of one organization.
#[derive(Debug)]
pub(super) struct Turns {
    room: Room,
    room_per_org: Room,
    begun: Begun,
    orgs: HashMap<OrgNo, Org>,
    line: VecDeque<OrgNo>,
    /// How often a turn was asked for.
    asked: u64,
}

impl Turns {
    pub(super) fn new(room: Room, room_per_org: Room) -> Self {
        Self { room, room_per_org, begun: Begun::default(), orgs: HashMap::new(), line: VecDeque::new(), asked: 0 }
    }

    /// Other bounds from now on. What was begun beyond them goes on to its end. Who stood aside for want of room is in line
    /// again when something is over or settled.
    pub(super) fn set_rooms(&mut self, room: Room, room_per_org: Room) {
        (self.room, self.room_per_org) = (room, room_per_org);
        let orgs: Vec<OrgNo> = self.orgs.keys().copied().collect();
        for org in orgs {
            self.line_up(org);
        }
    }

    /// Attempts on their way.
    pub(super) fn in_flight(&self) -> usize {
        self.begun.in_flight
    }

    /// Attempts that are begun and not settled.
    pub(super) fn unsettled(&self) -> usize {
        self.begun.unsettled
    }

    /// This lane is to have a turn. Only once until it has had it; gives the number of the turn.
    pub(super) fn ask(&mut self, org_no: OrgNo, endpoint: EndpointId, standing: Standing) -> u64 {
        self.asked += 1;
        let org = self.orgs.entry(org_no).or_default();
        let ready = if standing == Standing::Works { &mut org.ready } else { &mut org.ready_in_doubt };
        ready.insert(self.asked, endpoint);
        self.line_up(org_no);
        self.asked
    }

    /// The endpoint with this turn works, as was found out meanwhile.
    pub(super) fn works(&mut self, org_no: OrgNo, turn: u64) {
        let Some(org) = self.orgs.get_mut(&org_no) else { return };
        if let Some(endpoint) = org.ready_in_doubt.remove(&turn) {
            org.ready.insert(turn, endpoint);
            self.line_up(org_no);
        }
    }

    /// Whose turn it is now; none if nobody asks, or those who do have as much on its way as they may.
    pub(super) fn next(&mut self) -> Option<EndpointId> {
        while self.begun.fits(self.room) {
            let org_no = self.line.pop_front()?;
            let Some(org) = self.orgs.get_mut(&org_no) else { continue };
            org.in_line = false;
            // One without room comes back when it has some.
            let next = org.next_ready(self.room_per_org).and_then(Ready::pop_first);
            self.line_up(org_no);
            if let Some((_, endpoint)) = next {
                return Some(endpoint);
            }
        }
        None
    }

    /// An attempt was begun.
    pub(super) fn began(&mut self, org: OrgNo, standing: Standing) {
        self.begun.begin();
        let org = self.orgs.entry(org).or_default();
        org.begun.begin();
        org.in_doubt += usize::from(standing == Standing::InDoubt);
    }

    /// Its request is over; `standing` is what it was begun with.
    pub(super) fn over(&mut self, org_no: OrgNo, standing: Standing) {
        self.begun.in_flight = self.begun.in_flight.saturating_sub(1);
        if let Some(org) = self.orgs.get_mut(&org_no) {
            org.begun.in_flight = org.begun.in_flight.saturating_sub(1);
            org.in_doubt = org.in_doubt.saturating_sub(usize::from(standing == Standing::InDoubt));
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
        if org.is_idle() {
            self.orgs.remove(&org_no);
        } else if !org.in_line && org.next_ready(self.room_per_org).is_some() {
            org.in_line = true;
            self.line.push_back(org_no);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Standing::{InDoubt, Works};
    use super::*;

    fn turns(in_flight: usize, per_org: usize) -> Turns {
        let room = |in_flight| Room { in_flight, unsettled: in_flight * 2 };
        Turns::new(room(in_flight), room(per_org))
    }

    #[test]
    fn organizations_take_turns_and_then_their_endpoints() {
        let mut turns = turns(100, 100);
        for endpoint in 1..=4 {
            turns.ask(OrgNo(1), EndpointId(endpoint), Works);
        }
        turns.ask(OrgNo(2), EndpointId(20), Works);
        turns.ask(OrgNo(3), EndpointId(30), Works);
        turns.ask(OrgNo(2), EndpointId(21), Works);
        let order: Vec<u128> = std::iter::from_fn(|| turns.next()).map(|endpoint| endpoint.0).collect();
        assert_eq!(order, [1, 20, 30, 2, 21, 3, 4]);
        assert!(turns.orgs.is_empty(), "nobody is remembered who has nothing");
    }

    #[test]
    fn an_organization_without_room_waits_for_its_own_and_holds_back_nobody() {
        let mut turns = turns(5, 2);
        for endpoint in 1..=4 {
            turns.ask(OrgNo(1), EndpointId(endpoint), Works);
        }
        for endpoint in [1, 2] {
            assert_eq!(turns.next(), Some(EndpointId(endpoint)));
            turns.began(OrgNo(1), Works);
        }
        assert_eq!(turns.next(), None);
        turns.ask(OrgNo(2), EndpointId(9), Works);
        assert_eq!(turns.next(), Some(EndpointId(9)));
        turns.began(OrgNo(2), Works);
        turns.over(OrgNo(1), Works);
        assert_eq!(turns.next(), Some(EndpointId(3)), "the request is over, whether settled or not");
        turns.began(OrgNo(1), Works);
        turns.over(OrgNo(1), Works);
        turns.over(OrgNo(1), Works);
        turns.began(OrgNo(1), Works); // as if one had begun meanwhile: four are not settled
        assert_eq!(turns.next(), None, "too many are not settled");
        turns.settled(OrgNo(1));
        assert_eq!(turns.next(), Some(EndpointId(4)));
        assert_eq!((turns.in_flight(), turns.unsettled()), (2, 4));
    }

    #[test]
    fn all_together_have_a_bound_too() {
        let mut turns = turns(2, 2);
        for org in 1..=3 {
            turns.ask(OrgNo(org), EndpointId(u128::from(org)), Works);
        }
        for org in 1..=2 {
            assert!(turns.next().is_some());
            turns.began(OrgNo(org), Works);
        }
        assert_eq!(turns.next(), None);
        turns.over(OrgNo(2), Works);
        assert_eq!(turns.next(), Some(EndpointId(3)));
    }

    #[test]
    fn a_quarter_is_kept_for_endpoints_that_work_and_they_do_not_keep_the_others_out() {
        let mut turns = turns(100, 8);
        for endpoint in 1..=9 {
            turns.ask(OrgNo(1), EndpointId(endpoint), InDoubt);
        }
        for endpoint in 1..=6 {
            assert_eq!(turns.next(), Some(EndpointId(endpoint)));
            turns.began(OrgNo(1), InDoubt);
        }
        assert_eq!(turns.next(), None);
        for endpoint in [20, 21, 22] {
            turns.ask(OrgNo(1), EndpointId(endpoint), Works);
        }
        for endpoint in [20, 21] {
            assert_eq!(turns.next(), Some(EndpointId(endpoint)));
            turns.began(OrgNo(1), Works);
        }
        assert_eq!(turns.next(), None, "eight are on their way");
        turns.over(OrgNo(1), Works);
        assert_eq!(turns.next(), Some(EndpointId(22)));
        turns.began(OrgNo(1), Works);
        turns.ask(OrgNo(1), EndpointId(20), Works);
        turns.over(OrgNo(1), InDoubt);
        assert_eq!(turns.next(), Some(EndpointId(7)), "it asked before");
        turns.began(OrgNo(1), InDoubt);
        turns.over(OrgNo(1), Works);
        assert_eq!(turns.next(), Some(EndpointId(20)));
        assert_eq!(turns.next(), None);
        turns.works(OrgNo(1), 9);
        assert_eq!(turns.next(), Some(EndpointId(9)), "it turned out to work");
    }
}
