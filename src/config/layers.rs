//! Lays the file and the environment over the defaults. The defaults name every key and show its
//! shape; given values are checked against them here, before serde sees them, so that all faults
//! are found and not only the first.

use std::collections::BTreeMap;
use std::path::Path;

use config::{FileFormat, Format, Map, Source as _, Value, ValueKind};

use super::environment::{ClientVariable, Environment, PREFIX, SEPARATOR};
use super::fault::{ConfigError, Fault};
use super::raw::Raw;
use super::{DEFAULTS, check, shape, suggest};

/// All layers, merged into one.
pub(super) struct Given {
    /// The merged values, not yet checked.
    pub(super) raw: Raw,
    /// The source of each key that the defaults do not set.
    pub(super) origins: BTreeMap<String, String>,
    /// The faults so far. Their keys count as not given.
    pub(super) faults: Vec<Fault>,
    variables: Vec<String>,
}

impl Given {
    /// Names of the environment variables that set a key.
    pub(super) fn variables(&self) -> Vec<String> {
        self.variables.clone()
    }
}

/// Lays the file (with its text) and the environment over the defaults.
pub(super) fn collect(
    file: Option<(&Path, &str)>,
    environment: &Environment,
) -> Result<Given, ConfigError> {
    let defaults = parse(Path::new("(defaults)"), DEFAULTS)?;
    let mut layers = Layers {
        known: BTreeMap::new(),
        values: BTreeMap::new(),
        origins: BTreeMap::new(),
        lines: BTreeMap::new(),
        faults: vec![],
    };
    flatten("", &defaults, &mut layers.known);
    if let Some((path, text)) = file {
        let table = parse(path, text)?;
        layers.lines = lines(text);
        layers.add_table("", table, &path.display().to_string());
        layers.lines.clear();
    }
    let variables = layers.add_environment(environment);
    let raw = layers.merged().map_err(|error| {
        // Shapes were checked key by key, so `Raw` and the defaults disagree about a key.
        ConfigError::Faults(vec![Fault {
            key: String::new(),
            origin: String::new(),
            detail: error.to_string(),
        }])
    })?;
    Ok(Given { raw, origins: layers.origins, faults: layers.faults, variables })
}

struct Layers {
    known: BTreeMap<String, Value>,
    values: BTreeMap<String, Value>,
    origins: BTreeMap<String, String>,
    /// The line of each key and section in the file that is read.
    lines: BTreeMap<String, usize>,
    faults: Vec<Fault>,
}

impl Layers {
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
                kind if self.known.contains_key(&key) && is_name => self.set(key, kind, origin),
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
            if self.known.contains_key(&key) {
                let kind = self.shaped(&key, value.kind);
                self.set(key, kind, &origin);
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

    /// Converts a variable's text to the shape of the key's default; returns the text unchanged if
    /// it does not fit.
    fn shaped(&self, key: &str, kind: ValueKind) -> ValueKind {
        let ValueKind::String(text) = &kind else { return kind };
        let text = text.trim();
        match self.known.get(key).map(|known| &known.kind) {
            Some(ValueKind::Array(items)) => {
                let numbers =
                    matches!(items.first().map(|item| &item.kind), Some(ValueKind::I64(_)));
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                let value = |part: &str| match part.parse::<i64>() {
                    Ok(number) if numbers => Value::from(number),
                    _ => Value::from(part),
                };
                ValueKind::Array(parts.map(value).collect())
            }
            Some(ValueKind::I64(_)) => text.parse().map_or_else(|_| kind.clone(), ValueKind::I64),
            Some(ValueKind::Float(_)) => {
                text.parse().map_or_else(|_| kind.clone(), ValueKind::Float)
            }
            _ => kind,
        }
    }

    fn set(&mut self, key: String, kind: ValueKind, origin: &str) {
        let Some(known) = self.known.get(&key) else { return };
        let Some(shape) = shape::misfit(&known.kind, &kind) else {
            self.origins.insert(key.clone(), self.with_line(&key, origin));
            self.values.insert(key, Value::from(kind));
            return;
        };
        let detail = if check::is_secret(&key) {
            format!("must be {shape}, not a value that is not shown")
        } else {
            let write =
                shape::respelled(&key, &known.kind, &kind).map(|right| format!("; write {right}"));
            format!("must be {shape}, not {}{}", shape::shown(&kind), write.unwrap_or_default())
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
                format!("the environment variable {name} is unknown; did you mean {meant}?")
            }
            None => {
                format!(
                    "the environment variable {name} is unknown; keys are \
                     {PREFIX}{SEPARATOR}SECTION{SEPARATOR}KEY"
                )
            }
        };
        self.fault(name, name, detail);
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

    fn merged(&self) -> Result<Raw, config::ConfigError> {
        let mut builder = config::Config::builder()
            .add_source(config::File::from_str(DEFAULTS, FileFormat::Toml));
        for (key, value) in &self.values {
            builder = builder.set_override(key, value.clone())?;
        }
        builder.build()?.try_deserialize()
    }
}

fn parse(path: &Path, text: &str) -> Result<Map<String, Value>, ConfigError> {
    FileFormat::Toml.parse(None, text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        detail: without_excerpt(&error.to_string()),
    })
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
        table: &toml::de::DeTable<'_>,
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
    if let Ok(table) = toml::de::DeTable::parse(text) {
        walk("", table.get_ref(), &line, &mut found);
    }
    found
}

fn flatten(section: &str, table: &Map<String, Value>, into: &mut BTreeMap<String, Value>) {
    for (name, value) in table {
        let key = join(section, name);
        match &value.kind {
            ValueKind::Table(table) => flatten(&key, table, into),
            _ => _ = into.insert(key, value.clone()),
        }
    }
}

fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
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
