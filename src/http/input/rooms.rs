//! The memory for request bodies, shared by organizations. A body takes room as its bytes come, and
//! keeps the room until its call is over.
//!
//! An organization has at most half of the memory. When all of it is taken, an organization with
//! more than the asking one gives its newest arriving body up, which is refused. So the first
//! organizations cannot keep the memory from later ones, and of bodies that cannot all be finished,
//! the oldest are. Nobody waits for room: a body that gets none is refused at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use tokio::sync::Notify;

use crate::base::failpoint::{self, Switch};
use crate::http::edge::limit::Payer;
use crate::http::error::{Code, Problem};

/// Bodies up to this size take no room: the connection's own buffers are larger.
const FREE_BYTES_MAX: usize = 4 << 10;
/// Seconds until a client refused for lack of room should try again.
const RETRY_AFTER_S: u64 = 1;

/// The reason why a body got no room, or lost its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// The organization has its whole share.
    OfOne,
    /// The memory is taken, and nobody has more than the organization would have.
    InAll,
    /// Others needed the room, and the organization had more than they.
    GivenUp,
}

impl Lack {
    fn problem(self) -> Problem {
        let (code, detail) = match self {
            Self::OfOne => (
                Code::RateLimited,
                "request bodies of this organization take its whole share of the memory for \
                 bodies; nothing was stored",
            ),
            Self::InAll => (
                Code::Overloaded,
                "request bodies of all organizations together take all of the memory for bodies; \
                 nothing was stored",
            ),
            Self::GivenUp => (
                Code::RateLimited,
                "request bodies of this organization take the largest part of the memory for \
                 bodies, and another organization needed a part of it; nothing was stored",
            ),
        };
        Problem::new(code, detail).retry_after(RETRY_AFTER_S)
    }
}

/// The memory for all request bodies.
#[derive(Debug)]
pub(in crate::http) struct Rooms {
    bytes_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: usize,
    /// The number of the next body.
    next: u64,
    by_payer: HashMap<Payer, Bodies>,
}

/// The bodies of a payer that have room, by age.
#[derive(Debug, Default)]
struct Bodies {
    bytes: usize,
    bodies: BTreeMap<u64, Body>,
}

#[derive(Debug)]
struct Body {
    bytes: usize,
    /// Wakes the reader of a body that is given up; `None` when the body has arrived.
    arriving: Option<Arc<Notify>>,
}

impl Rooms {
    /// Creates the memory of `bytes_max` bytes.
    pub(in crate::http) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, taken: Mutex::default() })
    }

    /// Gives a body more room, so that the body has `bytes` bytes.
    fn enlarge(
        &self,
        payer: Payer,
        (number, bytes): (u64, usize),
        wake: &Arc<Notify>,
    ) -> Result<(), Lack> {
        let mut taken = self.lock();
        let own = taken.by_payer.get(&payer);
        let own_bytes = own.map_or(0, |own| own.bytes);
        let has_others = own.is_some_and(|own| own.bodies.keys().any(|other| *other != number));
        let body_bytes = own.and_then(|own| own.bodies.get(&number)).map_or(0, |body| body.bytes);
        let more = bytes.saturating_sub(body_bytes);
        let (is_unbounded, wanted) = (failpoint::is_on(Switch::SharesOff), own_bytes + more);
        // A single body may be larger than the share, or nobody could ever send it.
        if has_others && wanted > self.bytes_max / 2 && !is_unbounded {
            return Err(Lack::OfOne);
        }
        while taken.bytes + more > self.bytes_max && taken.bytes > body_bytes && !is_unbounded {
            taken.give_up_of_larger_than(payer, wanted).ok_or(Lack::InAll)?;
        }
        taken.bytes += more;
        let own = taken.by_payer.entry(payer).or_default();
        own.bytes += more;
        let arriving = || Body { bytes: 0, arriving: Some(Arc::clone(wake)) };
        own.bodies.entry(number).or_insert_with(arriving).bytes += more;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Gives up the newest arriving body of the payer with most bytes, if these are more than
    /// `bytes`. Returns `None` if no body can be given up.
    fn give_up_of_larger_than(&mut self, asking: Payer, bytes: usize) -> Option<()> {
        let is_arriving = |body: &Body| body.arriving.is_some();
        let (payer, number) = self
            .by_payer
            .iter()
            .filter(|(payer, own)| **payer != asking && own.bytes > bytes)
            .filter_map(|(payer, own)| {
                let newest = own.bodies.iter().rfind(|(_, body)| is_arriving(body))?;
                Some((own.bytes, *payer, *newest.0))
            })
            .max_by_key(|(bytes, ..)| *bytes)
            .map(|(_, payer, number)| (payer, number))?;
        let body = self.remove(payer, number)?;
        body.arriving?.notify_one();
        Some(())
    }

    fn remove(&mut self, payer: Payer, number: u64) -> Option<Body> {
        let own = self.by_payer.get_mut(&payer)?;
        let body = own.bodies.remove(&number)?;
        own.bytes -= body.bytes;
        self.bytes -= body.bytes;
        if own.bodies.is_empty() {
            self.by_payer.remove(&payer);
        }
        Some(body)
    }
}

