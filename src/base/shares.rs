//! A bounded amount (of slots, of bytes) that many users share, so that a few users cannot take all
//! of it.
//!
//! The rule: no user holds more than `each`, and no user gets more if the user would then hold more
//! than is left for all others. So the first user can have half, the second user half of the rest,
//! and so on. A few users thus never take everything, but several dozens can. A large need (more
//! than a 64th) must leave room for small needs, also of the same user. If nobody holds anything,
//! any need is met: a need larger than the rule allows must not be refused forever.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;

use crate::base::failpoint::{self, Switch};

/// A need is large if it is more than this part of the whole amount.
const LARGE_PART: u64 = 64;

/// The reason why a need was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// The user would hold too much even if nobody else held anything.
    OfOne,
    /// All users together hold too much.
    InAll,
}

/// The shared amount, and the holdings of each user.
#[derive(Debug)]
pub struct Shares<K> {
    all: u64,
    each: u64,
    held: Mutex<Held<K>>,
}

#[derive(Debug)]
struct Held<K> {
    in_all: u64,
    by_user: HashMap<K, u64>,
}

/// A part of the amount, held until it is dropped.
#[derive(Debug)]
pub struct Share<K: Copy + Eq + Hash> {
    shares: Arc<Shares<K>>,
    user: K,
    amount: u64,
}

impl<K: Copy + Eq + Hash> Shares<K> {
    /// Shares the amount `all`, of which each user holds at most `each`.
    pub fn new(all: u64, each: u64) -> Arc<Self> {
        let held = Held { in_all: 0, by_user: HashMap::default() };
        Arc::new(Self { all, each: each.min(all), held: Mutex::new(held) })
    }

    /// Takes `amount` for a user.
    ///
    /// # Errors
    /// The user or all users together would hold too much.
    pub fn take(self: &Arc<Self>, user: K, amount: u64) -> Result<Share<K>, Exhausted> {
        self.add(user, amount)?;
        Ok(Share { shares: Arc::clone(self), user, amount })
    }

    /// Takes as much as the user may have now, at most `wanted`.
    ///
    /// # Errors
    /// The user may have less than `at_least`.
    pub fn take_up_to(
        self: &Arc<Self>,
        user: K,
        wanted: u64,
        at_least: u64,
    ) -> Result<Share<K>, Exhausted> {
        let mut held = self.lock();
        let own = held.of(user);
        let free = self.all.saturating_sub(held.in_all).saturating_sub(own);
        let small = self.all / LARGE_PART;
        let allowed = (free.saturating_sub(small) / 2)
            .max(small.min(free))
            .min(self.each.saturating_sub(own));
        let allowed = if failpoint::is_on(Switch::SharesOff) { wanted } else { allowed };
        let amount = wanted.min(allowed).max(at_least);
        self.check(&held, own, amount)?;
        held.add(user, amount);
        Ok(Share { shares: Arc::clone(self), user, amount })
    }

    /// Takes `amount` however little is left, for a use that cannot be refused any more. Other
    /// users get less until the share is given back.
    pub fn take_anyway(self: &Arc<Self>, user: K, amount: u64) -> Share<K> {
        self.lock().add(user, amount);
        Share { shares: Arc::clone(self), user, amount }
    }

    /// Returns the amount that all users hold together.
    pub fn held(&self) -> u64 {
        self.lock().in_all
    }

    fn add(&self, user: K, amount: u64) -> Result<(), Exhausted> {
        let mut held = self.lock();
        self.check(&held, held.of(user), amount)?;
        held.add(user, amount);
        Ok(())
    }

