//! The kinds of members and parameters: how a value is read, and how the OpenAPI document describes
//! it. Each function makes one kind; `declare` gives a kind its name in a request.

use std::borrow::Cow;
use std::fmt::Display;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::http::error::{Faults, pointer};
use crate::http::input::cursor::{List, Place};
use crate::http::input::fields::{
    Field, all_visible, is_printable, is_too_deep, printable_rule, string,
};
use crate::http::openapi::schemas::{PRINTABLE, Schemas, VISIBLE};

/// A rule that a text breaks, in words.
pub(in crate::http) type Rule = Cow<'static, str>;

/// A kind of value in a body.
pub(in crate::http) trait Kind<'a> {
    type Value;

    /// Reads the value of a member. A wrong value is a fault.
    fn read(&self, field: &Field<'a>, faults: &mut Faults) -> Option<Self::Value>;

    /// Describes the value as JSON Schema.
    fn schema(&self, schemas: &mut Schemas) -> Value;
}

/// A kind that can be a parameter of a query.
pub(in crate::http) trait TextKind<'a>: Kind<'a> {
    /// Reads the text of a parameter.
    fn parse(&self, text: Cow<'a, str>) -> Result<Self::Value, Rule>;
}

/// A whole number.
pub(in crate::http) struct Number<T>(RangeInclusive<u64>, PhantomData<T>);

/// A whole number in `range`.
pub(in crate::http) fn number<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> Number<T> {
    Number(range, PhantomData)
}

fn number_schema(range: &RangeInclusive<u64>) -> Value {
    json!({"type": "integer", "format": "int64", "minimum": range.start(), "maximum": range.end()})
}

impl<'a, T: TryFrom<u64>> Kind<'a> for Number<T> {
    type Value = T;

    fn read(&self, field: &Field<'a>, faults: &mut Faults) -> Option<T> {
        field.number_in(self.0.clone(), faults)?.try_into().ok()
    }

    fn schema(&self, _: &mut Schemas) -> Value {
        number_schema(&self.0)
    }
}

impl<'a, T: TryFrom<u64>> TextKind<'a> for Number<T> {
    fn parse(&self, text: Cow<'a, str>) -> Result<T, Rule> {
        // `parse` alone would accept a plus sign.
        let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| is_digits && self.0.contains(number));
        number.and_then(|number| number.try_into().ok()).ok_or_else(|| {
            let (least, most) = (self.0.start(), self.0.end());
            format!("must be a whole number from {least} to {most}").into()
        })
    }
}

/// An array of whole numbers.
pub(in crate::http) struct Numbers<T>(usize, RangeInclusive<u64>, PhantomData<T>);

/// An array of at most `most` whole numbers in `range`.
pub(in crate::http) fn numbers<T: TryFrom<u64>>(
    most: usize,
    range: RangeInclusive<u64>,
) -> Numbers<T> {
    Numbers(most, range, PhantomData)
}

impl<'a, T: TryFrom<u64>> Kind<'a> for Numbers<T> {
    type Value = Vec<T>;

    fn read(&self, field: &Field<'a>, faults: &mut Faults) -> Option<Vec<T>> {
        field.numbers(self.0, self.1.clone(), faults)
    }

    fn schema(&self, _: &mut Schemas) -> Value {
        json!({"type": "array", "maxItems": self.0, "items": number_schema(&self.1)})
    }
}

/// `true` or `false`.
pub(in crate::http) struct Flag;

/// `true` or `false`.
pub(in crate::http) fn flag() -> Flag {
    Flag
}

impl<'a> Kind<'a> for Flag {
    type Value = bool;

    fn read(&self, field: &Field<'a>, faults: &mut Faults) -> Option<bool> {
        field.flag(faults)
    }

    fn schema(&self, _: &mut Schemas) -> Value {
        json!({"type": "boolean"})
    }
}

/// A text that `check` accepts; else it returns the broken rule.
pub(in crate::http) struct Text<C> {
    check: C,
    most: usize,
    schema: fn(usize) -> Value,
}

/// 1 to `most` printable characters.
pub(in crate::http) fn printable(most: usize) -> Text<impl Fn(&str) -> Result<(), Rule>> {
    let check = move |text: &str| -> Result<(), Rule> {
        if is_printable(text, most) { Ok(()) } else { Err(printable_rule(most).into()) }
    };
    let schema =
        |most| json!({"type": "string", "minLength": 1, "maxLength": most, "pattern": PRINTABLE});
    Text { check, most, schema }
}

/// A name for people: 1 to `most` printable characters, all of them visible.
pub(in crate::http) fn name(most: usize) -> Text<impl Fn(&str) -> Result<(), Rule>> {
    let check = move |text: &str| name_is_shown(text, most);
    let schema =
        |most| json!({"type": "string", "minLength": 1, "maxLength": most, "pattern": VISIBLE});
    Text { check, most, schema }
}

