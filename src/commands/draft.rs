//! Drafts: commands as they are submitted. A draft has no id, no number and no time. The committer
//! gives them in journal order and so makes a command of the draft.

use super::{Command, CreateOrg, Requested, SubmitEvent, Submitted};
use crate::model::authority::Authority;
use crate::model::event::{Dedup, NewEvent};
use crate::model::id::{EventId, KeyId, OrgNo};
use crate::model::key::{Key, Scope, Scopes};
use crate::model::org::Org;
use crate::model::time::Timestamp;

/// A command that is not complete yet.
#[derive(Clone, Debug)]
pub struct Draft {
    asker: Option<Asker>,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Event(EventDraft),
    Org(OrgDraft),
    /// A command of which at most its notices lack an id and a time.
    Whole(Command),
}

/// The key that asks for a command, and the scopes that the key must have.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The key; `None` stands for the operator.
    pub key: Option<KeyId>,
    /// The scopes that the key must have.
    pub needs: Scopes,
}

/// A type whose values can be submitted. Its values become commands of one kind.
pub trait Drafted: Into<Draft> {
    /// The kind of command that a draft becomes.
    type Kind: Submitted;
}

/// The committer's part in a command.
pub trait Stamp {
    /// The id of the next event.
    fn next_id(&mut self) -> EventId;
    /// The number of the next organization.
    fn next_org(&mut self) -> OrgNo;
    /// The time of the commit.
    fn now(&self) -> Timestamp;
}

/// An event to be stored. The box of the draft becomes the box of the command, so that each event
/// is moved to the heap once.
#[derive(Clone, Debug)]
pub struct EventDraft(Box<SubmitEvent>);

impl EventDraft {
    /// Creates a draft of an event of this organization.
    pub fn new(org: OrgNo, event: NewEvent) -> Self {
        Self(Box::new(SubmitEvent {
            org,
            by: None,
            id: EventId(0),
            received_at: Timestamp(0),
            event,
        }))
    }

    /// Returns the event to be stored.
    pub fn event(&self) -> &NewEvent {
        &self.0.event
    }
}

/// An organization that is to be created.
#[derive(Clone, Debug)]
pub struct OrgDraft(CreateOrg);

impl OrgDraft {
    /// Creates a draft of an organization and its first key.
    pub fn new(org: Org, key: Key) -> Self {
        Self(CreateOrg { number: OrgNo(0), org, key })
    }
}

impl Drafted for EventDraft {
    type Kind = SubmitEvent;
}

impl Drafted for OrgDraft {
    type Kind = CreateOrg;
}

impl From<EventDraft> for Draft {
    fn from(draft: EventDraft) -> Self {
        Self { asker: None, body: Body::Event(draft) }
    }
}

impl From<OrgDraft> for Draft {
    fn from(draft: OrgDraft) -> Self {
        Self { asker: None, body: Body::Org(draft) }
    }
}

/// Makes a draft of a command. The committer gives ids, number and time anew.
impl From<Command> for Draft {
    fn from(command: Command) -> Self {
        match command {
            Command::SubmitEvent(submit) => {
                let asker =
                    submit.by.map(|key| Asker { key: Some(key), needs: Scope::EventsWrite.into() });
                Self { asker, body: Body::Event(EventDraft(submit)) }
            }
            Command::CreateOrg(create) => OrgDraft(create).into(),
            Command::Requested(requested) => {
                let Authority { key, needs, .. } = requested.authority;
                Self::from(requested.command).asked_by(Asker { key, needs })
            }
            whole => Self { asker: None, body: Body::Whole(whole) },
        }
    }
}

impl Draft {
    /// Names the key or operator that asks for the command.
    #[must_use]
    pub fn asked_by(self, asker: Asker) -> Self {
        Self { asker: Some(asker), ..self }
    }

    /// Returns true if the draft stores an event, of a producer or of the server itself.
    pub fn is_event(&self) -> bool {
        matches!(self.body, Body::Event(_))
    }

    /// Returns the producer's key and the dedup id of an event that has a dedup id.
    pub fn dedup(&self) -> Option<(Option<KeyId>, &Dedup)> {
        match &self.body {
            Body::Event(draft) => {
                Some((self.asker.and_then(|asker| asker.key), draft.event().dedup.as_ref()?))
            }
            Body::Org(_) | Body::Whole(_) => None,
        }
    }

