//! Names of the variants of an enum. `strum` derives the names and finds a variant by its name;
//! this is the error for a text that is no name.

use strum::VariantArray;

/// The error for a text that is not the name of a variant; it lists the names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be {0}")]
pub struct UnknownName(String);

impl UnknownName {
    /// Makes the error for a text that is not the name of an `E`.
    pub fn of<E: VariantArray + Copy + Into<&'static str> + 'static>(_text: &str) -> Self {
        let name = |variant: &E| format!("`{}`", (*variant).into());
        let names: Vec<_> = E::VARIANTS.iter().map(name).collect();
        Self(match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => names.concat(),
        })
    }
}
