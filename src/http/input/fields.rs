//! The members of a JSON object, read one after the other. All faults are named at once, and values
//! are kept byte for byte. The text is read in one pass; only names and strings with escapes are
//! copied.
//!
//! Every handler that reads a body calls this module, which knows no route.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::base::library_errors::json_fault;
use crate::http::error::{Code, Faults, Problem, pointer};
use crate::model::event::is_invisible;

/// Maximum number of members read from an object.
const MEMBERS_MAX: usize = 256;
/// Maximum bytes of one character in JSON: two escapes, as in `\ud83d\ude00`.
pub(in crate::http) const CHAR_BYTES_MAX: usize = 12;
/// Maximum depth of nested values, as in most JSON parsers (serde_json has the same limit).
const DEPTH_MAX: usize = 128;

/// Returns the body as text, without a byte order mark at its beginning (RFC 8259, 8.1).
pub(in crate::http) fn text_of(body: &[u8]) -> Result<&str, Problem> {
    if body.trim_ascii().is_empty() {
        return Err(no_body());
    }
    let text = str::from_utf8(body).map_err(|error| {
        Problem::new(
            Code::MalformedJson,
            format!(
                "the body is not UTF-8; the first wrong byte is at offset {}",
                error.valid_up_to()
            ),
        )
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Makes the problem for a missing body.
pub(in crate::http) fn no_body() -> Problem {
    let detail = "the request has no body, and this route needs a JSON body; announce it with \
                  Content-Length or Transfer-Encoding: chunked";
    Problem::new(Code::MalformedJson, detail)
}

/// Makes the problem for malformed JSON, or JSON of the wrong kind.
fn refusal(error: &serde_json::Error, wanted: &'static str) -> Problem {
    if error.is_data() {
        Problem::fault(Code::ValidationFailed, "", wanted)
    } else {
        Problem::new(Code::MalformedJson, format!("the body is not JSON: {}", json_fault(error)))
    }
}

/// Reads the text as a single JSON value of any kind.
pub(in crate::http) fn value(text: &str) -> Result<&RawValue, Problem> {
    serde_json::from_str(text).map_err(|error| refusal(&error, "must be a JSON value"))
}

/// Returns the items of an array, at most `most + 1`. The extra item shows the caller that the
/// array is too long.
pub(in crate::http) fn array(text: &str, most: usize) -> Result<Vec<&RawValue>, Problem> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = reader
        .deserialize_seq(Items(most.saturating_add(1)))
        .and_then(|items| reader.end().map(|()| items));
    read.or_else(|error| {
        if error.is_data() {
            // Malformed JSON is reported before JSON of the wrong kind, so the whole text is read.
            value(text)?;
        }
        Err(refusal(&error, "must be an array"))
    })
}

struct Items(usize);

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut taken = Vec::new();
        while let Some(item) = items.next_element()? {
            if taken.len() < self.0 {
                taken.push(item);
            }
        }
        Ok(taken)
    }
}

