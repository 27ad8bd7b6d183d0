//! Changes of the OpenAPI document that can break a client.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::openapi_answers::resolved;

/// Deeper schemas are not compared: a schema can contain itself.
const DEPTH_MAX: usize = 12;

/// The side that writes a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Client,
    Server,
}

/// Returns the changes from one document to another that can break a client.
pub(crate) fn breaking(before: &Value, after: &Value) -> Vec<String> {
    let mut found = Found { before, after, changes: Vec::new() };
    for (path, methods) in members(&before["paths"]) {
        for (method, operation) in members(methods) {
            let at = format!("{} {path}", method.to_uppercase());
            let now = &after["paths"][path][method];
            if now.is_null() {
                found.changes.push(format!("{at}: the route is gone"));
            } else {
                found.operation(operation, now, &at);
            }
        }
    }
    for (name, webhook) in members(&before["webhooks"]) {
        let now = &after["webhooks"][name]["post"]["requestBody"];
        if now.is_null() {
            found.changes.push(format!("webhook {name}: it is gone"));
        }
        let content = &webhook["post"]["requestBody"]["content"];
        found.contents(content, &now["content"], By::Server, &format!("webhook {name}"));
    }
    found.changes
}

struct Found<'a> {
    before: &'a Value,
    after: &'a Value,
    changes: Vec<String>,
}

impl Found<'_> {
    fn operation(&mut self, before: &Value, after: &Value, at: &str) {
        let of = |operation: &Value| {
            let all = operation["parameters"].as_array().cloned().unwrap_or_default();
            all.into_iter().map(|it| (it["name"].as_str().unwrap_or_default().to_owned(), it))
        };
        for (name, parameter) in of(before) {
            match of(after).find(|(other, _)| *other == name) {
                None => self.changes.push(format!("{at}: the parameter {name} is gone")),
                Some((_, now)) => {
                    let at = format!("{at} ?{name}");
                    self.schema((&parameter["schema"], &now["schema"]), By::Client, &at, 0);
                }
            }
        }
        for (name, parameter) in of(after) {
            let is_new = of(before).all(|(other, it)| other != name || it["required"] != true);
            if is_new && parameter["required"] == true && parameter["in"] != "path" {
                self.changes.push(format!("{at}: the parameter {name} is required now"));
            }
        }
        let (body, now) = (&before["requestBody"], &after["requestBody"]);
        if now["required"] == true && body["required"] != true {
            self.changes.push(format!("{at}: the body is required now"));
        }
        self.contents(&body["content"], &now["content"], By::Client, at);
        for (status, response) in members(&before["responses"]) {
            let now = &after["responses"][status];
            if now.is_null() && status.starts_with('2') {
                self.changes.push(format!("{at}: the answer {status} is gone"));
            }
            let at = format!("{at} {status}");
            let (response, now) = (resolved(self.before, response), resolved(self.after, now));
            self.contents(&response["content"], &now["content"], By::Server, &at);
        }
    }

    fn contents(&mut self, before: &Value, after: &Value, by: By, at: &str) {
        for (media_type, content) in members(before) {
            let now = &after[media_type]["schema"];
            if now.is_null() {
                // A problem that is answered no more breaks nobody.
                if media_type != "application/problem+json" {
                    self.changes.push(format!("{at}: {media_type} is gone"));
                }
                continue;
            }
            self.schema((&content["schema"], now), by, at, 0);
        }
    }

    fn schema(&mut self, (before, after): (&Value, &Value), by: By, at: &str, depth: usize) {
        if depth > DEPTH_MAX {
            return;
        }
        let (before, after) = (resolved(self.before, before), resolved(self.after, after));
        self.values(before, after, by, at);
        self.required(before, after, by, at);
        for (name, schema) in members(&before["properties"]) {
            let now = &after["properties"][name];
            if now.is_null() {
                self.changes.push(format!("{at}: the member {name} is gone"));
            } else {
                self.schema((schema, now), by, &format!("{at}/{name}"), depth + 1);
            }
        }
        for part in ["items", "additionalProperties"] {
            if before[part].is_object() && after[part].is_object() {
                self.schema((&before[part], &after[part]), by, at, depth + 1);
            }
        }
        for part in ["allOf", "anyOf"] {
            let (all, now) = (before[part].as_array(), after[part].as_array());
            for (one, now) in all.into_iter().flatten().zip(now.into_iter().flatten()) {
                self.schema((one, now), by, at, depth + 1);
            }
        }
    }

    /// Compares types, names and bounds.
    fn values(&mut self, before: &Value, after: &Value, by: By, at: &str) {
        for value in before["enum"].as_array().into_iter().flatten() {
            let is_gone = after["enum"].as_array().is_some_and(|now| !now.contains(value));
            // A problem's code that is answered no more breaks nobody.
            if is_gone && !at.ends_with("/code") {
                self.changes.push(format!("{at}: the value {value} is gone"));
            }
        }
        let (types, now) = (types(before), types(after));
        let (narrower, wider) = if by == By::Client { (&now, &types) } else { (&types, &now) };
        if !narrower.is_empty() && !wider.is_empty() && !wider.is_subset(narrower) {
            self.changes.push(format!("{at}: the type was {types:?} and is {now:?}"));
        }
        for (bound, is_lower) in
            [("minimum", true), ("minLength", true), ("maximum", false), ("maxLength", false)]
        {
            let (Some(was), Some(is)) = (before[bound].as_f64(), after[bound].as_f64()) else {
                continue;
            };
            if by == By::Client && (if is_lower { is > was } else { is < was }) {
                self.changes.push(format!("{at}: {bound} was {was} and is {is}"));
            }
        }
    }

    fn required(&mut self, before: &Value, after: &Value, by: By, at: &str) {
        let (old, new) = (names(&before["required"]), names(&after["required"]));
        if by == By::Client {
            for name in new.difference(&old) {
                self.changes.push(format!("{at}: the member {name} is required now"));
            }
        } else {
            for name in old.difference(&new) {
                self.changes.push(format!("{at}: the member {name} may be missing now"));
            }
        }
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn names(value: &Value) -> BTreeSet<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn types(schema: &Value) -> BTreeSet<&str> {
    match &schema["type"] {
        Value::String(one) => BTreeSet::from([one.as_str()]),
        several => names(several),
    }
}

/// A document with one route, a webhook and a schema.
fn small() -> Value {
    let schema = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "string", "enum": ["x", "y"]},
        "b": {"type": ["integer", "null"], "maximum": 9},
    }});
    let content = json!({"application/json": {"schema": {"$ref": "#/components/schemas/S"}}});
    json!({
        "paths": {"/p": {"post": {
            "parameters": [{"name": "q", "in": "query", "schema": {"type": "string"}}],
            "requestBody": {"content": content},
            "responses": {"200": {"content": content}, "422": {}},
        }}},
        "webhooks": {"w": {"post": {"requestBody": {"content": content}}}},
        "components": {"schemas": {"S": schema}},
    })
}

