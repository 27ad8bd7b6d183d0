//! Parts of the scenarios that compare latencies with load and without.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Ends the load also when the work fails: else the scope of its threads would wait for ever.
pub(crate) struct Ends<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub(crate) fn p99_of(times: Vec<Duration>) -> Duration {
    percentile_of(times, 99)
}

/// Returns the time not exceeded by `percent` of 100 samples.
pub(crate) fn percentile_of(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * percent).div_ceil(100) - 1]
}

/// Raises this process's limit of descriptors, as far as the maximum allows. The server raises its
/// own, up to the inherited maximum.
pub(crate) fn raise_descriptors(wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        let wanted = maximum.map_or(wanted, |maximum| maximum.min(wanted));
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).unwrap();
    }
}
