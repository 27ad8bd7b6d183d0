//! The members of a JSON object, read one by one, so that everything that is wrong can be named at once and what is kept
//! is kept byte for byte. One pass over the text, nothing copied but names and texts with escapes in them.
//!
//! Called by whatever reads a body. Knows no route.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::error::{Code, Faults, Problem, pointer};
use crate::base::library_errors::json_fault;
use crate::model::moment::Moment;
use crate::model::time::Timestamp;

/// Most members of an object that are looked at.
const MEMBERS_MAX: usize = 256;
/// Most bytes that a character of a text takes in JSON: two escapes, as in `\ud83d\ude00`.
pub(super) const CHAR_BYTES_MAX: usize = 12;
/// How deep values may be nested: what JSON parsers commonly take (serde_json's own limit).
const DEPTH_MAX: usize = 128;

/// The body as text, without the byte order mark that some put before it (RFC 8259, 8.1).
pub(super) fn text_of(body: &[u8]) -> Result<&str, Problem> {
    if body.trim_ascii().is_empty() {
        return Err(no_body());
    }
    let text = str::from_utf8(body).map_err(|error| {
        Problem::new(
            Code::MalformedJson,
            format!("the body is not UTF-8; the first wrong byte is at offset {}", error.valid_up_to()),
        )
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// What is said where a body is needed and there is none.
pub(super) fn no_body() -> Problem {
    let detail = "the request has no body, and this route needs a JSON body; announce it with \
                  Content-Length or Transfer-Encoding: chunked";
    Problem::new(Code::MalformedJson, detail)
}

/// Why text is refused as JSON.
fn refusal(error: &serde_json::Error, wanted: &'static str) -> Problem {
    if error.is_data() {
        Problem::fault(Code::ValidationFailed, "", wanted)
    } else {
        Problem::new(Code::MalformedJson, format!("the body is not JSON: {}", json_fault(error)))
    }
}

/// A single JSON value, whatever it is.
pub(super) fn value(text: &str) -> Result<&RawValue, Problem> {
    serde_json::from_str(text).map_err(|error| refusal(&error, "must be a JSON value"))
}

/// The items of an array, `most` and one more at most, so that too many are noticed.
pub(super) fn array(text: &str, most: usize) -> Result<Vec<&RawValue>, Problem> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = reader.deserialize_seq(Items(most.saturating_add(1))).and_then(|items| reader.end().map(|()| items));
    read.or_else(|error| {
        if error.is_data() {
            // Not JSON at all comes before the wrong kind of JSON; only the whole text tells.
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

/// An object's members in the order they came; each is taken once, what is left over is unknown.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Fields<'a> {
    /// Reads the body's text as an object.
    pub(super) fn read(text: &'a str) -> Result<Self, Problem> {
        let read = serde_json::from_str::<Members<'a>>(text);
        match read {
            Ok(Members(members)) if members.len() <= MEMBERS_MAX => Ok(Self { members }),
            Ok(_) => {
                let detail = format!("must have at most {MEMBERS_MAX} members");
                Err(Problem::fault(Code::ValidationFailed, "", detail))
            }
            // A wrong kind of JSON, or no JSON at all: reading it to its end tells.
            Err(error) if error.is_data() => {
                value(text)?;
                Err(Problem::fault(Code::ValidationFailed, "", "must be a JSON object"))
            }
            Err(error) => Err(refusal(&error, "must be a JSON object")),
        }
    }

    /// Takes the member; `null` is the same as its absence, and one that is there twice is a fault.
    pub(super) fn take(&mut self, name: &str, faults: &mut Faults) -> Option<Field<'a>> {
        self.take_value(name, faults).filter(|field| !field.is_null())
    }

    /// Takes `since` and `until`: from the one on, up to and without the other.
    pub(super) fn times(&mut self, now: Timestamp, faults: &mut Faults) -> (Option<Timestamp>, Option<Timestamp>) {
        let mut time = |name| self.take(name, faults)?.moment(now, faults);
        let (since, until) = (time("since"), time("until"));
        if let (Some(since), Some(until)) = (since, until)
            && until <= since
        {
            faults.add("/until", "must be later than since");
        }
        (since, until)
    }

    /// Takes a member that may be `null`.
    pub(super) fn take_value(&mut self, name: &str, faults: &mut Faults) -> Option<Field<'a>> {
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

    /// Whether the member is there, and not `null`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(other, value)| other == name && value.get() != "null")
    }

    /// Takes a member that has to be there.
    pub(super) fn require(&mut self, name: &str, faults: &mut Faults) -> Option<Field<'a>> {
        if !self.has(name) {
            faults.add(pointer("", name), "is required");
        }
        self.take(name, faults)
    }

    /// Takes a member that has to be there and may be `null`.
    pub(super) fn require_value(&mut self, name: &str, faults: &mut Faults) -> Option<Field<'a>> {
        if !self.names().any(|other| other == name) {
            faults.add(pointer("", name), "is required");
        }
        self.take_value(name, faults)
    }

    /// The names of the members that nobody took yet.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(name, _)| &**name)
    }

    /// The members nobody took.
    pub(super) fn rest(self) -> impl Iterator<Item = (Cow<'a, str>, &'a RawValue)> {
        self.members.into_iter()
    }

    /// Names everything that nobody took as unknown.
    pub(super) fn finish(self, faults: &mut Faults) {
        for (name, _) in self.members {
            faults.add(pointer("", &name), "unknown member");
        }
    }
}

