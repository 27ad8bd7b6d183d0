//! Tests that events which are no CloudEvents are refused, and the wrong attribute named.

use super::*;

fn refused(event: &Value) -> Vec<String> {
    pointers(&structured(&rules(), &event.to_string()).unwrap_err())
}

#[test]
fn a_missing_attribute_is_named() {
    for name in ["specversion", "id", "type", "source"] {
        let mut event = least_and(&json!({}));
        event.as_object_mut().unwrap().remove(name);
        assert_eq!(refused(&event), [format!("/{name}")]);
        event[name] = Value::Null;
        assert_eq!(refused(&event), [format!("/{name}")]);
    }
    assert_eq!(
        refused(&json!({})),
        ["/specversion", "/id", "/source", "/type"],
        "all of it at once"
    );
    assert!(structured(&rules(), "\"not an object\"").is_err());
}

/// Wrong values of the required attributes and of the time.
fn wrong_in_what_is_required() -> Vec<(&'static str, Vec<Value>)> {
    vec![
        ("specversion", vec![json!(""), json!("0.9"), json!("1"), json!(1.0)]),
        (
            "id",
            vec![
                json!(""),
                json!(25),
                json!({"xyz": "abc"}),
                json!("first\nsecond"),
                json!("x".repeat(4097)),
            ],
        ),
        (
            "type",
            vec![
                json!(""),
                json!(true),
                json!("x".repeat(256)),
                json!("a\u{200b}"),
                json!("a\u{7f}"),
            ],
        ),
        ("source", vec![json!(""), json!(["a"]), json!("not a reference"), json!("/%zz")]),
        (
            "time",
            vec![
                json!("lunchtime"),
                json!("2018-04-05T18:31Z"),
                json!("2018-04-05T18:31:00X"),
                json!(5),
                json!("2018-04-05T18:31:00+25:00"),
                json!("2018-04-05T18:31:00+xx:00"),
                json!("2018-04-05T18:31:00+05"),
                json!(""),
                json!("2018-02-30T18:31:00Z"),
            ],
        ),
    ]
}

/// Wrong values of optional attributes and of the data, and names that no attribute can have.
fn wrong_in_what_is_optional() -> Vec<(&'static str, Vec<Value>)> {
    vec![
        (
            "datacontenttype",
            vec![
                json!("xyz"),
                json!(""),
                json!(5),
                json!("*/plain"),
                json!("text/plain; charset"),
                json!("text/plain; charset=\"utf-8"),
                json!(" text/plain"),
            ],
        ),
        ("dataschema", vec![json!(""), json!("//example.com?query=value"), json!(5)]),
        ("subject", vec![json!(""), json!(5)]),
        ("MyExtension", vec![json!("bad")]),
        ("my.extension", vec![json!("bad"), json!(1.5)]),
        ("my-extension", vec![json!("bad")]),
        ("", vec![json!("bad")]),
        (
            "ext",
            vec![
                json!(1.5),
                json!(2_147_483_648_i64),
                json!({}),
                json!([]),
                json!("a\u{1}"),
                json!("x".repeat(4097)),
            ],
        ),
        ("data_base64", vec![json!("%"), json!("x"), json!(5), json!({})]),
    ]
}

/// The invalid kinds of events in cloudevents/conformance, with more examples of each.
#[test]
fn what_is_invalid_is_refused_and_the_attribute_named() {
    let all = wrong_in_what_is_required().into_iter().chain(wrong_in_what_is_optional());
    for (name, values) in all {
        for value in values {
            let event = least_and(&json!({ name: value }));
            assert_eq!(refused(&event), [format!("/{name}")], "{event}");
        }
    }
}

#[test]
fn what_is_there_twice_or_too_often_is_refused() {
    let both =
        least_and(&json!({"data": "text", "data_base64": "eyAieHl6IjogMTIzIH0="})).to_string();
    assert_eq!(pointers(&structured(&rules(), &both).unwrap_err()), ["/data_base64"]);
    let twice = r#"{"specversion":"1.0","type":"a","source":"s","id":"1","id":"2","ext":1,"ext":1,"data":1,"data":2}"#;
    assert_eq!(pointers(&structured(&rules(), twice).unwrap_err()), ["/id", "/ext", "/data"]);
    let many: serde_json::Map<_, _> = (0..62).map(|n| (format!("ext{n}"), json!("x"))).collect();
    assert!(
        structured(&rules(), &least_and(&Value::from(many.clone())).to_string()).is_ok(),
        "64 but for type and version"
    );
    let many: serde_json::Map<_, _> = (0..67).map(|n| (format!("ext{n}"), json!("x"))).collect();
    assert!(structured(&rules(), &least_and(&Value::from(many)).to_string()).is_err());
}
