//! Reads the settings of an endpoint from a body, over the existing settings, and reports all
//! faults at once. `null` means the same as an absent member, except for four settings whose unset
//! value is shown as `null`: for these, `null` returns to the configured value. Used by
//! `endpoints`, `webhook` and `hooks`.

use actix_web::http::header::HeaderName;
use serde::Serialize;
use serde_json::{Value, json};

use crate::base::vault::Vault;
use crate::delivery::secrets;
use crate::http::error::{Code, Faults, Problem, pointer};
use crate::http::input::declare::{Draft, body};
use crate::http::input::fields::Fields;
use crate::http::input::kinds::{
    Flag, Rule, Texts, description, flag, list_of, number, numbers, pairs, parsed, short_pair,
    short_pairs_schema, url,
};
use crate::http::input::presence::{Optional, nullable, optional};
use crate::model::endpoint::{
    BodyForm, DESCRIPTION_CHARS_MAX, DisabledReason, Endpoint, EndpointSettings,
    HEADER_NAME_BYTES_MAX, HEADER_VALUE_BYTES_MAX, HEADERS_MAX, MAX_IN_FLIGHT_MAX,
    METADATA_CHARS_MAX, METADATA_MAX, Ordering, PATTERNS_MAX, RATE_PER_SECOND_MAX, RETRIES_MAX,
    RETRY_WAIT_S_MAX, SealedSecret, TIMEOUT_MS_MAX, TypePattern, URL_BYTES_MAX,
};
use crate::model::id::EndpointId;
use crate::model::time::Timestamp;
use crate::rules::egress::{EgressError, EgressRules};

/// Headers that an endpoint cannot set: triggerd's own, and the headers of the connection (RFC
/// 9110, 7.6.1).
const RESERVED_HEADERS: [&str; 17] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "traceparent",
    "upgrade",
    "user-agent",
];
/// Shown in place of a header's value. Values are never shown, because any value may be a
/// credential.
pub(in crate::http) const MASK: &str = "(set)";
const RESERVED_PREFIXES: [&str; 3] = ["webhook-", "svix-", "triggerd-"];

body! {
    /// The settings of an endpoint. A change keeps the members that it does not name.
    pub(in crate::http) struct EndpointChange {
        /// `http` or `https`, without user and password. It must lead to a public address.
        url: Option<String> = optional("url", url(URL_BYTES_MAX));
        /// The types that are pushed; the empty list means everything that producers post.
        event_types: Option<Vec<TypePattern>> = patterns();
        /// False if nothing is pushed.
        enabled: Option<bool> = enabled();
        /// A text for people.
        description: Option<String> = optional("description", description(DESCRIPTION_CHARS_MAX));
        /// Headers of each request. An answer shows `(set)` in place of a value, and `(set)` in a
        /// request keeps the value.
        headers: Option<Vec<(String, String)>> =
            optional("headers", pairs(HEADERS_MAX, header, headers_schema));
        /// The form of the body.
        body: Option<BodyForm> = optional("body", parsed());
        /// The order in which events are pushed.
        ordering: Option<Ordering> = optional("ordering", parsed());
        /// Names and values for programs of the owner.
        metadata: Option<Vec<(String, String)>> = optional(
            "metadata",
            pairs(METADATA_MAX, metadatum, || short_pairs_schema(METADATA_CHARS_MAX)),
        );
        /// Seconds before each further attempt; `[]` means one attempt, and `null` the
        /// configuration.
        retry_schedule: Option<Option<Vec<u32>>> =
            nullable("retry_schedule", numbers(RETRIES_MAX, 1..=RETRY_WAIT_S_MAX));
        /// Maximum duration of an attempt; `null` means the configuration.
        timeout_ms: Option<Option<u32>> = nullable("timeout_ms", number(1..=TIMEOUT_MS_MAX));
        /// Maximum number of attempts at one time; `null` means the configuration.
        max_in_flight: Option<Option<u16>> =
            nullable("max_in_flight", number(1..=MAX_IN_FLIGHT_MAX));
        /// Maximum number of attempts begun in a second; `null` means no limit.
        rate_per_second: Option<Option<u16>> =
            nullable("rate_per_second", number(1..=RATE_PER_SECOND_MAX));
    }
}

/// Declares `event_types`.
pub(in crate::http) fn patterns() -> Optional<Texts<TypePattern>> {
    optional("event_types", list_of(0..=PATTERNS_MAX))
}

