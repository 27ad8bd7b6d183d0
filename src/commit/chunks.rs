//! Splits commands into chunks of bounded cost. Most commands change a few rows, but a command
//! about many endpoints or events changes as many. The state is locked for one chunk at a time, so
//! that nobody waits long, and rows can go to sled between chunks.

use crate::commands::Command;
use crate::journal::Position;

/// Approximate number of rows that a chunk changes. A command that changes more is a chunk of its
/// own.
const WEIGHT_MAX: usize = 2_048;

/// A command and its position in the journal.
pub(super) type Placed<'a> = (Position, &'a Command);

/// Splits commands into chunks, in order, each with the journal position behind it. `end` is the
/// position behind the last command.
pub(super) fn chunks<'a>(
    commands: &'a [Placed<'a>],
    end: Position,
) -> impl Iterator<Item = (&'a [Placed<'a>], Position)> {
    let mut rest = commands;
    std::iter::from_fn(move || {
        let mut weight = 0;
        let count = rest.iter().take_while(|(_, command)| {
            let is_first = weight == 0;
            weight += command.weight();
            is_first || weight <= WEIGHT_MAX
        });
        let (chunk, behind) =
            rest.split_at_checked(count.count()).filter(|(chunk, _)| !chunk.is_empty())?;
        rest = behind;
        Some((chunk, behind.first().map_or(end, |(position, _)| *position)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{CancelDeliveries, ExpireDedup};
    use crate::model::id::{EndpointId, EventId, OrgNo};
    use crate::model::time::Timestamp;

    fn heavy(weight: u128) -> Command {
        let (org, endpoint) = (OrgNo(1), EndpointId(2));
        Command::CancelDeliveries(CancelDeliveries {
            org,
            endpoint,
            events: (0..weight).map(EventId).collect(),
        })
    }

    #[test]
    fn chunks_are_bounded_and_all_there_is_in_order() {
        let light = Command::ExpireDedup(ExpireDedup { before: Timestamp(1) });
        let heavy: Vec<Command> = [1_000, 1_000, 5_000, 100].map(heavy).into();
        let mut commands = vec![&light; 3];
        commands.extend(&heavy);
        let placed: Vec<Placed<'_>> = (10..).step_by(10).map(Position).zip(commands).collect();
        let found: Vec<(usize, Position)> =
            chunks(&placed, Position(99)).map(|(chunk, end)| (chunk.len(), end)).collect();
        assert_eq!(found, [(5, Position(60)), (1, Position(70)), (1, Position(99))]);
        assert_eq!(chunks(&[], Position(99)).count(), 0);
        let whole: Vec<Placed<'_>> =
            chunks(&placed, Position(99)).flat_map(|(chunk, _)| chunk.to_vec()).collect();
        assert_eq!(whole, placed);
    }
}
