//! How keys are declared. [`section!`] makes the struct of a section from the declarations of its
//! keys, and everything else that must know a key: the reader, the commented file, the reference,
//! and the reload. The functions in `kinds` make one declaration each.

use std::collections::BTreeMap;

use toml::Value;

use super::fault::Fault;
use super::shape::Shape;

/// The description of a key.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// The meaning, in lines of Markdown; an empty line begins a paragraph.
    pub(super) words: &'static [&'static str],
    /// The default in each section of the group.
    pub(super) defaults: Vec<Value>,
    pub(super) shape: Shape,
    /// The allowed values in words, such as `1 to 3600`; empty if the meaning tells them.
    pub(super) allowed: String,
    /// Keys of the same section that this key must not exceed.
    pub(super) bounds: Vec<Bound>,
    /// A text of the same section without which any value but the default has no effect.
    pub(super) needs: Option<&'static str>,
    /// True if the value must not be shown.
    pub(super) is_secret: bool,
    /// True if a running server applies the key when it reloads its configuration.
    pub(super) is_reloaded: bool,
}

/// Another key, whose value a key must not exceed.
pub(super) struct Bound {
    pub(super) key: &'static str,
    /// The value may be at most this part of the value of the other key.
    pub(super) part: Part,
    /// True if the bound does not apply while the other key is 0.
    pub(super) unless_zero: bool,
}

/// A part of the value of another key.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Whole,
    Eighth,
}

/// Sections with the same keys, and mostly a single section.
pub(super) struct Group {
    /// The names of the sections, such as `server`.
    pub(super) sections: Vec<String>,
    /// The purpose of the sections, in lines of Markdown.
    pub(super) words: &'static [&'static str],
    pub(super) keys: Vec<Key>,
}

/// The checked value of a key, or every fault of the given value.
pub(super) type Checked<T> = Result<T, Vec<String>>;

type Read<T> = Box<dyn Fn(&Given<'_>) -> Checked<T>>;

/// The declaration of a key whose checked value is a `T`.
pub(super) struct Declared<T> {
    pub(super) key: Key,
    /// Checks a value of the key's shape.
    pub(super) read: Read<T>,
    /// Turns a checked value into the TOML that [`Declared::read`] accepts.
    pub(super) show: fn(&T) -> Value,
}

impl<T> Declared<T> {
    /// Gives the key its meaning, and returns its description.
    pub(super) fn described(self, words: &'static [&'static str]) -> Key {
        Key { words, ..self.key }
    }

    /// The value must be at most the value of `key`, which is in the same section.
    pub(super) fn at_most(self, key: &'static str) -> Self {
        self.bounded(Bound { key, part: Part::Whole, unless_zero: false })
    }

    /// As [`Declared::at_most`], but only while the value of `key` is not 0.
    pub(super) fn at_most_unless_zero(self, key: &'static str) -> Self {
        self.bounded(Bound { key, part: Part::Whole, unless_zero: true })
    }

    /// The value must be at most an eighth of the value of `key`, which is in the same section.
    pub(super) fn at_most_an_eighth_of(self, key: &'static str) -> Self {
        self.bounded(Bound { key, part: Part::Eighth, unless_zero: false })
    }

    fn bounded(mut self, bound: Bound) -> Self {
        self.key.bounds.push(bound);
        self
    }

    /// Any value but the default needs a value of `key`, which is a text in the same section.
    pub(super) fn needs(mut self, key: &'static str) -> Self {
        self.key.needs = Some(key);
        self
    }

    /// A running server applies the key when it reloads its configuration.
    pub(super) fn reloaded(mut self) -> Self {
        self.key.is_reloaded = true;
        self
    }
}

/// A section of the configuration.
pub(super) trait Section: Sized {
    /// Describes the section that has this name.
    fn group(name: &str) -> Group;

    /// Checks all values of the section that has this name; none after a fault.
    fn read(name: &str, values: &mut Values) -> Option<Self>;

    /// Returns this section with all values of `new` that a running server applies.
    fn reloaded(&self, new: &Self) -> Self;
}

/// Every key with its value, and the faults.
pub(super) struct Values {
    /// Values of the right shape, not yet checked.
    pub(super) values: BTreeMap<String, Value>,
    pub(super) faults: Vec<Fault>,
}

