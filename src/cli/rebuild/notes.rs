//! Notes in the place of lost frames, so that the commands behind them mean what they meant: no organization gets a number
//! that they name, and the keys that they stand on are believed. Called by `rebuild`.

use std::iter::Peekable;

use crate::base::exit_code::ExitCode;
use crate::cli::Failure;
use crate::commands::{Command, KindInfo, NoteLoss};
use crate::journal::{Lost, Note, Position};
use crate::model::id::KeyId;

/// The frame of a new organization is never shorter, in bytes.
pub(super) const ORG_FRAME_BYTES_MIN: u64 = 100;
/// A note takes no more, without the keys that it names, and the bytes of a hole behind it.
const NOTE_BYTES: u64 = 64;
/// And for each key no more.
const NOTE_BYTES_PER_KEY: u64 = 17;

/// The notes in the place of what was lost: numbers that no organization gets any more, and the keys that were lost.
pub(super) fn notes(
    lost: &[Lost],
    next_org: u32,
    unmade: &[(Position, KeyId)],
    end: Position,
) -> Result<Vec<Note>, Failure> {
    let mut unmade = unmade.iter().peekable();
    // The frame that makes a key is no shorter than that of an organization.
    let holes = lost.iter().filter(|lost| lost.to.0.saturating_sub(lost.from.0) >= ORG_FRAME_BYTES_MIN);
    let note = |hole: &Lost| {
        let at = hole.from;
        let lost_keys = lost_keys(hole, &mut unmade);
        let command = Command::from(NoteLoss { next_org, judged_before: end.0, lost_keys });
        let KindInfo { number, version, .. } = command.kind();
        let mut body = Vec::new();
        command.write(&mut body).map_err(|error| Failure::new(ExitCode::Failed, error))?;
        Ok(Note { at, kind: number, version, body })
    };
    holes.map(note).collect()
}

/// The keys that the note in this hole names: as many as it has room for of those that are named behind it, the first
/// first. Where keys were made there is room for them, and one that was made in a later hole is named behind that; so each
/// has its place before it is needed.
pub(super) fn lost_keys<'a>(
    hole: &Lost,
    unmade: &mut Peekable<impl Iterator<Item = &'a (Position, KeyId)>>,
) -> Vec<KeyId> {
    // What stands before the hole is known to be refused, or was lost and noted before.
    while unmade.next_if(|(asked, _)| *asked < hole.from).is_some() {}
    let room = hole.to.0.saturating_sub(hole.from.0).saturating_sub(NOTE_BYTES) / NOTE_BYTES_PER_KEY;
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    unmade.by_ref().take(room).map(|(_, key)| *key).collect()
}
