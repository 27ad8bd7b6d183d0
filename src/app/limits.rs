//! Fits the configuration to the limit of open files. Connections share this limit with the journal
//! and the state, which have priority.

use super::StartError;
use crate::base::descriptors::{self, ConnectionShares, Limit};
use crate::config::{self, Config};
use crate::data_dir::journal_files;
use crate::http;

/// Files that each HTTP worker thread has open without any request: its poll and its wakeup.
const FILES_PER_WORKER: usize = 4;

/// Returns the limit if the server can run with it.
///
/// # Errors
/// [`StartError::TooFewFiles`] if the limit is too low to start the HTTP worker threads.
pub(super) fn enough(config: &Config, limit: Option<Limit>) -> Result<Option<Limit>, StartError> {
    let least = descriptors::least(worker_files(&config.server));
    match limit {
        Some(Limit(open_files_max)) if open_files_max < least => Err(StartError::TooFewFiles {
            open_files_max,
            least,
            workers: http::workers(&config.server),
        }),
        limit => Ok(limit),
    }
}

fn worker_files(server: &config::Server) -> usize {
    http::workers(server) * FILES_PER_WORKER
}

/// Returns the configuration with no more connections than the limit of open files allows.
pub(super) fn fitted(config: &Config, limit: Option<Limit>) -> Config {
    let mut config = config.clone();
    let Some(limit) = limit else { return config };
    let wanted = ConnectionShares {
        incoming: config.server.max_connections,
        outgoing: config.delivery.max_in_flight,
    };
    let files = journal_files(&config.storage.data_dir) + worker_files(&config.server);
    let shares = limit.shares(wanted, files);
    if shares == wanted {
        return config;
    }
    let ConnectionShares { incoming, outgoing } = shares;
    // A part of fewer connections is smaller too, or one organization could take them all.
    let part = |limit: usize| part_of(limit, outgoing, wanted.outgoing);
    let per_org = part(config.delivery.max_in_flight_per_org);
    let per_endpoint = part(config.delivery.max_in_flight_per_endpoint);
    tracing::warn!(
        open_files_max = limit.0,
        max_connections = incoming,
        max_in_flight = outgoing,
        max_in_flight_per_org = per_org,
        max_in_flight_per_endpoint = per_endpoint,
        "the limit of open files is too low for [server] max_connections and [delivery] \
         max_in_flight, so fewer are used, and fewer in proportion for each organization and \
         endpoint; raise the limit with LimitNOFILE= in the systemd unit, or `ulimit -n`"
    );
    config.server.max_connections = incoming;
    let delivery = &mut config.delivery;
    delivery.max_in_flight = outgoing;
    delivery.max_in_flight_per_org = per_org;
    delivery.max_in_flight_per_endpoint = per_endpoint;
    config
}

/// Returns the limit for a part of the `fewer` connections that are used instead of `all`, in
/// proportion, and at least 1.
fn part_of(limit: usize, fewer: usize, all: usize) -> usize {
    let part = (limit.min(all) as u128 * fewer as u128).checked_div(all as u128);
    part.and_then(|part| usize::try_from(part).ok()).unwrap_or(fewer).max(1)
}
