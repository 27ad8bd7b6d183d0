//! Makes the series of Prometheus, each at zero from the first scrape.

use prometheus::core::Collector;
use prometheus::{GaugeVec, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry};

use std::marker::PhantomData;

use super::labels::Label;
use super::series::{Counter, FloatGauge, Gauge, Histogram, MetricsError, OptionalGauge, PerLabel};

/// Creates and registers series, and puts `triggerd_` before their names.
pub(super) struct Maker(pub(super) Registry);

impl Maker {
    pub(super) fn register<C: Collector + Clone + 'static>(
        &self,
        series: C,
    ) -> Result<C, MetricsError> {
        self.0.register(Box::new(series.clone()))?;
        Ok(series)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<Counter, MetricsError> {
        self.register(Counter::with_opts(opts(name, help))?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<Gauge, MetricsError> {
        self.register(Gauge::with_opts(opts(name, help))?)
    }

    pub(super) fn float_gauge(&self, name: &str, help: &str) -> Result<FloatGauge, MetricsError> {
        self.register(FloatGauge::with_opts(opts(name, help))?)
    }

    pub(super) fn histogram(
        &self,
        name: &str,
        help: &str,
        bounds: &[f64],
    ) -> Result<Histogram, MetricsError> {
        self.register(Histogram::with_opts(
            HistogramOpts::from(opts(name, help)).buckets(bounds.to_vec()),
        )?)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, MetricsError> {
        self.register(IntCounterVec::new(opts(name, help), labels)?)
    }

    pub(super) fn counter_per<L: Label>(
        &self,
        name: &str,
        help: &str,
        label: &str,
    ) -> Result<PerLabel<L, Counter>, MetricsError> {
        let counters = self.counters(name, help, &[label])?;
        let handles = L::NAMES.iter().map(|value| counters.get_metric_with_label_values(&[*value]));
        let (handles, spare) = (handles.collect::<Result<_, _>>()?, spare_counter()?);
        Ok(PerLabel { handles, spare, label: PhantomData })
    }

    pub(super) fn counter_per_pair<L: Label, K: Label>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; 2],
    ) -> Result<PerLabel<L, PerLabel<K, Counter>>, MetricsError> {
        let counters = self.counters(name, help, &labels)?;
        let of = |first: &&str| {
            let handles = K::NAMES.iter();
            let handles =
                handles.map(|second| counters.get_metric_with_label_values(&[*first, *second]));
            let (handles, spare) = (handles.collect::<Result<_, _>>()?, spare_counter()?);
            Ok::<_, MetricsError>(PerLabel { handles, spare, label: PhantomData })
        };
        let handles = L::NAMES.iter().map(of).collect::<Result<_, _>>()?;
        let spare = PerLabel { handles: vec![], spare: spare_counter()?, label: PhantomData };
        Ok(PerLabel { handles, spare, label: PhantomData })
    }

    pub(super) fn optional_gauge(
        &self,
        name: &str,
        help: &str,
    ) -> Result<OptionalGauge, MetricsError> {
        Ok(OptionalGauge(self.register(GaugeVec::new(opts(name, help), &[])?)?))
    }

    pub(super) fn gauge_per<L: Label>(
        &self,
        name: &str,
        help: &str,
        label: &str,
    ) -> Result<PerLabel<L, Gauge>, MetricsError> {
        let gauges = self.register(IntGaugeVec::new(opts(name, help), &[label])?)?;
        let handles = L::NAMES.iter().map(|value| gauges.get_metric_with_label_values(&[*value]));
        let spare = Gauge::new("spare", "not shown")?;
        Ok(PerLabel { handles: handles.collect::<Result<_, _>>()?, spare, label: PhantomData })
    }
}

/// Returns a counter that is not shown, for a value without a series.
pub(super) fn spare_counter() -> Result<Counter, MetricsError> {
    Ok(Counter::new("spare", "not shown")?)
}

pub(super) fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("triggerd")
}
