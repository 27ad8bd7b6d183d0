//! Judges which endpoints an event goes to, and why. Called by the workers; the result is stored in
//! `Command::RouteEvent` and read from there.

use super::filter;
use crate::model::endpoint::Endpoint;
use crate::model::event::EventType;
use crate::model::id::EndpointId;
use crate::model::routing::{RouteReason, RouteReasons};

/// The result of judging an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FanOut {
    /// The endpoints that the event goes to.
    pub endpoints: Vec<EndpointId>,
    /// The reason of every endpoint, also of those that the event does not go to.
    pub reasons: RouteReasons,
}

/// Judges endpoints, which come with their numbers. Each endpoint counts once and in the order of
/// the numbers, whatever the input order, so routing an event twice gives the same command.
pub fn judge<I, E>(endpoints: I, event_type: &EventType) -> FanOut
where
    I: IntoIterator<Item = (u32, E)>,
    E: AsRef<Endpoint>,
{
    let mut judged: Vec<(u32, EndpointId, RouteReason)> = endpoints
        .into_iter()
        .map(|(number, endpoint)| {
            let endpoint = endpoint.as_ref();
            (number, endpoint.id, reason(endpoint, event_type))
        })
        .collect();
    judged.sort_unstable_by_key(|(number, ..)| *number);
    judged.dedup_by_key(|(number, ..)| *number);
    let chosen = judged.iter().filter(|(.., reason)| reason.is_match());
    FanOut {
        endpoints: chosen.map(|(_, endpoint, _)| *endpoint).collect(),
        reasons: RouteReasons::record(judged.iter().map(|(number, _, reason)| (*number, *reason))),
    }
}

/// Returns the reason why the event goes to the endpoint, or does not.
fn reason(endpoint: &Endpoint, event_type: &EventType) -> RouteReason {
    if !filter::wants(&endpoint.settings.event_types, event_type) {
        RouteReason::TypeNotWanted
    } else if !endpoint.is_enabled() {
        RouteReason::Disabled
    } else {
        RouteReason::TypeWanted
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::endpoint::{DisabledReason, EndpointSettings, SealedSecret};
    use crate::model::time::Timestamp;

    fn endpoint(number: u32, patterns: &[&str], enabled: bool) -> (u32, Arc<Endpoint>) {
        let event_types = patterns.iter().map(|text| text.parse().unwrap()).collect();
        let settings = EndpointSettings { event_types, ..EndpointSettings::default() };
        let disabled = (!enabled).then_some(DisabledReason::ByOwner);
        let (id, secret) = (EndpointId(100 - u128::from(number)), SealedSecret::new(vec![7; 72]));
        let endpoint = Endpoint::new(id, settings, secret, Timestamp(0));
        (number, Arc::new(Endpoint { disabled, ..endpoint }))
    }

    #[test]
    fn each_endpoint_has_a_reason_and_those_that_match_are_named_once_in_the_order_of_numbers() {
        let endpoints = [
            endpoint(9, &["order.*"], true),
            endpoint(3, &[], true),
            endpoint(5, &["order.created"], false),
            endpoint(4, &["invoice.*"], true),
            endpoint(6, &["invoice.*"], false),
            endpoint(1, &["order.*", "order.created"], true),
            endpoint(3, &[], true),
        ];
        let event_type = "order.created".parse().unwrap();
        let judged = judge(endpoints.clone(), &event_type);
        let expected = [1, 3, 9].map(|number| EndpointId(100 - number));
        assert_eq!(judged.endpoints, expected);
        let reasons: Vec<_> = (1..=10).map(|number| judged.reasons.of(number)).collect();
        let expected = [
            Some(RouteReason::TypeWanted),
            Some(RouteReason::TypeWanted),
            Some(RouteReason::TypeWanted),
            Some(RouteReason::TypeNotWanted),
            Some(RouteReason::Disabled),
            Some(RouteReason::TypeNotWanted),
            Some(RouteReason::TypeWanted),
            Some(RouteReason::TypeWanted),
            Some(RouteReason::TypeWanted),
            None,
        ];
        assert_eq!(reasons, expected, "2, 7 and 8 are the numbers of no endpoint");
        let backwards = judge(endpoints.into_iter().rev(), &event_type);
        assert_eq!(backwards, judged, "the order they come in does not matter");
    }
}
