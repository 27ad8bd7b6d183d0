//! The memory for request bodies, shared by organizations. A body takes memory as its bytes come,
//! and keeps the memory until its call is over.
//!
//! An organization has at most half of the memory. When all of it is taken, an organization with
//! more than the asking one gives its newest arriving body up, which is refused. So the first
//! organizations cannot keep the memory from later ones, and of bodies that cannot all be finished,
//! the oldest are. No body waits for memory: a body that gets none is refused at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use tokio::sync::Notify;

use crate::base::failpoint::{self, Switch};
use crate::http::error::{Code, Problem};
use crate::http::principal::Principal;

/// Bodies up to this size take no memory: the connection's own buffers are larger.
const FREE_BYTES_MAX: usize = 4 << 10;

/// The reason why a body got no memory, or lost its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// The organization has its whole share.
    OfOne,
    /// The memory is taken, and nobody has more than the organization would have.
    InAll,
    /// Others needed the memory, and the organization had more than they.
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
        Problem::new(code, detail)
    }
}

/// The memory for all request bodies.
#[derive(Debug)]
pub(in crate::http) struct BodyMemory {
    bytes_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: usize,
    /// The number of the newest body.
    newest: u64,
    by_principal: HashMap<Principal, Bodies>,
}

/// The bodies of a principal that have memory, by age.
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

impl BodyMemory {
    /// Creates the memory of `bytes_max` bytes.
    pub(in crate::http) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, taken: Mutex::default() })
    }

    /// Enlarges the part of a body to `bytes` bytes, and returns the body's number. `number` is
    /// `None` for a body without memory so far.
    fn enlarge(
        &self,
        principal: Principal,
        number: Option<u64>,
        bytes: usize,
        wake: &Arc<Notify>,
    ) -> Result<u64, Lack> {
        let mut taken = self.lock();
        let own = taken.by_principal.get(&principal);
        let own_bytes = own.map_or(0, |own| own.bytes);
        let (body_bytes, has_others) = match number {
            None => (0, own.is_some()),
            Some(number) => {
                let own = own.ok_or(Lack::GivenUp)?;
                let body = own.bodies.get(&number).ok_or(Lack::GivenUp)?;
                (body.bytes, own.bodies.len() > 1)
            }
        };
        let more = bytes.saturating_sub(body_bytes);
        let (is_unbounded, wanted) = (failpoint::is_on(Switch::SharesOff), own_bytes + more);
        // A single body may be larger than the share, or nobody could ever send it.
        if has_others && wanted > self.bytes_max / 2 && !is_unbounded {
            return Err(Lack::OfOne);
        }
        while taken.bytes + more > self.bytes_max && taken.bytes > body_bytes && !is_unbounded {
            taken.give_up_of_larger_than(principal, wanted).ok_or(Lack::InAll)?;
        }
        Ok(taken.add(principal, number, more, wake))
    }

    /// Records that a body has arrived: it is not given up for others any more.
    fn complete(&self, principal: Principal, number: u64) -> Result<(), Lack> {
        let mut taken = self.lock();
        let own = taken.by_principal.get_mut(&principal).ok_or(Lack::GivenUp)?;
        own.bodies.get_mut(&number).ok_or(Lack::GivenUp)?.arriving = None;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Gives `more` bytes to a body, which is a new one without a `number`. Returns its number.
    fn add(
        &mut self,
        principal: Principal,
        number: Option<u64>,
        more: usize,
        wake: &Arc<Notify>,
    ) -> u64 {
        let number = number.unwrap_or_else(|| {
            self.newest += 1;
            self.newest
        });
        self.bytes += more;
        let own = self.by_principal.entry(principal).or_default();
        own.bytes += more;
        let arriving = || Body { bytes: 0, arriving: Some(Arc::clone(wake)) };
        own.bodies.entry(number).or_insert_with(arriving).bytes += more;
        number
    }

    /// Gives up the newest arriving body of the principal with most bytes, if these are more than
    /// `bytes`. Returns `None` if no body can be given up.
    fn give_up_of_larger_than(&mut self, asking: Principal, bytes: usize) -> Option<()> {
        let is_arriving = |body: &Body| body.arriving.is_some();
        let (principal, number) = self
            .by_principal
            .iter()
            .filter(|(principal, own)| **principal != asking && own.bytes > bytes)
            .filter_map(|(principal, own)| {
                let newest = own.bodies.iter().rfind(|(_, body)| is_arriving(body))?;
                Some((own.bytes, *principal, *newest.0))
            })
            .max_by_key(|(bytes, ..)| *bytes)
            .map(|(_, principal, number)| (principal, number))?;
        let body = self.remove(principal, number)?;
        body.arriving?.notify_one();
        Some(())
    }

    fn remove(&mut self, principal: Principal, number: u64) -> Option<Body> {
        let own = self.by_principal.get_mut(&principal)?;
        let body = own.bodies.remove(&number)?;
        own.bytes -= body.bytes;
        self.bytes -= body.bytes;
        if own.bodies.is_empty() {
            self.by_principal.remove(&principal);
        }
        Some(body)
    }
}

