//! Reads the events of a stopped server from its data directory, for `archive`. Changes nothing in
//! the directory: the state is computed in a scratch directory.

use std::path::Path;

use crate::base::exit_code::ExitCode;
use crate::cli::audit::{JournalAudit, Scratch, require_journal, require_records};
use crate::cli::failure::Failure;
use crate::cli::reach::Stopped;
use crate::cli::snapshots::{Snapshots, no_base};
use crate::http::read_archive;
use crate::journal::Position;
use crate::model::time::Timestamp;
use crate::store::Store;

/// Passes the events that were received in this time to `take`, as lines of JSON, until it returns
/// false.
pub(super) fn read(
    (config, looked_at): &Stopped,
    scratch: Option<&Path>,
    time: (Timestamp, Timestamp),
    take: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(), Failure> {
    let data_dir = &config.storage.data_dir;
    require_journal(data_dir)?;
    let audit = JournalAudit::read(&looked_at.journal(), Position(looked_at.journal_first()))?;
    require_records(&audit, data_dir)?;
    let scratch = Scratch::make(scratch, data_dir)?;
    let store = state(&audit, looked_at.journal(), &scratch, config.storage.state_cache_bytes)?;
    read_archive((&store, &audit.log()), time, take)
        .map_err(|why| Failure::new(ExitCode::Failed, why))
}

/// Computes the state in the scratch directory.
fn state(
    audit: &JournalAudit,
    journal: impl AsRef<Path>,
    scratch: &Scratch,
    cache_bytes: u64,
) -> Result<Store, Failure> {
    let mut snapshots = Snapshots::read(journal.as_ref(), audit.end())?;
    let damage = audit.is_damaged().then(|| "the journal is damaged".to_owned());
    if let Some(why) = damage.or_else(|| no_base(audit, snapshots.newest())) {
        let message = format!(
            "the events cannot be read from the data directory: {why}. `triggerd verify` shows \
             what is damaged. A running server archives what can be read"
        );
        return Err(Failure::new(ExitCode::Damaged, message));
    }
    snapshots.compute(audit, scratch, cache_bytes).map_err(|error| {
        if scratch.is_short() {
            scratch.too_small(&error)
        } else {
            Failure::new(ExitCode::Failed, error)
        }
    })
}
