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
mod dead_letters;
mod dedup;
mod deliveries;
mod delivery_query;
mod dump;
mod event_page;
mod event_query;
mod generation;
mod inbox;
mod keys;
mod losses;
mod query;
mod replays;
pub(crate) mod schema;
mod table;
mod verify;
mod write_back;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use change::{
    Batch, Change, Effects, GRACE_KEYS_PER_LINE, KEYS_PER_ORG_MAX, KeyAdded, Refusal, Stored,
    Unapplied,
};
pub use dead_letters::{DeadPage, DeadPlace, DeadQuery};
pub use dedup::Earlier;
pub use deliveries::{DueDelivery, InOrder, Then, WaitingEndpoint};
pub use delivery_query::{
    AttemptTarget, Delivery, DeliveryDetails, DeliveryPage, DeliveryPlace, DeliveryQuery,
    DeliverySituation,
};
pub use event_page::{EventItem, EventPage};
pub use event_query::EventQuery;
pub use generation::{Generation, Reason, SEGMENT_BYTES, invalidate_last, remove_all};
pub use inbox::{InboxNews, InboxQuery};
pub use keys::Authenticated;
pub use losses::{Named, NamedKind};
pub use query::{Counts, EndpointHealth, EventSummary, OrgSummary, Unrouted};
pub use replays::{REPLAY_WAITING_MAX, Replay, ReplayStep, ReplayTurn};
pub use verify::{Difference, Differences, StateValidity};
pub use write_back::FreshSize;

/// The state of one data directory.
#[derive(Debug)]
pub struct Store {
    generation: Generation,
    broken: Arc<AtomicBool>,
    state: RwLock<table::State>,
    /// Locked during a write-back of rows to sled.
    writing: Mutex<()>,
}

/// The state cannot be read, written or changed. The journal is unharmed: a restart rebuilds the
/// state from it.
#[derive(Debug)]
pub enum StateError {
    /// Rows cannot be read or written.
    Rows(String),
    /// An assumption of the code does not hold. This bug must not become a wrong answer or a wrong
    /// row.
    Invariant(&'static str),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(reason) => write!(f, "the state is broken: {reason}"),
            Self::Invariant(rule) => write!(f, "a mistake in triggerd, please report it: {rule}"),
        }
    }
}

impl std::error::Error for StateError {}

impl From<sled::Error> for StateError {
    fn from(error: sled::Error) -> Self {
        Self::Rows(error.to_string())
    }
}

impl From<crate::base::codec::CodecError> for StateError {
    fn from(error: crate::base::codec::CodecError) -> Self {
        Self::Rows(error.to_string())
    }
}

impl Store {
    /// Returns true if a row could not be read. The caller then invalidates the state and ends the
    /// process; the next start computes the state from the journal.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }

    fn read(&self) -> RwLockReadGuard<'_, table::State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, table::State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
