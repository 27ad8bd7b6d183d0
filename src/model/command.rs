//! Every durable change there is. What is not a command cannot happen; the journal is a list of these, and the state is
//! what comes of applying them in order.

use serde::{Deserialize, Serialize};

use super::authority::Authority;
use super::delivery::{AttemptOutcome, Trigger, Verdict};
use super::endpoint::{DisabledReason, Endpoint};
use super::event::NewEvent;
use super::id::{EndpointId, EventId, KeyId, OrgNo, ReplayId};
use super::key::Key;
use super::notice::Notice;
use super::org::Org;
use super::replay::{ReplayEnd, ReplayLane, ReplayRequest};
use super::time::Timestamp;

/// One durable change. Ids and times are in it, so that applying it twice, or years later, gives the same state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A new organization and its first key.
    CreateOrg(CreateOrg),
    /// Another key.
    CreateKey(CreateKey),
    /// A new key for an old one, which ends after a grace time.
    RotateKey(RotateKey),
    /// A key ended.
    EndKey(EndKey),
    /// When keys were last used.
    NoteKeysUsed(NoteKeysUsed),
    /// An endpoint made or changed.
    PutEndpoint(PutEndpoint),
    /// An endpoint ended.
    DeleteEndpoint(DeleteEndpoint),
    /// A producer's event. Boxed: the most frequent command, and the largest.
    SubmitEvent(Box<SubmitEvent>),
    /// A consumer confirmed an event.
    AckEvent(AckEvent),
    /// Which endpoints an event goes to.
    RouteEvent(RouteEvent),
    /// Finding out where an event goes crashed.
    NoteRouteCrash(NoteRouteCrash),
    /// What an attempt brought, and what becomes of the delivery.
    SettleAttempt(Box<SettleAttempt>),
    /// Deliveries to an endpoint that is no more.
    CancelDeliveries(CancelDeliveries),
    /// A delivery that is to be tried now.
    RetryDelivery(RetryDelivery),
    /// A dead letter that is not to be tried any more.
    DropDead(DropDead),
    /// An event whose payload nobody is to see any more.
    EraseEvent(EraseEvent),
    /// Dedup ids whose window has passed.
    ExpireDedup(ExpireDedup),
    /// Organizations whose making was lost to damage.
    SkipOrgs(SkipOrgs),
    /// A replay that begins.
    StartReplay(StartReplay),
    /// A part of a replay.
    StepReplay(StepReplay),
    /// A replay that is over.
    EndReplay(EndReplay),
    /// Keys whose time has come.
    ExpireKeys(ExpireKeys),
    /// A command that a request asks for; events name their key themselves.
    Requested(Box<Requested>),
}

impl Command {
    /// The same, asked for by a request: it has an effect only if what it stands on holds when it is applied.
    #[must_use]
    pub fn requested(self, authority: Authority) -> Self {
        match self {
            Self::SubmitEvent(mut submit) => {
                submit.by = authority.key;
                Self::SubmitEvent(submit)
            }
            command => Self::Requested(Box::new(Requested { authority, command })),
        }
    }

    /// What is done, whoever asks for it.
    pub fn action(&self) -> &Self {
        match self {
            Self::Requested(requested) => &requested.command,
            command => command,
        }
    }

    /// The key that it stands on, if it was asked for with one.
    pub fn asker(&self) -> Option<KeyId> {
        match self {
            Self::Requested(requested) => requested.authority.key,
            Self::SubmitEvent(submit) => submit.by,
            _ => None,
        }
    }

    /// Whose it is, if it is one organization's.
    pub fn org(&self) -> Option<OrgNo> {
        Some(match self.action() {
            Self::CreateKey(command) => command.org,
            Self::RotateKey(command) => command.org,
            Self::EndKey(command) => command.org,
            Self::PutEndpoint(command) => command.org,
            Self::DeleteEndpoint(command) => command.org,
            Self::SubmitEvent(command) => command.org,
            Self::AckEvent(command) => command.org,
            Self::RouteEvent(command) => command.org,
            Self::NoteRouteCrash(command) => command.org,
            Self::SettleAttempt(command) => command.org,
            Self::CancelDeliveries(command) => command.org,
            Self::RetryDelivery(command) => command.org,
            Self::DropDead(command) => command.org,
            Self::EraseEvent(command) => command.org,
            Self::StartReplay(command) => command.org,
            Self::StepReplay(command) => command.org,
            Self::EndReplay(command) => command.org,
            Self::CreateOrg(_)
            | Self::NoteKeysUsed(_)
            | Self::ExpireDedup(_)
            | Self::SkipOrgs(_)
            | Self::ExpireKeys(_)
            | Self::Requested(_) => return None,
        })
    }

