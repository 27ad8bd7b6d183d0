//! The schemas of texts with a form of their own: ids, times, patterns of types, and names.

use strum::VariantNames;
use utoipa::openapi::{KnownFormat, ObjectBuilder, SchemaFormat};

use crate::backup::{DrillOutcome, JobKind};
use crate::commit::Pressure;
use crate::http::error::Code as ProblemCode;
use crate::http::input::wire::PostedType;
use crate::model::audit::{Action, EntryOrder};
use crate::model::cloudevent::DataKind;
use crate::model::delivery::{DeadReason, DeliveryStatus, ErrorCode, Trigger};
use crate::model::endpoint::{
    BodyForm, DisabledReason, Ordering, PATTERN_CHARS_MAX, PATTERNS_MAX, TypePattern,
};
use crate::model::event::{EventStatus, EventType, TYPE_CHARS_MAX};
use crate::model::id::{AttemptId, DeliveryId, EndpointId, EventId, JobId, KeyId, OrgId, ReplayId};
use crate::model::key::{NamedScopes, Scope, ScopeSet};
use crate::model::moment::Moment;
use crate::model::org::{InboxMode, Tier};
use crate::model::replay::{ReplayOnly, ReplayWait};
use crate::model::routing::RouteReason;
use crate::model::time::Timestamp;
use crate::rules::type_filter::TypeFilter;

/// Gives types their names in the document and the schemas of their texts.
macro_rules! texts {
    ($($type:ident: $words:literal = $schema:expr;)+) => {
        $(
            impl utoipa::PartialSchema for $type {
                fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                    let schema: utoipa::openapi::ObjectBuilder = $schema;
                    let schema = schema.schema_type(utoipa::openapi::Type::String);
                    schema.description(Some($words)).into()
                }
            }

            impl utoipa::ToSchema for $type {
                fn name() -> std::borrow::Cow<'static, str> {
                    stringify!($type).into()
                }
            }
        )+
    };
}

pub(in crate::http) use texts;

fn id(prefix: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .pattern(Some(format!("^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$")))
        .examples([format!("{prefix}_01h2xcejqtf2nbrexx3vqjhp41")])
}

fn name_of<T: VariantNames>() -> ObjectBuilder {
    ObjectBuilder::new().enum_values(Some(T::VARIANTS.iter().copied()))
}

pub(in crate::http) fn chars(most: usize) -> ObjectBuilder {
    ObjectBuilder::new().min_length(Some(1)).max_length(Some(most))
}

texts! {
    AttemptId: "The id of an attempt." = id(AttemptId::PREFIX);
    DeliveryId: "The id of a delivery." = id(DeliveryId::PREFIX);
    EndpointId: "The id of an endpoint." = id(EndpointId::PREFIX);
    EventId: "The id of an event." = id(EventId::PREFIX);
    JobId: "The id of a job of the server." = id(JobId::PREFIX);
    KeyId: "The id of an API key." = id(KeyId::PREFIX);
    OrgId: "The id of an organization." = id(OrgId::PREFIX);
    ReplayId: "The id of a replay." = id(ReplayId::PREFIX);
    Action: "A kind of change in the audit log." = name_of::<Action>();
    EntryOrder: "The order of the entries of the audit log." = name_of::<EntryOrder>();
    BodyForm: "The form of the body of an endpoint's requests." = name_of::<BodyForm>();
    DataKind: "The part of a CloudEvent's data that the payload holds." = name_of::<DataKind>();
    DeadReason: "The reason why a delivery became a dead letter." = name_of::<DeadReason>();
    DeliveryStatus: "The state of a delivery." = name_of::<DeliveryStatus>();
    DisabledReason: "The reason why an endpoint is disabled." = name_of::<DisabledReason>();
    DrillOutcome: "The result of a drill." = name_of::<DrillOutcome>();
    ErrorCode: "The kind of an attempt's failure." = name_of::<ErrorCode>();
    EventStatus: "The status of an event." = name_of::<EventStatus>();
    InboxMode: "The rule by which an event leaves the inbox." = name_of::<InboxMode>();
    JobKind: "The kind of a job." = name_of::<JobKind>();
    Ordering: "The order in which an endpoint gets its events." = name_of::<Ordering>();
    Pressure: "The reason why events expire before their time." = name_of::<Pressure>();
    ProblemCode: "The kind of a problem. It is stable." = name_of::<ProblemCode>();
    ReplayOnly: "The deliveries that a replay repeats." = name_of::<ReplayOnly>();
    ReplayWait: "The reason why a replay waits." = name_of::<ReplayWait>();
    RouteReason: "The reason why an endpoint receives an event, or does not." =
        name_of::<RouteReason>();
    Scope: "A right of a key." = name_of::<Scope>();
    NamedScopes: "A scope, or a set of scopes by its name." =
        ObjectBuilder::new().enum_values(Some([Scope::VARIANTS, ScopeSet::VARIANTS].concat()));
    Tier: "What an organization may use." = name_of::<Tier>();
    Trigger: "The cause of an attempt." = name_of::<Trigger>();
    PostedType: "The type of a posted event; those of triggerd itself are reserved." =
        chars(TYPE_CHARS_MAX)
            .pattern(Some(r"^(?!triggerd[./:])[^\s*!,\u0000-\u001f\u007f-\u009f]+$"))
            .examples(["order.created"]);
    EventType: "A type of events." =
        chars(TYPE_CHARS_MAX).examples(["order.created"]);
    TypePattern: "An event type, or every type below some words: `order.created`, `order.*`." =
        chars(PATTERN_CHARS_MAX)
            .pattern(Some(r"^[^\s*!,\u0000-\u001f\u007f-\u009f]+(?:(?<=[./:])\*)?$"))
            .examples(["order.*"]);
    TypeFilter: "Event types or patterns, separated by commas: `order.*,!order.test`." =
        chars(PATTERNS_MAX * (PATTERN_CHARS_MAX + 1)).examples(["order.*"]);
    Timestamp: "A time of RFC 3339. Answers have UTC with milliseconds." =
        ObjectBuilder::new().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
    Moment: "A time of RFC 3339, or a duration back from now: `90s`, `15m`, `1d12h`, `2w`." =
        ObjectBuilder::new()
            .pattern(Some(r"^(?:[0-9]+[wdhms])+$|^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]"));
}
