//! The words of the product as types: pure data, no I/O, no clock, no locks. Commands contain these
//! types and are written to the journal, so the serde shape of each type is a disk format. Golden
//! bytes in `commands/codec_tests.rs` freeze it.

pub mod activity;
pub mod audit;
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
pub mod retention;
pub mod routing;
pub mod time;

#[cfg(test)]
mod tests {
    use super::audit::Action;
    use super::cloudevent::DataKind;
    use super::delivery::{DeadReason, DeliveryStatus, ErrorCode, Trigger};
    use super::endpoint::{BodyForm, DisabledReason, Ordering};
    use super::event::EventStatus;
    use super::key::{Scope, ScopeSet};
    use super::org::{InboxMode, Tier};
    use super::replay::{ReplayOnly, ReplayWait};
    use super::routing::RouteReason;

    /// Writes the names of an enum. They follow from the variants, so a renamed variant would
    /// change the API.
    fn names<E: Copy>(all: &[E], name: fn(E) -> &'static str) -> String {
        all.iter().map(|each| name(*each)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn names_of_organizations_keys_and_events_never_change() {
        let kinds = [DataKind::Json, DataKind::Base64, DataKind::None];
        let scopes = "events:write inbox:read inbox:write endpoints:read endpoints:write keys:read \
                      keys:write events:read deliveries:read deliveries:write audit:read";
        let reasons = "type_wanted type_not_wanted disabled made_later not_routed_yet \
                       routing_failed erased replayed";
        let statuses = "accepted delivered acknowledged dead";
        assert_eq!(names(Tier::ALL, Tier::name), "free pro enterprise");
        assert_eq!(names(InboxMode::ALL, InboxMode::name), "auto ack_only");
        assert_eq!(names(Scope::ALL, Scope::name), scopes);
        assert_eq!(names(ScopeSet::ALL, ScopeSet::name), "producer consumer operator read_only");
        assert_eq!(names(EventStatus::ALL, EventStatus::name), statuses);
        assert_eq!(names(&kinds, DataKind::name), "json base64 none");
        assert_eq!(names(RouteReason::ALL, RouteReason::name), reasons);
    }

    #[test]
    fn names_of_actions_never_change() {
        let actions = "organization.created organization.changed key.created key.changed \
                       key.rotated key.revoked endpoint.created endpoint.changed \
                       endpoint.deleted event.erased replay.started replay.canceled \
                       configuration.reloaded administration.refused delivery.retried \
                       dead_letters.replayed dead_letters.dropped backup.requested \
                       drill.requested archive.requested \
                       organization.deleted";
        assert_eq!(names(Action::ALL, Action::name), actions);
    }

    #[test]
    fn names_of_deliveries_never_change() {
        let triggers = [Trigger::Schedule, Trigger::Retry, Trigger::Replay, Trigger::Test];
        let reasons = [DeadReason::AttemptsExhausted, DeadReason::Gone];
        let statuses = "pending retrying delivered dead canceled";
        let errors = "timeout connect tls dns egress_blocked http_status redirect protocol";
        assert_eq!(names(DeliveryStatus::ALL, DeliveryStatus::name), statuses);
        assert_eq!(names(ErrorCode::ALL, ErrorCode::name), errors);
        assert_eq!(names(&triggers, Trigger::name), "schedule retry replay test");
        assert_eq!(names(&reasons, DeadReason::name), "attempts_exhausted gone");
    }

    #[test]
    fn names_of_endpoints_and_replays_never_change() {
        let disabled = [
            DisabledReason::ByOwner,
            DisabledReason::Gone,
            DisabledReason::Failing,
            DisabledReason::SecretLost,
        ];
        let waits = [
            ReplayWait::EndpointDisabled,
            ReplayWait::EndpointBusy,
            ReplayWait::Routing,
            ReplayWait::DiskFull,
        ];
        let waits_names = "endpoint_disabled endpoint_busy routing disk_full";
        assert_eq!(names(BodyForm::ALL, BodyForm::name), "envelope payload cloudevents");
        assert_eq!(names(Ordering::ALL, Ordering::name), "none strict");
        assert_eq!(names(&disabled, DisabledReason::name), "by_owner gone failing secret_lost");
        assert_eq!(names(ReplayOnly::ALL, ReplayOnly::name), "failed missing all");
        assert_eq!(names(&waits, ReplayWait::name), waits_names);
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