    /// Rows that it can change, nearly: how many endpoints or events it speaks of.
    pub fn weight(&self) -> usize {
        let many = match self.action() {
            Self::RouteEvent(route) => route.endpoints.len(),
            Self::CancelDeliveries(cancel) => cancel.events.len(),
            Self::StepReplay(step) => step.events.len(),
            Self::EraseEvent(erase) => erase.endpoints.len(),
            Self::NoteKeysUsed(note) => note.used.len(),
            Self::ExpireKeys(expire) => expire.keys.len(),
            _ => 1,
        };
        many.max(1)
    }
}

/// See [`Command::CreateOrg`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateOrg {
    /// The organization; its number is the next free one.
    pub org: Org,
    /// Its first key.
    pub key: Key,
}

/// See [`Command::CreateKey`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateKey {
    /// Whose.
    pub org: OrgNo,
    /// The key.
    pub key: Key,
}

/// See [`Command::RotateKey`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateKey {
    /// Whose.
    pub org: OrgNo,
    /// The key that ends.
    pub old: KeyId,
    /// When it ends (or earlier, if it had an earlier end). 0, or a time that is over: at once, whatever the clock does.
    pub old_ends_at: Timestamp,
    /// The key that takes its place. Its scopes and its end are those that the old one has by then.
    pub new: Key,
}

/// See [`Command::EndKey`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndKey {
    /// Whose.
    pub org: OrgNo,
    /// Which.
    pub key: KeyId,
    /// When.
    pub at: Timestamp,
}

/// See [`Command::NoteKeysUsed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteKeysUsed {
    /// Key and moment.
    pub used: Vec<(KeyId, Timestamp)>,
}

/// See [`Command::ExpireKeys`]. A key whose end has come stays ended, also when the clock is set back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireKeys {
    /// Which, a bounded number at a time; nothing happens to one whose end has not come.
    pub keys: Vec<KeyId>,
    /// When.
    pub at: Timestamp,
}

/// See [`Command::Requested`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// What it stands on.
    pub authority: Authority,
    /// What is asked for; neither an event nor another request.
    pub command: Command,
}

/// See [`Command::PutEndpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutEndpoint {
    /// Whose.
    pub org: OrgNo,
    /// The endpoint as it is from now on,
    pub endpoint: Endpoint,
    /// also in whether it is enabled; else that stays as it is by then, because a receiver may have disabled it meanwhile.
    pub sets_enabled: bool,
}

/// See [`Command::DeleteEndpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteEndpoint {
    /// Whose.
    pub org: OrgNo,
    /// Which.
    pub endpoint: EndpointId,
}

/// See [`Command::SubmitEvent`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmitEvent {
    /// Whose.
    pub org: OrgNo,
    /// The key that posted it, which must be valid at `received_at` and may write events; none: the server itself.
    pub by: Option<KeyId>,
    /// Its id. Given by the committer, in journal order; 0 until then.
    pub id: EventId,
    /// When it was taken in. Given by the committer.
    pub received_at: Timestamp,
    /// What was posted.
    pub event: NewEvent,
}

/// See [`Command::AckEvent`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckEvent {
    /// Whose.
    pub org: OrgNo,
    /// Which.
    pub event: EventId,
    /// When.
    pub at: Timestamp,
}

/// See [`Command::RouteEvent`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteEvent {
    /// Whose.
    pub org: OrgNo,
    /// Which.
    pub event: EventId,
    /// Where to.
    pub endpoints: Vec<EndpointId>,
    /// Not before this.
    pub due_at: Timestamp,
}

/// See [`Command::NoteRouteCrash`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteRouteCrash {
    /// Whose.
    pub org: OrgNo,
    /// Which.
    pub event: EventId,
}

