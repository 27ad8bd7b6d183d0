//! JSON objects made of serialized members and of values that are JSON already, such as payloads,
//! which must stay as they are, byte for byte. Writing such an object in another way would parse
//! the payload and lose its form.

use serde::Serialize;
use serde::ser::Error as _;

/// An object in the making. Members are written in the order of the calls, and no name is checked
/// for a repetition.
#[derive(Debug)]
#[must_use = "the object has no end yet"]
pub struct Splice<'a> {
    out: &'a mut Vec<u8>,
    /// The byte before the next member: the opening brace, or a comma.
    before_next: u8,
}

impl<'a> Splice<'a> {
    /// Begins an object at the end of `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, before_next: b'{' }
    }

    /// Adds the members of a value that serializes as an object.
    ///
    /// # Errors
    /// The value does not serialize, or not as an object.
    pub fn members(self, object: &impl Serialize) -> Result<Self, serde_json::Error> {
        let at = self.out.len();
        serde_json::to_writer(&mut *self.out, object)?;
        self.merge(at)
    }

    /// Adds the members of an object in its JSON form, without whitespace around its braces.
    ///
    /// # Errors
    /// The text is no object.
    pub fn members_of(self, object: &[u8]) -> Result<Self, serde_json::Error> {
        let at = self.out.len();
        self.out.extend_from_slice(object);
        self.merge(at)
    }

    /// Adds a member with this JSON text as its value. The name needs no escapes.
    pub fn value(mut self, name: &'static str, json: &[u8]) -> Self {
        self.name(name);
        self.out.extend_from_slice(json);
        self
    }

    /// Adds a member with a list of these items, which are JSON with commas between them. The name
    /// needs no escapes.
    pub fn list(mut self, name: &'static str, items: &[u8]) -> Self {
        self.name(name);
        self.out.push(b'[');
        self.out.extend_from_slice(items);
        self.out.push(b']');
        self
    }

    fn name(&mut self, name: &str) {
        self.out.push(self.before_next);
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.before_next = b',';
    }

    /// Ends the object.
    pub fn end(self) {
        if self.before_next == b'{' {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }

    /// Makes the members of the object that begins at `at` members of this object.
    fn merge(mut self, at: usize) -> Result<Self, serde_json::Error> {
        match self.out.get_mut(at..) {
            Some([b'{', b'}']) => self.out.truncate(at),
            Some([brace @ b'{', .., b'}']) => {
                *brace = self.before_next;
                self.out.pop();
                self.before_next = b',';
            }
            _ => return Err(serde_json::Error::custom("a splice is made of objects")),
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(make: impl FnOnce(Splice<'_>) -> Result<Splice<'_>, serde_json::Error>) -> String {
        let mut out = b"before ".to_vec();
        make(Splice::new(&mut out)).unwrap().end();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn members_and_values_become_one_object_and_values_stay_byte_for_byte() {
        let (head, tail, none) = (json!({"a": 1, "b": {}}), json!({"c": "}"}), json!({}));
        assert_eq!(made(|object| Ok(object)), "before {}");
        assert_eq!(made(|object| object.members(&none)), "before {}");
        assert_eq!(made(|object| Ok(object.value("p", b" 1.0 "))), r#"before {"p": 1.0 }"#);
        let all = made(|object| {
            object
                .members(&none)?
                .members(&head)?
                .value("p", b"{ \"z\" : 1e2}")
                .members(&none)?
                .members_of(b"{\"q\":[ ]}")?
                .list("l", b"1,{}")
                .members(&tail)
        });
        let expected = r#"before {"a":1,"b":{},"p":{ "z" : 1e2},"q":[ ],"l":[1,{}],"c":"}"}"#;
        assert_eq!(all, expected);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for object in ["", "{", "}", "[1]", "null", " {}", "{} "] {
            let mut out = Vec::new();
            let refused = Splice::new(&mut out).members_of(object.as_bytes()).map(Splice::end);
            assert!(refused.is_err(), "{object:?}");
        }
        assert!(Splice::new(&mut Vec::new()).members(&json!([1])).map(Splice::end).is_err());
    }
}
