//! Questions to the state, one file for each kind.

pub(super) mod audit;
pub(super) mod dead_letters;
pub(super) mod deliveries;
pub(super) mod delivery;
pub(super) mod delivery_pages;
pub(super) mod duplicates;
pub(super) mod event_list;
pub(super) mod event_page;
pub(super) mod expiring;
pub(super) mod forgettable;
pub(super) mod inbox;
pub(super) mod keys;
pub(super) mod lookups;
pub(super) mod orgs;
pub(super) mod references;
pub(super) mod replay_search;
pub(super) mod replay_turns;
pub(super) mod replays;
