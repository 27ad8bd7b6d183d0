//! Command: forgets dedup ids whose window has passed.

use serde::{Deserialize, Serialize};

use super::{AskedBy, Kind, plain_body};
use crate::model::id::OrgNo;
use crate::model::time::Timestamp;
use crate::store::{Change, Unapplied};

/// Forgets the oldest dedup ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireDedup {
    /// The oldest blocks are removed if all their entries were received before this steady
    /// time.
    pub before: Timestamp,
}

/// Maximum number of blocks that one command removes.
const BLOCKS_MAX: usize = 256;

impl Kind for ExpireDedup {
    const NUMBER: u8 = 13;
    const VERSION: u8 = 1;
    const ASKED_BY: AskedBy = AskedBy::Server;

    type Outcome = ();

    plain_body!();

    fn org(&self) -> Option<OrgNo> {
        None
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<(), Unapplied> {
        for _ in 0..BLOCKS_MAX {
            let (first, tail) = (change.meta()?.dedup_first, change.meta()?.dedup_tail);
            let Some(block) =
                change.state.dedup.get(first)?.filter(|block| block.is_older_than(self.before))
            else {
                break;
            };
            for entry in &block.entries {
                change.state.dedup_index.remove(entry.digest, first);
            }
            change.state.dedup.remove(first);
            let meta = change.meta()?;
            meta.dedup_first = first.wrapping_add(1);
            if first == tail {
                meta.dedup_tail = meta.dedup_first;
            }
        }
        Ok(())
    }
}