/// The members of an object, in the order of the text. Each member can be taken once; members that
/// no caller takes are unknown.
#[derive(Debug)]
pub(in crate::http) struct Fields<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Fields<'a> {
    /// Reads the text of a body as an object.
    pub(in crate::http) fn read(text: &'a str) -> Result<Self, Problem> {
        let read = serde_json::from_str::<Members<'a>>(text);
        match read {
            Ok(Members(members)) if members.len() <= MEMBERS_MAX => Ok(Self { members }),
            Ok(_) => {
                let detail = format!("must have at most {MEMBERS_MAX} members");
                Err(Problem::fault(Code::ValidationFailed, "", detail))
            }
            // Reading the whole text tells malformed JSON from JSON of the wrong kind.
            Err(error) if error.is_data() => {
                value(text)?;
                Err(Problem::fault(Code::ValidationFailed, "", "must be a JSON object"))
            }
            Err(error) => Err(refusal(&error, "must be a JSON object")),
        }
    }

    /// Takes the member. `null` counts as absent, and a name that appears more than once is a
    /// fault.
    pub(in crate::http) fn take(&mut self, name: &str, faults: &mut Faults) -> Option<Field<'a>> {
        self.take_value(name, faults).filter(|field| !field.is_null())
    }

    /// Takes a member that may be `null`.
    pub(in crate::http) fn take_value(
        &mut self,
        name: &str,
        faults: &mut Faults,
    ) -> Option<Field<'a>> {
        let place = self.members.iter().position(|(other, _)| other == name)?;
        let (own_name, value) = self.members.remove(place);
        let mut twice = false;
        self.members.retain(|(other, _)| {
            let same = other == name;
            twice |= same;
            !same
        });
        let field = Field { value, parent: String::new(), name: own_name };
        if twice {
            faults.add(field.pointer(), "appears more than once");
            return None;
        }
        Some(field)
    }

    /// True if the member is present and not `null`.
    pub(in crate::http) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(other, value)| other == name && value.get() != "null")
    }

    /// Takes a required member; absence and `null` are faults.
    pub(in crate::http) fn require(
        &mut self,
        name: &str,
        faults: &mut Faults,
    ) -> Option<Field<'a>> {
        if !self.has(name) {
            faults.add(pointer("", name), "is required");
        }
        self.take(name, faults)
    }

    /// Takes a required member that may be `null`; only absence is a fault.
    pub(in crate::http) fn require_value(
        &mut self,
        name: &str,
        faults: &mut Faults,
    ) -> Option<Field<'a>> {
        if !self.names().any(|other| other == name) {
            faults.add(pointer("", name), "is required");
        }
        self.take_value(name, faults)
    }

    /// Returns the names of the members that are not taken yet.
    pub(in crate::http) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(name, _)| &**name)
    }

    /// Returns the members that were not taken.
    pub(in crate::http) fn rest(self) -> impl Iterator<Item = (Cow<'a, str>, &'a RawValue)> {
        self.members.into_iter()
    }

    /// Reports each untaken member as unknown.
    pub(in crate::http) fn finish(self, faults: &mut Faults) {
        for (name, _) in self.members {
            faults.add(pointer("", &name), "unknown member; check its spelling, or leave it out");
        }
    }
}

/// The value of a member or an item, and its place in the body.
#[derive(Debug)]
pub(in crate::http) struct Field<'a> {
    pub(in crate::http) value: &'a RawValue,
    /// JSON Pointer of the object or array that contains the value.
    parent: String,
    name: Cow<'a, str>,
}

impl<'a> Field<'a> {
    /// Returns the JSON Pointer of the value (RFC 6901).
    pub(in crate::http) fn pointer(&self) -> String {
        pointer(&self.parent, &self.name)
    }

    /// Reads a string and resolves its escapes.
    pub(in crate::http) fn text(&self, faults: &mut Faults) -> Option<Cow<'a, str>> {
        let text = string(self.value);
        if text.is_none() {
            faults.add(self.pointer(), "must be a string");
        }
        text
    }

    /// Reads a string and parses the text as a `T`.
    pub(in crate::http) fn parse<T: std::str::FromStr<Err: fmt::Display>>(
        &self,
        faults: &mut Faults,
    ) -> Option<T> {
        let parsed = self.text(faults)?.parse::<T>();
        parsed.map_err(|error| faults.add(self.pointer(), error.to_string())).ok()
    }

    /// Reads `true` or `false`.
    pub(in crate::http) fn flag(&self, faults: &mut Faults) -> Option<bool> {
        match self.value.get() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                faults.add(self.pointer(), "must be true or false");
                None
            }
        }
    }

    /// True if the value is `null`.
    pub(in crate::http) fn is_null(&self) -> bool {
        self.value.get() == "null"
    }

    /// Reads a whole number in `range`.
    pub(in crate::http) fn number_in(
        &self,
        range: RangeInclusive<u64>,
        faults: &mut Faults,
    ) -> Option<u64> {
        let number = whole(self.value.get()).filter(|number| range.contains(number));
        if number.is_none() {
            faults.add(
                self.pointer(),
                format!("must be a whole number from {} to {}", range.start(), range.end()),
            );
        }
        number
    }

    /// Reads an array of whole numbers in `range`.
    pub(in crate::http) fn numbers<T: TryFrom<u64>>(
        &self,
        most: usize,
        range: RangeInclusive<u64>,
        faults: &mut Faults,
    ) -> Option<Vec<T>> {
        let items = self.items(most, "must be an array of whole numbers", faults)?;
        let numbers =
            items.iter().map(|item| item.number_in(range.clone(), faults)?.try_into().ok());
        // All items are read, so that every fault is named.
        let numbers: Vec<Option<T>> = numbers.collect();
        numbers.into_iter().collect()
    }

    /// Reads an array of strings and parses each string as a `T`.
    pub(in crate::http) fn list<T: std::str::FromStr<Err: fmt::Display>>(
        &self,
        most: usize,
        faults: &mut Faults,
    ) -> Option<Vec<T>> {
        let items = self.items(most, "must be an array of strings", faults)?;
        let parsed: Vec<T> = items.iter().filter_map(|item| item.parse::<T>(faults)).collect();
        (parsed.len() == items.len()).then_some(parsed)
    }

    /// Reads an array with at most `most` items; `rule` is the fault of any other value.
    fn items(
        &self,
        most: usize,
        rule: &'static str,
        faults: &mut Faults,
    ) -> Option<Vec<Field<'a>>> {
        let Ok(items) = array(self.value.get(), most) else {
            faults.add(self.pointer(), rule);
            return None;
        };
        if items.len() > most {
            faults.add(self.pointer(), format!("must have at most {most} items"));
            return None;
        }
        let parent = self.pointer();
        let item = |(place, value): (usize, &'a RawValue)| Field {
            value,
            parent: parent.clone(),
            name: place.to_string().into(),
        };
        Some(items.into_iter().enumerate().map(item).collect())
    }

    /// Returns the members of an object, repeated names included.
    pub(in crate::http) fn members(
        &self,
        faults: &mut Faults,
    ) -> Option<Vec<(Cow<'a, str>, &'a RawValue)>> {
        if let Ok(Members(members)) = serde_json::from_str::<Members<'a>>(self.value.get()) {
            return Some(members);
        }
        faults.add(self.pointer(), "must be an object");
        None
    }
}

