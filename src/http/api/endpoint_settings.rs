//! Reads the settings of an endpoint from a body, over the existing settings, and reports all
//! faults at once. `null` means the same as an absent member, except for four settings whose unset
//! value is shown as `null`: for these, `null` returns to the configured value. Used by
//! `endpoints`, `webhook` and `hooks`.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use actix_web::http::header::HeaderName;
use serde::Serialize;
use serde_json::Value;

use crate::base::vault::Vault;
use crate::delivery::secrets;
use crate::http::error::{Code, Faults, Problem, pointer};
use crate::http::input::fields::{
    Field, Fields, invisible_rule, is_printable, printable_rule, string,
};
use crate::model::endpoint::{
    DESCRIPTION_CHARS_MAX, DisabledReason, Endpoint, EndpointSettings, HEADER_NAME_BYTES_MAX,
    HEADER_VALUE_BYTES_MAX, HEADERS_MAX, MAX_IN_FLIGHT_MAX, METADATA_CHARS_MAX, METADATA_MAX,
    PATTERNS_MAX, RATE_PER_SECOND_MAX, RETRIES_MAX, RETRY_WAIT_S_MAX, SealedSecret, TIMEOUT_MS_MAX,
    URL_BYTES_MAX,
};
use crate::model::event::is_invisible;
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

