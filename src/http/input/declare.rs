//! How bodies and query strings are declared. [`body!`] and [`query!`] make a struct from the
//! declarations of its members, and everything else that must know a member: the reader, which
//! names all faults at once, and the schema in the OpenAPI document. The functions in `presence` say if a
//! member may be absent, and the functions in `kinds` what its value is.

use std::marker::PhantomData;

use serde_json::{Map, Value, json};

use crate::http::error::{Faults, Problem, pointer};
use crate::http::input::fields::Fields;
use crate::http::input::query::Query;
use crate::http::openapi::schemas::{Schemas, described, or_null, unwrapped};

/// A member or a parameter as the OpenAPI document describes it.
pub(in crate::http) struct Described {
    pub(in crate::http) name: &'static str,
    pub(in crate::http) schema: Value,
    /// True if the member must be there.
    pub(in crate::http) is_required: bool,
    /// Another name for the same member.
    pub(in crate::http) alias: Option<&'static str>,
}

/// The declaration of one or several members of a body.
pub(in crate::http) trait OfBody<'a> {
    type Value;

    fn take(&self, fields: &mut Fields<'a>, faults: &mut Faults) -> Self::Value;

    /// Describes the members; `words` is the meaning of a single member.
    fn describe(&self, words: &str, schemas: &mut Schemas) -> Vec<Described>;
}

/// The declaration of one or several parameters of a query.
pub(in crate::http) trait OfQuery<'a> {
    type Value;

    fn take(&self, query: &mut Query<'a>) -> Self::Value;

    /// Describes the parameters; `words` is the meaning of a single parameter.
    fn describe(&self, words: &str, schemas: &mut Schemas) -> Vec<Described>;
}

/// A body whose members are declared.
pub(in crate::http) trait Body<'a>: Sized {
    const NAME: &'static str;
    const WORDS: &'static str;

    /// Takes the declared members. A required member is `None` only beside a fault.
    fn take(fields: &mut Fields<'a>, faults: &mut Faults) -> Self;

    /// Describes the members.
    fn members(schemas: &mut Schemas) -> Vec<Described>;

    /// Reads the text of a body, in which these optional members are required too. Rules between
    /// members are checked before [`Draft::finish`].
    fn draft(text: &'a str, required: &[&'static str]) -> Result<Draft<'a, Self>, Problem> {
        Ok(Self::draft_of(Fields::read(text)?, required))
    }

    /// Reads the members of a body, as [`Body::draft`] does.
    fn draft_of(mut fields: Fields<'a>, required: &[&'static str]) -> Draft<'a, Self> {
        let mut faults = Faults::default();
        for name in required.iter().filter(|name| !fields.has(name)) {
            faults.add(pointer("", name), "is required");
        }
        let body = Self::take(&mut fields, &mut faults);
        Draft { body, fields, faults }
    }

    /// Reads the text of a body.
    fn read(text: &'a str) -> Result<Self, Problem> {
        Self::draft(text, &[])?.finish()
    }
}

/// A body that is read, with its faults so far.
pub(in crate::http) struct Draft<'a, B> {
    pub(in crate::http) body: B,
    /// The members that are not declared.
    pub(in crate::http) fields: Fields<'a>,
    pub(in crate::http) faults: Faults,
}

impl<B> Draft<'_, B> {
    /// Returns the body, if it has no faults and no unknown members.
    pub(in crate::http) fn finish(mut self) -> Result<B, Problem> {
        self.fields.finish(&mut self.faults);
        self.faults.into_result().map(|()| self.body)
    }
}

/// A query string whose parameters are declared.
pub(in crate::http) trait Parameters<'a>: Sized {
    /// Takes the declared parameters.
    fn take(query: &mut Query<'a>) -> Self;

    /// Describes the parameters.
    fn describe(schemas: &mut Schemas) -> Vec<Described>;

    /// Reads a query string. Rules between parameters are checked before [`Query::finish`].
    fn draft(text: &'a str) -> (Self, Query<'a>) {
        let mut query = Query::read(text);
        (Self::take(&mut query), query)
    }

    /// Reads a query string.
    fn read(text: &'a str) -> Result<Self, Problem> {
        let (parameters, query) = Self::draft(text);
        query.finish().map(|()| parameters)
    }
}

/// Returns the schema of an object that has this member, and not as `null`.
pub(in crate::http) fn present(name: &str) -> Value {
    json!({"required": [name], "properties": {name: {"not": {"type": "null"}}}})
}

/// Returns the schema of a body in which these optional members are required too.
pub(in crate::http) fn schema_requiring<'a, B: Body<'a>>(
    schemas: &mut Schemas,
    also_required: &[&'static str],
) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    let (mut choices, mut conditions) = (Vec::new(), Vec::new());
    for Described { name, schema, is_required, alias } in B::members(schemas) {
        if let Some(alias) = alias {
            let mut same = schema.clone();
            described(&mut same, &format!("Another name for `{name}`."));
            properties.insert(alias.to_owned(), or_null(same));
            properties.insert(name.to_owned(), or_null(schema));
            choices = vec![present(name), present(alias)];
            continue;
        }
        if is_required {
            required.push(json!(name));
        } else if also_required.contains(&name) {
            conditions.push(present(name));
        }
        properties.insert(name.to_owned(), schema);
    }
    let mut schema = json!({"type": "object", "description": unwrapped(B::WORDS),
        "properties": properties, "additionalProperties": false});
    if let Some(schema) = schema.as_object_mut() {
        if !required.is_empty() {
            schema.insert("required".to_owned(), required.into());
        }
        if !choices.is_empty() {
            schema.insert("oneOf".to_owned(), choices.into());
        }
        if !conditions.is_empty() {
            schema.insert("allOf".to_owned(), conditions.into());
        }
    }
    schema
}