/// True if the text has 1 to `characters_max` characters and no control character.
pub(in crate::http) fn is_printable(text: &str, characters_max: usize) -> bool {
    !text.is_empty()
        && text.chars().count() <= characters_max
        && !text.chars().any(char::is_control)
}

/// Checks that no character of a text for people hides its neighbors or turns them around.
///
/// # Errors
/// The broken rule.
pub(in crate::http) fn all_visible(text: &str) -> Result<(), String> {
    match text.chars().find(|c| is_invisible(*c)) {
        None => Ok(()),
        Some(c) => {
            Err(format!("must not have invisible characters such as U+{:04X}", u32::from(c)))
        }
    }
}

pub(in crate::http) fn printable_rule(characters_max: usize) -> String {
    format!("must be 1 to {characters_max} printable characters")
}

/// Returns the whole number of a JSON text. As for JSON Schema (Core, 4.2.3), `60.0` is `60`.
fn whole(json: &str) -> Option<u64> {
    let (number, zeros) = json.split_once('.').unwrap_or((json, ""));
    zeros.bytes().all(|zero| zero == b'0').then(|| number.parse().ok())?
}

/// Returns the text of a JSON string, borrowed if the string has no escapes.
pub(in crate::http) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if text.contains('\\') {
        serde_json::from_str::<String>(value.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(text))
    }
}

/// True if the JSON text is nested deeper than `DEPTH_MAX` levels.
pub(in crate::http) fn is_too_deep(json: &str) -> bool {
    // Counting all opening brackets is quick, and few texts have more than `DEPTH_MAX`. The count
    // of a chunk fits into one byte, so that the processor counts many bytes at once.
    let is_opening = |byte: &u8| u8::from(byte | 0x20 == b'{'); // `[` is `{` but for this bit
    let portions = json.as_bytes().chunks(u8::MAX.into());
    let opening: usize =
        portions.map(|portion| usize::from(portion.iter().map(is_opening).sum::<u8>())).sum();
    if opening <= DEPTH_MAX {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json.bytes() {
        if in_string {
            in_string = byte != b'"' || escaped;
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}

/// The members of an object, each value unparsed. The first `MEMBERS_MAX + 1` members are kept.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Reads<'a> {
            type Value = Members<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some(Name(name)) = map.next_key::<Name<'a>>()? {
                    let value = map.next_value::<&'a RawValue>()?;
                    if members.len() <= MEMBERS_MAX {
                        members.push((name, value));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reads(PhantomData))
    }
}

/// The name of a member, borrowed if the name has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Reads<'a> {
            type Value = Name<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Reads(PhantomData))
    }
}
