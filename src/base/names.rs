//! Names of the variants of an enum. `strum` derives the names and finds a variant by its name;
//! here are the list and the name as every such enum shows them, and the error for a text that is
//! no name.

use strum::VariantArray;

/// Gives an enum the list `ALL`, in the order of its variants, and the method `name`. The enum
/// derives `strum::VariantArray` and `strum::IntoStaticStr`.
macro_rules! named {
    ($name:ident) => {
        impl $name {
            /// Every variant, in the order of the enum.
            pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

            /// Returns the variant's name, as users write and read it.
            pub fn name(self) -> &'static str {
                self.into()
            }
        }
    };
}
pub(crate) use named;

/// The error for a text that is not the name of a variant; it lists the names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be {0}")]
pub struct UnknownName(String);

impl UnknownName {
    /// Makes the error for a text that is not the name of an `E`.
    pub fn of<E: VariantArray + Copy + Into<&'static str> + 'static>(_text: &str) -> Self {
        Self::among(E::VARIANTS.iter().map(|variant| (*variant).into()))
    }

    /// Makes the error for a text that is none of these names.
    pub fn among(names: impl Iterator<Item = &'static str>) -> Self {
        let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
        Self(match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => names.concat(),
        })
    }
}