/// The memory of one body, given back when dropped.
#[derive(Debug)]
pub(in crate::http) struct Reserved {
    memory: Arc<BodyMemory>,
    principal: Principal,
    /// The body's number, once the body has memory.
    number: Option<u64>,
    wake: Arc<Notify>,
}

impl Reserved {
    /// Begins with no memory; [`Reserved::need`] takes some.
    pub(in crate::http) fn of(memory: &Arc<BodyMemory>, principal: Principal) -> Self {
        Self { memory: Arc::clone(memory), principal, number: None, wake: Arc::default() }
    }

    /// Takes memory until the body has at least `bytes` bytes. A caller that lengthens the body,
    /// such as a decoder, calls this again.
    ///
    /// # Errors
    /// Fails when there is not enough memory, or when this body was given up for others.
    pub(in crate::http) fn need(&mut self, bytes: usize) -> Result<(), Problem> {
        if bytes <= FREE_BYTES_MAX {
            return Ok(());
        }
        let enlarged = self.memory.enlarge(self.principal, self.number, bytes, &self.wake);
        self.number = Some(enlarged.map_err(Lack::problem)?);
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
    pub(in crate::http) fn complete(&self) -> Result<(), Problem> {
        let Some(number) = self.number else { return Ok(()) };
        self.memory.complete(self.principal, number).map_err(Lack::problem)
    }

    #[cfg(test)]
    fn lives(&self) -> bool {
        let taken = self.memory.lock();
        let own = taken.by_principal.get(&self.principal);
        own.zip(self.number).is_some_and(|(own, number)| own.bodies.contains_key(&number))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.memory.lock().remove(self.principal, number);
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

    fn body(memory: &Arc<BodyMemory>, org: u32, bytes: usize) -> Result<Reserved, Problem> {
        let mut reserved = Reserved::of(memory, Principal::Org(OrgNo(org)));
        reserved.need(bytes).map(|()| reserved)
    }

    /// Gives an organization bodies of this size until one is refused, with the code of the
    /// refusal.
    fn all_of(memory: &Arc<BodyMemory>, org: u32, bytes: usize) -> (Vec<Reserved>, Code) {
        let mut all = Vec::new();
        loop {
            match body(memory, org, bytes) {
                Ok(reserved) => all.push(reserved),
                Err(problem) => return (all, problem.code()),
            }
        }
    }

    fn living(bodies: &[Reserved]) -> Vec<bool> {
        bodies.iter().map(Reserved::lives).collect()
    }

    #[test]
    fn an_organization_has_half_of_the_memory_and_is_told_so() {
        let memory = BodyMemory::new(ALL);
        let (first, refused) = all_of(&memory, 1, BODY);
        assert_eq!((first.len(), refused), (4, Code::RateLimited));
        assert!(body(&memory, 2, BODY).is_ok());
        drop(first);
        assert_eq!(memory.lock().bytes, 0, "what is dropped is given back");
    }

    #[test]
    fn whoever_has_less_gets_room_and_whoever_has_most_gives_its_newest_body_up() {
        let memory = BodyMemory::new(ALL);
        let (first, _) = all_of(&memory, 1, BODY);
        let (second, _) = all_of(&memory, 2, BODY);
        assert_eq!((first.len(), second.len()), (4, 4));
        let mut third = body(&memory, 3, STEP).unwrap();
        for bytes in (STEP..=BODY / 2).step_by(STEP) {
            third.need(bytes).unwrap();
        }
        let mut living = [living(&first), living(&second)];
        living.sort();
        assert_eq!(living, [[true, true, true, false], [true; 4]]);
        assert!(memory.lock().bytes <= ALL);
    }

    #[test]
    fn a_body_that_has_arrived_is_not_given_up() {
        let memory = BodyMemory::new(ALL);
        let (first, _) = all_of(&memory, 1, BODY);
        let (second, _) = all_of(&memory, 2, BODY);
        for body in first.iter().chain(&second) {
            body.complete().unwrap();
        }
        assert_eq!(body(&memory, 3, BODY).unwrap_err().code(), Code::Overloaded);
        assert_eq!([living(&first), living(&second)], [[true; 4]; 2]);
    }

    #[test]
    fn nobody_with_as_much_gives_anything_up_and_all_together_are_named() {
        let memory = BodyMemory::new(ALL);
        let kept: Vec<_> = (0..8).map(|org| body(&memory, org, BODY).unwrap()).collect();
        assert_eq!(body(&memory, 9, BODY).unwrap_err().code(), Code::Overloaded);
        assert!(body(&memory, 10, BODY - STEP).is_ok(), "who asks for less gets it");
        assert_eq!(living(&kept).into_iter().filter(|lives| *lives).count(), 7);
    }

    #[test]
    fn a_reader_whose_body_is_given_up_is_woken_and_refused() {
        let memory = BodyMemory::new(ALL);
        let (first, _) = all_of(&memory, 1, BODY);
        let (second, _) = all_of(&memory, 2, BODY);
        let _third = body(&memory, 3, STEP).unwrap();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let refused: Vec<_> = first
            .iter()
            .chain(&second)
            .filter_map(|body| match Box::pin(body.given_up()).as_mut().poll(&mut context) {
                std::task::Poll::Ready(problem) => Some(problem.code()),
                std::task::Poll::Pending => None,
            })
            .collect();
        assert_eq!(refused, [Code::RateLimited]);
        let given_up = first.into_iter().chain(second).find(|body| !body.lives());
        let mut given_up = given_up.unwrap();
        assert!(given_up.complete().is_err() && given_up.need(2 * BODY).is_err());
    }

    /// The reader does not know yet that its body was given up.
    #[test]
    fn a_body_that_was_given_up_gets_no_more_memory_as_if_it_were_new() {
        let memory = BodyMemory::new(ALL);
        let (principal, wake) = (Principal::Org(OrgNo(1)), Arc::default());
        let number = memory.enlarge(principal, None, ALL, &wake).unwrap();
        let _other = body(&memory, 2, BODY).unwrap();
        assert_eq!(memory.enlarge(principal, Some(number), 2 * STEP, &wake), Err(Lack::GivenUp));
        assert_eq!(memory.complete(principal, number), Err(Lack::GivenUp));
        assert_eq!(memory.lock().bytes, BODY, "only the other body has memory");
    }

    #[test]
    fn a_single_body_may_be_larger_than_the_share_and_small_ones_take_nothing() {
        let memory = BodyMemory::new(BODY);
        let mut large = body(&memory, 1, BODY).unwrap();
        large.need(2 * BODY).unwrap();
        assert!(body(&memory, 1, FREE_BYTES_MAX).is_ok());
        assert_eq!(body(&memory, 1, STEP).unwrap_err().code(), Code::RateLimited);
        assert!(body(&memory, 2, STEP).is_ok(), "the larger one gives its body up");
        assert!(!large.lives());
    }
}
