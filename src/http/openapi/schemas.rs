//! The named schemas of the document, and functions over schemas. The document is JSON Schema
//! 2020-12, so schemas are JSON values here; utoipa derives those of answers.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

/// The pattern of a text without control characters (Unicode: Cc).
pub(in crate::http) const PRINTABLE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// The pattern of a name for people: no character that is invisible or turns its neighbors around,
/// as far as a pattern of every language can say it.
pub(in crate::http) const VISIBLE: &str = concat!(
    r"^[^\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e",
    r"\u2060-\u206f\ufeff\ufff9-\ufffb]*$",
);

/// Makes a schema. Types that the schema names are collected.
pub(in crate::http) type MakeSchema = fn(&mut Schemas) -> Value;

/// The schemas that the document names.
#[derive(Default)]
pub(in crate::http) struct Schemas {
    named: BTreeMap<String, Value>,
}

impl Schemas {
    /// Returns a reference to the schema of `T`.
    pub(in crate::http) fn of<T: ToSchema>(&mut self) -> Value {
        let name = T::name();
        if !self.named.contains_key(&*name) {
            let mut found = vec![(name.clone().into_owned(), T::schema())];
            T::schemas(&mut found);
            for (name, schema) in found {
                // A schema that is made of texts, numbers and lists always serializes.
                let schema = serde_json::to_value(schema).unwrap_or_default();
                let known = self.named.insert(name, without_empty_words(schema.clone()));
                debug_assert!(
                    known.is_none_or(|known| known == without_empty_words(schema)),
                    "two schemas share a name"
                );
            }
        }
        reference(&name)
    }

    /// Returns a reference to the schema of this name, which `make` makes.
    pub(in crate::http) fn component(
        &mut self,
        name: &str,
        make: impl FnOnce(&mut Self) -> Value,
    ) -> Value {
        if !self.named.contains_key(name) {
            let schema = make(self);
            self.named.insert(name.to_owned(), schema);
        }
        reference(name)
    }

    /// Returns all schemas by their names.
    pub(in crate::http) fn into_map(self) -> Map<String, Value> {
        self.named.into_iter().collect()
    }
}

/// Returns a reference to the schema of `T`, for the declaration of an answer.
pub(in crate::http) fn schema_of<T: ToSchema>(schemas: &mut Schemas) -> Value {
    schemas.of::<T>()
}

/// Returns the schema of a list's page with items of the type `T`.
pub(in crate::http) fn page_of<T: ToSchema>(schemas: &mut Schemas) -> Value {
    page(&T::name(), schema_of::<T>, schemas)
}

/// Returns the schema of a list's page with these items, which have this name.
pub(in crate::http) fn page(name: &str, items: MakeSchema, schemas: &mut Schemas) -> Value {
    let items = items(schemas);
    schemas.component(&format!("{name}Page"), |_| {
        json!({
            "type": "object",
            "description": "A page of a list.",
            "properties": {
                "data": {"type": "array", "items": items},
                "has_more": {
                    "type": "boolean",
                    "description": "True if there is a next page now.",
                },
                "next_cursor": {
                    "type": "string",
                    "description": "The cursor of the next page, also on the last page.",
                },
            },
            "required": ["data", "has_more", "next_cursor"],
        })
    })
}

/// Returns the schema of an object with the members of all these object schemas.
pub(in crate::http) fn merged(words: &str, parts: impl IntoIterator<Item = Value>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for part in parts {
        if let Some(members) = part.get("properties").and_then(Value::as_object) {
            properties.extend(members.clone());
        }
        let names = part.get("required").and_then(Value::as_array);
        required.extend(names.into_iter().flatten().cloned());
    }
    json!({"type": "object", "description": words, "properties": properties, "required": required})
}

/// Returns the schema of `T` itself, not a reference to it. Types that it names are collected.
pub(in crate::http) fn inlined<T: ToSchema>(schemas: &mut Schemas) -> Value {
    let mut found = Vec::new();
    T::schemas(&mut found);
    for (name, schema) in found {
        let schema = serde_json::to_value(schema).unwrap_or_default();
        schemas.named.entry(name).or_insert_with(|| without_empty_words(schema));
    }
    without_empty_words(serde_json::to_value(T::schema()).unwrap_or_default())
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Lets `null` pass beside the values of a schema.
pub(in crate::http) fn or_null(mut schema: Value) -> Value {
    let Some(members) = schema.as_object_mut() else { return schema };
    match members.get("type").cloned() {
        Some(Value::String(name)) => {
            members.insert("type".to_owned(), json!([name, "null"]));
            if let Some(Value::Array(values)) = members.get_mut("enum") {
                values.push(Value::Null);
            }
            schema
        }
        None if members.is_empty() => schema,
        _ => json!({"anyOf": [schema, {"type": "null"}]}),
    }
}

/// Gives a schema these words, the lines of a comment, as its description.
pub(in crate::http) fn described(schema: &mut Value, words: &str) {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".to_owned(), unwrapped(words).into());
    }
}

/// Joins the lines of a comment's paragraphs.
pub(in crate::http) fn unwrapped(words: &str) -> String {
    let lines = words.trim().lines().map(str::trim);
    let joined = lines.fold(String::new(), |joined, line| match (joined.as_str(), line) {
        ("", line) => line.to_owned(),
        (_, "") => joined + "\n\n",
        (before, line) if before.ends_with('\n') => joined + line,
        (_, line) => joined + " " + line,
    });
    joined.trim().to_owned()
}

/// Joins the lines of all descriptions, and removes those of fields without a comment.
fn without_empty_words(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(members) => {
            if let Some(Value::String(words)) = members.get_mut("description") {
                *words = unwrapped(words);
            }
            let is_empty = |name: &str, value: &Value| name == "description" && value == "";
            members.retain(|name, value| !is_empty(name, value));
            for value in members.values_mut() {
                *value = without_empty_words(value.take());
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = without_empty_words(item.take());
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    schema
}
