//! The state: the result of applying the journal's commands in order, kept in sled and in a layer
//! of fresh rows above it.
//!
//! The only importer of sled. Its functions are named in the words of the product; only commands
//! see tables and rows, while they apply themselves in a [`Change`]. Changed rows reach sled some
//! hundred milliseconds later, in one atomic batch with their journal position
//! ([`Store::write_back`]), because the journal has made them durable already.
//!
//! The state does not know the origin of commands, the current time, or the files of the journal.

pub(crate) mod change;
mod error;
mod lifecycle;
mod queries;
pub(crate) mod rows;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use change::audit::AuditSource;
pub use change::{
    Batch, Change, Effects, GRACE_KEYS_PER_FAMILY, KEYS_PER_ORG_MAX, KeyAdded, Refusal, Stored,
    Unapplied,
};
pub use error::StateError;
pub use lifecycle::differences::{Difference, Differences};
pub use lifecycle::generation::{Generation, Reason, SEGMENT_BYTES, invalidate_last, remove_all};
pub use lifecycle::kept::RowBytes;
pub use lifecycle::load::Load;
pub use lifecycle::losses::{Named, NamedKind};
pub use lifecycle::verify::StateValidity;
pub use lifecycle::walk::{FreshHandling, SnapshotRows, Walked};
pub use lifecycle::write_back::FreshSize;
pub use queries::audit::{AuditPage, AuditPlace, AuditQuery};
pub use queries::dead_letters::{DeadPage, DeadPlace, DeadQuery};
pub use queries::deliveries::{Destination, DueDelivery, InOrder, Then, WaitingEndpoint};
pub use queries::delivery::{AttemptTarget, Delivery, DeliveryDetails, DeliverySituation};
pub use queries::delivery_pages::{DeliveryPage, DeliveryPlace, DeliveryQuery};
pub use queries::duplicates::Earlier;
pub use queries::event_list::{EventQuery, ReceivedEvents};
pub use queries::event_page::{EventItem, EventPage};
pub use queries::expiring::{Expiring, RetainedOrg};
pub use queries::inbox::{InboxNews, InboxQuery};
pub use queries::keys::{Authenticated, EndingKeys, KeyEnd};
pub use queries::lookups::{
    Counts, EndpointHealth, EventSummary, NumberedEndpoint, OrgSummary, Routing, Unrouted,
};
pub use queries::orgs::{OrgOverview, OrgQuery};
pub use queries::references::EventRecords;
pub use queries::replay_turns::{REPLAY_WAITING_MAX, ReplayStep, ReplayTurn};
pub use queries::replays::Replay;

/// The state of one data directory.
#[derive(Debug)]
pub struct Store {
    generation: RwLock<Generation>,
    /// The reason why the state began empty.
    reason: Option<Reason>,
    broken: Arc<AtomicBool>,
    state: RwLock<rows::state::State>,
    /// Locked during a write-back of rows to sled. Holds the rows that a snapshot still needs.
    writing: Mutex<Option<lifecycle::kept::Kept>>,
    /// The next generation while the rows are copied to it. Locked only with `writing` locked.
    renewal: Mutex<Option<lifecycle::generation::Renewal>>,
}

impl Store {
    /// Returns true if a row could not be read. The caller then invalidates the state and ends the
    /// process; the next start computes the state from the journal.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }

    fn read(&self) -> RwLockReadGuard<'_, rows::state::State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, rows::state::State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
