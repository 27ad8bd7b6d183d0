//! `triggerd explain`: the state of an event, in sentences.

use clap::Args;
use serde_json::Value;

use super::Failure;
use super::answer::{items, text};
use super::arguments::{EVENT_ID, checked_id};
use super::client::Method;
use super::output::{print, print_json, require_a_reader};
use super::reach::{Settings, With};
use crate::base::exit_code::ExitCode;
use crate::model::routing::RouteReason;

/// Says what became of an event.
#[derive(Args)]
pub(super) struct Explain {
    /// Id of the event (evt_…)
    #[arg(value_name = "EVENT")]
    id: String,
    #[command(flatten)]
    with: With,
}

impl Explain {
    pub(super) fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        require_a_reader()?;
        let id = checked_id(&self.id, EVENT_ID)?;
        let client = self.with.client(settings)?;
        let event =
            client.call(Method::GET, &format!("/api/events/{id}"), None, &["id", "received_at"])?;
        if self.with.server.form.is_json() {
            print_json(event.as_text())?;
            return Ok(ExitCode::Clean);
        }
        let delivery = |id: &str| {
            let path = format!("/api/deliveries/{}", checked_id(id, "a delivery's id").ok()?);
            client.call(Method::GET, &path, None, &["id"]).ok().map(|answer| (*answer).clone())
        };
        sentences(&event, &delivery).iter().try_for_each(|sentence| print(sentence))?;
        Ok(ExitCode::Clean)
    }
}

/// The last attempt of a delivery in the state `retrying` or `dead`, as sentences. `details` reads
/// the delivery, if the key may.
fn last_attempt(delivery: &Value, details: &dyn Fn(&str) -> Option<Value>) -> Vec<String> {
    let is_open = matches!(text(delivery, "state"), "retrying" | "dead");
    let found = Some(text(delivery, "id")).filter(|_| is_open).and_then(details);
    let attempt = found.as_ref().and_then(|found| items(found, "attempts").first());
    let Some((attempt, error)) = attempt.and_then(|attempt| Some((attempt, attempt.get("error")?)))
    else {
        return Vec::new();
    };
    let said = text(attempt, "response_body").trim();
    let said = if said.is_empty() { String::new() } else { format!("; the receiver said: {said}") };
    let at = text(attempt, "started_at");
    let mut lines = vec![format!("  The last attempt, at {at}: {}{said}", text(error, "detail"))];
    lines.extend(connection_trace(attempt));
    lines
}

/// The connection trace of an attempt: address, timing, trigger, and the request id of the
/// receiver.
fn connection_trace(attempt: &Value) -> Option<String> {
    let address = attempt.get("address")?.as_str()?;
    let spent = |(figure, word)| {
        Some(format!("{word} {} ms", attempt.get("timing")?.get(figure)?.as_u64()?))
    };
    let steps = [
        ("dns_ms", "lookup"),
        ("connect_ms", "connection"),
        ("tls_ms", "TLS"),
        ("first_byte_ms", "answer"),
    ];
    let spent: Vec<String> = steps.into_iter().filter_map(spent).collect();
    let spent = if spent.is_empty() { String::new() } else { format!(" ({})", spent.join(", ")) };
    let why = match text(attempt, "trigger") {
        "retry" => ", because a retry was requested",
        "replay" => ", because of a replay",
        _ => "",
    };
    let named = |name| Some((name, attempt.get("response_headers")?.get(name)?.as_str()?));
    let named =
        ["x-request-id", "request-id", "x-correlation-id", "cf-ray"].into_iter().find_map(named);
    let named =
        named.map_or_else(String::new, |(name, value)| format!("; the receiver's {name}: {value}"));
    Some(format!("  The request went to {address}{spent}{why}{named}"))
}

/// Said of an endpoint whose delivery the server does not show.
const MATCHED: &str = "the event matched. Only a key with the scope deliveries:read sees what \
    became of the delivery.";

/// Said of an event of a suspended organization.
const SUSPENDED: &str = "The organization is suspended: no attempt is made until the operator ends \
    the suspension, and then waiting deliveries go on.";