/// The room of one body, given back when dropped.
#[derive(Debug)]
pub(in crate::http) struct Room {
    rooms: Arc<Rooms>,
    payer: Payer,
    /// The body's number, once the body has room.
    number: Option<u64>,
    wake: Arc<Notify>,
}

impl Room {
    /// Creates an empty room, which [`Room::need`] enlarges.
    pub(in crate::http) fn of(rooms: &Arc<Rooms>, payer: Payer) -> Self {
        Self { rooms: Arc::clone(rooms), payer, number: None, wake: Arc::default() }
    }

    /// Enlarges the room to at least `bytes` bytes. A caller that lengthens the body, such as a
    /// decoder, calls this again.
    ///
    /// # Errors
    /// Fails when there is no room, or when this body was given up for others.
    pub(in crate::http) fn need(&mut self, bytes: usize) -> Result<(), Problem> {
        if bytes <= FREE_BYTES_MAX {
            return Ok(());
        }
        self.check()?;
        let number = self.number.unwrap_or_else(|| {
            let mut taken = self.rooms.lock();
            taken.next += 1;
            taken.next
        });
        self.rooms.enlarge(self.payer, (number, bytes), &self.wake).map_err(Lack::problem)?;
        self.number = Some(number);
        Ok(())
    }

    /// Completes with the problem when the body is given up for others.
    pub(in crate::http) fn given_up(&self) -> impl Future<Output = Problem> + use<> {
        let wake = Arc::clone(&self.wake);
        async move {
            wake.notified().await;
            Lack::GivenUp.problem()
        }
    }

    /// Declares that the body has arrived: it is not given up for others any more.
    ///
    /// # Errors
    /// Fails when this body was given up for others.
    pub(in crate::http) fn is_complete(&self) -> Result<(), Problem> {
        self.check()?;
        let mut taken = self.rooms.lock();
        let own = taken.by_payer.get_mut(&self.payer);
        let body = own.zip(self.number).and_then(|(own, number)| own.bodies.get_mut(&number));
        if let Some(body) = body {
            body.arriving = None;
        }
        Ok(())
    }

