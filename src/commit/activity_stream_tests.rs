//! Tests of the activity stream: listeners hear all of their own organization and nothing else, and
//! slow listeners delay nobody.

use super::*;
use crate::commands::{NoteRouteCrash, SubmitEvent};
use crate::model::delivery::{AttemptOutcome, ErrorCode, Trigger};
use crate::model::event::NewEvent;

const ONE: OrgNo = OrgNo(1);
const TWO: OrgNo = OrgNo(2);
const AT: Timestamp = Timestamp(7);

fn submit(org: OrgNo) -> Command {
    let event = NewEvent {
        event_type: "a.b".parse().unwrap(),
        dedup: None,
        labels: vec![],
        occurred_at: None,
        deliver_after: None,
        payload: b"1".as_slice().into(),
        cloudevent: None,
    };
    Command::SubmitEvent(Box::new(SubmitEvent {
        org,
        by: None,
        id: EventId(0),
        received_at: Timestamp(0),
        event,
    }))
}

fn settle(org: OrgNo) -> Command {
    let error =
        Some(AttemptError { code: ErrorCode::HttpStatus, detail: "it answered 500".into() });
    let (status, body) = (Some(500), b"the receiver's words".to_vec());
    let outcome = AttemptOutcome { status, error, body, ..AttemptOutcome::new(AT, 3) };
    Command::SettleAttempt(Box::new(SettleAttempt {
        org,
        endpoint: EndpointId(4),
        event: EventId(5),
        number: 2,
        trigger: Trigger::Schedule,
        outcome,
        verdict: Verdict::RetryAt(Timestamp(9)),
        disables: None,
        previous: Some(crate::journal::Position(1)),
        operational_events: Vec::new(),
    }))
}

/// The item for an accepted event with this id.
fn accepted(id: u128) -> Heard {
    let event_type = "a.b".parse().unwrap();
    Heard::Activity(Arc::new(Activity::Accepted {
        event: EventId(id),
        event_type,
        received_at: AT,
    }))
}

fn tell_accepted(
    activity_stream: &ActivityStream,
    org: OrgNo,
    ids: std::ops::RangeInclusive<u128>,
) {
    let outcomes: Vec<_> = ids
        .map(|id| {
            Ok(Applied::SubmitEvent(SubmitOutcome::Accepted { id: EventId(id), received_at: AT }))
        })
        .collect();
    let command = submit(org);
    activity_stream.tell(outcomes.iter().map(|outcome| (&command, outcome)));
}

const SETTLED: Applying = Ok(Applied::SettleAttempt(SettleOutcome::Settled(Vec::new())));
const MOOT: Applying = Ok(Applied::SettleAttempt(SettleOutcome::NoEffect));
const CANCELED: Applying = Ok(Applied::SettleAttempt(SettleOutcome::Canceled(Vec::new())));

#[tokio::test]
async fn a_listener_hears_of_its_organization_alone_what_is_new() {
    let activity_stream = ActivityStream::default();
    tell_accepted(&activity_stream, ONE, 1..=1);
    let (mut one, mut two) =
        (activity_stream.listen(ONE).unwrap(), activity_stream.listen(TWO).unwrap());
    tell_accepted(&activity_stream, ONE, 2..=3);
    let duplicate =
        Ok(Applied::SubmitEvent(SubmitOutcome::Duplicate { id: EventId(2), received_at: AT }));
    let crash = Command::NoteRouteCrash(NoteRouteCrash { org: ONE, event: EventId(3) });
    activity_stream.tell(
        [
            (&submit(ONE), &duplicate),
            (&crash, &Ok(Applied::NoteRouteCrash(()))),
            (&settle(ONE), &SETTLED),
        ]
        .into_iter(),
    );
    assert_eq!(one.next().await, accepted(2), "what was before nobody listened is gone");
    assert_eq!(one.try_next(), Some(accepted(3)));
    let Heard::Activity(attempted) = one.next().await else { panic!("nothing was missed") };
    let Activity::Attempted(attempted) = attempted.as_ref() else { panic!("{attempted:?}") };
    assert_eq!(
        (attempted.event, attempted.endpoint, attempted.number),
        (EventId(5), EndpointId(4), 2)
    );
    assert_eq!(
        (attempted.status, attempted.verdict),
        (Some(500), Some(Verdict::RetryAt(Timestamp(9))))
    );
    assert_eq!(attempted.error.as_ref().map(|error| error.code), Some(ErrorCode::HttpStatus));
    assert_eq!((one.try_next(), two.try_next()), (None, None));
    // An attempt on a canceled delivery is reported; an attempt that was settled before is not.
    activity_stream.tell([(&settle(ONE), &MOOT), (&settle(ONE), &CANCELED)].into_iter());
    let Some(Heard::Activity(canceled)) = one.try_next() else { panic!("nothing was missed") };
    let expected = Attempted { verdict: None, ..attempted.clone() };
    assert_eq!((canceled.as_ref(), one.try_next()), (&Activity::Attempted(expected), None));
}