/// Declares `enabled`.
pub(in crate::http) fn enabled() -> Optional<Flag> {
    optional("enabled", flag())
}

/// Applies a body to the existing settings of an endpoint. Absent members keep their values.
pub(in crate::http) struct Reading<'a> {
    fields: Fields<'a>,
    pub(in crate::http) faults: Faults,
    egress: &'a EgressRules,
    /// The pointer to a forbidden URL, and the broken rule.
    refused: Option<(String, EgressError)>,
    /// Headers removed because the URL has a new origin.
    dropped: Vec<(String, SealedSecret)>,
    /// Set if the body has the member `enabled`.
    names_enabled: bool,
}

/// The result of reading a body, apart from the settings.
pub(in crate::http) struct Said {
    /// Set if the body has the member `enabled`, so the command must set the state of the endpoint.
    pub(in crate::http) sets_enabled: bool,
    /// Names of headers removed because their values were meant for another origin.
    pub(in crate::http) headers_dropped: Vec<String>,
}

impl<'a> Reading<'a> {
    /// Begins with a body that is read. Returns the body, too.
    pub(in crate::http) fn of<B>(draft: Draft<'a, B>, egress: &'a EgressRules) -> (Self, B) {
        let Draft { body, fields, faults } = draft;
        let (refused, dropped) = (None, Vec::new());
        (Self { fields, faults, egress, refused, dropped, names_enabled: false }, body)
    }

    /// Sets the URL, which came in the member `name`. A new origin removes all headers, because
    /// their values were meant for the former origin.
    pub(in crate::http) fn url(
        &mut self,
        name: &str,
        url: Option<String>,
        settings: &mut EndpointSettings,
    ) {
        let Some(url) = url else { return };
        match self.egress.judge_text(&url) {
            Ok((parsed, _)) => {
                if url::Url::parse(&settings.url).map(|before| before.origin())
                    != Ok(parsed.origin())
                {
                    self.dropped = std::mem::take(&mut settings.headers);
                }
                settings.url = url;
            }
            Err(
                error @ (EgressError::NotAUrl(_)
                | EgressError::NoHost
                | EgressError::LeadingZeros(_)),
            ) => {
                self.faults.add(pointer("", name), error.to_string());
            }
            Err(error) => self.refused = Some((pointer("", name), error)),
        }
    }

    /// Sets the patterns of types and if the endpoint is enabled.
    pub(in crate::http) fn basics(
        &mut self,
        (patterns, enabled): (Option<Vec<TypePattern>>, Option<bool>),
        endpoint: &mut Endpoint,
    ) {
        if let Some(patterns) = patterns {
            endpoint.settings.event_types = patterns;
        }
        if let Some(enabled) = enabled {
            self.names_enabled = true;
            endpoint.disabled = match (enabled, endpoint.disabled) {
                (true, _) => None,
                (false, reason) => reason.or(Some(DisabledReason::ByOwner)),
            };
        }
    }

    /// Sets everything that the body names.
    pub(in crate::http) fn apply(
        &mut self,
        body: EndpointChange,
        endpoint: &mut Endpoint,
        vault: &Vault,
    ) {
        self.url("url", body.url, &mut endpoint.settings);
        self.basics((body.event_types, body.enabled), endpoint);
        let (id, settings) = (endpoint.id, &mut endpoint.settings);
        if let Some(headers) = body.headers {
            self.headers(headers, (id, &mut *settings), vault);
        }
        set(&mut settings.description, body.description);
        set(&mut settings.body, body.body);
        set(&mut settings.ordering, body.ordering);
        set(&mut settings.metadata, body.metadata);
        set(&mut settings.retry_schedule_s, body.retry_schedule);
        set(&mut settings.timeout_ms, body.timeout_ms);
        set(&mut settings.max_in_flight, body.max_in_flight);
        set(&mut settings.rate_per_second, body.rate_per_second);
    }

    /// Sets the headers. The mask keeps the existing value of a header.
    fn headers(
        &mut self,
        headers: Vec<(String, String)>,
        (id, settings): (EndpointId, &mut EndpointSettings),
        vault: &Vault,
    ) {
        let before = std::mem::take(&mut settings.headers);
        for (name, value) in headers {
            let named = |(known, _): &&(String, SealedSecret)| *known == name;
            let sealed = if value != MASK {
                secrets::seal_header(vault, id, (&name, &value))
            } else if let Some((_, known)) = before.iter().find(named) {
                Some(known.clone()) // the mask keeps the existing value
            } else if self.dropped.iter().any(|dropped| named(&dropped)) {
                continue;
            } else {
                let detail = format!("{MASK:?} keeps an existing value, but this header has none");
                self.faults.add(pointer("/headers", &name), detail);
                continue;
            };
            match sealed {
                Some(sealed) => settings.headers.push((name, sealed)),
                None => self.faults.add("/headers", "cannot be encrypted"),
            }
        }
    }