fn sentences(event: &Value, details: &dyn Fn(&str) -> Option<Value>) -> Vec<String> {
    let (id, kind, at) = (text(event, "id"), text(event, "type"), text(event, "received_at"));
    let erased_at = text(event, "erased_at");
    let status = if erased_at.is_empty() {
        event_status(event).to_owned()
    } else {
        format!("Its payload was erased at {erased_at} and is no longer shown or sent.")
    };
    let mut said = vec![format!("{id} has the type {kind} and was accepted at {at}."), status];
    if event.get("organization_suspended") == Some(&Value::Bool(true)) {
        said.push(SUSPENDED.to_owned());
    }
    let endpoints = items(event, "endpoints");
    if endpoints.is_empty() {
        said.push("There are no endpoints that the event could be pushed to.".to_owned());
    }
    for endpoint in endpoints {
        said.extend(of_endpoint(endpoint, details));
    }
    let named = |delivery: &&Value| {
        endpoints
            .iter()
            .any(|endpoint| text(endpoint, "endpoint_id") == text(delivery, "endpoint_id"))
    };
    for delivery in items(event, "deliveries").iter().filter(|delivery| !named(delivery)) {
        said.push(format!(
            "{} (deleted since): {}",
            text(delivery, "endpoint_id"),
            delivery_status(delivery)
        ));
    }
    said
}

/// The outcome at an endpoint, its last attempt and its circuit breaker, as sentences.
fn of_endpoint(endpoint: &Value, details: &dyn Fn(&str) -> Option<Value>) -> Vec<String> {
    let (id, url) = (text(endpoint, "endpoint_id"), text(endpoint, "url"));
    let delivery = endpoint.get("delivery");
    let outcome = match delivery {
        Some(delivery) => delivery_status(delivery),
        None if endpoint.get("matched") == Some(&Value::Bool(true)) => MATCHED.to_owned(),
        None => why_not(text(endpoint, "reason")),
    };
    let mut said = vec![format!("{id} ({url}): {outcome}")];
    said.extend(delivery.into_iter().flat_map(|delivery| last_attempt(delivery, details)));
    if text(endpoint, "breaker") == "open" {
        let until = text(endpoint, "breaker_until");
        said.push(format!(
            "  Its circuit breaker is open until {until}, because it failed too often or asked for \
             a pause."
        ));
    }
    said
}

/// The status of the event and its place in the inbox. An event that left the inbox does not return
/// when it is delivered again.
fn event_status(event: &Value) -> &'static str {
    match (text(event, "status"), event.get("in_inbox") == Some(&Value::Bool(true))) {
        ("acknowledged", _) => "A consumer acknowledged the event.",
        ("delivered", false) => "Every endpoint that matched accepted the event.",
        ("delivered", true) => {
            "Every endpoint that matched accepted the event. It is in the inbox until it is \
             acknowledged."
        }
        ("dead", false) => {
            "No delivery is under way, and not every endpoint accepted the event. It has left the \
             inbox."
        }
        ("dead", true) => {
            "No delivery is under way, and not every endpoint accepted the event. It is still in \
             the inbox."
        }
        (_, false) => "The event has left the inbox.",
        (_, true) => {
            "The event is in the inbox until it is acknowledged, or until every endpoint that \
             matches accepts it."
        }
    }
}

/// The state of a delivery, as a sentence.
fn delivery_status(delivery: &Value) -> String {
    let attempts = match delivery.get("attempt_count").and_then(Value::as_u64).unwrap_or(0) {
        1 => "1 attempt".to_owned(),
        many => format!("{many} attempts"),
    };
    let (id, next) = (text(delivery, "id"), text(delivery, "next_attempt_at"));
    let state = match text(delivery, "state") {
        "delivered" => format!("accepted after {attempts}."),
        "pending" => format!("waits for its first attempt, due {next}."),
        "retrying" => format!("not accepted in {attempts}; the next one is due {next}."),
        "dead" => {
            let why = why_given_up(text(delivery, "reason"));
            format!("given up at {} after {attempts}: {why}.", text(delivery, "dead_at"))
        }
        _ => format!("canceled after {attempts}."),
    };
    format!("{state} ({id})")
}

/// The reason why there will be no further attempt.
pub(super) fn why_given_up(reason: &str) -> &'static str {
    match reason {
        "gone" => "the receiver answered 410 Gone",
        _ => "the retry schedule has no attempt left",
    }
}

