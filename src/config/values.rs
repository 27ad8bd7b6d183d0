//! Types of values that only the configuration has.

use std::fmt;

use strum::{EnumString, IntoStaticStr};
use zeroize::Zeroize;

/// The operator's token. Only [`AdminToken::reveal`] shows the text, which is wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    /// Makes a token of this text, which the caller has checked.
    pub fn new(token: String) -> Self {
        Self(token)
    }

    /// The token in clear, for a comparison in constant time.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

impl Drop for AdminToken {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON anywhere else.
    Auto,
    /// One JSON object for each line.
    Json,
    /// Text for people to read.
    Text,
}
