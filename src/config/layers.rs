//! Which keys were given, in which shape, and from where. The defaults name every key and show its shape; whatever is
//! given beside them is checked against them here, before serde sees it, so that all faults are found and not the first.

use std::collections::BTreeMap;
use std::path::Path;

use config::{FileFormat, Format, Map, Source as _, Value, ValueKind};

use super::environment::{Environment, PREFIX, SEPARATOR};
use super::fault::{ConfigError, Fault};
use super::raw::Raw;
use super::{DEFAULTS, check};

/// Two names are taken for a typo of each other from this likeness on (Jaro-Winkler, 0 to 1).
const LIKENESS_MIN: f64 = 0.8;

/// All layers on top of each other.
pub(super) struct Given {
    /// What counts.
    pub(super) raw: Raw,
    /// Who set it, by key; what is not here is from the defaults.
    pub(super) origins: BTreeMap<String, String>,
    /// What was wrong so far. Those keys count as not given.
    pub(super) faults: Vec<Fault>,
    variables: Vec<String>,
}

impl Given {
    /// The environment variables that set something.
    pub(super) fn variables(&self) -> Vec<String> {
        self.variables.clone()
    }
}

/// Lays file (with its text) and environment over the defaults.
pub(super) fn collect(file: Option<(&Path, &str)>, environment: &Environment) -> Result<Given, ConfigError> {
    let defaults = parse(Path::new("(defaults)"), DEFAULTS)?;
    let mut layers =
        Layers { known: BTreeMap::new(), values: BTreeMap::new(), origins: BTreeMap::new(), faults: vec![] };
    flatten("", &defaults, &mut layers.known);
    if let Some((path, text)) = file {
        layers.add_table("", parse(path, text)?, &path.display().to_string());
    }
    let variables = layers.add_environment(environment);
    let raw = layers.merged().map_err(|error| {
        // Shapes were checked key by key, so this is a key that `Raw` knows and the defaults don't, or the reverse.
        ConfigError::Faults(vec![Fault { key: String::new(), origin: String::new(), detail: error.to_string() }])
    })?;
    Ok(Given { raw, origins: layers.origins, faults: layers.faults, variables })
}

struct Layers {
    known: BTreeMap<String, Value>,
    values: BTreeMap<String, Value>,
    origins: BTreeMap<String, String>,
    faults: Vec<Fault>,
}

impl Layers {
    fn add_table(&mut self, section: &str, table: Map<String, Value>, origin: &str) {
        // Sorted, so that faults come in the same order every time.
        for (name, value) in table.into_iter().collect::<BTreeMap<_, _>>() {
            let key = join(section, &name);
            match value.kind {
                ValueKind::Table(table) if self.is_section(&key) && !name.contains('.') => {
                    self.add_table(&key, table, origin);
                }
                _ if self.is_section(&key) => {
                    self.fault(&key, origin, "must be a section with keys, not a value".into());
                }
                kind if self.known.contains_key(&key) && !name.contains('.') => self.set(key, kind, origin),
                _ => self.unknown(&key, origin),
            }
        }
    }

    /// Gives the names of the variables that set something.
    fn add_environment(&mut self, environment: &Environment) -> Vec<String> {
        for name in &environment.not_text {
            self.fault(&key_of(name), name, "must be UTF-8 text".into());
        }
        for name in &environment.strangers {
            self.stranger(name);
        }
        let names: BTreeMap<_, _> = environment.variables.keys().map(|name| (key_of(name), name.clone())).collect();
        let source = config::Environment::with_prefix(PREFIX)
            .prefix_separator(SEPARATOR)
            .separator(SEPARATOR)
            .source(Some(environment.variables.clone().into_iter().collect()));
        // Fails on text that is not Unicode only, and a map of strings has none.
        let table = source.collect().unwrap_or_default();
        let mut used = Vec::new();
        for (key, value) in table.into_iter().collect::<BTreeMap<_, _>>() {
            let origin = names.get(&key).cloned().unwrap_or_else(|| key.clone());
            if self.known.contains_key(&key) {
                let kind = self.shaped(&key, value.kind);
                self.set(key, kind, &origin);
                used.push(origin);
            } else if self.is_section(&key) {
                self.fault(&key, &origin, "is a section; name a key in it".into());
            } else {
                self.unknown(&key, &origin);
            }
        }
        used.sort();
        used
    }

    /// A variable's text in the shape that its key has in the defaults; as it is when it doesn't fit.
    fn shaped(&self, key: &str, kind: ValueKind) -> ValueKind {
        let ValueKind::String(text) = &kind else { return kind };
        let text = text.trim();
        match self.known.get(key).map(|known| &known.kind) {
            Some(ValueKind::Array(items)) => {
                let numbers = matches!(items.first().map(|item| &item.kind), Some(ValueKind::I64(_)));
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                let value = |part: &str| match part.parse::<i64>() {
                    Ok(number) if numbers => Value::from(number),
                    _ => Value::from(part),
                };
                ValueKind::Array(parts.map(value).collect())
            }
            Some(ValueKind::I64(_)) => text.parse().map_or_else(|_| kind.clone(), ValueKind::I64),
            Some(ValueKind::Float(_)) => text.parse().map_or_else(|_| kind.clone(), ValueKind::Float),
            _ => kind,
        }
    }