#[tokio::test]
async fn nobody_hears_where_a_receiver_redirects_to() {
    let activity_stream = ActivityStream::default();
    let mut listener = activity_stream.listen(ONE).unwrap();
    let mut command = settle(ONE);
    let Command::SettleAttempt(settle) = &mut command else { unreachable!() };
    let detail =
        "the receiver answered 302, a redirect to /its-words; redirects are not followed".into();
    settle.outcome.error = Some(AttemptError { code: ErrorCode::Redirect, detail });
    settle.outcome.status = Some(302);
    activity_stream.tell([(&command, &SETTLED)].into_iter());
    let heard = format!("{:?}", listener.next().await);
    assert!(heard.contains("answered 302, a redirect;") && !heard.contains("its-words"), "{heard}");
}

#[tokio::test]
async fn who_is_too_slow_hears_how_many_it_missed_and_goes_on_and_another_one_misses_nothing() {
    let activity_stream = ActivityStream::default();
    let (mut slow, mut quick) =
        (activity_stream.listen(ONE).unwrap(), activity_stream.listen(ONE).unwrap());
    let most = BEHIND_MAX as u128;
    tell_accepted(&activity_stream, ONE, 1..=most);
    for id in 1..=most {
        assert_eq!(quick.try_next(), Some(accepted(id)));
    }
    // Items of another organization do not count.
    let _other = activity_stream.listen(TWO).unwrap();
    tell_accepted(&activity_stream, TWO, 1..=most);
    tell_accepted(&activity_stream, ONE, most + 1..=most + 10);
    assert_eq!(slow.next().await, Heard::Missed(10));
    for id in 11..=most + 10 {
        assert_eq!(slow.try_next(), Some(accepted(id)));
    }
    assert_eq!(slow.try_next(), None);
    assert_eq!(quick.next().await, accepted(most + 1));
}

#[test]
fn listeners_are_bounded_and_what_nobody_listens_to_is_gone() {
    let activity_stream = ActivityStream::default();
    let mut all: Vec<_> =
        (0..LISTENERS_PER_ORG_MAX).map(|_| activity_stream.listen(ONE).unwrap()).collect();
    assert_eq!(activity_stream.listen(ONE).unwrap_err(), Exhausted::OfOne);
    drop(all.pop());
    all.push(activity_stream.listen(ONE).unwrap());
    // A few organizations with all their listeners leave room for many others.
    let mut listen_all = |org| {
        let before = all.len();
        all.extend(std::iter::from_fn(|| activity_stream.listen(OrgNo(org)).ok()));
        all.len() > before
    };
    let served = (2..1_000).take_while(|org| listen_all(*org)).count();
    assert!(served > 30, "{served}");
    assert_eq!(activity_stream.listen(OrgNo(10_000)).unwrap_err(), Exhausted::InAll);
    drop(all);
    assert_eq!(
        (
            activity_stream.0.channels.lock().unwrap().len(),
            activity_stream.0.listeners.load(Ordering::SeqCst)
        ),
        (0, 0)
    );
    // Without listeners, `tell` returns before it looks at the commands.
    let never =
        std::iter::from_fn(|| -> Option<(&Command, &Applying)> { panic!("nobody listens") });
    activity_stream.tell(never);
}
