use crate::http::input::declare::Body as _;

use super::*;

fn read(endpoint: &mut Endpoint, body: &Value) -> Result<Vec<String>, Problem> {
    let (text, egress) = (body.to_string(), EgressRules { allow: Vec::new() });
    let (mut reading, body) = Reading::of(EndpointChange::draft(&text, &[])?, &egress);
    reading.apply(body, endpoint, &vault());
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
    read(&mut it, &json!({"timeout_ms": null, "retry_schedule": null, "enabled": true})).unwrap();
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
    read(&mut it, &json!({"headers": {"Authorization": "Bearer 1", "X-Team": "blue"}})).unwrap();
    read(&mut it, &json!({"headers": {"authorization": MASK, "x-team": "red"}})).unwrap();
    let expected = [("authorization", "Bearer 1"), ("x-team", "red")];
    assert_eq!(headers_of(&it), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

fn names_of_headers(endpoint: &Endpoint) -> Vec<String> {
    headers_of(endpoint).into_iter().map(|(name, _)| name).collect()
}

/// An endpoint with two headers.
fn endpoint_at(url: &str) -> Endpoint {
    let mut it = endpoint();
    let headers = json!({"authorization": "Bearer 1", "x-team": "blue"});
    read(&mut it, &json!({"url": url, "headers": headers})).unwrap();
    it
}

#[test]
fn a_new_url_of_the_same_origin_keeps_the_headers() {
    for (from, same) in [
        ("https://a.example/x", "https://a.example/y?z=1"),
        ("https://a.example/", "https://A.example:443/"),
        ("http://a.example:80/", "http://a.example/#x"),
    ] {
        let mut it = endpoint_at(from);
        assert_eq!(read(&mut it, &json!({"url": same})).unwrap(), [] as [&str; 0], "{same}");
        assert_eq!(names_of_headers(&it), ["authorization", "x-team"], "{same}");
        let masked = json!({"url": same, "headers": {"authorization": MASK}});
        assert_eq!(read(&mut it, &masked).unwrap(), [] as [&str; 0], "{same}");
        let kept = [("authorization".to_owned(), "Bearer 1".to_owned())];
        assert_eq!(headers_of(&it), kept, "{same}");
    }
}

#[test]
fn a_new_origin_gets_no_header_that_was_meant_for_another_unless_it_is_sent_again() {
    for other in [
        "http://a.example/",
        "https://a.example:8443/",
        "https://b.example/",
        "https://a.example./",
    ] {
        let mut it = endpoint_at("https://a.example/");
        assert_eq!(
            read(&mut it, &json!({"url": other})).unwrap(),
            ["authorization", "x-team"],
            "{other}"
        );
        assert_eq!(names_of_headers(&it), [] as [&str; 0], "{other}");
        // Going back is a change of origin, too: removed headers stay removed.
        assert_eq!(read(&mut it, &json!({"url": "https://a.example/"})).unwrap(), [] as [&str; 0]);
        assert_eq!(names_of_headers(&it), [] as [&str; 0], "{other}");
        let mut it = endpoint_at("https://a.example/");
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