/// Checks what [`name`] accepts.
///
/// # Errors
/// The broken rule.
pub(in crate::http) fn name_is_shown(text: &str, most: usize) -> Result<(), Rule> {
    if !is_printable(text, most) {
        return Err(printable_rule(most).into());
    }
    Ok(all_visible(text)?)
}

/// A description for people: at most `most` characters, all of them visible.
pub(in crate::http) fn description(most: usize) -> Text<impl Fn(&str) -> Result<(), Rule>> {
    let check = move |text: &str| -> Result<(), Rule> {
        let is_short = text.chars().count() <= most;
        if !is_short {
            return Err(format!("must be at most {most} characters").into());
        }
        Ok(all_visible(text)?)
    };
    Text { check, most, schema: |most| json!({"type": "string", "maxLength": most}) }
}

/// At most `most` characters of any kind.
pub(in crate::http) fn text(most: usize) -> Text<impl Fn(&str) -> Result<(), Rule>> {
    let check = move |text: &str| -> Result<(), Rule> {
        let is_short = text.chars().count() <= most;
        if is_short { Ok(()) } else { Err(format!("must be at most {most} characters").into()) }
    };
    Text { check, most, schema: |most| json!({"type": "string", "maxLength": most}) }
}

/// A URL of at most `most` bytes. The URL parser ignores spaces and control characters, so such
/// characters are refused here.
pub(in crate::http) fn url(most: usize) -> Text<impl Fn(&str) -> Result<(), Rule>> {
    let check = move |text: &str| -> Result<(), Rule> {
        if text.len() > most {
            Err(format!("must be at most {most} bytes").into())
        } else if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            Err("must not have spaces or control characters".into())
        } else {
            Ok(())
        }
    };
    Text {
        check,
        most,
        schema: |most| json!({"type": "string", "format": "uri", "maxLength": most}),
    }
}

impl<'a, C: Fn(&str) -> Result<(), Rule>> Kind<'a> for Text<C> {
    type Value = String;

    fn read(&self, field: &Field<'a>, faults: &mut Faults) -> Option<String> {
        let text = self.parse(field.text(faults)?);
        text.map_err(|rule| faults.add(field.pointer(), rule)).ok()
    }

    fn schema(&self, _: &mut Schemas) -> Value {
        (self.schema)(self.most)
    }
}

impl<'a, C: Fn(&str) -> Result<(), Rule>> TextKind<'a> for Text<C> {
    fn parse(&self, text: Cow<'a, str>) -> Result<String, Rule> {
        (self.check)(&text).map(|()| text.into_owned())
    }
}

/// A text that is parsed as a `T`.
pub(in crate::http) struct Parsed<T>(PhantomData<T>);

/// A text that is parsed as a `T`, whose schema describes the text.
pub(in crate::http) fn parsed<T: FromStr<Err: Display> + ToSchema>() -> Parsed<T> {
    Parsed(PhantomData)
}

impl<'a, T: FromStr<Err: Display> + ToSchema> Kind<'a> for Parsed<T> {
    type Value = T;

    fn read(&self, field: &Field<'a>, faults: &mut Faults) -> Option<T> {
        field.parse(faults)
    }

    fn schema(&self, schemas: &mut Schemas) -> Value {
        schemas.of::<T>()
    }
}

impl<'a, T: FromStr<Err: Display> + ToSchema> TextKind<'a> for Parsed<T> {
    fn parse(&self, text: Cow<'a, str>) -> Result<T, Rule> {
        text.parse::<T>().map_err(|error| error.to_string().into())
    }
}

/// An array of texts.
pub(in crate::http) struct Texts<T>(RangeInclusive<usize>, PhantomData<T>);

/// An array of texts, each parsed as a `T`. Its length is in `length`, which begins at 0 or 1.
pub(in crate::http) fn list_of<T: FromStr<Err: Display> + ToSchema>(
    length: RangeInclusive<usize>,
) -> Texts<T> {
    Texts(length, PhantomData)
}

impl<'a, T: FromStr<Err: Display> + ToSchema> Kind<'a> for Texts<T> {
    type Value = Vec<T>;

    fn read(&self, field: &Field<'a>, faults: &mut Faults) -> Option<Vec<T>> {
        let items = field.list::<T>(*self.0.end(), faults)?;
        if items.len() < *self.0.start() {
            faults.add(field.pointer(), "must have at least one item");
        }
        Some(items)
    }

    fn schema(&self, schemas: &mut Schemas) -> Value {
        let items = schemas.of::<T>();
        let (least, most) = (self.0.start(), self.0.end());
        json!({"type": "array", "minItems": least, "maxItems": most, "items": items})
    }
}