#[test]
fn each_kind_of_change_that_breaks_clients_is_found() {
    let before = small();
    let schema = "/components/schemas/S";
    let post = "/paths/~1p/post";
    for (at, new) in [
        ("/paths".to_owned(), json!({})),
        ("/paths/~1p".to_owned(), json!({"get": {}})),
        ("/webhooks".to_owned(), json!({})),
        (format!("{post}/parameters"), json!([])),
        (format!("{post}/parameters/0/required"), json!(true)),
        (format!("{post}/requestBody/required"), json!(true)),
        (format!("{post}/requestBody/content"), json!({})),
        (format!("{post}/responses/200/content"), json!({})),
        (format!("{post}/responses"), json!({"422": {}})),
        (format!("{schema}/required"), json!([])),
        (format!("{schema}/required"), json!(["a", "b"])),
        (format!("{schema}/properties"), json!({"a": {"type": "string", "enum": ["x", "y"]}})),
        (format!("{schema}/properties/a/enum"), json!(["x"])),
        (format!("{schema}/properties/a/type"), json!("integer")),
        (format!("{schema}/properties/b/maximum"), json!(8)),
        (format!("{schema}/properties/b/type"), json!("integer")),
        (format!("{schema}/properties/b/type"), json!(["integer", "null", "string"])),
    ] {
        let mut after = before.clone();
        let (parent, name) = at.rsplit_once('/').unwrap();
        after.pointer_mut(parent).unwrap()[name.replace("~1", "/")] = new;
        assert!(!breaking(&before, &after).is_empty(), "{at}");
    }
}

#[test]
fn a_change_that_only_adds_breaks_nobody() {
    let before = small();
    assert_eq!(breaking(&before, &before), [] as [&str; 0]);
    let mut after = before.clone();
    after["paths"]["/new"] = json!({"get": {}});
    after["webhooks"]["new"] = json!({"post": {}});
    let schema = &mut after["components"]["schemas"]["S"];
    schema["properties"]["c"] = json!({"type": "string"});
    schema["properties"]["a"]["enum"] = json!(["x", "y", "z"]);
    schema["properties"]["b"]["maximum"] = json!(10);
    after["paths"]["/p"]["post"]["parameters"][0]["schema"]["type"] = json!(["string", "null"]);
    after["paths"]["/p"]["post"]["responses"].as_object_mut().unwrap().remove("422");
    assert_eq!(breaking(&before, &after), [] as [&str; 0]);
}