/// Returns the schema of a body, as a reference to its component.
pub(in crate::http) fn body_schema<'a, B: Body<'a>>(schemas: &mut Schemas) -> Value {
    schemas.component(B::NAME, |schemas| schema_requiring::<B>(schemas, &[]))
}

/// The members of another body, which are members of this body too.
pub(in crate::http) struct MembersOf<B>(PhantomData<B>);

/// The members of the body `B`, which are members of this body too.
pub(in crate::http) fn members_of<B>() -> MembersOf<B> {
    MembersOf(PhantomData)
}

impl<'a, B: Body<'a>> OfBody<'a> for MembersOf<B> {
    type Value = B;

    fn take(&self, fields: &mut Fields<'a>, faults: &mut Faults) -> B {
        B::take(fields, faults)
    }

    fn describe(&self, _: &str, schemas: &mut Schemas) -> Vec<Described> {
        B::members(schemas)
    }
}

/// Returns the declaration, whose value has the type `V`.
pub(in crate::http) fn of_body<'a, V, D: OfBody<'a, Value = V>>(declared: &D) -> &D {
    declared
}

/// Returns the declaration, whose value has the type `V`.
pub(in crate::http) fn of_query<'a, V, D: OfQuery<'a, Value = V>>(declared: &D) -> &D {
    declared
}

// ---- macros -----------------------------------------------------------------------------------

/// Makes the struct of a body from the declarations of its members:
///
/// ```text
/// /// The meaning of the body.
/// struct Rotation {
///     /// The meaning of the member, for the code and the OpenAPI document.
///     grace_s: u64 = optional("grace_seconds", number(0..=604_800)).or(86_400);
/// }
/// ```
macro_rules! body {
    (
        $(#[doc = $words:literal])+
        $vis:vis struct $Name:ident<$life:lifetime> { $($members:tt)+ }
    ) => {
        $crate::http::input::declare::body! {
            @of [$life] [<$life>] [$($words)+] [$vis] $Name { $($members)+ }
        }
    };
    (
        $(#[doc = $words:literal])+
        $vis:vis struct $Name:ident { $($members:tt)+ }
    ) => {
        $crate::http::input::declare::body! {
            @of ['text] [] [$($words)+] [$vis] $Name { $($members)+ }
        }
    };
    (
        @of [$life:lifetime] [$($generics:tt)*] [$($words:literal)+] [$vis:vis] $Name:ident {
            $(
                $(#[doc = $meaning:literal])+
                $field:ident: $type:ty = $declared:expr;
            )+
        }
    ) => {
        $(#[doc = $words])+
        $vis struct $Name $($generics)* {
            $(
                $(#[doc = $meaning])+
                $vis $field: $type,
            )+
        }

        impl<$life> $crate::http::input::declare::Body<$life> for $Name $($generics)* {
            const NAME: &'static str = stringify!($Name);
            const WORDS: &'static str = concat!($($words, "\n"),+);

            fn take(
                fields: &mut $crate::http::input::fields::Fields<$life>,
                faults: &mut $crate::http::error::Faults,
            ) -> Self {
                Self {
                    $($field: $crate::http::input::declare::OfBody::<$life>::take(
                        &$declared, fields, faults,
                    ),)+
                }
            }

            fn members(
                schemas: &mut $crate::http::openapi::schemas::Schemas,
            ) -> Vec<$crate::http::input::declare::Described> {
                let mut all = Vec::new();
                $(all.extend($crate::http::input::declare::OfBody::<$life>::describe(
                    $crate::http::input::declare::of_body::<$type, _>(&$declared),
                    concat!($($meaning, "\n"),+),
                    schemas,
                ));)+
                all
            }
        }
    };
}

/// Makes the struct of a query string from the declarations of its parameters, in the form of
/// [`body!`].
macro_rules! query {
    (
        $(#[doc = $words:literal])+
        $vis:vis struct $Name:ident {
            $(
                $(#[doc = $meaning:literal])+
                $field:ident: $type:ty = $declared:expr;
            )+
        }
    ) => {
        $(#[doc = $words])+
        $vis struct $Name {
            $(
                $(#[doc = $meaning])+
                $vis $field: $type,
            )+
        }

        impl<'text> $crate::http::input::declare::Parameters<'text> for $Name {
            fn take(query: &mut $crate::http::input::query::Query<'text>) -> Self {
                Self {
                    $($field: $crate::http::input::declare::OfQuery::<'text>::take(
                        &$declared, query,
                    ),)+
                }
            }

            fn describe(
                schemas: &mut $crate::http::openapi::schemas::Schemas,
            ) -> Vec<$crate::http::input::declare::Described> {
                let mut all = Vec::new();
                $(all.extend($crate::http::input::declare::OfQuery::<'text>::describe(
                    $crate::http::input::declare::of_query::<$type, _>(&$declared),
                    concat!($($meaning, "\n"),+),
                    schemas,
                ));)+
                all
            }
        }
    };
}

pub(in crate::http) use {body, query};