/// The reason why there is no delivery, as the server recorded it.
fn why_not(reason: &str) -> String {
    let sentence = match reason.parse() {
        Ok(RouteReason::TypeWanted | RouteReason::Replayed) => MATCHED,
        Ok(RouteReason::TypeNotWanted) => {
            "did not get the event, because the endpoint did not want this type when the event was \
             routed."
        }
        Ok(RouteReason::Disabled) => {
            "did not get the event, because the endpoint was disabled when the event was routed."
        }
        Ok(RouteReason::MadeLater) => {
            "did not get the event, because the endpoint was created after the event was routed."
        }
        Ok(RouteReason::NotRoutedYet) => "the event is about to be routed.",
        Ok(RouteReason::RoutingFailed) => {
            "did not get the event, because routing the event failed."
        }
        Ok(RouteReason::Erased) => {
            "did not get the event, because the payload was erased before the event was routed."
        }
        Err(_unknown) => return format!("did not get the event: {reason}."),
    };
    sentence.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An event with a dead letter, an endpoint that did not want it, and a canceled delivery.
    fn event() -> Value {
        let dead = json!({"id": "dlv_1", "endpoint_id": "ep_1", "state": "dead",
            "attempt_count": 1, "reason": "gone", "dead_at": "T"});
        let canceled =
            json!({"id": "dlv_3", "endpoint_id": "ep_3", "state": "canceled", "attempt_count": 2});
        let wanted = json!({"endpoint_id": "ep_1", "url": "u", "matched": true,
            "reason": "type_wanted", "delivery": dead});
        let not_wanted = json!({"endpoint_id": "ep_2", "url": "v", "matched": false,
            "reason": "type_not_wanted"});
        json!({"id": "evt_1", "type": "a", "received_at": "R", "status": "dead",
            "endpoints": [wanted, not_wanted], "deliveries": [dead, canceled]})
    }

    #[test]
    fn each_endpoint_has_its_sentence() {
        let said = sentences(&event(), &|_| None);
        assert_eq!(said.len(), 5, "{said:?}");
        assert_eq!(
            said[2],
            "ep_1 (u): given up at T after 1 attempt: the receiver answered 410 Gone. (dlv_1)"
        );
        assert_eq!(
            said[3],
            "ep_2 (v): did not get the event, because the endpoint did not want this type when the \
             event was routed."
        );
        assert_eq!(said[4], "ep_3 (deleted since): canceled after 2 attempts. (dlv_3)");
    }

    #[test]
    fn the_last_attempt_of_a_dead_letter_has_its_sentences() {
        let attempts = json!({"attempts": [{"started_at": "S",
            "error": {"detail": "it answered 500"}, "response_body": " do\u{1b}wn\n",
            "trigger": "retry", "address": "1.2.3.4:443",
            "timing": {"dns_ms": null, "connect_ms": 2, "tls_ms": 3, "first_byte_ms": 40},
            "response_headers": {"server": "x", "x-request-id": "r-1"}}]});
        let said = sentences(&event(), &|id| Some(attempts.clone()).filter(|_| id == "dlv_1"));
        assert_eq!(said.len(), 7, "{said:?}");
        assert_eq!(
            said[3],
            "  The last attempt, at S: it answered 500; the receiver said: do\u{1b}wn"
        );
        assert_eq!(
            said[4],
            "  The request went to 1.2.3.4:443 (connection 2 ms, TLS 3 ms, answer 40 ms), because \
             a retry was requested; the receiver's x-request-id: r-1"
        );
    }

    #[test]
    fn an_event_has_its_sentences() {
        let erased = json!({"id": "evt_1", "type": "a", "received_at": "R", "status": "accepted",
            "erased_at": "E"});
        let said = sentences(&erased, &|_| None);
        assert_eq!(said[1], "Its payload was erased at E and is no longer shown or sent.");
        let suspended = json!({"id": "evt_1", "type": "a", "received_at": "R",
            "status": "accepted", "organization_suspended": true});
        assert_eq!(sentences(&suspended, &|_| None)[2], SUSPENDED);
        let with = |status: &str, in_inbox: bool| json!({"status": status, "in_inbox": in_inbox});
        for status in ["accepted", "delivered", "dead"] {
            assert!(event_status(&with(status, true)).contains("in the inbox"), "{status}");
            assert!(!event_status(&with(status, false)).contains("in the inbox"), "{status}");
        }
        let narrow = json!({"id": "evt_1", "type": "a", "received_at": "R", "status": "dead",
            "endpoints": [
                {"endpoint_id": "ep_1", "url": "u", "matched": true, "reason": "type_wanted"}]});
        assert_eq!(sentences(&narrow, &|_| None)[2], format!("ep_1 (u): {MATCHED}"));
    }
}
