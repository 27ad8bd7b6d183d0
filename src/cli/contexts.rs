//! The file of contexts: servers with a name, each with its URL and a key, in the user's directory
//! for configuration. The file holds keys, so it is refused if other users can read it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Failure;
use super::target::Target;
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::io_words;
use crate::base::regular;
use crate::config::user_config_directory;

/// The mode of the file.
const MODE: u32 = 0o600;
/// The mode of its directory.
const DIRECTORY_MODE: u32 = 0o700;
/// The rights of other users, of which the file must have none.
const OF_OTHERS: u32 = 0o077;
/// Maximum number of characters of a name.
const NAME_CHARS_MAX: usize = 64;

/// The contexts of a user.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contexts {
    /// The name of the context that counts without an option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) current: Option<String>,
    #[serde(default)]
    pub(super) contexts: BTreeMap<String, Context>,
}

/// A server, and a key for it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Context {
    pub(super) url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
}

/// A context with its name.
pub(super) struct NamedContext {
    pub(super) name: String,
    pub(super) context: Context,
}

impl Context {
    /// The part of the key that is no secret, as the API shows it too.
    pub(super) fn key_prefix(&self) -> Option<&str> {
        let key = self.key.as_ref()?;
        let is_ours = key.starts_with("trg_") && key.split('_').count() == 4;
        key.rsplit_once('_').filter(|_| is_ours).map(|(prefix, _)| prefix)
    }
}

impl NamedContext {
    /// The context, as the source of a URL or a key in messages.
    pub(super) fn origin(&self) -> String {
        format!("the context {}", self.name)
    }

    /// The address of the server.
    pub(super) fn target(&self) -> Result<Target, Failure> {
        Target::parse(&self.context.url, &self.origin())
    }

    /// Replaces the key of the context in the file.
    pub(super) fn set_key(&self, key: &str) -> Result<(), Failure> {
        let mut contexts = Contexts::load()?;
        if let Some(context) = contexts.contexts.get_mut(&self.name) {
            context.key = Some(key.to_owned());
        }
        contexts.save().map_err(|failure| {
            let message = format!(
                "{}. So the context {} still has the key that was replaced",
                failure.message, self.name
            );
            Failure::new(failure.code, message)
        })
    }
}

impl Contexts {
    /// Loads the file. Without a file there are no contexts.
    ///
    /// # Errors
    /// The file cannot be read, other users can read it, or its content is not valid.
    pub(super) fn load() -> Result<Self, Failure> {
        let Some(path) = path() else { return Ok(Self::default()) };
        let refused = |why: &dyn std::fmt::Display| {
            Failure::new(ExitCode::Usage, format!("the contexts in {}: {why}", path.display()))
        };
        let mut file = match regular::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(refused(&io_words(&error))),
        };
        let mode = file.metadata().map_err(|error| refused(&io_words(&error)))?.permissions();
        if mode.mode() & OF_OTHERS != 0 {
            return Err(refused(&format_args!(
                "other users can read the file, which holds keys; run `chmod 600 {}`",
                path.display()
            )));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|error| refused(&io_words(&error)))?;
        // The library's error shows the line, which may hold a key.
        toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            refused(&format_args!("line {line} is not valid: {}", error.message()))
        })
    }

    /// Returns the context of this name.
    ///
    /// # Errors
    /// There is none; `origin` says who named it.
    pub(super) fn named(&self, name: &str, origin: &str) -> Result<NamedContext, Failure> {
        let found = self.contexts.get(name).cloned();
        let context = found.ok_or_else(|| {
            let known: Vec<_> = self.contexts.keys().map(String::as_str).collect();
            let known = match known.as_slice() {
                [] => "there are no contexts; `triggerd context add` makes one".to_owned(),
                known => format!("there are: {}", known.join(", ")),
            };
            Failure::new(ExitCode::Usage, format!("{origin}: there is no context {name}; {known}"))
        })?;
        Ok(NamedContext { name: name.to_owned(), context })
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written; the former one is still there then.
    pub(super) fn save(&self) -> Result<(), Failure> {
        let path = path().ok_or_else(|| {
            let message = "there is no place for contexts: neither XDG_CONFIG_HOME nor HOME is an \
                absolute path";
            Failure::new(ExitCode::Usage, message)
        })?;
        let text = toml::to_string(self).map_err(|error| Failure::new(ExitCode::Failed, error))?;
        replace(&path, text.as_bytes()).map_err(|error| {
            let (code, why) = (ExitCode::of_io(&error, ExitCode::Failed), io_words(&error));
            Failure::new(code, format!("{} cannot be written: {why}", path.display()))
        })
    }
}

/// Returns the path of the file.
pub(super) fn path() -> Option<PathBuf> {
    Some(user_config_directory()?.join("triggerd").join("contexts.toml"))
}

/// Puts a new file in the place of the old one. A symbolic link stays, and its target is replaced.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_absent| path.to_owned());
    let directory = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    let draft = path.with_extension(format!("toml.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&draft)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let replaced = written.and_then(|()| fs::rename(&draft, &path));
    if replaced.is_err() {
        // The first error is the one to report.
        drop(fs::remove_file(&draft));
    }
    replaced
}

/// Checks the name of a new context.
pub(super) fn context_name(text: &str) -> Result<String, &'static str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_short = (1..=NAME_CHARS_MAX).contains(&text.chars().count());
    if is_short && text.chars().all(is_name) && !text.starts_with('-') {
        Ok(text.to_owned())
    } else {
        Err("a name has up to 64 letters, digits and the characters - _ . and begins with no -")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_key_only_the_part_that_is_no_secret_is_shown() {
        let of = |key: &str| Context { url: String::new(), key: Some(key.to_owned()) };
        assert_eq!(of("trg_live_01abc_secret").key_prefix(), Some("trg_live_01abc"));
        for other in ["secret", "trg_secret", "a_b_c_d", "trg_live_a_b_secret", ""] {
            assert_eq!(of(other).key_prefix(), None, "{other}");
        }
    }

    #[test]
    fn a_name_is_safe_in_a_shell_and_in_a_table() {
        for (name, is_one) in [
            ("prod", true),
            ("eu-1.b_c", true),
            ("", false),
            ("-x", false),
            ("a b", false),
            ("é", false),
        ] {
            assert_eq!(context_name(name).is_ok(), is_one, "{name}");
        }
        assert!(context_name(&"a".repeat(65)).is_err());
    }
}
