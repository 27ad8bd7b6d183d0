//! Finds the endpoints of an event. Called by the workers; the result is stored in
//! `Command::RouteEvent`.

use super::filter;
use crate::model::endpoint::Endpoint;
use crate::model::event::EventType;
use crate::model::id::EndpointId;

/// Returns the enabled endpoints that want this type. Each endpoint is listed once and in id order,
/// whatever the input order, so routing an event twice gives the same command.
pub fn targets<I>(endpoints: I, event_type: &EventType) -> Vec<EndpointId>
where
    I: IntoIterator,
    I::Item: AsRef<Endpoint>,
{
    let mut targets: Vec<EndpointId> = endpoints
        .into_iter()
        .filter(|endpoint| {
            let endpoint = endpoint.as_ref();
            endpoint.is_enabled() && filter::wants(&endpoint.settings.event_types, event_type)
        })
        .map(|endpoint| endpoint.as_ref().id)
        .collect();
    targets.sort_unstable();
    targets.dedup();
    targets
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::endpoint::{DisabledReason, EndpointSettings, SealedSecret};
    use crate::model::time::Timestamp;

    fn endpoint(id: u128, patterns: &[&str], enabled: bool) -> Arc<Endpoint> {
        let event_types = patterns.iter().map(|text| text.parse().unwrap()).collect();
        let settings = EndpointSettings { event_types, ..EndpointSettings::default() };
        let disabled = (!enabled).then_some(DisabledReason::ByOwner);
        let endpoint =
            Endpoint::new(EndpointId(id), settings, SealedSecret::new(vec![7; 72]), Timestamp(0));
        Arc::new(Endpoint { disabled, ..endpoint })
    }

    #[test]
    fn enabled_endpoints_that_match_are_named_once_in_id_order() {
        let endpoints = [
            endpoint(9, &["order.*"], true),
            endpoint(3, &[], true),
            endpoint(5, &["order.created"], false),
            endpoint(4, &["invoice.*"], true),
            endpoint(1, &["order.*", "order.created"], true),
            endpoint(3, &[], true),
        ];
        let event_type = "order.created".parse().unwrap();
        let expected = vec![EndpointId(1), EndpointId(3), EndpointId(9)];
        assert_eq!(targets(&endpoints, &event_type), expected);
        assert_eq!(
            targets(endpoints.iter().rev(), &event_type),
            expected,
            "the order they come in does not matter"
        );
        assert_eq!(
            targets(&endpoints[2..3], &event_type),
            Vec::new(),
            "a disabled endpoint gets nothing"
        );
    }
}
