//! If a member or a parameter may be absent, and what its absence and `null` mean.

use serde::Serialize;
use serde_json::Value;

use crate::http::error::{Faults, pointer};
use crate::http::input::declare::{Described, OfBody, OfQuery};
use crate::http::input::fields::Fields;
use crate::http::input::kinds::{Kind, TextKind};
use crate::http::input::query::Query;
use crate::http::openapi::schemas::{Schemas, described, or_null};

/// A member that must be there.
pub(in crate::http) struct Required<K> {
    name: &'static str,
    kind: K,
    alias: Option<&'static str>,
    /// True if `null` is a value, not the absence of the member.
    takes_null: bool,
}

/// A member that must be there. `null` counts as absent.
pub(in crate::http) fn required<K>(name: &'static str, kind: K) -> Required<K> {
    Required { name, kind, alias: None, takes_null: false }
}

/// A member that must be there and can be `null`.
pub(in crate::http) fn required_or_null<K>(name: &'static str, kind: K) -> Required<K> {
    Required { name, kind, alias: None, takes_null: true }
}

impl<K> Required<K> {
    /// Callers may use this name instead.
    pub(in crate::http) fn or_named(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    /// Returns the name by which the caller sent the member. Both names are a fault.
    fn sent_name(&self, fields: &mut Fields<'_>, faults: &mut Faults) -> Option<&'static str> {
        let Some(alias) = self.alias else { return Some(self.name) };
        match (fields.has(self.name), fields.has(alias)) {
            (true, true) => {
                fields.take(alias, faults);
                fields.take(self.name, faults);
                let detail = format!("repeats `{}`; send only one of them", self.name);
                faults.add(pointer("", alias), detail);
                None
            }
            (false, true) => {
                // This one may be `null`, which counts as absent.
                fields.take(self.name, faults);
                Some(alias)
            }
            (_, false) => {
                fields.take(alias, faults);
                Some(self.name)
            }
        }
    }
}

impl<'a, K: Kind<'a>> OfBody<'a> for Required<K> {
    type Value = Option<K::Value>;

    fn take(&self, fields: &mut Fields<'a>, faults: &mut Faults) -> Self::Value {
        let name = self.sent_name(fields, faults)?;
        let field = if self.takes_null {
            fields.require_value(name, faults)
        } else {
            fields.require(name, faults)
        };
        self.kind.read(&field?, faults)
    }

    fn describe(&self, words: &str, schemas: &mut Schemas) -> Vec<Described> {
        let mut schema = self.kind.schema(schemas);
        described(&mut schema, words);
        vec![Described { name: self.name, schema, is_required: true, alias: self.alias }]
    }
}

/// A member or a parameter that may be absent.
pub(in crate::http) struct Optional<K> {
    name: &'static str,
    kind: K,
}

/// A member or a parameter that may be absent. `null` counts as absent.
pub(in crate::http) fn optional<K>(name: &'static str, kind: K) -> Optional<K> {
    Optional { name, kind }
}

impl<K> Optional<K> {
    /// The value of an absent member.
    pub(in crate::http) fn or<V>(self, default: V) -> OrDefault<K, V> {
        OrDefault { optional: self, default }
    }

    fn described(&self, schema: Value) -> Vec<Described> {
        vec![Described { name: self.name, schema, is_required: false, alias: None }]
    }
}

impl<'a, K: Kind<'a>> OfBody<'a> for Optional<K> {
    type Value = Option<K::Value>;

    fn take(&self, fields: &mut Fields<'a>, faults: &mut Faults) -> Self::Value {
        self.kind.read(&fields.take(self.name, faults)?, faults)
    }

    fn describe(&self, words: &str, schemas: &mut Schemas) -> Vec<Described> {
        let mut schema = or_null(self.kind.schema(schemas));
        described(&mut schema, words);
        self.described(schema)
    }
}

impl<'a, K: TextKind<'a>> OfQuery<'a> for Optional<K> {
    type Value = Option<K::Value>;

    fn take(&self, query: &mut Query<'a>) -> Self::Value {
        query.take(self.name, |text| self.kind.parse(text))
    }

    fn describe(&self, words: &str, schemas: &mut Schemas) -> Vec<Described> {
        let mut schema = self.kind.schema(schemas);
        described(&mut schema, words);
        self.described(schema)
    }
}

/// A member or a parameter with a default.
pub(in crate::http) struct OrDefault<K, V> {
    optional: Optional<K>,
    default: V,
}

impl<K, V: Serialize> OrDefault<K, V> {
    fn with_default(&self, mut described: Vec<Described>) -> Vec<Described> {
        for Described { schema, .. } in &mut described {
            if let (Some(schema), Ok(default)) =
                (schema.as_object_mut(), serde_json::to_value(&self.default))
            {
                schema.insert("default".to_owned(), default);
            }
        }
        described
    }
}

impl<'a, V: Clone + Serialize, K: Kind<'a, Value = V>> OfBody<'a> for OrDefault<K, V> {
    type Value = V;

    fn take(&self, fields: &mut Fields<'a>, faults: &mut Faults) -> V {
        let given = OfBody::take(&self.optional, fields, faults);
        given.unwrap_or_else(|| self.default.clone())
    }

    fn describe(&self, words: &str, schemas: &mut Schemas) -> Vec<Described> {
        self.with_default(OfBody::describe(&self.optional, words, schemas))
    }
}

impl<'a, V: Clone + Serialize, K: TextKind<'a, Value = V>> OfQuery<'a> for OrDefault<K, V> {
    type Value = V;

    fn take(&self, query: &mut Query<'a>) -> V {
        let given = OfQuery::take(&self.optional, query);
        given.unwrap_or_else(|| self.default.clone())
    }

    fn describe(&self, words: &str, schemas: &mut Schemas) -> Vec<Described> {
        self.with_default(OfQuery::describe(&self.optional, words, schemas))
    }
}

/// A member that may be absent, and for which `null` is a value of its own.
pub(in crate::http) struct Nullable<K>(Optional<K>);

/// A member that may be absent, and for which `null` is a value of its own: `Some(None)`.
pub(in crate::http) fn nullable<K>(name: &'static str, kind: K) -> Nullable<K> {
    Nullable(optional(name, kind))
}

impl<'a, K: Kind<'a>> OfBody<'a> for Nullable<K> {
    type Value = Option<Option<K::Value>>;

    fn take(&self, fields: &mut Fields<'a>, faults: &mut Faults) -> Self::Value {
        let field = fields.take_value(self.0.name, faults)?;
        if field.is_null() { Some(None) } else { self.0.kind.read(&field, faults).map(Some) }
    }

    fn describe(&self, words: &str, schemas: &mut Schemas) -> Vec<Described> {
        OfBody::describe(&self.0, words, schemas)
    }
}
