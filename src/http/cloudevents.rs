//! CloudEvents 1.0 (HTTP protocol binding 1.0.2) as events: `type` is the type, `data` the payload, `source` and `id` the
//! dedup id, `time` is when it occurred; subject and extensions become labels.

use actix_web::HttpRequest;
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::error::Problem;
use super::wire::{DedupScope, Members, Reader, checked_dedup_id, dedup, fault, is_too_deep, text};
use crate::model::event::{DEDUP_ID_CHARS_MAX, LABEL_CHARS_MAX, LABELS_MAX, NewEvent};

pub(super) const STRUCTURED: &str = "application/cloudevents+json";
pub(super) const BATCHED: &str = "application/cloudevents-batch+json";

/// Whether the request is in binary mode: attributes in headers, data in the body.
pub(super) fn is_binary(request: &HttpRequest) -> bool {
    request.headers().contains_key("ce-specversion")
}

/// The attributes, wherever they stood.
#[derive(Default)]
struct Attributes {
    id: Option<String>,
    source: Option<String>,
    event_type: Option<String>,
    specversion: Option<String>,
    time: Option<String>,
    others: Vec<(String, String)>,
}

impl Attributes {
    fn set(&mut self, name: &str, value: String) {
        let place = match name {
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.event_type,
            "specversion" => &mut self.specversion,
            "time" => &mut self.time,
            _ => return self.others.push((name.to_owned(), value)),
        };
        *place = Some(value);
    }

    /// The event, or everything that is wrong. `reader` has noted faults so far.
    fn event(self, mut reader: Reader<'_>, payload: Option<Box<[u8]>>, scope: DedupScope) -> Result<NewEvent, Problem> {
        let Self { id, source, event_type, specversion, time, others } = self;
        for (name, value) in [("id", &id), ("source", &source), ("type", &event_type), ("specversion", &specversion)] {
            if value.as_ref().is_none_or(String::is_empty) {
                reader.faults.push(fault(format!("/{name}"), "is required"));
            }
        }
        if specversion.as_ref().is_some_and(|version| version != "1.0") {
            reader.faults.push(fault("/specversion", "must be 1.0"));
        }
        let event_type = event_type
            .and_then(|text| text.parse().map_err(|detail: &str| reader.faults.push(fault("/type", detail))).ok());
        let occurred_at = time
            .and_then(|text| text.parse().map_err(|error| reader.faults.push(fault("/time", format!("{error}")))).ok());
        if others.len() > LABELS_MAX || others.iter().any(|(_, value)| value.chars().count() > LABEL_CHARS_MAX) {
            let detail = format!("attributes become labels: {LABELS_MAX} of {LABEL_CHARS_MAX} characters at most");
            reader.faults.push(fault("", detail));
        }
        let dedup_id = id.zip(source).map(|(id, source)| dedup_id(&source, &id));
        let new = event_type.zip(dedup_id).map(|(event_type, id)| {
            let payload = payload.unwrap_or_else(|| b"null".as_slice().into());
            let dedup = Some(dedup(id, scope, &event_type, &payload));
            NewEvent { event_type, dedup, labels: others, occurred_at, deliver_after: None, payload }
        });
        reader.finish(new)
    }
}

/// Source and id together; a digest where that would not be a dedup id.
fn dedup_id(source: &str, id: &str) -> String {
    let joined = format!("{source} {id}");
    if joined.len() <= DEDUP_ID_CHARS_MAX && checked_dedup_id(&joined).is_ok() {
        return joined;
    }
    let digest = Sha256::digest(joined.as_bytes());
    digest.iter().fold(String::from("sha256:"), |text, byte| text + &format!("{byte:02x}"))
}

/// Structured mode: everything in one JSON object.
pub(super) fn structured(members: Members<'_>, scope: DedupScope) -> Result<NewEvent, Problem> {
    let mut reader = Reader::new(members);
    let (data, base64) = (reader.take("data"), reader.take_some("data_base64"));
    if data.is_some() && base64.is_some() {
        reader.faults.push(fault("/data_base64", "is there beside data; send one of them"));
    }
    if data.is_some_and(|data| is_too_deep(data.get())) {
        reader.faults.push(fault("/data", "is nested too deep"));
    }
    let mut attributes = Attributes::default();
    for (name, value) in reader.rest() {
        match scalar(value) {
            Some(value) => attributes.set(&name, value),
            None if value.get() == "null" => {}
            None => reader.faults.push(fault(format!("/{name}"), "an attribute must be a text, number or boolean")),
        }
    }
    let payload = match (data, base64) {
        (Some(data), _) => Some(data.get().as_bytes().into()),
        (None, Some(base64)) => Some(format!("{{\"data_base64\":{}}}", base64.get()).into_bytes().into()),
        (None, None) => None,
    };
    attributes.event(reader, payload, scope)
}