/// See [`Command::SettleAttempt`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettleAttempt {
    /// Whose.
    pub org: OrgNo,
    /// Where to.
    pub endpoint: EndpointId,
    /// Which.
    pub event: EventId,
    /// The first attempt is 1.
    pub number: u32,
    /// Why it was made.
    pub trigger: Trigger,
    /// What it brought.
    pub outcome: AttemptOutcome,
    /// What follows from it.
    pub verdict: Verdict,
    /// Whether the endpoint gets nothing from now on, and why.
    pub disables: Option<DisabledReason>,
    /// Journal position of the attempt before this one: the attempts of a delivery are a list through the journal.
    pub previous: Option<u64>,
    /// Operational events that it causes.
    pub notices: Vec<Notice>,
}

/// See [`Command::CancelDeliveries`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelDeliveries {
    /// Whose.
    pub org: OrgNo,
    /// Where to.
    pub endpoint: EndpointId,
    /// Which, a bounded number at a time.
    pub events: Vec<EventId>,
}

/// See [`Command::RetryDelivery`]. What waits is due now, and goes on with its schedule. What was given up, canceled or
/// accepted waits again, and its schedule begins anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryDelivery {
    /// Whose.
    pub org: OrgNo,
    /// Where to.
    pub endpoint: EndpointId,
    /// Which.
    pub event: EventId,
    /// When, as a steady time, as all due times are.
    pub at: Timestamp,
    /// Nothing happens to any but a dead letter.
    pub only_dead: bool,
    /// Why the next attempt will be made, if this makes it come.
    pub trigger: Trigger,
}

/// See [`Command::DropDead`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropDead {
    /// Whose.
    pub org: OrgNo,
    /// Where to.
    pub endpoint: EndpointId,
    /// Which.
    pub event: EventId,
}

/// See [`Command::EraseEvent`]. From then on it is shown nowhere and sent nowhere; its frame stays in the journal until its
/// segment goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EraseEvent {
    /// Whose.
    pub org: OrgNo,
    /// Which.
    pub event: EventId,
    /// Where it was on its way to or was given up, also endpoints that were deleted. A hint: those that live, and the last
    /// that were deleted, are looked at anyway.
    pub endpoints: Vec<EndpointId>,
    /// When.
    pub at: Timestamp,
}

/// See [`Command::ExpireDedup`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireDedup {
    /// The oldest ones are forgotten as far as they were received before this, a bounded number at a time.
    pub before: Timestamp,
}

/// See [`Command::SkipOrgs`]. Written only when a damaged journal is salvaged: an organization's number is its place among
/// all that were made, so those behind a lost one would get the number, and with it the events, of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkipOrgs {
    /// So many numbers are not given to anybody.
    pub count: u32,
    /// Where the journal ended then: commands up to there were judged before the loss.
    pub judged_before: u64,
    /// Keys that some of those commands stand on and whose making was lost: they are believed, as they were then. Of any other
    /// key that is not there, it is known that it had ended or never was.
    pub lost_keys: Vec<KeyId>,
}

/// See [`Command::StartReplay`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartReplay {
    /// Whose.
    pub org: OrgNo,
    /// Its id.
    pub replay: ReplayId,
    /// What is asked for.
    pub request: ReplayRequest,
    /// When.
    pub at: Timestamp,
}

/// See [`Command::StepReplay`]. Deliveries and progress are one change: a crash neither loses nor repeats any. Nothing
/// happens unless the replay is just where this step begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReplay {
    /// Whose.
    pub org: OrgNo,
    /// Which.
    pub replay: ReplayId,
    /// Where it begins.
    pub lane: ReplayLane,
    /// Where to.
    pub endpoint: EndpointId,
    /// Events that are to be delivered again, a bounded number; whether each is depends on how it stands by then.
    pub events: Vec<EventId>,
    /// How many were looked at.
    pub examined: u32,
    /// The first event that was not; none when the endpoint is done.
    pub reached: Option<EventId>,
    /// When, as a steady time: from then on the deliveries are due.
    pub at: Timestamp,
}

/// See [`Command::EndReplay`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndReplay {
    /// Whose.
    pub org: OrgNo,
    /// Which.
    pub replay: ReplayId,
    /// Why.
    pub end: ReplayEnd,
    /// When.
    pub at: Timestamp,
}