    fn set(&mut self, key: String, kind: ValueKind, origin: &str) {
        let Some(shape) = self.known.get(&key).and_then(|known| misfit(&known.kind, &kind)) else {
            self.origins.insert(key.clone(), origin.to_owned());
            self.values.insert(key, Value::from(kind));
            return;
        };
        let given = if check::is_secret(&key) { "a value that is not shown".to_owned() } else { shown(&kind) };
        self.fault(&key, origin, format!("must be {shape}, not {given}"));
    }

    fn unknown(&mut self, key: &str, origin: &str) {
        let likeness = |known: &&String| strsim::jaro_winkler(known, key);
        let nearest = self.known.keys().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        // The right key in the wrong section is no typo, but the same help.
        let last = key.rsplit('.').next().unwrap_or(key);
        let elsewhere = self.known.keys().find(|known| known.rsplit('.').next() == Some(last));
        let suggestion = elsewhere.or(nearest.filter(|known| likeness(known) >= LIKENESS_MIN));
        let detail = match suggestion {
            Some(known) => format!("unknown key; did you mean `{known}`?"),
            None => "unknown key; config/triggerd.toml lists all that there are".to_owned(),
        };
        self.fault(key, origin, detail);
    }

    /// A variable that begins like ours and is none.
    fn stranger(&mut self, name: &str) {
        let plain = |key: &str| key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        let wanted = plain(name.get(PREFIX.len()..).unwrap_or_default());
        let likeness = |known: &&String| strsim::jaro_winkler(&plain(known), &wanted);
        let nearest = self.known.keys().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let detail = match nearest.filter(|known| likeness(known) >= LIKENESS_MIN) {
            Some(known) => {
                let meant = known.to_uppercase().replace('.', SEPARATOR);
                format!("the environment variable {name} means nothing; did you mean {PREFIX}{SEPARATOR}{meant}?")
            }
            None => format!(
                "the environment variable {name} means nothing; keys are {PREFIX}{SEPARATOR}SECTION{SEPARATOR}KEY"
            ),
        };
        self.fault(name, name, detail);
    }

    fn fault(&mut self, key: &str, origin: &str, detail: String) {
        self.faults.push(Fault { key: key.to_owned(), origin: origin.to_owned(), detail });
    }

    fn is_section(&self, key: &str) -> bool {
        !key.is_empty()
            && self.known.keys().any(|known| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
    }

    fn merged(&self) -> Result<Raw, config::ConfigError> {
        let mut builder = config::Config::builder().add_source(config::File::from_str(DEFAULTS, FileFormat::Toml));
        for (key, value) in &self.values {
            builder = builder.set_override(key, value.clone())?;
        }
        builder.build()?.try_deserialize()
    }
}

fn parse(path: &Path, text: &str) -> Result<Map<String, Value>, ConfigError> {
    FileFormat::Toml
        .parse(None, text)
        .map_err(|error| ConfigError::Syntax { path: path.to_owned(), detail: without_excerpt(&error.to_string()) })
}

/// The parser's message without the line of the file it quotes: that line may hold the admin token.
fn without_excerpt(message: &str) -> String {
    let is_excerpt = |line: &str| {
        line.split_once('|').is_some_and(|(margin, _)| margin.trim().bytes().all(|byte| byte.is_ascii_digit()))
    };
    message.lines().filter(|line| !is_excerpt(line)).collect::<Vec<_>>().join(": ")
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

/// `TRIGGERD__SERVER__LISTEN` → `server.listen`, as the config crate has it.
fn key_of(variable: &str) -> String {
    let lower = variable.to_lowercase();
    let prefix = format!("{PREFIX}{SEPARATOR}").to_lowercase();
    lower.strip_prefix(&prefix).unwrap_or(&lower).replace(SEPARATOR, ".")
}

/// What the shape should be, if it is another than that of the default.
fn misfit(known: &ValueKind, given: &ValueKind) -> Option<&'static str> {
    match (known, given) {
        (ValueKind::I64(_), ValueKind::I64(number)) if *number >= 0 => None,
        (ValueKind::Float(_), ValueKind::Float(_) | ValueKind::I64(_))
        | (ValueKind::String(_), ValueKind::String(_)) => None,
        (ValueKind::I64(_), _) => Some("a whole number, 0 or more"),
        (ValueKind::Float(_), _) => Some("a number"),
        (ValueKind::String(_), _) => Some("text in quotes"),
        (ValueKind::Array(known), ValueKind::Array(given)) => {
            let numbers = matches!(known.first().map(|item| &item.kind), Some(ValueKind::I64(_)));
            let fits = |item: &Value| match &item.kind {
                ValueKind::I64(number) => numbers && *number >= 0,
                ValueKind::String(_) => !numbers,
                _ => false,
            };
            (!given.iter().all(fits)).then_some(list_shape(numbers))
        }
        (ValueKind::Array(known), _) => Some(list_shape(!known.is_empty())),
        _ => Some("of another type"),
    }
}

fn list_shape(numbers: bool) -> &'static str {
    if numbers { "a list of whole numbers, 0 or more" } else { "a list of texts" }
}

fn shown(kind: &ValueKind) -> String {
    match kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(items) => {
            format!("[{}]", items.iter().map(|item| shown(&item.kind)).collect::<Vec<_>>().join(", "))
        }
        ValueKind::Table(_) => "a section".to_owned(),
        other => other.to_string(),
    }
}
