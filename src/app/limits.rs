//! The configuration as far as the operating system lets this process have it: connections share the files that may be
//! open with the journal and the state, which go first.

use super::StartError;
use crate::base::descriptors::{self, Limit, Shares};
use crate::config::{self, Config};
use crate::data_dir::journal_files;
use crate::http;

/// Files that a thread which serves requests has open without any request: what it waits with, and what wakes it.
const FILES_PER_WORKER: usize = 4;

/// The limit, if the server can run with it.
///
/// # Errors
/// When not even the threads could start.
pub(super) fn enough(config: &Config, limit: Option<Limit>) -> Result<Option<Limit>, StartError> {
    let least = descriptors::least(worker_files(&config.server));
    match limit {
        Some(Limit(open_files_max)) if open_files_max < least => {
            Err(StartError::TooFewFiles { open_files_max, least, workers: http::workers(&config.server) })
        }
        limit => Ok(limit),
    }
}

fn worker_files(server: &config::Server) -> usize {
    http::workers(server) * FILES_PER_WORKER
}

/// The same configuration with no more connections than there may be.
pub(super) fn fitted(config: &Config, limit: Option<Limit>) -> Config {
    let mut config = config.clone();
    let Some(limit) = limit else { return config };
    let wanted = Shares { incoming: config.server.max_connections, outgoing: config.delivery.max_in_flight };
    let files = journal_files(&config.storage.data_dir) + worker_files(&config.server);
    let shares = limit.shares(wanted, files);
    if shares == wanted {
        return config;
    }
    let Shares { incoming, outgoing } = shares;
    tracing::warn!(
        open_files_max = limit.0,
        max_connections = incoming,
        max_in_flight = outgoing,
        "the limit of open files is too low for [server] max_connections and [delivery] max_in_flight, so fewer are used; \
         raise the limit with LimitNOFILE= in the systemd unit, or `ulimit -n`"
    );
    config.server.max_connections = incoming;
    let delivery = &mut config.delivery;
    delivery.max_in_flight = outgoing;
    delivery.max_in_flight_per_org = delivery.max_in_flight_per_org.min(outgoing);
    delivery.max_in_flight_per_endpoint = delivery.max_in_flight_per_endpoint.min(outgoing);
    config
}
