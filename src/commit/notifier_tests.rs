//! Tests of the notifier: which events wake which requests.

use std::future::Future as _;

use super::*;
use crate::commands::Command;
use crate::commit::system;
use crate::journal::Position;

const ORG: OrgNo = OrgNo(0);

/// A state with one organization.
struct State {
    store: Store,
    position: Position,
    _dir: tempfile::TempDir,
}

impl State {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), 8 << 20, Position::MAX).unwrap();
        let mut state = Self { store, position: Position::FIRST, _dir: dir };
        state.apply(&system::create_org());
        state
    }

    fn apply(&mut self, command: &Command) {
        let position = self.position;
        self.position = position.plus(100);
        crate::commands::apply(
            &self.store,
            std::iter::once((position, command)),
            self.position,
            &mut crate::commands::Results::default(),
        )
        .unwrap();
    }

    fn event(&mut self, id: u128) {
        self.apply(&system::submit(id, None, b"1".to_vec()));
    }
}

fn is_woken(listener: &InboxListener) -> bool {
    let mut woken = std::pin::pin!(listener.woken.notified());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    woken.as_mut().poll(&mut context).is_ready()
}

/// Returns the number of requests to be woken.
fn due(notifier: &InboxNotifier) -> usize {
    notifier.orgs().get(&ORG).map_or(0, |waiters| waiters.due.len())
}

/// Looks for new events and wakes all due requests. Returns their number.
fn wake_all(notifier: &InboxNotifier, store: &Store) -> usize {
    notifier.find(store, ORG);
    let found = due(notifier);
    while notifier.wake(ORG) {}
    found
}

#[test]
fn only_those_are_woken_that_wait_for_its_type_and_once() {
    let mut state = State::new();
    state.event(1 << 80);
    let notifier = InboxNotifier::default();
    let listen = |wanted: &'static str| {
        let wants = move |event_type: &EventType| event_type.as_str() == wanted;
        notifier.listen(ORG, state.store.newest_event(ORG).unwrap(), Box::new(wants))
    };
    let (same, other) = (listen("order.created"), listen("never.comes"));
    assert_eq!(wake_all(&notifier, &state.store), 0, "what was there before is seen by who looks");
    state.event(2 << 80);
    let news = state.store.inbox_news(ORG, EventId(1 << 80)).unwrap();
    let types: Vec<_> = news.types.iter().map(EventType::as_str).collect();
    assert_eq!(
        (types, news.seen, news.is_complete),
        (vec!["order.created"], EventId(2 << 80), true)
    );
    assert_eq!(wake_all(&notifier, &state.store), 1);
    assert!(is_woken(&same) && !is_woken(&other));
    assert_eq!(wake_all(&notifier, &state.store), 0, "nothing more came");
    drop((same, other));
    assert!(notifier.orgs().is_empty() && notifier.0.count.load(Ordering::SeqCst) == 0);
}

#[test]
fn a_crowd_is_woken_a_few_at_a_time_and_all_of_it() {
    let mut state = State::new();
    let notifier = InboxNotifier::default();
    let crowd: Vec<_> = (0..3 * WAITERS_AT_ONCE)
        .map(|_| notifier.listen(ORG, EventId(0), Box::new(|_| true)))
        .collect();
    state.event(1 << 80);
    notifier.find(&state.store, ORG);
    assert_eq!(due(&notifier), crowd.len());
    assert!(notifier.wake(ORG));
    assert_eq!(crowd.iter().filter(|listener| is_woken(listener)).count(), WOKEN_AT_ONCE);
}

#[test]
fn a_note_that_was_lost_costs_time_only() {
    let mut state = State::new();
    let notifier = InboxNotifier::default();
    // The committer notes nothing here.
    state.event(1 << 80);
    let stop = Stop::new();
    let is_heard = std::thread::scope(|scope| {
        scope.spawn(|| notifier.run(&state.store, &stop));
        // By now the thread sleeps without a deadline, because no request waits.
        Signal::new().wait(Duration::from_millis(200));
        let listener = notifier.listen(ORG, EventId(0), Box::new(|_| true));
        let deadline = Instant::now() + 12 * LOOK_EVERY;
        let mut is_heard = false;
        while !is_heard && Instant::now() < deadline {
            std::thread::yield_now();
            is_heard = is_woken(&listener);
        }
        stop.set();
        notifier.stop();
        is_heard
    });
    assert!(is_heard);
}

#[test]
fn ringing_costs_nothing_while_nobody_waits() {
    let notifier = InboxNotifier::default();
    notifier.note(&[ORG]);
    assert!(notifier.0.grown.lock().unwrap().is_empty());
    let _listener = notifier.listen(ORG, EventId(0), Box::new(|_| true));
    notifier.note(&[ORG, ORG]);
    assert_eq!(notifier.0.grown.lock().unwrap().len(), 1);
}

#[test]
fn a_waiter_is_noted_once_however_much_comes_and_one_that_left_takes_no_place() {
    let mut state = State::new();
    let notifier = InboxNotifier::default();
    let mut crowd: Vec<_> = (0..2 * WOKEN_AT_ONCE)
        .map(|_| notifier.listen(ORG, EventId(0), Box::new(|_| true)))
        .collect();
    for id in 1..=5 {
        state.event(id << 80);
        notifier.find(&state.store, ORG);
    }
    let found = due(&notifier);
    drop(crowd.drain(..WOKEN_AT_ONCE));
    let are_left = notifier.wake(ORG);
    let woken = crowd.iter().filter(|listener| is_woken(listener)).count();
    assert_eq!((found, are_left, woken), (2 * WOKEN_AT_ONCE, false, WOKEN_AT_ONCE));
}
