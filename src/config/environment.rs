//! The only reader of the process's environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Prefix of every variable that sets a key: `TRIGGERD__SECTION__KEY`.
pub(super) const PREFIX: &str = "TRIGGERD";
/// Separator between prefix, section and key.
pub(super) const SEPARATOR: &str = "__";
/// The variable that arms failpoints. Despite its prefix it sets no key of the configuration, like
/// those of [`ClientVariable`] and the following lists.
const FAILPOINTS: &str = "TRIGGERD_FAILPOINTS";
/// Prefixes of the variables for tests and benchmarks.
const TESTS: [&str; 5] =
    ["TRIGGERD_BIN", "TRIGGERD_FUZZ_", "TRIGGERD_LAB_", "TRIGGERD_MODEL_", "TRIGGERD_TEST_"];
/// Prefixes of the variables that Kubernetes and Docker set in every container beside a service
/// called triggerd.
const SERVICE_LINKS: [&str; 3] =
    ["TRIGGERD_SERVICE_HOST", "TRIGGERD_SERVICE_PORT", "TRIGGERD_PORT"];

/// The variables that configure the server. Tests pass their own instead of changing the process's
/// environment.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub(super) variables: BTreeMap<String, String>,
    /// Names of variables whose value is not UTF-8.
    pub(super) not_text: Vec<String>,
    /// Names with triggerd's prefix but no meaning; somebody expects an effect of them.
    pub(super) strangers: Vec<String>,
}

impl Environment {
    /// Reads the `TRIGGERD__…` variables of this process.
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

/// The meaning of a variable for triggerd.
enum Kind {
    /// The variable sets a key of the configuration.
    Key,
    /// The variable has the prefix, but is unknown.
    Stranger,
    /// The variable belongs to a command or to another program.
    Foreign,
}

impl Kind {
    fn of(name: &str, value: Option<&str>) -> Self {
        let begins =
            name.get(..PREFIX.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(PREFIX));
        let ends = name
            .get(PREFIX.len()..)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()));
        let starts_with = |prefix: &&str| name.starts_with(*prefix);
        if !begins || !ends {
            Self::Foreign
        } else if name.starts_with(&format!("{PREFIX}{SEPARATOR}")) {
            Self::Key
        } else if is_of_commands(name)
            || TESTS.iter().any(starts_with)
            || is_service_link(name, value)
        {
            Self::Foreign
        } else {
            Self::Stranger
        }
    }
}

fn is_of_commands(name: &str) -> bool {
    name == FAILPOINTS || ClientVariable::ALL.iter().any(|variable| variable.name() == name)
}

/// True for variables such as `TRIGGERD_SERVICE_PORT_HTTP` and `TRIGGERD_PORT_8080_TCP_ADDR`, and
/// for `TRIGGERD_PORT` if its value is a URL.
fn is_service_link(name: &str, value: Option<&str>) -> bool {
    let is_link = SERVICE_LINKS.iter().any(|link| {
        name.strip_prefix(link).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    });
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

/// The stream through which systemd's journal reads the process's output, as `device:inode`;
/// systemd.exec(5).
pub fn journal_stream() -> Option<String> {
    std::env::var_os("JOURNAL_STREAM")?.into_string().ok()
}

/// The directory of the service's credentials (`LoadCredential=admin.token:…`), if systemd passes
/// credentials; systemd.exec(5).
pub fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The failpoints that a test arms with `TRIGGERD_FAILPOINTS`, separated by commas. Release builds
/// ignore the variable.
pub fn failpoints_from_environment() -> Option<String> {
    if cfg!(debug_assertions) { std::env::var_os(FAILPOINTS)?.into_string().ok() } else { None }
}

/// Variables for the commands of a client, which are no part of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
pub enum ClientVariable {
    /// The URL of the server.
    #[strum(serialize = "TRIGGERD_URL")]
    Url,
    /// The caller's API key, kept out of the process list in this way.
    #[strum(serialize = "TRIGGERD_API_KEY")]
    ApiKey,
    /// Path of the file with the admin token.
    #[strum(serialize = "TRIGGERD_ADMIN_TOKEN_FILE")]
    AdminTokenFile,
    /// The name of the context, which is a server with a key.
    #[strum(serialize = "TRIGGERD_CONTEXT")]
    Context,
}

crate::base::names::named!(ClientVariable);

/// The value of the variable, trimmed; none if the variable is unset or empty.
///
/// # Errors
/// If the value is not UTF-8.
pub fn client_variable(variable: ClientVariable) -> Result<Option<String>, String> {
    foreign_variable(variable.name())
}

/// The value of a variable that other programs read, too, trimmed; none if it is unset or empty.
pub(super) fn foreign_variable(name: &str) -> Result<Option<String>, String> {
    let Some(value) = std::env::var_os(name) else { return Ok(None) };
    let text = value.into_string().map_err(|_not_text| format!("{name} must be UTF-8 text"))?;
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}

/// The user's directory for configuration files (XDG Base Directory Specification); none without a
/// home directory.
pub fn user_config_directory() -> Option<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name).map(PathBuf::from).filter(|directory| directory.is_absolute())
    };
    absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))
}

/// True unless the environment asks for output without colours (<https://no-color.org>), or names a
/// terminal that has none.
pub fn allows_colours() -> bool {
    let is_asked_for_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let terminal = std::env::var_os("TERM").unwrap_or_else(|| "dumb".into());
    !is_asked_for_none && terminal != "dumb"
}
