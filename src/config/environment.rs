//! The process's environment: the only place that reads it.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What every variable of ours begins with: `TRIGGERD__SECTION__KEY`.
pub(super) const PREFIX: &str = "TRIGGERD";
/// What stands between prefix, section and key.
pub(super) const SEPARATOR: &str = "__";

/// The variables that configure the server. Tests make their own instead of changing the process's.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub(super) variables: BTreeMap<String, String>,
    /// Names of those whose value is not UTF-8.
    pub(super) not_text: Vec<String>,
}

impl Environment {
    /// The `TRIGGERD__…` variables of this process.
    pub fn of_process() -> Self {
        let mut environment = Self::default();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            if !name.starts_with(&format!("{PREFIX}{SEPARATOR}")) {
                continue;
            }
            match value.into_string() {
                Ok(value) => _ = environment.variables.insert(name, value),
                Err(_) => environment.not_text.push(name),
            }
        }
        environment
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { variables, not_text: Vec::new() }
    }
}

/// Where systemd puts the service's credentials (`LoadCredential=admin.token:…`), if it does; systemd.exec(5).
pub fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// What a test wants broken, if anything: `TRIGGERD_SABOTAGE`, names separated by commas. Builds for use don't look.
pub fn sabotage_from_environment() -> Option<String> {
    if cfg!(debug_assertions) { std::env::var_os("TRIGGERD_SABOTAGE")?.into_string().ok() } else { None }
}

/// The API key for commands that talk to a server: `TRIGGERD_API_KEY`, so that it need not stand in the process list.
pub fn api_key_from_environment() -> Option<String> {
    std::env::var_os("TRIGGERD_API_KEY").and_then(|key| key.into_string().ok()).filter(|key| !key.is_empty())
}
