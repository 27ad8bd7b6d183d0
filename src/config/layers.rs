//! Lays the file and the environment over the defaults. The declared keys name every key and its
//! shape; unknown keys and values of another shape are found here, so that all faults are found and
//! not only the first.

use std::collections::BTreeMap;
use std::path::Path;

use config::{FileFormat, Format, Map, Source as _, Value, ValueKind};

use toml::de::{DeTable, DeValue};

use super::declare::{Group, Values, join};
use super::environment::{ClientVariable, Environment, PREFIX, SEPARATOR};
use super::fault::{ConfigError, Fault};
use super::shape::{self, Shape};
use super::suggest;

/// All layers, merged into one.
pub(super) struct Merged {
    /// The merged values, and the faults so far. A key with a fault has its default.
    pub(super) values: Values,
    /// The source of each key that the defaults do not set.
    pub(super) origins: BTreeMap<String, String>,
    /// Names of the environment variables that set a key.
    pub(super) variables: Vec<String>,
}

/// Lays the file (with its text) and the environment over the defaults of the declared keys.
pub(super) fn merged(
    groups: Vec<Group>,
    file: Option<(&Path, &str)>,
    environment: &Environment,
) -> Result<Merged, ConfigError> {
    let mut layers = Layers::of_defaults(groups);
    if let Some((path, text)) = file {
        let table = parse(path, text)?;
        layers.lines = lines(text);
        layers.add_table("", table, &path.display().to_string());
        layers.lines.clear();
    }
    let variables = layers.add_environment(environment);
    let Layers { values, origins, faults, .. } = layers;
    Ok(Merged { values: Values { values, faults }, origins, variables })
}

struct Layers {
    known: BTreeMap<String, Known>,
    values: BTreeMap<String, toml::Value>,
    origins: BTreeMap<String, String>,
    /// The line of each key and section in the file that is read.
    lines: BTreeMap<String, usize>,
    faults: Vec<Fault>,
}

/// A declared key.
#[derive(Clone, Copy)]
struct Known {
    shape: Shape,
    is_secret: bool,
}

impl Layers {
    fn of_defaults(groups: Vec<Group>) -> Self {
        let (mut known, mut values) = (BTreeMap::new(), BTreeMap::new());
        for Group { sections, keys, .. } in groups {
            for key in keys {
                for (section, default) in sections.iter().zip(key.defaults) {
                    let name = join(section, key.name);
                    known
                        .insert(name.clone(), Known { shape: key.shape, is_secret: key.is_secret });
                    values.insert(name, default);
                }
            }
        }
        Self { known, values, origins: BTreeMap::new(), lines: BTreeMap::new(), faults: vec![] }
    }

    fn add_table(&mut self, section: &str, table: Map<String, Value>, origin: &str) {
        // Sorted, so that faults come in the same order every time.
        for (name, value) in table.into_iter().collect::<BTreeMap<_, _>>() {
            let key = join(section, &name);
            let is_name = !name.contains('.');
            match value.kind {
                ValueKind::Table(table) if self.is_section(&key) && is_name => {
                    self.add_table(&key, table, origin);
                }
                ValueKind::Array(_) if self.is_section(&key) && is_name => {
                    self.fault(&key, origin, format!("must be a section, [{key}], not a list"));
                }
                _ if self.is_section(&key) && is_name => {
                    self.fault(&key, origin, "must be a section with keys, not a value".into());
                }
                kind if let Some(known) = self.known(&key)
                    && is_name =>
                {
                    self.set(key, known, &kind, origin);
                }
                _ if !is_name => {
                    let detail = "unknown key; in quotes, the dot is a part of the name; write \
                        the key without quotes";
                    self.fault(&key, origin, detail.to_owned());
                }
                ValueKind::Table(_) => {
                    self.fault(&key, origin, suggest::unknown_section(&key, &self.names()));
                }
                _ => self.unknown(&key, origin),
            }
        }
    }

