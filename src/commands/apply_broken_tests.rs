//! Tests of rows that contradict each other. A command must not make a wrong answer or a wrong row
//! of them: applying it fails, and the process ends.

use super::*;
use crate::store::StateError;

/// The block of both events.
const BLOCK: (OrgNo, EventId) = (ORG, EventId(1));

/// Returns a state with an event that waits for its first attempt at an endpoint.
fn waiting() -> Fixture {
    let mut state = Fixture::new();
    state.apply(&create_org(InboxMode::Auto, 1_000_000));
    state.apply(&put_endpoint(50));
    state.apply(&submit(1, 1, None));
    state.apply(&submit(2, 1, None));
    state.apply(&route(1, &[50], AT_ONCE));
    state
}

/// Applies a command after rows were changed behind the state's back.
fn broken(
    break_rows: impl FnOnce(&mut crate::store::Change<'_>),
    command: &Command,
) -> Result<Vec<Applying>, StateError> {
    let state = waiting();
    let mut effects = Effects::default();
    break_rows(&mut state.store.begin(&mut effects).change(Position::FIRST));
    let mut results = Results::default();
    let commands = std::iter::once((Position(10_000), command));
    crate::commands::apply(&state.store, commands, Position(10_100), &mut results)?;
    Ok(results.outcomes)
}

#[test]
fn a_command_fails_on_rows_that_contradict_each_other() {
    type Break = fn(&mut crate::store::Change<'_>);
    let delivered = || settle(1, 50, 1, Verdict::Delivered);
    let rows: [(&str, Break, Command); 5] = [
        (
            "an event that counts no waiting delivery",
            |change| change.state.events.edit(BLOCK).unwrap().unwrap().events[0].waiting = 0,
            delivered(),
        ),
        (
            "a state that counts no waiting delivery",
            |change| change.meta().unwrap().waiting = 0,
            delivered(),
        ),
        (
            "an inbox that counts no event",
            |change| change.state.inboxes.edit(ORG).unwrap().unwrap().open = 0,
            ack(1),
        ),
        ("an organization without a row", |change| change.state.orgs.remove(ORG), ack(1)),
        (
            "an unrouted event that is not stored",
            |change| change.state.events.edit(BLOCK).unwrap().unwrap().events.truncate(1),
            route(2, &[50], AT_ONCE),
        ),
    ];
    for (name, break_rows, command) in rows {
        let applied = broken(break_rows, &command);
        assert!(applied.is_err(), "{name}: {applied:?}");
        assert!(broken(|_| (), &command).is_ok(), "{name}: without the contradiction");
    }
}
