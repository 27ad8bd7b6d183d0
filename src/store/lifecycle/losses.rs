//! The differences between two states in the words of their users: the event with its type,
//! organization and time. For verify and rebuild. Events are compared one by one, whatever blocks
//! they lie in.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::model::event::{EventStatus, EventType};
use crate::model::id::{EventId, OrgId, OrgNo};
use crate::model::time::Timestamp;
use crate::store::rows::row_bytes::KeyedRow;
use crate::store::rows::schema::{EndpointRow, EventBlock, EventEntry, KeyRow, OrgRow, ReplayRow};
use crate::store::rows::state::State;
use crate::store::{StateError, Store};

/// An object that differs between two states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The kind of the object.
    pub kind: NamedKind,
    /// The public id of the object.
    pub id: String,
    /// The type of an event, the name or URL of another object.
    pub label: String,
    /// The organization's id and name. Absent if neither state knows it.
    pub org: Option<(OrgId, String)>,
    /// The time of receipt or of creation.
    pub at: Timestamp,
    /// The description in this state. Absent if the object does not exist here.
    pub here: Option<String>,
    /// The description in the other state. Absent if the object does not exist there.
    pub other: Option<String>,
}

/// The kinds of objects with a public id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum NamedKind {
    /// An organization, which is a tenant.
    Organization,
    /// An API key of an organization.
    Key,
    /// An endpoint of an organization.
    Endpoint,
    /// An event of an organization.
    Event,
    /// A replay of an organization.
    Replay,
}

impl NamedKind {
    /// The name of the kind in reports.
    pub fn word(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for Named {
    /// Names the object and its organization, without the difference.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, id, label, org, at, .. } = self;
        write!(f, "{} {id}", kind.word())?;
        if !label.is_empty() {
            write!(f, " ({label})")?;
        }
        match org {
            Some((org, name)) if *kind != NamedKind::Organization => {
                write!(f, " of {org} ({name})")?;
            }
            Some(_) => {}
            None => f.write_str(" of an unknown organization")?,
        }
        write!(f, ", {} {at}", if *kind == NamedKind::Event { "received" } else { "made" })
    }
}

/// One event as a state describes it.
#[derive(Clone, PartialEq, Eq)]
struct Seen {
    event_type: Option<EventType>,
    received_at: Timestamp,
    status: EventStatus,
    deliveries: [u16; 3],
    is_erased: bool,
    is_open: bool,
}

/// The two states, and the function that gets each difference.
struct Comparison<'a> {
    here: &'a State,
    other: &'a State,
    each: &'a mut dyn FnMut(Named),
}

impl Store {
    /// Reports each object with an id whose description differs in the other state. The description
    /// has the tier and the inbox mode of an organization, and if it is suspended, the validity and the scopes of a key,
    /// all of an endpoint, the status of an event, and if a replay runs. Reads everything.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn name_differences(
        &self,
        other: &Self,
        each: &mut dyn FnMut(Named),
    ) -> Result<(), StateError> {
        let (here, other) = (self.read(), other.read());
        let mut comparison = Comparison { here: &here, other: &other, each };
        comparison.organizations()?;
        comparison.keys()?;
        comparison.endpoints()?;
        comparison.events()?;
        comparison.replays()
    }

    /// Returns the id and the name of the organization with this number.
    ///
    /// # Errors
    /// Rows cannot be read.
    pub fn org_called(&self, number: OrgNo) -> Result<Option<(OrgId, String)>, StateError> {
        Ok(self.read().orgs.get(number)?.map(|row| (row.org.id, row.org.name.clone())))
    }
}