    fn check(&self, held: &Held<K>, own: u64, amount: u64) -> Result<(), Exhausted> {
        if held.in_all == 0 || failpoint::is_on(Switch::SharesOff) {
            return Ok(());
        }
        let left = self.all.saturating_sub(held.in_all);
        let small = self.all / LARGE_PART;
        // After a large need, a small need must still fit.
        let would_hold =
            if amount > small { amount.saturating_mul(2).saturating_add(small) } else { amount };
        let would_hold = own.saturating_add(would_hold);
        // The cause is the user's own only if the user would be refused without all others too.
        let left_by_user = self.all.saturating_sub(own);
        if own.saturating_add(amount) > self.each || own > 0 && would_hold > left_by_user {
            return Err(Exhausted::OfOne);
        }
        if would_hold > left { Err(Exhausted::InAll) } else { Ok(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Held<K>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Held<K> {
    fn of(&self, user: K) -> u64 {
        self.by_user.get(&user).copied().unwrap_or(0)
    }

    fn add(&mut self, user: K, amount: u64) {
        self.in_all += amount;
        *self.by_user.entry(user).or_insert(0) += amount;
    }
}

impl<K: Copy + Eq + Hash> Share<K> {
    /// Returns the amount of this share.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Takes `more` for the same user.
    ///
    /// # Errors
    /// The user or all users together would hold too much. The share keeps its amount.
    pub fn grow(&mut self, more: u64) -> Result<(), Exhausted> {
        self.shares.add(self.user, more)?;
        self.amount += more;
        Ok(())
    }

    /// Gives back everything above `amount`.
    pub fn shrink_to(&mut self, amount: u64) {
        let back = self.amount.saturating_sub(amount);
        self.give_back(back);
        self.amount -= back;
    }

    fn give_back(&self, amount: u64) {
        let mut held = self.shares.lock();
        held.in_all -= amount;
        if let Some(own) = held.by_user.get_mut(&self.user) {
            *own -= amount;
            if *own == 0 {
                held.by_user.remove(&self.user);
            }
        }
    }
}

impl<K: Copy + Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        self.give_back(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets each user take single units until the rule refuses. Returns the number of users with a
    /// share.
    fn users_until_exhausted(shares: &Arc<Shares<u32>>) -> usize {
        let mut kept = Vec::new();
        for user in 0.. {
            let before = kept.len();
            while let Ok(share) = shares.take(user, 1) {
                kept.push(share);
            }
            if kept.len() == before {
                return user as usize;
            }
        }
        0
    }

    #[test]
    fn a_few_users_cannot_take_all_slots() {
        let slots = Shares::new(256, 8);
        assert!(users_until_exhausted(&slots) > 30);
        assert_eq!(slots.held(), 0, "what is dropped is given back");
    }

    #[test]
    fn few_users_with_large_needs_leave_room_for_many_with_small_ones() {
        let bytes = Shares::new(64 << 20, 64 << 20);
        let mut kept = Vec::new();
        for user in 0..64 {
            while let Ok(share) = bytes.take(user, 8 << 20) {
                kept.push(share);
            }
        }
        assert!(kept.len() >= 6, "{}", kept.len());
        for user in 100..1_000 {
            kept.push(bytes.take(user, 1 << 10).unwrap());
        }
    }

    #[test]
    fn one_large_need_is_met_when_nobody_holds_anything_and_no_second_one() {
        let bytes = Shares::new(100, 50);
        let mut first = bytes.take(1, 100).unwrap();
        assert_eq!(bytes.take(2, 1).unwrap_err(), Exhausted::InAll);
        assert_eq!(first.grow(1), Err(Exhausted::OfOne));
        first.shrink_to(10);
        assert_eq!((first.amount(), bytes.held()), (10, 10));
        assert_eq!(first.grow(41), Err(Exhausted::OfOne), "more than each may hold");
        assert_eq!(first.grow(30), Ok(()));
        assert_eq!(bytes.take(2, 50).unwrap_err(), Exhausted::InAll, "others hold too much");
        assert_eq!(bytes.take_up_to(2, 100, 1).unwrap().amount(), 29, "half of what is left");
        assert_eq!(bytes.take_up_to(2, 100, 60).unwrap_err(), Exhausted::OfOne);
        let more = bytes.take_anyway(2, 1_000);
        assert_eq!((more.amount(), bytes.held()), (1_000, 1_040));
        assert_eq!(bytes.take(3, 1).unwrap_err(), Exhausted::InAll);
        drop(more);
        assert_eq!(bytes.held(), 40);
    }
}
