//! Notes in the place of lost records, which keep the meaning of later commands: no new
//! organization gets a number that they name, and their keys count as judged. Called by `rebuild`.

use std::iter::Peekable;

use crate::base::exit_code::ExitCode;
use crate::cli::Failure;
use crate::commands::{Command, NoteLoss};
use crate::journal::{Lost, Position, RawRecord};
use crate::model::id::KeyId;

/// Minimum size of a record creating an organization, in bytes.
pub(super) const ORG_RECORD_BYTES_MIN: u64 = 100;
/// Maximum size of a note without its keys, with the bytes of the hole behind it.
const NOTE_BYTES: u64 = 64;
/// Maximum size of each key in a note, in bytes.
const NOTE_BYTES_PER_KEY: u64 = 17;

/// Returns the notes in the place of lost records. They name the organization numbers that must not
/// be given again, and the lost keys.
pub(super) fn notes(
    lost: &[Lost],
    next_org: u32,
    unmade: &[(Position, KeyId)],
    end: Position,
) -> Result<Vec<RawRecord<'static>>, Failure> {
    let mut unmade = unmade.iter().peekable();
    // A record creating a key is at least as long as a record creating an organization.
    let holes = lost.iter().filter(|lost| lost.to.since(lost.from) >= ORG_RECORD_BYTES_MIN);
    let note = |hole: &Lost| {
        let at = hole.from;
        let lost_keys = lost_keys(hole, &mut unmade);
        let command = Command::from(NoteLoss { next_org, judged_before: end, lost_keys });
        command.to_raw(at).map_err(|error| Failure::new(ExitCode::Failed, error))
    };
    holes.map(note).collect()
}

/// Returns the keys for the note in this hole: of the lost keys used behind the hole, as
/// many as fit, in the order of first use. A hole that held the creation of keys has room for them,
/// and a key created in a later hole is used only behind that hole. So each key is noted before its
/// first use.
pub(super) fn lost_keys<'a>(
    hole: &Lost,
    unmade: &mut Peekable<impl Iterator<Item = &'a (Position, KeyId)>>,
) -> Vec<KeyId> {
    // Commands before the hole are known to be refused, or their keys were noted in an earlier
    // hole.
    while unmade.next_if(|(asked, _)| *asked < hole.from).is_some() {}
    let room = hole.to.since(hole.from).saturating_sub(NOTE_BYTES) / NOTE_BYTES_PER_KEY;
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    unmade.by_ref().take(room).map(|(_, key)| *key).collect()
}