impl Comparison<'_> {
    /// Reports an object that differs.
    fn report(
        &mut self,
        (kind, id): (NamedKind, String),
        (org, at): (OrgNo, Timestamp),
        label: String,
        (here, other): (Option<String>, Option<String>),
    ) -> Result<(), StateError> {
        let of = |state: &State| {
            Ok::<_, StateError>(state.orgs.get(org)?.map(|row| (row.org.id, row.org.name.clone())))
        };
        let org = of(self.here)?.map_or_else(|| of(self.other), |found| Ok(Some(found)))?;
        (self.each)(Named { kind, id, label, org, at, here, other });
        Ok(())
    }

    fn organizations(&mut self) -> Result<(), StateError> {
        let (here, other) = (self.here, self.other);
        let org = |row: &OrgRow| {
            let suspended = if row.suspended_at.is_some() { ", suspended" } else { "" };
            format!("tier {}, inbox {}{suspended}", row.org.tier, row.org.inbox_mode.name())
        };
        pairs(here.orgs.all(), other.orgs.all(), |number, ours, theirs| {
            let said = (ours.map(org), theirs.map(org));
            let Some(row) = ours.or(theirs).filter(|_| said.0 != said.1) else { return Ok(()) };
            let kind = (NamedKind::Organization, row.org.id.to_string());
            self.report(kind, (number, row.org.created_at), row.org.name.clone(), said)
        })
    }

    fn keys(&mut self) -> Result<(), StateError> {
        let (here, other) = (self.here, self.other);
        let key = |row: &KeyRow| {
            let word = match &row.key {
                key if key.has_ended() => "ended",
                key if key.is_leaving() => "leaving",
                _ => "valid",
            };
            format!("{word}, scopes {}", row.key.scopes.names().join(" "))
        };
        pairs(here.keys.all(), other.keys.all(), |id, ours, theirs| {
            let said = (ours.map(key), theirs.map(key));
            let Some(row) = ours.or(theirs).filter(|_| said.0 != said.1) else { return Ok(()) };
            let kind = (NamedKind::Key, id.to_string());
            self.report(kind, (row.org, row.key.created_at), row.key.name.clone(), said)
        })
    }

    fn endpoints(&mut self) -> Result<(), StateError> {
        let (here, other) = (self.here, self.other);
        let endpoint = |row: &EndpointRow| match row.endpoint.disabled {
            Some(reason) => format!("disabled ({})", reason.name()),
            None => "enabled".to_owned(),
        };
        pairs(here.endpoints.all(), other.endpoints.all(), |id, ours, theirs| {
            let Some(row) = ours.or(theirs).filter(|_| ours != theirs) else { return Ok(()) };
            let (ours, theirs) = (ours.map(endpoint), theirs.map(endpoint));
            let said = if ours == theirs {
                (Some("other settings".to_owned()), theirs)
            } else {
                (ours, theirs)
            };
            let bare = row.endpoint.settings.url_without_query().to_owned();
            self.report(
                (NamedKind::Endpoint, id.to_string()),
                (row.org, row.endpoint.created_at),
                bare,
                said,
            )
        })
    }

    fn events(&mut self) -> Result<(), StateError> {
        let (here, other) = (self.here, self.other);
        pairs(each_event(here), each_event(other), |(org, id), ours, theirs| {
            let Some(seen) = ours.or(theirs).filter(|_| ours != theirs) else { return Ok(()) };
            let label = seen.event_type.as_ref().map(ToString::to_string).unwrap_or_default();
            let said = (ours.map(Seen::summary), theirs.map(Seen::summary));
            self.report((NamedKind::Event, id.to_string()), (org, seen.received_at), label, said)
        })
    }

    fn replays(&mut self) -> Result<(), StateError> {
        let (here, other) = (self.here, self.other);
        let replay =
            |row: &ReplayRow| if row.ended.is_some() { "over" } else { "running" }.to_owned();
        pairs(here.replays.all(), other.replays.all(), |(org, id), ours, theirs| {
            let said = (ours.map(replay), theirs.map(replay));
            if said.0 == said.1 {
                return Ok(());
            }
            self.report(
                (NamedKind::Replay, id.to_string()),
                (org, Timestamp(id.unix_ms())),
                String::new(),
                said,
            )
        })
    }
}

impl Seen {
    fn summary(&self) -> String {
        let status = self.status.name();
        let [waiting, accepted, dead] = self.deliveries;
        let inbox = if self.is_open { "in the inbox" } else { "out of the inbox" };
        let erased = if self.is_erased { ", payload erased" } else { "" };
        format!(
            "{status}, {inbox}{erased}, deliveries: {waiting} waiting, {accepted} accepted, \
             {dead} dead"
        )
    }
}

/// Returns every event, by organization and in the order of ids.
fn each_event(
    state: &State,
) -> impl Iterator<Item = Result<((OrgNo, EventId), Arc<Seen>), StateError>> + '_ {
    state.events.all().flat_map(move |row| match row.and_then(|row| seen_of(state, &row)) {
        Ok(events) => events,
        Err(error) => vec![Err(error)],
    })
}

type SeenEvents = Vec<Result<((OrgNo, EventId), Arc<Seen>), StateError>>;

fn seen_of(state: &State, (key, block): &KeyedRow<EventBlock>) -> Result<SeenEvents, StateError> {
    let open = state.open.get(*key)?.map_or(0, |bits| bits.0);
    let seen = |(index, entry): (usize, &EventEntry)| {
        let seen = Seen {
            event_type: block.event_type(entry).cloned(),
            received_at: entry.received_at,
            status: entry.status,
            deliveries: [entry.waiting, entry.accepted, entry.dead],
            is_erased: entry.erased_at.is_some(),
            is_open: open & (1 << index) != 0,
        };
        Ok(((key.0, entry.id), Arc::new(seen)))
    };
    Ok(block.existing().map(seen).collect())
}

/// Walks through two sorted lists and shows the rows with the same key together.
fn pairs<K: Ord + Copy, R>(
    mut ours: impl Iterator<Item = Result<(K, Arc<R>), StateError>>,
    mut theirs: impl Iterator<Item = Result<(K, Arc<R>), StateError>>,
    mut show: impl FnMut(K, Option<&R>, Option<&R>) -> Result<(), StateError>,
) -> Result<(), StateError> {
    let (mut our, mut their) = (ours.next().transpose()?, theirs.next().transpose()?);
    loop {
        let order = match (&our, &their) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((this, _)), Some((that, _))) => this.cmp(that),
        };
        let this = if order.is_le() {
            std::mem::replace(&mut our, ours.next().transpose()?)
        } else {
            None
        };
        let that = if order.is_ge() {
            std::mem::replace(&mut their, theirs.next().transpose()?)
        } else {
            None
        };
        let Some((key, _)) = this.as_ref().or(that.as_ref()) else { return Ok(()) };
        show(
            *key,
            this.as_ref().map(|(_, row)| row.as_ref()),
            that.as_ref().map(|(_, row)| row.as_ref()),
        )?;
    }
}
