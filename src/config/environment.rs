//! The process's environment: the only place that reads it.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What every variable of ours begins with: `TRIGGERD__SECTION__KEY`.
pub(super) const PREFIX: &str = "TRIGGERD";
/// What stands between prefix, section and key.
pub(super) const SEPARATOR: &str = "__";
/// Variables that begin like those of the configuration and are none, beside those of [`ClientVariable`]: what the negative
/// controls arm,
const SABOTAGE: &str = "TRIGGERD_SABOTAGE";
/// what tests and benchmarks read,
const TESTS: [&str; 5] = ["TRIGGERD_BIN", "TRIGGERD_FUZZ_", "TRIGGERD_LAB_", "TRIGGERD_MODEL_", "TRIGGERD_TEST_"];
/// and what Kubernetes and Docker tell every container of a service called triggerd.
const SERVICE_LINKS: [&str; 3] = ["TRIGGERD_SERVICE_HOST", "TRIGGERD_SERVICE_PORT", "TRIGGERD_PORT"];

/// The variables that configure the server. Tests make their own instead of changing the process's.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub(super) variables: BTreeMap<String, String>,
    /// Names of those whose value is not UTF-8.
    pub(super) not_text: Vec<String>,
    /// Names that begin like ours and mean nothing: somebody believes that they do.
    pub(super) strangers: Vec<String>,
}

impl Environment {
    /// The `TRIGGERD__…` variables of this process.
    pub fn of_process() -> Self {
        let mut environment = Self::default();
        for (name, value) in std::env::vars_os() {
            if let Ok(name) = name.into_string() {
                environment.add(name, value.into_string().ok());
            }
        }
        environment
    }

    fn add(&mut self, name: String, value: Option<String>) {
        match (Kind::of(&name, value.as_deref()), value) {
            (Kind::Key, Some(value)) => _ = self.variables.insert(name, value),
            (Kind::Key, None) => self.not_text.push(name),
            (Kind::Stranger, _) => self.strangers.push(name),
            (Kind::Foreign, _) => {}
        }
    }
}

/// What a variable is to us.
enum Kind {
    /// It sets a key of the configuration.
    Key,
    /// It begins like ours and is not known.
    Stranger,
    /// It is none of ours, or a command's.
    Foreign,
}

impl Kind {
    fn of(name: &str, value: Option<&str>) -> Self {
        let begins = name.get(..PREFIX.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(PREFIX));
        let ends = name.get(PREFIX.len()..).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()));
        let starts_with = |prefix: &&str| name.starts_with(*prefix);
        if !begins || !ends {
            Self::Foreign
        } else if name.starts_with(&format!("{PREFIX}{SEPARATOR}")) {
            Self::Key
        } else if is_of_commands(name) || TESTS.iter().any(starts_with) || is_service_link(name, value) {
            Self::Foreign
        } else {
            Self::Stranger
        }
    }
}

fn is_of_commands(name: &str) -> bool {
    name == SABOTAGE || ClientVariable::ALL.iter().any(|variable| variable.name() == name)
}

/// Such as `TRIGGERD_SERVICE_PORT_HTTP` and `TRIGGERD_PORT_8080_TCP_ADDR`; `TRIGGERD_PORT` is one only as a URL.
fn is_service_link(name: &str, value: Option<&str>) -> bool {
    let is_link = SERVICE_LINKS
        .iter()
        .any(|link| name.strip_prefix(link).is_some_and(|rest| rest.is_empty() || rest.starts_with('_')));
    is_link && (name != "TRIGGERD_PORT" || value.is_some_and(|value| value.contains("://")))
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        let mut environment = Self::default();
        for (name, value) in variables {
            environment.add(name.to_owned(), Some(value.to_owned()));
        }
        environment
    }
}

/// Which file systemd's journal reads what the process writes through, as `device:inode`; systemd.exec(5).
pub fn journal_stream() -> Option<String> {
    std::env::var_os("JOURNAL_STREAM")?.into_string().ok()
}

/// Where systemd puts the service's credentials (`LoadCredential=admin.token:…`), if it does; systemd.exec(5).
pub fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// What a test wants broken, if anything: `TRIGGERD_SABOTAGE`, names separated by commas. Builds for use don't look.
pub fn sabotage_from_environment() -> Option<String> {
    if cfg!(debug_assertions) { std::env::var_os(SABOTAGE)?.into_string().ok() } else { None }
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
