//! A value for each key, such as a lock, which exists only while a caller holds the value. All
//! holders of a key share its value.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Number of keys from which on unused values are removed before a key is added.
const SWEEP_FROM: usize = 256;

/// The shared values by key.
#[derive(Debug)]
pub struct Keyed<K, T>(Mutex<Values<K, T>>);

#[derive(Debug)]
struct Values<K, T> {
    by_key: HashMap<K, Weak<T>>,
    /// The number of keys at which the next sweep happens.
    sweep_at: usize,
}

impl<K, T> Default for Keyed<K, T> {
    fn default() -> Self {
        Self(Mutex::new(Values { by_key: HashMap::new(), sweep_at: SWEEP_FROM }))
    }
}

impl<K: Eq + Hash, T> Keyed<K, T> {
    /// Returns the value of the key. `make` creates the value if no caller holds it.
    pub fn of(&self, key: K, make: impl FnOnce() -> T) -> Arc<T> {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = values.by_key.get(&key).and_then(Weak::upgrade) {
            return there;
        }
        if values.by_key.len() >= values.sweep_at {
            values.by_key.retain(|_, value| value.strong_count() > 0);
            values.sweep_at = (values.by_key.len() * 2).max(SWEEP_FROM);
        }
        let new = Arc::new(make());
        values.by_key.insert(key, Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_at_the_same_time_shares_and_nothing_is_kept_for_nobody() {
        let keyed = Keyed::default();
        let first = keyed.of(1, || 10);
        assert!(Arc::ptr_eq(&first, &keyed.of(1, || 20)));
        assert_eq!(*keyed.of(2, || 20), 20);
        drop(first);
        assert_eq!(*keyed.of(1, || 30), 30, "nobody had it any more");
        let held: Vec<_> = (0..2_000).map(|key| keyed.of(key, || key)).collect();
        let kept = |keyed: &Keyed<_, _>| keyed.0.lock().unwrap().by_key.len();
        assert_eq!(kept(&keyed), 2_000);
        drop(held);
        for key in 2_000..20_000 {
            keyed.of(key, || key);
        }
        assert!(kept(&keyed) <= 4_000, "{}", kept(&keyed));
        assert_eq!(*keyed.of(1, || 40), 40);
    }
}