    /// See [`super::Kind::weight`]; at least 1.
    pub fn weight(&self) -> usize {
        match &self.body {
            Body::Event(_) | Body::Org(_) => 1,
            Body::Whole(command) => command.weight(),
        }
    }

    /// See [`super::Kind::payload_bytes`].
    pub fn payload_bytes(&self) -> usize {
        match &self.body {
            Body::Event(draft) => draft.event().bytes_len(),
            Body::Org(_) | Body::Whole(_) => 0,
        }
    }

    /// Makes the command, with the next ids, the next number and the time of the commit.
    #[must_use]
    pub fn stamped(self, stamp: &mut impl Stamp) -> Command {
        let command = match self.body {
            Body::Event(EventDraft(mut submit)) => {
                (submit.id, submit.received_at) = (stamp.next_id(), stamp.now());
                submit.by = self.asker.and_then(|asker| asker.key);
                // An event names its key itself.
                return Command::SubmitEvent(submit);
            }
            Body::Org(OrgDraft(create)) => CreateOrg { number: stamp.next_org(), ..create }.into(),
            Body::Whole(mut command) => {
                if let Command::SettleAttempt(settle) = &mut command {
                    for operational_event in &mut settle.operational_events {
                        (operational_event.id, operational_event.received_at) =
                            (stamp.next_id(), stamp.now());
                    }
                }
                command
            }
        };
        match self.asker {
            None => command,
            Some(Asker { key, needs }) => {
                Requested { authority: Authority { key, needs, at: stamp.now() }, command }.into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::{create_org, put_endpoint, settle, submit};
    use crate::model::delivery::Verdict;
    use crate::model::operational_event::{OperationalEvent, OperationalEventKind};
    use crate::model::org::InboxMode;

    /// Counts from 100 and from 7.
    #[derive(Default)]
    struct Counting(u128, u32);

    impl Stamp for Counting {
        fn next_id(&mut self) -> EventId {
            self.0 += 1;
            EventId(100 + self.0)
        }

        fn next_org(&mut self) -> OrgNo {
            self.1 += 1;
            OrgNo(7 + self.1)
        }

        fn now(&self) -> Timestamp {
            Timestamp(50)
        }
    }

    #[test]
    fn drafts_become_commands_with_the_next_ids_and_numbers_whatever_was_in_them() {
        let asker = Asker { key: Some(KeyId(3)), needs: Scope::EventsWrite.into() };
        let mut noticing = settle(1, 50, 1, Verdict::Delivered);
        let Command::SettleAttempt(settling) = &mut noticing else { unreachable!() };
        let (kind, payload) = (OperationalEventKind::DiskLow, Box::from(b"1".as_slice()));
        settling.operational_events = vec![OperationalEvent {
            kind,
            failing_since: None,
            id: EventId(9),
            received_at: Timestamp(9),
            payload,
        }];
        let drafts = [
            Draft::from(submit(1, 2, None)).asked_by(asker),
            noticing.into(),
            create_org(InboxMode::Auto, 1).into(),
            Draft::from(create_org(InboxMode::Auto, 2)).asked_by(Asker { key: None, ..asker }),
            Draft::from(put_endpoint(50)).asked_by(asker),
        ];
        let mut stamp = Counting::default();
        let [event, settled, first, second, put] = drafts.map(|draft| draft.stamped(&mut stamp));
        let Command::SubmitEvent(event) = event else { panic!("{event:?}") };
        assert_eq!(
            (event.id, event.received_at, event.by),
            (EventId(101), Timestamp(50), asker.key)
        );
        let Command::SettleAttempt(settled) = settled else { panic!("{settled:?}") };
        assert_eq!(
            (settled.operational_events[0].id, settled.operational_events[0].received_at),
            (EventId(102), Timestamp(50))
        );
        assert_eq!((first.made_org(), second.made_org()), (Some(OrgNo(8)), Some(OrgNo(9))));
        let authority = Authority { key: asker.key, needs: asker.needs, at: Timestamp(50) };
        assert_eq!(put, put_endpoint(50).requested(authority));
        // As a draft again it is the same but for what is given anew.
        assert_eq!(Draft::from(put.clone()).stamped(&mut stamp), put);
    }
}
