//! The types of the series, which the declarations and the maker share.

use std::marker::PhantomData;

use prometheus::GaugeVec;

use super::labels::Label;

pub use prometheus::{Gauge as FloatGauge, Histogram, IntCounter as Counter, IntGauge as Gauge};

/// One metric handle for each value of a label.
#[derive(Debug)]
pub struct PerLabel<L, M> {
    pub(super) handles: Vec<M>,
    /// The handle for a value without a series. No label of type `L` reaches this handle, and its
    /// count is not shown.
    pub(super) spare: M,
    pub(super) label: PhantomData<fn(L)>,
}

impl<L: Label, M> PerLabel<L, M> {
    /// Returns the handle for `label`.
    pub fn of(&self, label: L) -> &M {
        self.handles.get(label.index()).unwrap_or(&self.spare)
    }
}

/// A gauge that is absent while its value is unknown.
#[derive(Debug)]
pub struct OptionalGauge(pub(super) GaugeVec);

impl OptionalGauge {
    /// Sets the value, or removes the series.
    pub fn set(&self, value: Option<f64>) {
        match value {
            Some(value) => self.0.with_label_values::<&str>(&[]).set(value),
            None => self.0.reset(),
        }
    }
}

/// The error when metrics cannot be created or rendered.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);
