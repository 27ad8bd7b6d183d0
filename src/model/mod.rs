//! The words of the product as types: pure data, no I/O, no clock, no locks. Commands contain these
//! types and are written to the journal, so the serde shape of each type is a disk format. Golden
//! bytes in `commands/codec_tests.rs` freeze it.

pub mod activity;
pub mod authority;
pub mod cloudevent;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod id;
pub mod key;
pub mod moment;
pub mod operational_event;
pub mod org;
pub mod replay;
pub mod routing;
pub mod time;

#[cfg(test)]
mod tests {
    use super::cloudevent::DataKind;
    use super::delivery::{DeadReason, DeliveryStatus, ErrorCode, Trigger};
    use super::endpoint::{BodyForm, DisabledReason, Ordering};
    use super::event::EventStatus;
    use super::key::Scope;
    use super::org::{InboxMode, Tier};
    use super::replay::{ReplayOnly, ReplayWait};
    use super::routing::RouteReason;

    /// The names follow from the variants, so a renamed variant would change the API.
    #[test]
    fn names_in_the_api_never_change() {
        fn names<E: Copy>(all: &[E], name: fn(E) -> &'static str) -> String {
            all.iter().map(|each| name(*each)).collect::<Vec<_>>().join(" ")
        }
        for (names, expected) in [
            (names(Tier::ALL, Tier::name), "free pro enterprise"),
            (names(&[InboxMode::Auto, InboxMode::AckOnly], InboxMode::name), "auto ack_only"),
            (names(EventStatus::ALL, EventStatus::name), "accepted delivered acknowledged dead"),
            (
                names(DeliveryStatus::ALL, DeliveryStatus::name),
                "pending retrying delivered dead canceled",
            ),
            (
                names(ErrorCode::ALL, ErrorCode::name),
                "timeout connect tls dns egress_blocked http_status redirect protocol",
            ),
            (
                names(
                    &[Trigger::Schedule, Trigger::Retry, Trigger::Replay, Trigger::Test],
                    Trigger::name,
                ),
                "schedule retry replay test",
            ),
            (
                names(&[DeadReason::AttemptsExhausted, DeadReason::Gone], DeadReason::name),
                "attempts_exhausted gone",
            ),
            (names(BodyForm::ALL, BodyForm::name), "envelope payload cloudevents"),
            (names(Ordering::ALL, Ordering::name), "none strict"),
            (
                names(
                    &[
                        DisabledReason::ByOwner,
                        DisabledReason::Gone,
                        DisabledReason::Failing,
                        DisabledReason::SecretLost,
                    ],
                    DisabledReason::name,
                ),
                "by_owner gone failing secret_lost",
            ),
            (names(ReplayOnly::ALL, ReplayOnly::name), "failed missing all"),
            (
                names(
                    &[
                        ReplayWait::EndpointDisabled,
                        ReplayWait::EndpointBusy,
                        ReplayWait::Routing,
                        ReplayWait::DiskFull,
                    ],
                    ReplayWait::name,
                ),
                "endpoint_disabled endpoint_busy routing disk_full",
            ),
            (
                names(&[DataKind::Json, DataKind::Base64, DataKind::None], DataKind::name),
                "json base64 none",
            ),
            (
                names(RouteReason::ALL, RouteReason::name),
                "type_wanted type_not_wanted disabled made_later not_routed_yet routing_failed \
                 erased replayed",
            ),
            (
                names(Scope::ALL, Scope::name),
                "events:write inbox:read inbox:write endpoints:read endpoints:write keys:read \
                 keys:write events:read deliveries:read deliveries:write",
            ),
        ] {
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_names() {
        let refused = |fault: crate::base::names::UnknownName| fault.to_string();
        assert_eq!(
            "x".parse::<Tier>().map_err(refused),
            Err("must be `free`, `pro` or `enterprise`".to_owned())
        );
        assert_eq!(
            "NONE".parse::<Ordering>().map_err(refused),
            Err("must be `none` or `strict`".to_owned())
        );
        assert_eq!("inbox:read".parse(), Ok(Scope::InboxRead));
    }
}
