use serde_json::{Value, json};

use super::*;
use crate::base::splice::Splice;
use crate::http::api::stored_event::item;
use crate::model::cloudevent::{AttributeValue, CloudEvent, DataKind};
use crate::model::event::{Dedup, NewEvent, StoredEvent};

fn event(payload: &str, dedup_id: Option<&str>) -> StoredEvent {
    StoredEvent {
        id: EventId(7),
        received_at: Timestamp(1_769_853_600_000),
        event: NewEvent {
            event_type: "order.created".parse().unwrap(),
            dedup: dedup_id.map(|id| Dedup {
                id: id.to_owned(),
                digest: [0; 14],
                fingerprint: [0; 8],
                window_start: Timestamp(0),
            }),
            labels: vec![("b\"".to_owned(), "1".to_owned()), ("a".to_owned(), String::new())],
            occurred_at: None,
            deliver_after: None,
            payload: payload.as_bytes().into(),
            cloudevent: None,
        },
    }
}

fn written(event: &StoredEvent) -> String {
    written_of(event, None)
}

fn written_of(event: &StoredEvent, erased_at: Option<Timestamp>) -> String {
    let mut out = b"before,".to_vec();
    item((EventStatus::Dead, erased_at), event, Splice::new(&mut out)).unwrap().end();
    String::from_utf8(out).unwrap().strip_prefix("before,").unwrap().to_owned()
}

#[test]
fn an_item_has_the_members_of_the_contract_and_its_payload_as_it_came() {
    let payload = "{ \"z\" : 1.0, \"a\":\n[1e400] }";
    let text = written(&event(payload, Some("o-\"1")));
    assert!(text.contains(&format!("\"payload\":{payload},\"dedup_id\"")), "{text}");
    let item: Value = serde_json::from_str(&text.replace("1e400", "1")).unwrap();
    let expected = json!({
        "id": EventId(7).to_string(), "type": "order.created", "payload": {"z": 1.0, "a": [1]},
        "dedup_id": "o-\"1",
        "labels": {"b\"": "1", "a": ""}, "received_at": "2026-01-31T10:00:00.000Z",
        "occurred_at": null,
        "status": "dead", "lease_count": 0,
    });
    assert_eq!(item, expected);
    let item: Value = serde_json::from_str(&written(&event("null", None))).unwrap();
    assert_eq!((&item["payload"], &item["dedup_id"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_cloud_event_is_shown_with_what_it_came_with() {
    let mut event = event(r#"{"data_base64":"/wA="}"#, None);
    let attributes = vec![
        ("id".to_owned(), AttributeValue::Text("7".to_owned())),
        ("source".to_owned(), AttributeValue::Text("/shop".to_owned())),
        ("n".to_owned(), AttributeValue::Integer(7)),
    ];
    event.event.cloudevent = Some(Box::new(CloudEvent { attributes, data: DataKind::Base64 }));
    let item: Value = serde_json::from_str(&written(&event)).unwrap();
    let expected = json!({"specversion": "1.0", "type": "order.created", "id": "7",
    "source": "/shop", "n": 7});
    assert_eq!((&item["cloudevent"], &item["payload_kind"]), (&expected, &json!("base64")));
    assert_eq!(item["payload"], json!({"data_base64": "/wA="}));
    let erased: Value = serde_json::from_str(&written_of(&event, Some(Timestamp(1)))).unwrap();
    assert_eq!(
        (&erased["cloudevent"], &erased["payload"]),
        (&expected, &Value::Null),
        "attributes are no payload"
    );
}

#[test]
fn an_erased_item_is_without_its_payload() {
    let of = |erased_at| -> Value {
        serde_json::from_str(&written_of(&event(r#""canary""#, Some("d")), erased_at)).unwrap()
    };
    let (kept, erased) = (of(None), of(Some(Timestamp(1_769_853_600_000))));
    assert_eq!((&kept["payload"], kept.get("erased_at")), (&json!("canary"), None));
    let members = json!([erased["payload"], erased["erased_at"], erased["dedup_id"]]);
    assert_eq!(members, json!([null, "2026-01-31T10:00:00.000Z", "d"]));
}

fn wanted(text: &str) -> Result<Wanted, Problem> {
    Wanted::read(text, Duration::from_secs(20), Timestamp(0))
}

#[test]
fn parameters_have_bounds_and_defaults() {
    let plain = wanted("").unwrap();
    assert_eq!((plain.query.limit, plain.wait, plain.query.after), (50, Duration::ZERO, None));
    let cursor = List::Inbox.cursor(EventId(9));
    let all = wanted(&format!(
        "limit=500&wait=30&cursor={cursor}&type=a.b,*.c,!x.*&since=2026-01-31T10:00:00Z"
    ))
    .unwrap();
    assert_eq!((all.query.limit, all.query.after), (500, Some(EventId(9))));
    assert_eq!(all.wait, Duration::from_secs(20), "no longer than the operator allows");
    assert_eq!(all.query.types, "a.b,*.c,!x.*".parse().unwrap());
    for wrong in [
        "limit=501",
        "limit=0",
        "limit=-1",
        "wait=31",
        "cursor=x",
        "type=a+b",
        "since=now",
        "x=1",
        "limit=1&limit=2",
    ] {
        assert_eq!(wanted(wrong).err().unwrap().code().word(), "invalid_request", "{wrong}");
    }
}

#[test]
fn a_page_says_where_the_next_one_begins() {
    let body = |page: Page| {
        let body = actix_web::body::MessageBody::try_into_bytes(
            page.answer(List::Inbox, EventId(7)).unwrap().into_body(),
        )
        .unwrap();
        serde_json::from_slice::<Value>(&body).unwrap()
    };
    let empty =
        json!({"data": [], "has_more": false, "next_cursor": List::Inbox.cursor(EventId(7))});
    assert_eq!(body(Page::default()), empty, "an empty one where it began itself");
    let last = body(Page { items: b"1".to_vec(), last: Some(EventId(8)), ..Page::default() });
    assert_eq!(
        last,
        json!({"data": [1], "has_more": false, "next_cursor": List::Inbox.cursor(EventId(8))})
    );
    let page = body(Page { items: b"1,2".to_vec(), next: Some(EventId(2)), ..Page::default() });
    assert_eq!(
        page,
        json!({"data": [1, 2], "has_more": true, "next_cursor": List::Inbox.cursor(EventId(2))})
    );
}