/// Reads a body over the existing settings of an endpoint. Absent members keep their values.
pub(in crate::http) struct Reading<'a> {
    pub(in crate::http) fields: Fields<'a>,
    pub(in crate::http) faults: Faults,
    pub(in crate::http) egress: &'a EgressRules,
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
    pub(in crate::http) fn of(text: &'a str, egress: &'a EgressRules) -> Result<Self, Problem> {
        let (fields, faults, dropped) = (Fields::read(text)?, Faults::default(), Vec::new());
        Ok(Self { fields, faults, egress, refused: None, dropped, names_enabled: false })
    }

    /// Reads the URL from the member `name`. A new origin removes all headers, because their values
    /// were meant for the former origin.
    pub(in crate::http) fn url(
        &mut self,
        name: &str,
        is_required: bool,
        settings: &mut EndpointSettings,
    ) {
        let field =
            if is_required { self.fields.require(name, &mut self.faults) } else { self.take(name) };
        let Some(url) = field.as_ref().and_then(|field| url_text(field, &mut self.faults)) else {
            return;
        };
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

    /// Reads `event_types` and `enabled`, which `/api/webhook/config` accepts too.
    pub(in crate::http) fn basics(&mut self, endpoint: &mut Endpoint) {
        if let Some(field) = self.take("event_types")
            && let Some(patterns) = field.list(PATTERNS_MAX, &mut self.faults)
        {
            endpoint.settings.event_types = patterns;
        }
        if let Some(enabled) = self.take("enabled").and_then(|field| field.flag(&mut self.faults)) {
            self.names_enabled = true;
            endpoint.disabled = match (enabled, endpoint.disabled) {
                (true, _) => None,
                (false, reason) => reason.or(Some(DisabledReason::ByOwner)),
            };
        }
    }

    /// Reads all other settings from the body.
    pub(in crate::http) fn details(&mut self, endpoint: &mut Endpoint, vault: &Vault) {
        let id = endpoint.id;
        let settings = &mut endpoint.settings;
        if let Some(field) = self.take("description") {
            settings.description = field.text(&mut self.faults).unwrap_or_default().into_owned();
            if settings.description.chars().count() > DESCRIPTION_CHARS_MAX {
                self.faults.add(
                    field.pointer(),
                    format!("must be at most {DESCRIPTION_CHARS_MAX} characters"),
                );
            }
            if let Some(c) = settings.description.chars().find(|c| is_invisible(*c)) {
                self.faults.add(field.pointer(), invisible_rule(c));
            }
        }
        if let Some(field) = self.take("headers") {
            self.headers(&field, (id, &mut *settings), vault);
        }
        if let Some(field) = self.take("body") {
            settings.body = field.parse(&mut self.faults).unwrap_or_default();
        }
        if let Some(field) = self.take("ordering") {
            settings.ordering = field.parse(&mut self.faults).unwrap_or_default();
        }
        if let Some(field) = self.take("metadata") {
            settings.metadata = metadata(&field, &mut self.faults);
        }
        if let Some(field) = self.fields.take_value("retry_schedule", &mut self.faults) {
            let waits = field.numbers(RETRIES_MAX, 1..=RETRY_WAIT_S_MAX, &mut self.faults);
            settings.retry_schedule_s = waits.filter(|_| !field.is_null());
        }
        self.limit("timeout_ms", 1..=TIMEOUT_MS_MAX, &mut settings.timeout_ms);
        self.limit("max_in_flight", 1..=MAX_IN_FLIGHT_MAX, &mut settings.max_in_flight);
        self.limit("rate_per_second", 1..=RATE_PER_SECOND_MAX, &mut settings.rate_per_second);
    }

    /// Reads the headers. The mask keeps the existing value of a header.
    fn headers(
        &mut self,
        field: &Field<'_>,
        (id, settings): (EndpointId, &mut EndpointSettings),
        vault: &Vault,
    ) {
        let before = std::mem::take(&mut settings.headers);
        for (name, value) in headers(field, &mut self.faults) {
            let named = |(known, _): &&(String, SealedSecret)| *known == name;
            let sealed = if value != MASK {
                secrets::seal_header(vault, id, (&name, &value))
            } else if let Some((_, known)) = before.iter().find(named) {
                Some(known.clone()) // the mask keeps the existing value
            } else if self.dropped.iter().any(|dropped| named(&dropped)) {
                continue;
            } else {
                let detail = format!("{MASK:?} keeps an existing value, but this header has none");
                self.faults.add(pointer(&field.pointer(), &name), detail);
                continue;
            };
            match sealed {
                Some(sealed) => settings.headers.push((name, sealed)),
                None => self.faults.add(field.pointer(), "cannot be encrypted"),
            }
        }
    }

    /// Accepts read-only members with their current value, so an answer can be sent back. Any other
    /// value is a fault.
    pub(in crate::http) fn unchanged(&mut self, shown: &impl Serialize) -> Result<(), Problem> {
        let shown = serde_json::to_value(shown).map_err(|error| Problem::internal(&error))?;
        let Some(shown) = shown.as_object() else { return Ok(()) };
        for (name, now) in shown {
            let Some(field) = self.take(name) else { continue };
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

    fn take(&mut self, name: &str) -> Option<Field<'a>> {
        self.fields.take(name, &mut self.faults)
    }

    /// Reads a number. `null` returns to the configured value.
    fn limit<T: TryFrom<u64>>(
        &mut self,
        name: &str,
        range: RangeInclusive<u64>,
        limit: &mut Option<T>,
    ) {
        let Some(field) = self.fields.take_value(name, &mut self.faults) else { return };
        let number = if field.is_null() { None } else { field.number_in(range, &mut self.faults) };
        *limit = number.and_then(|number| number.try_into().ok());
    }
}

/// True if two texts denote the same time.
fn is_same_time(one: &str, other: &str) -> bool {
    matches!((one.parse::<Timestamp>(), other.parse::<Timestamp>()), (Ok(one),
    Ok(other)) if one == other)
}

/// Reads the text of a URL. The URL parser ignores spaces and control characters, so such
/// characters are refused here.
fn url_text(field: &Field<'_>, faults: &mut Faults) -> Option<String> {
    let text = field.text(faults)?;
    if text.len() > URL_BYTES_MAX {
        faults.add(field.pointer(), format!("must be at most {URL_BYTES_MAX} bytes"));
        return None;
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        faults.add(field.pointer(), "must not have spaces or control characters");
        return None;
    }
    Some(text.into_owned())
}

fn headers(field: &Field<'_>, faults: &mut Faults) -> Vec<(String, String)> {
    texts(field, HEADERS_MAX, faults, |name, value| {
        let name = name.to_ascii_lowercase();
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(
                "is not a valid header name: letters, digits and - are safe (RFC 9110, 5.1)".into(),
            );
        }
        if name.len() > HEADER_NAME_BYTES_MAX {
            return Err(format!("the name must be at most {HEADER_NAME_BYTES_MAX} bytes").into());
        }
        if RESERVED_HEADERS.contains(&name.as_str())
            || RESERVED_PREFIXES.iter().any(|it| name.starts_with(it))
        {
            return Err(
                "is reserved, because triggerd or the connection sets it; remove this header"
                    .into(),
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
    })
}

fn metadata(field: &Field<'_>, faults: &mut Faults) -> Vec<(String, String)> {
    texts(field, METADATA_MAX, faults, |name, value| {
        if !is_printable(name, METADATA_CHARS_MAX) {
            return Err(format!("the name {}", printable_rule(METADATA_CHARS_MAX)).into());
        }
        if value.chars().count() > METADATA_CHARS_MAX {
            return Err(format!("must be at most {METADATA_CHARS_MAX} characters").into());
        }
        Ok(name.to_owned())
    })
}

/// Reads an object whose values are texts. `check` returns the name to keep, or the broken rule.
fn texts(
    field: &Field<'_>,
    most: usize,
    faults: &mut Faults,
    check: impl Fn(&str, &str) -> Result<String, Cow<'static, str>>,
) -> Vec<(String, String)> {
    let members = field.members(faults).unwrap_or_default();
    if members.len() > most {
        faults.add(field.pointer(), format!("must have at most {most} members"));
        return Vec::new();
    }
    let parent = field.pointer();
    let mut kept: Vec<(String, String)> = Vec::with_capacity(members.len());
    for (name, value) in members {
        let at = pointer(&parent, &name);
        let Some(value) = string(value) else {
            faults.add(at, "must be a string");
            continue;
        };
        match check(&name, &value) {
            Err(rule) => faults.add(at, rule),
            Ok(name) if kept.iter().any(|(other, _)| *other == name) => {
                faults.add(at, "appears more than once");
            }
            Ok(name) => kept.push((name, value.into_owned())),
        }
    }
    kept
}

#[cfg(test)]
#[path = "endpoint_settings_tests.rs"]
mod tests;
