//! All tables of the state, and the indexes in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::model::id::{EndpointId, OrgId, OrgNo};
use crate::store::error::StateError;
use crate::store::rows::dedup::DedupIndex;
use crate::store::rows::schema::{
    AuditOfRow, AuditRow, DeadRow, DedupBlock, DeliveredBlock, DeliveryRow, DueRow, EndedRow,
    EndpointRow, EventAddress, EventBlock, HealthRow, InboxRow, KeyRow, Meta, NumberRow, OpenBits,
    OrgRow, PendingBits, ReplayRow, RunningRow, TombstoneRow, UnroutedRow,
};
use crate::store::rows::table::{AnyTable, Table};

/// All tables, and the indexes in memory.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) meta: Table<Meta>,
    pub(crate) orgs: Table<OrgRow>,
    pub(crate) inboxes: Table<InboxRow>,
    pub(crate) keys: Table<KeyRow>,
    pub(crate) endpoints: Table<EndpointRow>,
    pub(crate) numbers: Table<NumberRow>,
    pub(crate) tombstones: Table<TombstoneRow>,
    pub(crate) ended: Table<EndedRow>,
    pub(crate) health: Table<HealthRow>,
    pub(crate) events: Table<EventBlock>,
    pub(crate) open: Table<OpenBits>,
    pub(crate) dedup: Table<DedupBlock>,
    pub(crate) unrouted: Table<UnroutedRow>,
    pub(crate) delivered: Table<DeliveredBlock>,
    pub(crate) pending: Table<PendingBits>,
    pub(crate) deliveries: Table<DeliveryRow>,
    pub(crate) due: Table<DueRow>,
    pub(crate) dead: Table<DeadRow>,
    pub(crate) replays: Table<ReplayRow>,
    pub(crate) running: Table<RunningRow>,
    pub(crate) audit: Table<AuditRow>,
    pub(crate) audit_of: Table<AuditOfRow>,
    pub(crate) dedup_index: DedupIndex,
    /// The organization with each name, computed from the rows.
    pub(crate) org_names: BTreeMap<String, OrgId>,
}

impl State {
    pub(crate) fn open(db: &sled::Db, broken: &Arc<AtomicBool>) -> Result<Self, StateError> {
        let dedup = Table::open(db, broken)?;
        let meta: Table<Meta> = Table::open(db, broken)?;
        let dedup_index = DedupIndex::of(&dedup, meta.get(())?.as_deref())?;
        let orgs: Table<OrgRow> = Table::open(db, broken)?;
        let org_names = names_of(&orgs);
        Ok(Self {
            meta,
            orgs,
            org_names,
            inboxes: Table::open(db, broken)?,
            keys: Table::open(db, broken)?,
            endpoints: Table::open(db, broken)?,
            numbers: Table::open(db, broken)?,
            tombstones: Table::open(db, broken)?,
            ended: Table::open(db, broken)?,
            health: Table::open(db, broken)?,
            events: Table::open(db, broken)?,
            open: Table::open(db, broken)?,
            dedup,
            dedup_index,
            unrouted: Table::open(db, broken)?,
            delivered: Table::open(db, broken)?,
            pending: Table::open(db, broken)?,
            deliveries: Table::open(db, broken)?,
            due: Table::open(db, broken)?,
            dead: Table::open(db, broken)?,
            replays: Table::open(db, broken)?,
            running: Table::open(db, broken)?,
            audit: Table::open(db, broken)?,
            audit_of: Table::open(db, broken)?,
        })
    }

    /// Returns true if the first attempt of the delivery is due at once and was not made.
    pub(crate) fn is_pending(
        &self,
        endpoint: EndpointId,
        (first, index): EventAddress,
    ) -> Result<bool, StateError> {
        Ok(self.pending.get((endpoint, first))?.is_some_and(|row| row.bits & 1 << index != 0))
    }

    /// Returns true if the organization is suspended.
    pub(crate) fn is_suspended(&self, org: OrgNo) -> Result<bool, StateError> {
        Ok(self.orgs.get(org)?.is_some_and(|row| row.suspended_at.is_some()))
    }

    /// Returns the organization, unless it is being deleted.
    pub(crate) fn living_org(&self, org: OrgNo) -> Result<Option<Arc<OrgRow>>, StateError> {
        Ok(self.orgs.get(org)?.filter(|row| row.deletion.is_none()))
    }

    /// Makes the indexes from the rows, after rows were inserted as they are stored.
    pub(crate) fn make_indexes(&mut self) -> Result<(), StateError> {
        self.dedup_index = DedupIndex::of(&self.dedup, self.meta.get(())?.as_deref())?;
        self.org_names = names_of(&self.orgs);
        Ok(())
    }

    /// Returns the tables without their row types, for the write-back.
    pub(crate) fn tables(&self) -> [&dyn AnyTable; 22] {
        [
            &self.meta,
            &self.orgs,
            &self.inboxes,
            &self.keys,
            &self.endpoints,
            &self.numbers,
            &self.tombstones,
            &self.ended,
            &self.health,
            &self.events,
            &self.open,
            &self.dedup,
            &self.unrouted,
            &self.delivered,
            &self.pending,
            &self.deliveries,
            &self.due,
            &self.dead,
            &self.replays,
            &self.running,
            &self.audit,
            &self.audit_of,
        ]
    }

    pub(crate) fn tables_mut(&mut self) -> [&mut dyn AnyTable; 22] {
        [
            &mut self.meta,
            &mut self.orgs,
            &mut self.inboxes,
            &mut self.keys,
            &mut self.endpoints,
            &mut self.numbers,
            &mut self.tombstones,
            &mut self.ended,
            &mut self.health,
            &mut self.events,
            &mut self.open,
            &mut self.dedup,
            &mut self.unrouted,
            &mut self.delivered,
            &mut self.pending,
            &mut self.deliveries,
            &mut self.due,
            &mut self.dead,
            &mut self.replays,
            &mut self.running,
            &mut self.audit,
            &mut self.audit_of,
        ]
    }
}

fn names_of(orgs: &Table<OrgRow>) -> BTreeMap<String, OrgId> {
    orgs.resident().map(|(_, row)| (row.org.name.clone(), row.org.id)).collect()
}
