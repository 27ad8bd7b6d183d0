//! Drafts: commands as they are submitted. A draft has no id, no number and no time. The committer
//! gives them in journal order and so makes a command of the draft.

use super::kind::{Requester, Stamp};
use super::{Command, Submitted};
use crate::model::authority::Authority;
use crate::model::event::Dedup;
use crate::model::id::KeyId;
use crate::model::time::Now;
use crate::store::Refusal;

/// A command that is not complete yet: [`super::Kind::stamp`] completes it.
#[derive(Clone, Debug)]
pub struct Draft {
    requester: Option<Requester>,
    command: Command,
    /// Set if the requester makes less of what the disk keeps, although the command can make more.
    is_less: bool,
}

/// A draft that makes less of what the disk keeps than there is now.
pub struct Less<D>(pub D);

/// A type whose values can be submitted. Its values become commands of one kind.
pub trait Drafted: Into<Draft> {
    /// The kind of command that a draft becomes.
    type Kind: Submitted;
}

impl<D: Drafted> Drafted for Less<D> {
    type Kind = D::Kind;
}

impl<D: Drafted> From<Less<D>> for Draft {
    fn from(Less(draft): Less<D>) -> Self {
        Self { is_less: true, ..draft.into() }
    }
}

/// Makes a draft of a command. The committer gives ids, numbers and times anew.
impl From<Command> for Draft {
    fn from(command: Command) -> Self {
        let (requester, command) = command.opened();
        Self { requester, command, is_less: false }
    }
}

impl Draft {
    /// Names the key or operator that asks for the command. No other function does this, so the
    /// declaration of each command ([`super::Kind::ASKED_BY`]) holds for all requests.
    ///
    /// # Errors
    /// The declaration of the command does not allow this requester.
    pub fn asked_by(self, requester: Requester) -> Result<Self, Refusal> {
        if self.command.kind().asked_by.allows(&requester) {
            Ok(Self { requester: Some(requester), ..self })
        } else {
            Err(Refusal::Forbidden)
        }
    }

    /// Returns true if the draft stores an event, of a producer or of the server itself.
    pub fn is_event(&self) -> bool {
        matches!(self.command, Command::SubmitEvent(_))
    }

    /// Returns true if a requester asks for more of what the disk keeps: organizations, keys,
    /// settings of endpoints, replays and retries. Everything else that a requester asks for gives
    /// space back or brings something to its end.
    pub fn asks_for_more(&self) -> bool {
        let is_more = matches!(
            self.command,
            Command::CreateOrg(_)
                | Command::CreateKey(_)
                | Command::RotateKey(_)
                | Command::PutEndpoint(_)
                | Command::StartReplay(_)
                | Command::RetryDelivery(_)
        );
        is_more && !self.is_less && self.requester.is_some()
    }

    /// Returns the producer's key and the dedup id of an event that has a dedup id.
    pub fn dedup(&self) -> Option<(Option<KeyId>, &Dedup)> {
        let Command::SubmitEvent(submit) = &self.command else { return None };
        let key = self.requester.as_ref().map_or(submit.by, |requester| requester.key);
        Some((key, submit.event.dedup.as_ref()?))
    }

    /// See [`super::Kind::weight`]; at least 1.
    pub fn weight(&self) -> usize {
        self.command.weight()
    }

    /// See [`super::Kind::payload_bytes`].
    pub fn payload_bytes(&self) -> usize {
        self.command.payload_bytes()
    }

    /// Makes the command, with the next ids, the next number and the time of the commit.
    #[must_use]
    pub fn stamped(mut self, stamp: &mut impl Stamp) -> Command {
        self.command.stamp(stamp);
        match self.requester {
            None => self.command,
            Some(Requester { key, needs, origin, note }) => {
                let at = Now::new(stamp.now(), stamp.steady());
                self.command.requested_from(Authority { key, needs, at }, (origin, note))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::AskedBy;
    use crate::commands::tests::{create_org, put_endpoint, settle, submit};
    use crate::model::delivery::Verdict;
    use crate::model::id::{EventId, OrgNo};
    use crate::model::key::{Scope, Scopes};
    use crate::model::operational_event::{OperationalEvent, OperationalEventKind};
    use crate::model::org::InboxMode;
    use crate::model::time::Timestamp;

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

        fn steady(&self) -> Timestamp {
            Timestamp(60)
        }
    }

    #[test]
    fn drafts_become_commands_with_the_next_ids_and_numbers_whatever_was_in_them() {
        let requester =
            Requester { key: Some(KeyId(3)), needs: Scopes::all(), origin: None, note: None };
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
            Draft::from(submit(1, 2, None)).asked_by(requester.clone()).unwrap(),
            noticing.into(),
            create_org(InboxMode::Auto, 1).into(),
            Draft::from(create_org(InboxMode::Auto, 2))
                .asked_by(Requester { key: None, ..requester.clone() })
                .unwrap(),
            Draft::from(put_endpoint(50)).asked_by(requester.clone()).unwrap(),
        ];
        let mut stamp = Counting::default();
        let [event, settled, first, second, put] = drafts.map(|draft| draft.stamped(&mut stamp));
        let Command::SubmitEvent(event) = event else { panic!("{event:?}") };
        assert_eq!(
            (event.id, event.received_at, event.by),
            (EventId(101), Timestamp(50), requester.key)
        );
        let Command::SettleAttempt(settled) = settled else { panic!("{settled:?}") };
        assert_eq!(
            (settled.operational_events[0].id, settled.operational_events[0].received_at),
            (EventId(102), Timestamp(50))
        );
        assert_eq!((first.made_org(), second.made_org()), (Some(OrgNo(8)), Some(OrgNo(9))));
        let at = Now { wall: Timestamp(50), steady: Timestamp(60) };
        let authority = Authority { key: requester.key, needs: requester.needs, at };
        assert_eq!(put, put_endpoint(50).requested(authority));
        // As a draft again it is the same but for what is given anew.
        assert_eq!(Draft::from(put.clone()).stamped(&mut stamp), put);
    }

    #[test]
    fn a_declaration_allows_the_keys_and_the_operator_that_it_names() {
        let operator =
            Requester { key: None, needs: Scope::KeysWrite.into(), origin: None, note: None };
        let (some, none) = (Some(KeyId(3)), Scopes::none());
        let with =
            |scope: Scope| Requester { key: some, needs: scope.into(), origin: None, note: None };
        let requesters = [
            operator,
            with(Scope::KeysWrite),
            with(Scope::EventsWrite),
            Requester { key: some, needs: none, origin: None, note: None },
        ];
        for (declared, allowed) in [
            (AskedBy::Server, [false; 4]),
            (AskedBy::Inner, [false; 4]),
            (AskedBy::Operator, [true, false, false, false]),
            (AskedBy::AnyKey, [false, true, true, true]),
            (AskedBy::Key(Scope::KeysWrite), [false, true, false, false]),
            (AskedBy::OperatorOr(Scope::KeysWrite), [true, true, false, false]),
        ] {
            assert_eq!(
                requesters.each_ref().map(|requester| declared.allows(requester)),
                allowed,
                "{declared:?}"
            );
        }
    }
}