impl Values {
    /// Checks the value of one key, and adds its faults.
    pub(super) fn read<T>(&mut self, section: &str, declared: &Declared<T>) -> Option<T> {
        let given = Given { section, key: &declared.key, values: &self.values };
        let (value, mut details) = match (declared.read)(&given) {
            Ok(value) => (Some(value), vec![]),
            Err(details) => (None, details),
        };
        details.extend(given.exceeded_bounds());
        details.extend(given.unmet_need());
        let key = join(section, declared.key.name);
        let fault = |detail| Fault { key: key.clone(), origin: String::new(), detail };
        self.faults.extend(details.into_iter().map(fault));
        value
    }
}

/// The value given for one key, beside the values of its section.
pub(super) struct Given<'a> {
    section: &'a str,
    key: &'a Key,
    values: &'a BTreeMap<String, Value>,
}

impl Given<'_> {
    /// The name of the key, without its section.
    pub(super) fn name(&self) -> &'static str {
        self.key.name
    }

    /// The value of the key.
    pub(super) fn value(&self) -> Option<&Value> {
        self.values.get(&join(self.section, self.key.name))
    }

    /// The whole number that is the value of a key in the same section.
    pub(super) fn number_of(&self, name: &str) -> Option<u64> {
        let value = self.values.get(&join(self.section, name))?;
        u64::try_from(value.as_integer()?).ok()
    }

    fn exceeded_bounds(&self) -> Vec<String> {
        let Some(value) = self.number_of(self.key.name) else { return vec![] };
        let fault = |bound: &Bound| {
            let limit = self.number_of(bound.key)?;
            let (part, is_exceeded) = match bound.part {
                Part::Whole => ("", value > limit && !(bound.unless_zero && limit == 0)),
                Part::Eighth => ("an eighth of ", value > limit / 8),
            };
            let other = join(self.section, bound.key);
            is_exceeded.then(|| format!("must be at most {part}{other} ({limit}), not {value}"))
        };
        self.key.bounds.iter().filter_map(fault).collect()
    }
}

impl Given<'_> {
    /// Describes the fault of a value that has no effect without that of another key.
    fn unmet_need(&self) -> Option<String> {
        let (value, needs) = (self.value()?, self.key.needs?);
        let of_other = self.values.get(&join(self.section, needs))?.as_str()?;
        let is_default = self.key.defaults.contains(value);
        (of_other.is_empty() && !is_default).then(|| {
            let section = self.section;
            format!("needs [{section}] {needs}, which is empty; name it, or leave this key out")
        })
    }
}

/// The full name of a key or section.
pub(super) fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// Makes the struct of a section from the declarations of its keys:
///
/// ```text
/// /// The purpose of the section.
/// pub struct Section {
///     /// The meaning of the key, for the code, the commented file and the reference.
///     field: Type = kind("name_in_the_file", default, range);
/// }
/// ```
macro_rules! section {
    (
        $(#[doc = $purpose:literal])+
        pub struct $Section:ident {
            $(
                $(#[doc = $words:literal])+
                $field:ident: $type:ty = $declared:expr;
            )+
        }
    ) => {
        $(#[doc = $purpose])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Section {
            $(
                $(#[doc = $words])+
                pub $field: $type,
            )+
        }

        impl $crate::config::declare::Section for $Section {
            fn group(name: &str) -> $crate::config::declare::Group {
                $crate::config::declare::Group {
                    sections: vec![name.to_owned()],
                    words: &[$($purpose),+],
                    keys: vec![$($declared.described(&[$($words),+])),+],
                }
            }

            fn read(name: &str, values: &mut $crate::config::declare::Values) -> Option<Self> {
                // All are read before the first that is missing ends this.
                let ($($field,)+) = ($(values.read(name, &$declared),)+);
                Some(Self { $($field: $field?),+ })
            }

            fn reloaded(&self, new: &Self) -> Self {
                let from = |is_reloaded| if is_reloaded { new } else { self };
                Self { $($field: from($declared.key.is_reloaded).$field.clone()),+ }
            }
        }

        impl ::serde::Serialize for $Section {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let shown = [$({
                    let declared: $crate::config::declare::Declared<$type> = $declared;
                    (declared.key.name, (declared.show)(&self.$field))
                }),+];
                serializer.collect_map(shown)
            }
        }
    };
}

pub(super) use section;
