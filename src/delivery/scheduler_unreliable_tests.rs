//! Loses, repeats, delays and reorders hints and reports.

use super::*;

/// A generator of pseudorandom numbers with a fixed seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// An unreliable channel for messages of one kind.
pub(super) struct Channel<T> {
    dice: Dice,
    late: Vec<T>,
}

impl<T: Copy> Channel<T> {
    fn new(seed: u64) -> Self {
        Self { dice: Dice(seed), late: Vec::new() }
    }

    /// Returns the messages that arrive now, given these and the late ones.
    fn pass(&mut self, given: impl Iterator<Item = T>) -> Vec<T> {
        let mut arrives = Vec::new();
        for message in std::mem::take(&mut self.late).into_iter().chain(given) {
            match self.dice.roll(10) {
                0..3 => {}
                3..5 => self.late.push(message),
                5 => {
                    arrives.push(message);
                    self.late.push(message);
                }
                _ => arrives.push(message),
            }
        }
        for at in (1..arrives.len()).rev() {
            let other = self.dice.roll(u64::try_from(at).unwrap() + 1);
            arrives.swap(at, usize::try_from(other).unwrap());
        }
        arrives
    }
}

/// Channels for the hints and reports of a scheduler.
pub(super) struct Unreliable {
    is_deaf: bool,
    hints: Channel<SchedulerHint>,
    reports: Channel<u64>,
}

impl Unreliable {
    pub(super) fn new(seed: u64) -> Self {
        Self { is_deaf: false, hints: Channel::new(seed), reports: Channel::new(!seed) }
    }

    /// Channels in which every message is lost.
    pub(super) fn deaf() -> Self {
        Self { is_deaf: true, ..Self::new(0) }
    }

    pub(super) fn hints(
        &mut self,
        given: impl Iterator<Item = SchedulerHint>,
    ) -> Vec<SchedulerHint> {
        if self.is_deaf { Vec::new() } else { self.hints.pass(given) }
    }

    pub(super) fn reports(&mut self, given: impl Iterator<Item = u64>) -> Vec<u64> {
        if self.is_deaf { Vec::new() } else { self.reports.pass(given) }
    }
}
