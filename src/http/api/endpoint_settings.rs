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
use crate::http::input::fields::{Field, Fields, is_printable, printable_rule, string};
use crate::model::endpoint::{
    DESCRIPTION_CHARS_MAX, DisabledReason, Endpoint, EndpointSettings, HEADER_NAME_BYTES_MAX,
    HEADER_VALUE_BYTES_MAX, HEADERS_MAX, MAX_IN_FLIGHT_MAX, METADATA_CHARS_MAX, METADATA_MAX,
    PATTERNS_MAX, RATE_PER_SECOND_MAX, RETRIES_MAX, RETRY_WAIT_S_MAX, SealedSecret, TIMEOUT_MS_MAX,
    URL_BYTES_MAX,
};
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
        }
        if let Some(field) = self.take("headers") {
            let before = std::mem::take(&mut settings.headers);
            for (name, value) in headers(&field, &mut self.faults) {
                let named = |(known, _): &&(String, SealedSecret)| *known == name;
                let sealed = if value != MASK {
                    secrets::seal_header(vault, id, (&name, &value))
                } else if let Some((_, known)) = before.iter().find(named) {
                    Some(known.clone()) // the mask keeps the existing value
                } else if self.dropped.iter().any(|dropped| named(&dropped)) {
                    continue;
                } else {
                    let detail =
                        format!("{MASK:?} keeps an existing value, but this header has none");
                    self.faults.add(pointer(&field.pointer(), &name), detail);
                    continue;
                };
                match sealed {
                    Some(sealed) => settings.headers.push((name, sealed)),
                    None => self.faults.add(field.pointer(), "cannot be encrypted"),
                }
            }
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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::id::EndpointId;

    fn read(endpoint: &mut Endpoint, body: &Value) -> Result<Vec<String>, Problem> {
        let (text, egress) = (body.to_string(), EgressRules { allow: Vec::new() });
        let mut reading = Reading::of(&text, &egress)?;
        reading.url("url", false, &mut endpoint.settings);
        reading.basics(endpoint);
        reading.details(endpoint, &vault());
        reading.finish(&endpoint.settings).map(|said| said.headers_dropped)
    }

    fn vault() -> Vault {
        Vault::new(&[5; 32])
    }

    fn headers_of(endpoint: &Endpoint) -> Vec<(String, String)> {
        secrets::open_headers(&vault(), endpoint).unwrap()
    }

    fn endpoint() -> Endpoint {
        Endpoint::new(
            EndpointId(1),
            EndpointSettings::default(),
            SealedSecret::new(vec![1; 72]),
            Timestamp(1),
        )
    }

    fn faults(body: &Value) -> Vec<(String, String)> {
        let problem = read(&mut endpoint(), body).expect_err("something is wrong");
        let document = serde_json::to_value(problem.document(None)).unwrap();
        let text = |fault: &Value, name: &str| fault[name].as_str().unwrap().to_owned();
        let faults = document["errors"].as_array().unwrap().iter();
        faults.map(|fault| (text(fault, "pointer"), text(fault, "detail"))).collect()
    }

    #[test]
    fn what_is_not_mentioned_stays_and_null_goes_back_to_what_is_configured() {
        let mut it = endpoint();
        let all = json!({"url": "https://example.com/a", "description": "d", "event_types": ["a.*"],
        "enabled": false,
            "headers": {"X-Team": "blue"}, "body": "payload", "retry_schedule": [1, 2],
            "timeout_ms": 3,
            "max_in_flight": 4, "rate_per_second": 5, "ordering": "strict",
            "metadata": {"k": "v"}});
        read(&mut it, &all).unwrap();
        let set = it.clone();
        assert_eq!(headers_of(&set), [("x-team".to_owned(), "blue".to_owned())]);
        assert_eq!(
            (set.settings.retry_schedule_s.as_deref(), set.settings.timeout_ms),
            (Some([1, 2].as_slice()), Some(3))
        );
        assert_eq!(set.disabled, Some(DisabledReason::ByOwner));
        read(&mut it, &json!({})).unwrap();
        assert_eq!(it, set);
        read(&mut it, &json!({"timeout_ms": null, "retry_schedule": null, "enabled": true}))
            .unwrap();
        assert_eq!(
            (it.settings.timeout_ms, it.settings.retry_schedule_s.clone(), it.disabled),
            (None, None, None)
        );
        assert_eq!(it.settings.max_in_flight, Some(4));
        let before = it.clone();
        let nulls = json!({"url": null, "description": null, "event_types": null, "headers": null,
        "body": null,
            "enabled": null, "ordering": null, "metadata": null});
        read(&mut it, &nulls).unwrap();
        assert_eq!(it, before, "what is never shown as null");
        read(&mut it, &json!({"retry_schedule": []})).unwrap();
        assert_eq!(it.settings.retry_schedule_s, Some(Vec::new()), "one attempt only");
    }

    #[test]
    fn every_fault_is_named_where_it_stands() {
        let found = faults(&json!({"url": "nonsense", "headers": {"a \
                b": "c", "webhook-id": "x", "Host": "y", "x-ok": 1,
            "x-line": "a\nb"}, "retry_schedule": [0], "timeout_ms": 0, "ordering": "loose",
            "body": 1,
            "metadata": [], "colour": "blue", "event_types": ["a.*.b"]}));
        let places: Vec<&str> = found.iter().map(|(place, _)| place.as_str()).collect();
        for place in [
            "/url",
            "/headers/a b",
            "/headers/webhook-id",
            "/headers/Host",
            "/headers/x-ok",
            "/headers/x-line",
            "/retry_schedule/0",
            "/timeout_ms",
            "/ordering",
            "/body",
            "/metadata",
            "/colour",
            "/event_types/0",
        ] {
            assert!(places.contains(&place), "{place} in {found:?}");
        }
    }

    #[test]
    fn a_header_that_was_shown_masked_stays_what_it_is() {
        let mut it = endpoint();
        read(&mut it, &json!({"headers": {"Authorization": "Bearer 1", "X-Team": "blue"}}))
            .unwrap();
        read(&mut it, &json!({"headers": {"authorization": MASK, "x-team": "red"}})).unwrap();
        let expected = [("authorization", "Bearer 1"), ("x-team", "red")];
        assert_eq!(
            headers_of(&it),
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn a_new_origin_gets_no_header_that_was_meant_for_another_unless_it_is_sent_again() {
        let names = |endpoint: &Endpoint| {
            headers_of(endpoint).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let set = |url: &str| {
            let mut it = endpoint();
            read(
                &mut it,
                &json!({"url": url, "headers": {"authorization": "Bearer 1", "x-team": "blue"}}),
            )
            .unwrap();
            it
        };
        for (from, same) in [
            ("https://a.example/x", "https://a.example/y?z=1"),
            ("https://a.example/", "https://A.example:443/"),
            ("http://a.example:80/", "http://a.example/#x"),
        ] {
            let mut it = set(from);
            assert_eq!(read(&mut it, &json!({"url": same})).unwrap(), [] as [&str; 0], "{same}");
            assert_eq!(names(&it), ["authorization", "x-team"], "{same}");
            let masked = json!({"url": same, "headers": {"authorization": MASK}});
            assert_eq!(read(&mut it, &masked).unwrap(), [] as [&str; 0], "{same}");
            assert_eq!(
                headers_of(&it),
                [("authorization".to_owned(), "Bearer 1".to_owned())],
                "{same}"
            );
        }
        for other in [
            "http://a.example/",
            "https://a.example:8443/",
            "https://b.example/",
            "https://a.example./",
        ] {
            let mut it = set("https://a.example/");
            assert_eq!(
                read(&mut it, &json!({"url": other})).unwrap(),
                ["authorization", "x-team"],
                "{other}"
            );
            assert_eq!(names(&it), [] as [&str; 0], "{other}");
            // Going back is a change of origin, too: removed headers stay removed.
            assert_eq!(
                read(&mut it, &json!({"url": "https://a.example/"})).unwrap(),
                [] as [&str; 0]
            );
            assert_eq!(names(&it), [] as [&str; 0], "{other}");
            let mut it = set("https://a.example/");
            let again = json!({"headers": {"authorization": MASK, "x-team": "red"}, "url": other});
            assert_eq!(read(&mut it, &again).unwrap(), ["authorization"], "{other}");
            assert_eq!(headers_of(&it), [("x-team".to_owned(), "red".to_owned())], "{other}");
        }
        let unknown = faults(&json!({"headers": {"x-other": MASK}}));
        assert_eq!(unknown[0].0, "/headers/x-other", "nothing is there that this could stand for");
    }

    #[test]
    fn a_forbidden_url_is_a_refusal_of_its_own_kind() {
        let problem =
            read(&mut endpoint(), &json!({"url": "http://127.0.0.1/"})).expect_err("loopback");
        assert_eq!(problem.code(), Code::EgressBlocked);
    }
}
