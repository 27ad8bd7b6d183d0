//! The series of `/metrics`, looked up by their name with labels.

use std::collections::BTreeMap;
use std::time::Duration;

/// The values as the server wrote them.
pub(super) struct Series(BTreeMap<String, String>);

impl Series {
    /// Reads Prometheus's text format; lines without a sample are skipped.
    pub(super) fn read(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| line.rsplit_once(' '));
        Self(samples.map(|(series, value)| (series.to_owned(), value.to_owned())).collect())
    }

    /// Returns a number; none if there is no such series, or if it is negative, which stands for
    /// an unknown value.
    pub(super) fn number(&self, series: &str) -> Option<u64> {
        self.0.get(series)?.parse().ok()
    }

    /// Returns a duration in whole seconds.
    pub(super) fn seconds(&self, series: &str) -> Option<u64> {
        let seconds = self.0.get(series)?.parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok().map(|duration| duration.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_value_is_unknown() {
        let series = Series::read("# HELP a x\na 7\nb{c=\"d e\"} 12\nage -1\nlong 61.5\n");
        assert_eq!((series.number("a"), series.number("b{c=\"d e\"}")), (Some(7), Some(12)));
        assert_eq!((series.number("age"), series.seconds("age")), (None, None));
        assert_eq!((series.seconds("long"), series.number("none")), (Some(61), None));
    }
}
