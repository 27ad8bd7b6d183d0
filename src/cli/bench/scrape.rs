//! The server's own figures: `/metrics` before and after, and the difference.

use std::collections::BTreeMap;

use serde::Serialize;

/// All series at one moment, by their name with labels.
#[derive(Clone, Debug, Default)]
pub(super) struct Scrape(BTreeMap<String, f64>);

/// The observations of a histogram between two moments. Buckets are coarse: a percentile is the
/// upper bound of its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) count: f64,
    pub(super) mean: f64,
    /// Upper bound of the median; none if above the last bucket.
    pub(super) p50_at_most: Option<f64>,
    /// Upper bound of the 99th percentile; none if above the last bucket.
    pub(super) p99_at_most: Option<f64>,
}

impl Spread {
    /// Converts the figures to another unit.
    pub(super) fn scaled(self, factor: f64) -> Self {
        let times = |bound: Option<f64>| bound.map(|bound| bound * factor);
        let Self { count, mean, p50_at_most, p99_at_most } = self;
        Self {
            count,
            mean: mean * factor,
            p50_at_most: times(p50_at_most),
            p99_at_most: times(p99_at_most),
        }
    }
}

impl Scrape {
    /// Parses Prometheus's text format; lines without a sample are skipped.
    pub(super) fn read(text: &str) -> Self {
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// The growth of a counter since `before`.
    pub(super) fn grown(&self, before: &Self, series: &str) -> f64 {
        let at = |scrape: &Self| scrape.0.get(series).copied().unwrap_or_default();
        at(self) - at(before)
    }

    /// The observations of a histogram without labels since `before`; none if there are none.
    pub(super) fn spread(&self, before: &Self, name: &str) -> Option<Spread> {
        let count = self.grown(before, &format!("{name}_count"));
        if count <= 0.0 {
            return None;
        }
        let prefix = format!("{name}_bucket{{le=\"");
        let bound =
            |series: &str| series.strip_prefix(&prefix)?.strip_suffix("\"}")?.parse::<f64>().ok();
        let mut buckets: Vec<(f64, f64)> = self
            .0
            .keys()
            .filter_map(|series| Some((bound(series)?, self.grown(before, series))))
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        let at_most = |share: f64| {
            let found = buckets.iter().find(|(_, below)| *below >= share * count);
            found.map(|(bound, _)| *bound).filter(|bound| bound.is_finite())
        };
        let mean = self.grown(before, &format!("{name}_sum")) / count;
        Some(Spread { count, mean, p50_at_most: at_most(0.5), p99_at_most: at_most(0.99) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(buckets: [u32; 4], sum: u32, events: u32) -> Scrape {
        let [one, ten, hundred, all] = buckets;
        Scrape::read(&format!(
            "# HELP x_events how many\nx_events {events}\nx_bucket{{le=\"1\"}} \
             {one}\nx_bucket{{le=\"10\"}} {ten}\n\
             x_bucket{{le=\"100\"}} {hundred}\nx_bucket{{le=\"+Inf\"}} {all}\nx_sum \
             {sum}\nx_count {all}\n"
        ))
    }

    #[test]
    fn a_spread_is_of_what_came_in_between() {
        // The thousand small observations before must not count.
        let before = scrape([1_000, 1_000, 1_000, 1_000], 1_000, 5);
        let after = scrape([1_010, 1_060, 1_100, 1_100], 3_000, 12);
        assert!((after.grown(&before, "x_events") - 7.0).abs() < 1e-9);
        let spread = after.spread(&before, "x").unwrap();
        let whole =
            Spread { count: 100.0, mean: 20.0, p50_at_most: Some(10.0), p99_at_most: Some(100.0) };
        assert_eq!(spread, whole);
        assert_eq!(before.spread(&before, "x"), None);
        let beyond = scrape([1_000, 1_000, 1_000, 1_100], 3_000, 12).spread(&before, "x").unwrap();
        assert_eq!(beyond.p99_at_most, None, "above the last bound nothing is known");
        assert_eq!(spread.scaled(1_000.0).p50_at_most, Some(10_000.0));
    }
}