    /// Adds the environment, and returns the names of the variables that set a key.
    fn add_environment(&mut self, environment: &Environment) -> Vec<String> {
        for name in &environment.not_text {
            self.fault(&key_of(name), name, "must be UTF-8 text".into());
        }
        for name in &environment.strangers {
            self.stranger(name);
        }
        let names: BTreeMap<_, _> =
            environment.variables.keys().map(|name| (key_of(name), name.clone())).collect();
        let source = config::Environment::with_prefix(PREFIX)
            .prefix_separator(SEPARATOR)
            .separator(SEPARATOR)
            .source(Some(environment.variables.clone().into_iter().collect()));
        // This fails only on text that is not Unicode, and a map of strings has none.
        let table = source.collect().unwrap_or_default();
        let mut used = Vec::new();
        for (key, value) in table.into_iter().collect::<BTreeMap<_, _>>() {
            let origin = names.get(&key).cloned().unwrap_or_else(|| key.clone());
            if let Some(known) = self.known(&key) {
                let kind = match value.kind {
                    ValueKind::String(text) => known.shape.of_variable(&text),
                    other => other,
                };
                self.set(key, known, &kind, &origin);
                used.push(origin);
            } else if self.is_section(&key) {
                self.fault(&key, &origin, "is a section; name a key of the section".into());
            } else {
                self.unknown(&key, &origin);
            }
        }
        used.sort();
        used
    }

    fn known(&self, key: &str) -> Option<Known> {
        self.known.get(key).copied()
    }

    fn set(&mut self, key: String, known: Known, given: &ValueKind, origin: &str) {
        if let Some(value) = known.shape.fitting(given) {
            self.origins.insert(key.clone(), self.with_line(&key, origin));
            self.values.insert(key, value);
            return;
        }
        let shape = known.shape.name();
        let detail = if known.is_secret {
            format!("must be {shape}, not a value that is not shown")
        } else {
            let write = shape::respelled(&key, known.shape, given)
                .map(|right| format!("; write {right}"))
                .unwrap_or_default();
            format!("must be {shape}, not {}{write}", shape::shown(given))
        };
        self.fault(&key, origin, detail);
    }

    fn unknown(&mut self, key: &str, origin: &str) {
        self.fault(key, origin, suggest::unknown_key(key, &self.names()));
    }

    fn names(&self) -> Vec<&str> {
        self.known.keys().map(String::as_str).collect()
    }

    /// Adds the fault of a variable with triggerd's prefix and an unknown name.
    fn stranger(&mut self, name: &str) {
        let wanted = suggest::plain(name.get(PREFIX.len()..).unwrap_or_default());
        let of_keys = self.known.keys().find(|known| suggest::plain(known) == wanted);
        let last = |known: &&String| {
            known.rsplit('.').next().is_some_and(|last| suggest::plain(last) == wanted)
        };
        let of_keys = of_keys.or_else(|| self.known.keys().find(last)).map(String::as_str);
        let rest = |name: &'static str| name.get(PREFIX.len()..).unwrap_or(name);
        let of_commands = || {
            let near = suggest::nearest(
                &wanted,
                ClientVariable::ALL.iter().map(|variable| rest(variable.name())),
            )?;
            Some(format!("{PREFIX}{near}"))
        };
        let near =
            || suggest::nearest(&wanted, self.known.keys().map(String::as_str)).map(variable_of);
        let detail = match of_keys.map(variable_of).or_else(near).or_else(of_commands) {
            Some(meant) => {
                format!("this environment variable is unknown; did you mean {meant}?")
            }
            None => {
                format!(
                    "this environment variable is unknown; keys are \
                     {PREFIX}{SEPARATOR}SECTION{SEPARATOR}KEY"
                )
            }
        };
        // The key is the name of the variable, so the origin would repeat it.
        self.faults.push(Fault { key: name.to_owned(), origin: String::new(), detail });
    }

    fn fault(&mut self, key: &str, origin: &str, detail: String) {
        let origin = self.with_line(key, origin);
        self.faults.push(Fault { key: key.to_owned(), origin, detail });
    }

