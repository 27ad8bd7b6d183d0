//! Tests of the intake.

use super::*;
use crate::commands::{EventDraft, NoteRouteCrash};
use crate::model::event::NewEvent;
use crate::model::id::{EventId, KeyId, OrgNo};
use crate::model::key::{Scope, Scopes};

const WAIT_MAX: Duration = Duration::from_millis(500);
const BYTES_MAX: usize = 10_000;

fn intake(queue: usize) -> (Intake, Receiver<Submission>) {
    let limits = IntakeLimits { queue, wait_max: WAIT_MAX, bytes_max: BYTES_MAX };
    let (intake, Submissions(receiver)) = Intake::new(limits);
    (intake, receiver)
}

fn event(payload_bytes: usize) -> Vec<Draft> {
    let event = NewEvent {
        event_type: "a.b".parse().unwrap(),
        dedup: None,
        labels: vec![],
        occurred_at: None,
        deliver_after: None,
        payload: vec![b'1'; payload_bytes].into(),
        cloudevent: None,
    };
    vec![EventDraft::new(OrgNo(1), event).into()]
}

fn no_event() -> Vec<Draft> {
    vec![NoteRouteCrash { org: OrgNo(1), event: EventId(1) }.into()]
}

#[test]
fn events_are_refused_while_the_oldest_has_waited_for_too_long_and_welcome_as_soon_as_it_is_gone() {
    let (intake, _queue) = intake(100);
    let at = |ms: u64| intake.state.welcomes_events(0, ms * 1_000);
    assert_eq!(at(100_000), Ok(()), "nobody waits");
    let begun = |ms: u64| intake.state.begin(&[], ms * 1_000);
    let (first, second, third) = (begun(1_000), begun(1_001), begun(1_450));
    assert_eq!(at(1_500), Ok(()));
    assert_eq!(at(1_501), Err(Refused::Overloaded));
    // The oldest unfinished submission counts, not a finished one.
    drop((first, second));
    let submission = Submission { drafts: vec![], reply: None, under_way: third };
    submission.is_oldest();
    assert_eq!(at(1_950), Ok(()));
    assert_eq!(at(1_951), Err(Refused::Overloaded));
    drop(submission);
    assert_eq!(at(100_000), Ok(()), "nobody waits");
    let _late = begun(200_000);
    assert_eq!(at(200_500), Ok(()), "the time of those that are gone is forgotten");
}

#[test]
fn what_is_no_event_is_taken_while_events_are_refused() {
    let limits = IntakeLimits { queue: 100, wait_max: Duration::ZERO, bytes_max: BYTES_MAX };
    let (intake, _queue) = Intake::new(limits);
    let _waiting = intake.submit_all(event(1)).unwrap();
    let began = intake.state.elapsed_us();
    while intake.state.elapsed_us() == began {
        std::hint::spin_loop();
    }
    assert_eq!(intake.welcomes_events(), Err(Refused::Overloaded));
    assert_eq!(intake.submit_all(event(1)).unwrap_err(), Refused::Overloaded);
    assert!(intake.submit_all(no_event()).is_ok());
}

#[test]
fn the_rest_of_the_disk_is_refused_to_what_a_requester_makes_more_of_and_to_nothing_else() {
    use crate::commands::tests::{ack, create_org, put_endpoint};
    use crate::model::org::InboxMode;
    let (intake, _queue) = intake(100);
    intake.keep_rest(true);
    let operator = |command| {
        let requester =
            Requester { key: None, needs: Scope::EndpointsWrite.into(), origin: None, note: None };
        Draft::from(command).asked_by(requester).unwrap()
    };
    let org = operator(create_org(InboxMode::Auto, 1));
    assert_eq!(intake.submit_all([org.clone()]).unwrap_err(), Refused::RestKept);
    let by_key = Requester { key: Some(KeyId(1)), needs: Scopes::all(), origin: None, note: None };
    let asked = |command| Draft::from(command).asked_by(by_key.clone()).unwrap();
    let mixed = [asked(ack(1)), asked(put_endpoint(50))];
    assert_eq!(intake.submit_all(mixed).unwrap_err(), Refused::RestKept);
    assert!(intake.submit_all([asked(ack(1))]).is_ok());
    assert!(intake.submit_all([put_endpoint(50)]).is_ok(), "the server itself asks");
    assert!(intake.submit_all(event(1)).is_ok(), "events have their own limit");
    intake.keep_rest(false);
    assert!(intake.submit_all([org]).is_ok());
}

#[test]
fn bytes_are_bounded_until_they_are_stored_and_one_submission_always_fits() {
    let (intake, queue) = intake(100);
    let _large = intake.submit_all(event(BYTES_MAX * 3)).unwrap();
    assert_eq!(intake.submit_all(event(1)).unwrap_err(), Refused::Overloaded);
    let taken = queue.recv().unwrap();
    assert_eq!(
        intake.submit_all(event(1)).unwrap_err(),
        Refused::Overloaded,
        "taken is not stored"
    );
    drop(taken);
    let half = BYTES_MAX / 2 - COMMAND_BYTES;
    let _both = [intake.submit_all(event(half)).unwrap(), intake.submit_all(event(half)).unwrap()];
    assert_eq!(intake.submit_all(event(1)).unwrap_err(), Refused::Overloaded);
    assert_eq!(intake.state.bytes.load(Ordering::SeqCst), BYTES_MAX);
}

#[test]
fn a_full_queue_refuses_everything_and_keeps_no_account_of_it() {
    let (intake, queue) = intake(1);
    let _only = intake.submit_all(event(1)).unwrap();
    for _ in 0..3 {
        assert_eq!(intake.submit_all(event(1)).unwrap_err(), Refused::Overloaded);
        assert_eq!(intake.submit_all(no_event()).unwrap_err(), Refused::Overloaded);
    }
    assert_eq!(intake.state.under_way.load(Ordering::SeqCst), 1, "the one that waits");
    drop(queue.recv().unwrap());
    assert_eq!(intake.state.under_way.load(Ordering::SeqCst), 0);
    assert_eq!(intake.state.bytes.load(Ordering::SeqCst), 0);
}

#[test]
fn the_log_hears_of_refusals_once_a_second_and_of_all_of_them() {
    let (mut refusals, began) = (Refusals::default(), Instant::now());
    let reported: Vec<_> =
        (0..2_100).map(|ms| refusals.count(began + Duration::from_millis(ms))).collect();
    let reported: Vec<_> = reported.into_iter().flatten().collect();
    assert_eq!(reported, [1, 1_000, 1_000]);
}
