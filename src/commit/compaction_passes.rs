//! When the compactor reads the whole journal, and how far it has come. Pure.

use crate::journal::Position;

/// The passes over all segments: the one under way, and what the last one left.
#[derive(Debug, Default)]
pub(super) struct Passes {
    /// The first position of the next segment. Absent between two passes.
    next: Option<Position>,
    /// The steady time at which the last pass began, in milliseconds.
    began_ms: Option<u64>,
    /// The position of the state at which the last pass began.
    began_at: Position,
    /// The same, if the last pass planned all that there was to plan.
    planned_at: Option<Position>,
    /// Set if a segment of the pass could not be planned.
    is_incomplete: bool,
    /// Set if a hint came since the last pass began.
    is_hinted: bool,
}

/// Times between the beginnings of two passes, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct PassTimes {
    /// The time if there was a hint, or if the last pass was incomplete.
    pub(super) every_ms: u64,
    /// The time without a hint.
    pub(super) max_ms: u64,
}

impl Passes {
    pub(super) fn is_under_way(&self) -> bool {
        self.next.is_some()
    }

    /// Notes that some record is needed less.
    pub(super) fn hint(&mut self) {
        self.is_hinted = true;
    }

    /// Notes that the pass leaves a segment to the next pass.
    pub(super) fn leave_out(&mut self) {
        self.is_incomplete = true;
    }

    /// Returns true if a pass should begin. While the state stays at the position at which the last
    /// pass began, a pass would find nothing.
    pub(super) fn is_due(&self, applied: Position, now_ms: u64, times: PassTimes) -> bool {
        let Some(began_ms) = self.began_ms else { return true };
        let pause_ms = match self.planned_at {
            Some(planned_at) if !self.is_hinted && planned_at == applied => return false,
            Some(_) if !self.is_hinted => times.max_ms,
            _ => times.every_ms,
        };
        !self.is_under_way() && now_ms >= began_ms.saturating_add(pause_ms)
    }

    pub(super) fn begin(&mut self, applied: Position, now_ms: u64) {
        let (next, began_ms) = (Some(Position::FIRST), Some(now_ms));
        *self = Self { next, began_ms, began_at: applied, ..Self::default() };
    }

    /// Goes on with the first of these segments that the pass has not had yet, and returns it. The
    /// pass ends if there is none.
    pub(super) fn go_on<T: Copy>(
        &mut self,
        segments: impl IntoIterator<Item = (Position, T)>,
    ) -> Option<T> {
        let next = self.next?;
        let found = segments.into_iter().find(|(first, _)| *first >= next);
        self.next = found.map(|(first, _)| first.plus(1));
        if found.is_none() {
            self.planned_at = Some(self.began_at).filter(|_| !self.is_incomplete);
        }
        found.map(|(_, segment)| segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: PassTimes = PassTimes { every_ms: 10, max_ms: 100 };
    const STATE: Position = Position(1_000);
    const LATER: Position = Position(1_001);

    /// Passes of which the first began at 0, with two segments.
    fn after_the_first(leave_out: bool) -> Passes {
        let mut passes = Passes::default();
        assert!(passes.is_due(STATE, 0, TIMES), "none began yet");
        passes.begin(STATE, 0);
        let segments = [1, 50].map(|first| (Position(first), first));
        let mut seen = Vec::new();
        while let Some(segment) = passes.go_on(segments) {
            assert!(!passes.is_due(LATER, 1_000, TIMES), "one is under way");
            seen.push(segment);
        }
        assert_eq!((seen, passes.is_under_way()), (vec![1, 50], false));
        if leave_out {
            passes.leave_out();
            passes.begin(STATE, 0);
            passes.leave_out();
            while passes.go_on(segments).is_some() {}
        }
        passes
    }

    #[test]
    fn no_pass_begins_while_the_state_stays_where_it_was() {
        let passes = after_the_first(false);
        assert!(!passes.is_due(STATE, u64::MAX, TIMES));
        assert!(passes.is_due(LATER, 100, TIMES));
    }

    #[test]
    fn passes_without_a_hint_are_rare() {
        let mut passes = after_the_first(false);
        assert!(!passes.is_due(LATER, 99, TIMES) && passes.is_due(LATER, 100, TIMES));
        passes.hint();
        assert!(!passes.is_due(LATER, 9, TIMES) && passes.is_due(LATER, 10, TIMES));
        assert!(passes.is_due(STATE, 10, TIMES), "a hint may come before the state is visible");
        passes.begin(LATER, 10);
        assert!(passes.go_on([(Position(1), ()); 0]).is_none());
        assert!(!passes.is_due(LATER, u64::MAX, TIMES), "the pass has used the hint");
    }

    #[test]
    fn a_pass_that_left_something_out_is_repeated() {
        let passes = after_the_first(true);
        assert!(!passes.is_due(STATE, 9, TIMES) && passes.is_due(STATE, 10, TIMES));
    }
}