/// One member's value and where it stands.
#[derive(Debug)]
pub(super) struct Field<'a> {
    pub(super) value: &'a RawValue,
    /// JSON Pointer of the object or list that it stands in.
    parent: String,
    name: Cow<'a, str>,
}

impl<'a> Field<'a> {
    /// Where it stands (RFC 6901). Made when something is wrong with it.
    pub(super) fn pointer(&self) -> String {
        pointer(&self.parent, &self.name)
    }

    /// A text.
    pub(super) fn text(&self, faults: &mut Faults) -> Option<Cow<'a, str>> {
        let text = string(self.value);
        if text.is_none() {
            faults.add(self.pointer(), "must be a string");
        }
        text
    }

    /// A text that parses to something.
    pub(super) fn parse<T: std::str::FromStr<Err: fmt::Display>>(&self, faults: &mut Faults) -> Option<T> {
        let parsed = self.text(faults)?.parse::<T>();
        parsed.map_err(|error| faults.add(self.pointer(), error.to_string())).ok()
    }

    /// A text that says what it is to be: between so many characters, none of them a control character.
    pub(super) fn printable(&self, characters_max: usize, faults: &mut Faults) -> Option<Cow<'a, str>> {
        let text = self.text(faults)?;
        if is_printable(&text, characters_max) {
            return Some(text);
        }
        faults.add(self.pointer(), printable_rule(characters_max));
        None
    }

    /// A time.
    pub(super) fn time(&self, faults: &mut Faults) -> Option<Timestamp> {
        self.parse(faults)
    }

    /// A time, or a duration back from now.
    pub(super) fn moment(&self, now: Timestamp, faults: &mut Faults) -> Option<Timestamp> {
        self.parse::<Moment>(faults).map(|moment| moment.from(now))
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, faults: &mut Faults) -> Option<bool> {
        match self.value.get() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                faults.add(self.pointer(), "must be true or false");
                None
            }
        }
    }

    /// Whether it is `null`.
    pub(super) fn is_null(&self) -> bool {
        self.value.get() == "null"
    }

    /// A whole number in a range.
    pub(super) fn number_in(&self, range: RangeInclusive<u64>, faults: &mut Faults) -> Option<u64> {
        let number = self.value.get().parse::<u64>().ok().filter(|number| range.contains(number));
        if number.is_none() {
            faults.add(self.pointer(), format!("must be a whole number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// A list of whole numbers in a range, or `null`, which is an empty one.
    pub(super) fn numbers<T: TryFrom<u64>>(
        &self,
        most: usize,
        range: RangeInclusive<u64>,
        faults: &mut Faults,
    ) -> Option<Vec<T>> {
        if self.is_null() {
            return Some(Vec::new());
        }
        let items = self.items(most, "must be an array of whole numbers", faults)?;
        let numbers = items.iter().map(|item| item.number_in(range.clone(), faults)?.try_into().ok());
        // All of them are looked at, so that every fault is named.
        let numbers: Vec<Option<T>> = numbers.collect();
        numbers.into_iter().collect()
    }

    /// A list of texts, each of which parses to something.
    pub(super) fn list<T: std::str::FromStr<Err: fmt::Display>>(
        &self,
        most: usize,
        faults: &mut Faults,
    ) -> Option<Vec<T>> {
        let items = self.items(most, "must be an array of strings", faults)?;
        let parsed: Vec<T> = items.iter().filter_map(|item| item.parse::<T>(faults)).collect();
        (parsed.len() == items.len()).then_some(parsed)
    }

    /// The items of a list.
    fn items(&self, most: usize, rule: &'static str, faults: &mut Faults) -> Option<Vec<Field<'a>>> {
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

    /// The members of an object.
    pub(super) fn members(&self, faults: &mut Faults) -> Option<Vec<(Cow<'a, str>, &'a RawValue)>> {
        if let Ok(Members(members)) = serde_json::from_str::<Members<'a>>(self.value.get()) {
            return Some(members);
        }
        faults.add(self.pointer(), "must be an object");
        None
    }
}

/// Whether the text has 1 to `characters_max` characters and none is a control character.
pub(super) fn is_printable(text: &str, characters_max: usize) -> bool {
    !text.is_empty() && text.chars().count() <= characters_max && !text.chars().any(char::is_control)
}

pub(super) fn printable_rule(characters_max: usize) -> String {
    format!("must be 1 to {characters_max} printable characters")
}

/// The text of a JSON string, borrowed if nothing in it is escaped.
pub(super) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if text.contains('\\') {
        serde_json::from_str::<String>(value.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(text))
    }
}

/// Whether a JSON text is nested deeper than parsers take.
pub(super) fn is_too_deep(json: &str) -> bool {
    // Counting all of them is quick, and seldom are there so many. A byte counts as far as a portion is long: so many are
    // counted at once.
    let is_opening = |byte: &u8| u8::from(byte | 0x20 == b'{'); // `[` is `{` but for this bit
    let portions = json.as_bytes().chunks(u8::MAX.into());
    let opening: usize = portions.map(|portion| usize::from(portion.iter().map(is_opening).sum::<u8>())).sum();
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

/// An object's members, each value left as it came. More than is looked at are counted, one too many is kept.
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

/// A member's name, borrowed if nothing in it is escaped.
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