/// An object whose values are texts.
pub(in crate::http) struct Pairs<C> {
    most: usize,
    check: C,
    schema: fn() -> Value,
}

/// An object of at most `most` members whose values are texts. `check` returns the name to keep,
/// or the broken rule; `schema` describes the names and the values.
pub(in crate::http) fn pairs<C: Fn(&str, &str) -> Result<String, Rule>>(
    most: usize,
    check: C,
    schema: fn() -> Value,
) -> Pairs<C> {
    Pairs { most, check, schema }
}

impl<'a, C: Fn(&str, &str) -> Result<String, Rule>> Kind<'a> for Pairs<C> {
    type Value = Vec<(String, String)>;

    fn read(&self, field: &Field<'a>, faults: &mut Faults) -> Option<Self::Value> {
        let members = field.members(faults)?;
        if members.len() > self.most {
            faults.add(field.pointer(), format!("must have at most {} members", self.most));
            return None;
        }
        let parent = field.pointer();
        let mut kept: Self::Value = Vec::with_capacity(members.len());
        for (name, value) in members {
            let at = pointer(&parent, &name);
            let Some(value) = string(value) else {
                faults.add(at, "must be a string");
                continue;
            };
            match (self.check)(&name, &value) {
                Err(rule) => faults.add(at, rule),
                Ok(name) if kept.iter().any(|(other, _)| *other == name) => {
                    faults.add(at, "appears more than once");
                }
                Ok(name) => kept.push((name, value.into_owned())),
            }
        }
        Some(kept)
    }

    fn schema(&self, _: &mut Schemas) -> Value {
        let mut schema = (self.schema)();
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("type".to_owned(), "object".into());
            schema.insert("maxProperties".to_owned(), self.most.into());
        }
        schema
    }
}

/// Checks a name and a value of at most `most` characters each, of which the name is printable.
pub(in crate::http) fn short_pair(name: &str, value: &str, most: usize) -> Result<String, Rule> {
    if !is_printable(name, most) {
        return Err(format!("the name {}", printable_rule(most)).into());
    }
    if value.chars().count() > most {
        return Err(format!("must be at most {most} characters").into());
    }
    Ok(name.to_owned())
}

/// Describes what [`short_pair`] accepts.
pub(in crate::http) fn short_pairs_schema(most: usize) -> Value {
    json!({
        "propertyNames": {"minLength": 1, "maxLength": most, "pattern": PRINTABLE},
        "additionalProperties": {"type": "string", "maxLength": most},
    })
}

/// Any JSON, kept byte for byte.
pub(in crate::http) struct RawJson;

/// Any JSON, kept byte for byte.
pub(in crate::http) fn raw_json() -> RawJson {
    RawJson
}

/// Returns the bytes of a JSON value, or the rule that the value breaks.
pub(in crate::http) fn bytes_of(value: &RawValue) -> Result<Box<[u8]>, &'static str> {
    if is_too_deep(value.get()) {
        return Err("is nested too deep; the limit is 128 levels");
    }
    Ok(value.get().as_bytes().into())
}

impl<'a> Kind<'a> for RawJson {
    type Value = Box<[u8]>;

    fn read(&self, field: &Field<'a>, faults: &mut Faults) -> Option<Box<[u8]>> {
        bytes_of(field.value).map_err(|rule| faults.add(field.pointer(), rule)).ok()
    }

    fn schema(&self, _: &mut Schemas) -> Value {
        json!({})
    }
}

/// An array whose items are read later, one by one.
pub(in crate::http) struct RawArray(fn(&mut Schemas) -> Value);

/// An array whose items are read later, one by one. `items` describes them.
pub(in crate::http) fn raw_array(items: fn(&mut Schemas) -> Value) -> RawArray {
    RawArray(items)
}

impl<'a> Kind<'a> for RawArray {
    type Value = &'a RawValue;

    fn read(&self, field: &Field<'a>, faults: &mut Faults) -> Option<&'a RawValue> {
        if !field.value.get().starts_with('[') {
            faults.add(field.pointer(), "must be an array");
        }
        Some(field.value)
    }

    fn schema(&self, schemas: &mut Schemas) -> Value {
        json!({"type": "array", "items": (self.0)(schemas)})
    }
}

/// The place of the last item of the page before, in a list.
pub(super) struct Cursor<P>(List, PhantomData<P>);

/// The place of the last item of the page before, in this list.
pub(super) fn cursor<P: Place>(list: List) -> Cursor<P> {
    Cursor(list, PhantomData)
}

impl<P: Place> Cursor<P> {
    pub(super) fn parse(&self, text: &str) -> Result<P, Rule> {
        self.0.place(text).map_err(|wrong| wrong.to_string().into())
    }
}