    /// Accepts read-only members with their current value, so an answer can be sent back. Any other
    /// value is a fault.
    pub(in crate::http) fn unchanged(&mut self, shown: &impl Serialize) -> Result<(), Problem> {
        let shown = serde_json::to_value(shown).map_err(|error| Problem::internal(&error))?;
        let Some(shown) = shown.as_object() else { return Ok(()) };
        for (name, now) in shown {
            let Some(field) = self.fields.take(name, &mut self.faults) else { continue };
            let is_same = match (now, serde_json::from_str::<Value>(field.value.get())) {
                (_, Err(_)) => false,
                (Value::String(now), Ok(Value::String(given))) => {
                    *now == given || is_same_time(now, &given)
                }
                (now, Ok(given)) => *now == given,
            };
            if !is_same {
                self.faults.add(
                    field.pointer(),
                    format!("cannot be set; leave it out, or send its present value {now}"),
                );
            }
        }
        Ok(())
    }

    /// Returns the result, or a problem with all faults. `settings` are the settings as read.
    pub(in crate::http) fn finish(mut self, settings: &EndpointSettings) -> Result<Said, Problem> {
        self.fields.finish(&mut self.faults);
        if let Some((at, error)) = self.refused {
            if self.faults.is_empty() {
                return Err(Problem::fault(Code::EgressBlocked, at, error.to_string()));
            }
            self.faults.add(at, error.to_string());
        }
        self.faults.into_result()?;
        let has = |name: &str| settings.headers.iter().any(|(known, _)| known == name);
        let dropped = self.dropped.into_iter().map(|(name, _)| name).filter(|name| !has(name));
        Ok(Said { sets_enabled: self.names_enabled, headers_dropped: dropped.collect() })
    }
}

/// Replaces the value if there is a new one.
fn set<T>(value: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *value = new;
    }
}

/// True if two texts denote the same time.
fn is_same_time(one: &str, other: &str) -> bool {
    matches!((one.parse::<Timestamp>(), other.parse::<Timestamp>()), (Ok(one),
    Ok(other)) if one == other)
}

/// Returns the name of a header to keep, in lower case, or the rule that name or value break.
fn header(name: &str, value: &str) -> Result<String, Rule> {
    let name = name.to_ascii_lowercase();
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(
            "is not a valid header name: letters, digits and - are safe (RFC 9110, 5.1)".into()
        );
    }
    if name.len() > HEADER_NAME_BYTES_MAX {
        return Err(format!("the name must be at most {HEADER_NAME_BYTES_MAX} bytes").into());
    }
    if RESERVED_HEADERS.contains(&name.as_str())
        || RESERVED_PREFIXES.iter().any(|it| name.starts_with(it))
    {
        return Err(
            "is reserved, because triggerd or the connection sets it; remove this header".into()
        );
    }
    if value.len() > HEADER_VALUE_BYTES_MAX {
        return Err(format!("must be at most {HEADER_VALUE_BYTES_MAX} bytes").into());
    }
    let is_visible = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if !value.bytes().all(is_visible) || value.trim() != value {
        return Err("must be printable ASCII without spaces at its ends".into());
    }
    Ok(name)
}

fn headers_schema() -> Value {
    let reserved = [&RESERVED_PREFIXES.join("|"), &format!("(?:{})$", RESERVED_HEADERS.join("|"))]
        .map(String::as_str)
        .join("|");
    json!({
        "propertyNames": {
            "minLength": 1,
            "maxLength": HEADER_NAME_BYTES_MAX,
            "pattern": format!("^(?!{reserved})[A-Za-z0-9!#$%&'*+.^_`|~-]+$"),
        },
        "additionalProperties": {
            "type": "string",
            "maxLength": HEADER_VALUE_BYTES_MAX,
            "pattern": "^(?:[!-~](?:[ -~]*[!-~])?)?$",
        },
    })
}

fn metadatum(name: &str, value: &str) -> Result<String, Rule> {
    short_pair(name, value, METADATA_CHARS_MAX)
}

#[cfg(test)]
#[path = "endpoint_settings_tests.rs"]
mod tests;