fn scalar(value: &RawValue) -> Option<String> {
    let json = value.get();
    match json.as_bytes().first()? {
        b'"' => text(value).map(std::borrow::Cow::into_owned),
        b'{' | b'[' | b'n' => None,
        _ => Some(json.to_owned()),
    }
}

/// Binary mode: attributes in `ce-` headers, percent-encoded where they must be (section 3.1.3.2).
pub(super) fn binary(
    request: &HttpRequest,
    media_type: &str,
    body: &[u8],
    scope: DedupScope,
) -> Result<NewEvent, Problem> {
    let mut reader = Reader::new(super::wire::members(b"{}")?);
    let mut attributes = Attributes::default();
    for (name, value) in request.headers() {
        let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
        let decoded = value.to_str().ok().and_then(percent_decoded);
        match decoded {
            Some(value) => attributes.set(name, value),
            None => reader.faults.push(fault(format!("/{name}"), "the header is not percent-encoded UTF-8")),
        }
    }
    let is_json = media_type == "application/json" || media_type.ends_with("+json");
    let payload = if body.is_empty() {
        None
    } else if is_json || media_type.is_empty() {
        let json: &RawValue = serde_json::from_slice(body).map_err(|error| {
            Problem::new(super::error::Code::MalformedJson, format!("the data is not JSON: {error}"))
        })?;
        if is_too_deep(json.get()) {
            reader.faults.push(fault("/data", "is nested too deep"));
        }
        Some(json.get().as_bytes().into())
    } else {
        let Ok(text) = str::from_utf8(body) else {
            return Err(super::body::not_understood(
                media_type,
                "a JSON or text type, or use structured mode with data_base64",
            ));
        };
        Some(json!(text).to_string().into_bytes().into())
    };
    attributes.event(reader, payload, scope)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, behind) = rest.split_first_chunk::<2>()?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit(digits[0])? * 16 + digit(digits[1])?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::wire::members;
    use crate::model::id::OrgNo;
    use crate::model::time::Timestamp;

    const SCOPE: DedupScope = DedupScope { org: OrgNo(1), window_start: Timestamp(0) };

    #[test]
    fn a_structured_event_keeps_its_data_and_names_itself_by_source_and_id() {
        let body =
            br#"{"specversion":"1.0","type":"com.example.made","source":"/shop","id":"7","time":"2026-01-31T10:00:00Z",
            "subject":"order","seq":4,"datacontenttype":"application/json","data":{ "z":1.0 }}"#;
        let new = structured(members(body).unwrap(), SCOPE).unwrap();
        assert_eq!((new.event_type.as_str(), &*new.payload), ("com.example.made", br#"{ "z":1.0 }"#.as_slice()));
        assert_eq!(new.dedup.unwrap().id, "/shop 7");
        assert_eq!(new.occurred_at, Some(Timestamp(1_769_853_600_000)));
        assert!(
            new.labels.contains(&("subject".into(), "order".into()))
                && new.labels.contains(&("seq".into(), "4".into()))
        );
    }

    #[test]
    fn everything_missing_is_named() {
        let problem = structured(members(b"{\"time\":\"x\",\"ext\":{}}").unwrap(), SCOPE).unwrap_err();
        let mut pointers: Vec<_> = problem.errors.iter().map(|fault| fault.pointer.as_str()).collect();
        pointers.sort_unstable();
        assert_eq!(pointers, ["/ext", "/id", "/source", "/specversion", "/time", "/type"]);
    }

    #[test]
    fn binary_headers_are_percent_decoded_and_text_becomes_a_json_text() {
        let request = actix_web::test::TestRequest::post()
            .insert_header(("ce-specversion", "1.0"))
            .insert_header(("ce-type", "a.b"))
            .insert_header(("ce-source", "/caf%C3%A9"))
            .insert_header(("ce-id", "1"))
            .to_http_request();
        let new = binary(&request, "text/plain", b"hi \"there\"", SCOPE).unwrap();
        assert_eq!(&*new.payload, br#""hi \"there\"""#);
        assert_eq!(new.dedup.unwrap().id, "/café 1");
        let json = binary(&request, "application/json", b"{ }", SCOPE).unwrap();
        assert_eq!(&*json.payload, b"{ }");
        assert!(binary(&request, "application/json", b"{", SCOPE).is_err());
    }
}
