//! JSON as YAML 1.2, for people. Texts are written as in JSON, which YAML reads in the same way.

use serde_json::Value;

/// Returns the value as a YAML document.
pub fn yaml(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, &mut out);
    out.trim_start().to_owned() + "\n"
}

/// Writes a value behind `key:` or `-`; members and items begin new lines.
fn write(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                indent(depth, out);
                out.push_str(&key(name));
                out.push(':');
                write(value, depth + 1, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                indent(depth, out);
                out.push('-');
                write(item, depth + 1, out);
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => {
            out.push(' ');
            out.push_str(&value.to_string());
        }
    }
}

fn indent(depth: usize, out: &mut String) {
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
}

/// Returns the name as a key: without quotes if no reader can take the name for anything but text.
fn key(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '$')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '$'))
        && !matches!(name, "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if is_plain { name.to_owned() } else { Value::from(name).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_and_items_are_indented_and_texts_are_quoted() {
        let value = json!({"a": {"b": [1, {"c": "x: y"}, [], null]}, "200": true, "no": {}});
        let expected = "\"200\": true\na:\n  b:\n    - 1\n    -\n      c: \"x: y\"\n    - []\n\
                        \u{20}   - null\n\"no\": {}\n";
        assert_eq!(yaml(&value), expected);
    }
}
