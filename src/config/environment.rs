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

/// What the environment can tell a command that talks to a server. These are no part of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientVariable {
    /// Where the server is.
    Url,
    /// The caller's API key, so that it need not stand in the process list.
    ApiKey,
    /// The file with the admin token.
    AdminTokenFile,
}

impl ClientVariable {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Url, Self::ApiKey, Self::AdminTokenFile];

    /// The variable's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Url => "TRIGGERD_URL",
            Self::ApiKey => "TRIGGERD_API_KEY",
            Self::AdminTokenFile => "TRIGGERD_ADMIN_TOKEN_FILE",
        }
    }
}

/// What the variable says, without spaces around it; none if it is not set, or set to nothing.
///
/// # Errors
/// When its value is not UTF-8.
pub fn client_variable(variable: ClientVariable) -> Result<Option<String>, String> {
    let Some(value) = std::env::var_os(variable.name()) else { return Ok(None) };
    let text = value.into_string().map_err(|_not_text| format!("{} must be UTF-8 text", variable.name()))?;
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}
