//! What stands in the place of lost frames, so that what comes behind them means what it meant: the numbers of
//! organizations, and the keys that commands stand on. Called by `rebuild`.

use std::collections::BTreeMap;
use std::iter::Peekable;

use crate::base::exit_code::ExitCode;
use crate::cli::Failure;
use crate::cli::audit::Numbered;
use crate::commands::{Command, KindInfo, SkipOrgs};
use crate::journal::{Lost, Note, Position};
use crate::model::id::{KeyId, OrgId, OrgNo};

/// The frame of a new organization is never shorter, in bytes.
pub(super) const ORG_FRAME_BYTES_MIN: u64 = 100;
/// A note takes no more, without the keys that it names, and the bytes of a hole behind it.
const NOTE_BYTES: u64 = 64;
/// And for each key no more.
const NOTE_BYTES_PER_KEY: u64 = 17;

/// What the state as it was knows.
pub(super) struct Known {
    pub(super) numbers: BTreeMap<OrgId, OrgNo>,
    /// How far the journal was applied to it.
    pub(super) applied: u64,
}

/// What must stand in the place of lost frames so that every organization keeps its number: an organization's number is
/// its place among all that were made, and `known` tells it where the old state could be read.
pub(super) fn skipped_orgs(
    lost: &[Lost],
    numbering: &[(Position, Numbered)],
    known: &Known,
    assume_none: bool,
) -> Result<Vec<(Position, u32)>, Failure> {
    let mut holes = lost.iter().filter(|lost| lost.to.0.saturating_sub(lost.from.0) >= ORG_FRAME_BYTES_MIN).peekable();
    let (mut skips, mut next, mut hole) = (Vec::new(), 0u32, None);
    // Behind the hole: organizations that were refused, because another one had their name, and that took a number.
    let mut refused: Option<(u32, OrgId)> = None;
    for (position, numbered) in numbering {
        while let Some(before) = holes.next_if(|hole| hole.from < *position) {
            hole = hole.or(Some(before.from));
        }
        let id = match numbered {
            Numbered::Skipped(count) => {
                next = next.saturating_add(*count);
                continue;
            }
            Numbered::Org(id) => id,
        };
        if let Some(at) = hole.take() {
            let passed = refused.map_or(0, |(count, _)| count);
            let number = match known.numbers.get(id) {
                Some(OrgNo(number)) => *number,
                None if assume_none => next.saturating_add(passed),
                None if position.0 < known.applied => {
                    (hole, refused) = (Some(at), Some((passed.saturating_add(1), *id)));
                    continue;
                }
                None => return Err(Failure::new(ExitCode::Damaged, unnumbered(*id))),
            };
            refused = None;
            let skipped = number
                .checked_sub(next.saturating_add(passed))
                .ok_or_else(|| Failure::new(ExitCode::Damaged, foreign(*id)))?;
            if skipped > 0 {
                skips.push((at, skipped));
            }
            next = number;
        }
        next = next.saturating_add(1);
    }
    match refused {
        // Nothing behind them tells how many were lost.
        Some((_, id)) => Err(Failure::new(ExitCode::Damaged, unnumbered(id))),
        None => Ok(skips),
    }
}

/// What is written where something was lost: how many organizations, and which keys.
pub(super) fn notes(
    lost: &[Lost],
    skipped: &[(Position, u32)],
    unmade: &[(Position, KeyId)],
    end: Position,
) -> Result<Vec<Note>, Failure> {
    let mut unmade = unmade.iter().peekable();
    // The frame that makes a key is no shorter than that of an organization.
    let holes = lost.iter().filter(|lost| lost.to.0.saturating_sub(lost.from.0) >= ORG_FRAME_BYTES_MIN);
    let note = |hole: &Lost| {
        let at = hole.from;
        let count = skipped.iter().find(|(hole, _)| *hole == at).map_or(0, |(_, count)| *count);
        let lost_keys = lost_keys(hole, &mut unmade);
        let command = Command::from(SkipOrgs { count, judged_before: end.0, lost_keys });
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

fn unnumbered(id: OrgId) -> String {
    format!(
        "the damage may have held the creation of an organization, and the state that could tell is gone: in that case \
         {id} and all organizations that were created later would get the events of others. If no organization was \
         created at that time, add --assume-no-organization-lost"
    )
}

fn foreign(id: OrgId) -> String {
    format!("the state and the journal give {id} different numbers; the state does not belong to this journal")
}