    fn with_line(&self, key: &str, origin: &str) -> String {
        self.lines
            .get(key)
            .map_or_else(|| origin.to_owned(), |line| format!("{origin}, line {line}"))
    }

    fn is_section(&self, key: &str) -> bool {
        !key.is_empty()
            && self
                .known
                .keys()
                .any(|known| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
    }
}

fn parse(path: &Path, text: &str) -> Result<Map<String, Value>, ConfigError> {
    FileFormat::Toml.parse(None, text).map_err(|error| {
        // The parser does not say which number it cannot hold.
        let faults = too_large(text, path);
        if !faults.is_empty() {
            return ConfigError::Faults(faults);
        }
        let detail = without_excerpt(&error.to_string());
        ConfigError::Syntax { path: path.to_owned(), detail }
    })
}

/// Returns a fault for each whole number of more than 64 bits. It does not show the number, because
/// the value may be a secret.
fn too_large(text: &str, path: &Path) -> Vec<Fault> {
    fn walk(key: &str, value: &DeValue<'_>, found: &mut Vec<String>) {
        match value {
            DeValue::Integer(number)
                if i64::from_str_radix(number.as_str(), number.radix()).is_err() =>
            {
                found.push(key.to_owned());
            }
            DeValue::Array(items) => items.iter().for_each(|it| walk(key, it.get_ref(), found)),
            DeValue::Table(table) => {
                table.iter().for_each(|(name, value)| {
                    walk(&join(key, name.get_ref()), value.get_ref(), found);
                });
            }
            _ => {}
        }
    }
    let (mut found, lines) = (Vec::new(), lines(text));
    if let Ok(table) = DeTable::parse(text) {
        walk("", &DeValue::Table(table.into_inner()), &mut found);
    }
    let fault = |key: String| {
        let line = lines.get(&key).map_or(String::new(), |line| format!(" line {line}"));
        let origin = format!("{}{line}", path.display());
        Fault { key, origin, detail: "the number is too large".to_owned() }
    };
    found.into_iter().map(fault).collect()
}

/// Removes the quoted line of the file from the parser's message, because the line may hold the
/// admin token.
fn without_excerpt(message: &str) -> String {
    let is_excerpt = |line: &str| {
        line.split_once('|')
            .is_some_and(|(margin, _)| margin.trim().bytes().all(|byte| byte.is_ascii_digit()))
    };
    let said = message.lines().filter(|line| !is_excerpt(line)).collect::<Vec<_>>().join(": ");
    said.trim_start_matches("TOML parse error at ").to_owned()
}

/// The line of each key and each section.
fn lines(text: &str) -> BTreeMap<String, usize> {
    fn walk(
        section: &str,
        table: &DeTable<'_>,
        line: &dyn Fn(usize) -> usize,
        into: &mut BTreeMap<String, usize>,
    ) {
        for (name, value) in table {
            let key = join(section, name.get_ref());
            into.insert(key.clone(), line(name.span().start));
            if let Some(table) = value.get_ref().as_table() {
                walk(&key, table, line, into);
            }
        }
    }
    let line = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    let mut found = BTreeMap::new();
    if let Ok(table) = DeTable::parse(text) {
        walk("", table.get_ref(), &line, &mut found);
    }
    found
}

/// The variable of a key: `server.listen` → `TRIGGERD__SERVER__LISTEN`.
fn variable_of(key: &str) -> String {
    format!("{PREFIX}{SEPARATOR}{}", key.to_uppercase().replace('.', SEPARATOR))
}

/// The key of a variable: `TRIGGERD__SERVER__LISTEN` → `server.listen`, as the config crate
/// converts it.
fn key_of(variable: &str) -> String {
    let lower = variable.to_lowercase();
    let prefix = format!("{PREFIX}{SEPARATOR}").to_lowercase();
    lower.strip_prefix(&prefix).unwrap_or(&lower).replace(SEPARATOR, ".")
}