    /// Fails when this body had room and was given up for others.
    fn check(&self) -> Result<(), Problem> {
        let Some(number) = self.number else { return Ok(()) };
        let taken = self.rooms.lock();
        let own = taken.by_payer.get(&self.payer);
        match own.and_then(|own| own.bodies.get(&number)) {
            Some(_) => Ok(()),
            None => Err(Lack::GivenUp.problem()),
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.rooms.lock().remove(self.payer, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::OrgNo;

    const ALL: usize = 64 << 20;
    const BODY: usize = 8 << 20;
    const STEP: usize = 64 << 10;

    fn body(rooms: &Arc<Rooms>, org: u32, bytes: usize) -> Result<Room, Problem> {
        let mut room = Room::of(rooms, Payer::Org(OrgNo(org)));
        room.need(bytes).map(|()| room)
    }

    /// Gives an organization bodies of this size until one is refused, with the code of the
    /// refusal.
    fn all_of(rooms: &Arc<Rooms>, org: u32, bytes: usize) -> (Vec<Room>, Code) {
        let mut all = Vec::new();
        loop {
            match body(rooms, org, bytes) {
                Ok(room) => all.push(room),
                Err(problem) => return (all, problem.code()),
            }
        }
    }

    fn living(rooms: &[Room]) -> Vec<bool> {
        rooms.iter().map(|room| room.check().is_ok()).collect()
    }

    #[test]
    fn an_organization_has_half_of_the_memory_and_is_told_so() {
        let rooms = Rooms::new(ALL);
        let (first, refused) = all_of(&rooms, 1, BODY);
        assert_eq!((first.len(), refused), (4, Code::RateLimited));
        assert!(body(&rooms, 2, BODY).is_ok());
        drop(first);
        assert_eq!(rooms.lock().bytes, 0, "what is dropped is given back");
    }

    #[test]
    fn whoever_has_less_gets_room_and_whoever_has_most_gives_its_newest_body_up() {
        let rooms = Rooms::new(ALL);
        let (first, _) = all_of(&rooms, 1, BODY);
        let (second, _) = all_of(&rooms, 2, BODY);
        assert_eq!((first.len(), second.len()), (4, 4));
        let mut third = body(&rooms, 3, STEP).unwrap();
        for bytes in (STEP..=BODY / 2).step_by(STEP) {
            third.need(bytes).unwrap();
        }
        let mut living = [living(&first), living(&second)];
        living.sort();
        assert_eq!(living, [[true, true, true, false], [true; 4]]);
        assert!(rooms.lock().bytes <= ALL);
    }

    #[test]
    fn a_body_that_has_arrived_is_not_given_up() {
        let rooms = Rooms::new(ALL);
        let (first, _) = all_of(&rooms, 1, BODY);
        let (second, _) = all_of(&rooms, 2, BODY);
        for room in first.iter().chain(&second) {
            room.is_complete().unwrap();
        }
        assert_eq!(body(&rooms, 3, BODY).unwrap_err().code(), Code::Overloaded);
        assert_eq!([living(&first), living(&second)], [[true; 4]; 2]);
    }

    #[test]
    fn nobody_with_as_much_gives_anything_up_and_all_together_are_named() {
        let rooms = Rooms::new(ALL);
        let kept: Vec<_> = (0..8).map(|org| body(&rooms, org, BODY).unwrap()).collect();
        assert_eq!(body(&rooms, 9, BODY).unwrap_err().code(), Code::Overloaded);
        assert!(body(&rooms, 10, BODY - STEP).is_ok(), "who asks for less gets it");
        assert_eq!(living(&kept).into_iter().filter(|lives| *lives).count(), 7);
    }

    #[test]
    fn a_reader_whose_body_is_given_up_is_woken_and_refused() {
        let rooms = Rooms::new(ALL);
        let (first, _) = all_of(&rooms, 1, BODY);
        let (second, _) = all_of(&rooms, 2, BODY);
        let _third = body(&rooms, 3, STEP).unwrap();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let refused: Vec<_> = first
            .iter()
            .chain(&second)
            .filter_map(|room| match Box::pin(room.given_up()).as_mut().poll(&mut context) {
                std::task::Poll::Ready(problem) => Some(problem.code()),
                std::task::Poll::Pending => None,
            })
            .collect();
        assert_eq!(refused, [Code::RateLimited]);
        let given_up = first.into_iter().chain(second).find(|room| room.check().is_err());
        let mut given_up = given_up.unwrap();
        assert!(given_up.is_complete().is_err() && given_up.need(2 * BODY).is_err());
    }

    #[test]
    fn a_single_body_may_be_larger_than_the_share_and_small_ones_take_nothing() {
        let rooms = Rooms::new(BODY);
        let mut large = body(&rooms, 1, BODY).unwrap();
        large.need(2 * BODY).unwrap();
        assert!(body(&rooms, 1, FREE_BYTES_MAX).is_ok());
        assert_eq!(body(&rooms, 1, STEP).unwrap_err().code(), Code::RateLimited);
        assert!(body(&rooms, 2, STEP).is_ok(), "the larger one gives its body up");
        assert!(large.check().is_err());
    }
}
