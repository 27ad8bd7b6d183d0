//! `triggerd context`: names servers, so that a command needs neither a URL nor a key.

use std::io::Read as _;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Failure;
use super::answer::Answer;
use super::confirm::Yes;
use super::contexts::{Context, Contexts, context_name, path};
use super::form::Form;
use super::output::{print, print_done, require_a_reader};
use super::reach::in_effect;
use super::table::{Cell, Column, Table, cell, details};
use super::target::Target;
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::io_words;
use crate::model::key::KeyText;

/// The key that stands for standard input.
const STDIN: &str = "-";

/// The columns of the list.
const COLUMNS: [Column; 4] = [
    ("CURRENT", |context| {
        Cell::plain(if context.get("current") == Some(&Value::Bool(true)) { "*" } else { "" })
    }),
    ("NAME", |context| cell(context, "name")),
    ("URL", |context| cell(context, "url")),
    ("KEY", |context| cell(context, "key_prefix")),
];

/// The subcommands of `triggerd context`.
#[derive(Subcommand)]
pub(super) enum ContextCommand {
    /// Save a server under a name. The first context is used at once
    Add(Add),
    /// List the contexts
    List {
        #[command(flatten)]
        form: Form,
    },
    /// Use a context from now on, in every command without --context
    Use(Named),
    /// Show a context, without its key
    Show {
        /// Name of the context [default: the context in use]
        name: Option<String>,
        #[command(flatten)]
        form: Form,
    },
    /// Remove a context and its key
    Remove {
        #[command(flatten)]
        yes: Yes,
        #[command(flatten)]
        named: Named,
    },
}

#[derive(Args)]
pub(super) struct Add {
    /// Name of the context
    #[arg(value_parser = context_name)]
    name: String,
    /// URL of the server: http://HOST:PORT, HOST:PORT, or https://HOST/PREFIX behind a proxy
    #[arg(long, value_name = "URL")]
    url: String,
    /// API key; `-` reads the key from standard input, which hides it from the process list
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    key: Option<String>,
    /// Replace the context of this name, if there is one
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    form: Form,
}

#[derive(Args)]
pub(super) struct Named {
    /// Name of the context
    name: String,
    #[command(flatten)]
    form: Form,
}

impl ContextCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Add(add) => add.run(),
            Self::List { form } => list(form),
            Self::Use(named) => select(&named),
            Self::Show { name, form } => show(name.as_deref(), form),
            Self::Remove { yes, named } => remove(&yes, &named),
        }
        .map(|()| ExitCode::Clean)
    }
}

impl Add {
    fn run(self) -> Result<(), Failure> {
        let Self { name, url, key, replace, form } = self;
        let url = Target::parse(&url, "--url")?.url.to_string();
        let url = url.trim_end_matches('/').to_owned();
        let key = key.map(given).transpose()?;
        let mut contexts = Contexts::load()?;
        if contexts.contexts.contains_key(&name) && !replace {
            let message = format!("there is a context {name} already; --replace replaces it");
            return Err(Failure::new(ExitCode::Usage, message));
        }
        contexts.contexts.insert(name.clone(), Context { url, key });
        contexts.current.get_or_insert_with(|| name.clone());
        contexts.save()?;
        let file = path().unwrap_or_default();
        let used = if contexts.current.as_ref() == Some(&name) { " and in use" } else { "" };
        told(&contexts, &name, form, &format!("context {name} is saved{used}: {}", file.display()))
    }
}

/// Returns the key of the option, or of standard input.
fn given(key: String) -> Result<String, Failure> {
    let mut text = key;
    if text == STDIN {
        text.clear();
        std::io::stdin().lock().read_to_string(&mut text).map_err(|error| {
            let message = format!("standard input cannot be read: {}", io_words(&error));
            Failure::new(ExitCode::Usage, message)
        })?;
    }
    let text = text.trim();
    if text.parse::<KeyText>().is_err() {
        let message = "the text is not an API key: a key begins with trg_live_ and has a checksum, \
            which is wrong here. Copy the whole key";
        return Err(Failure::new(ExitCode::Usage, message));
    }
    Ok(text.to_owned())
}

/// Returns a context as programs read it, without its key.
fn item(contexts: &Contexts, name: &str, context: &Context) -> Value {
    json!({
        "name": name,
        "url": context.url,
        "key_prefix": context.key_prefix(),
        "current": contexts.current.as_deref() == Some(name),
    })
}

/// Says what was done with a context.
fn told(contexts: &Contexts, name: &str, form: Form, done: &str) -> Result<(), Failure> {
    let line = match contexts.contexts.get(name) {
        Some(context) if form.is_json() => item(contexts, name, context).to_string(),
        None if form.is_json() => json!({ "name": name }).to_string(),
        _ => done.to_owned(),
    };
    print_done(&line, &format!("{done}."))
}

fn list(form: Form) -> Result<(), Failure> {
    let contexts = Contexts::load()?;
    let items = contexts.contexts.iter().map(|(name, context)| item(&contexts, name, context));
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    if form.is_json() {
        return form.of_items(&items).iter().try_for_each(|line| print(line));
    }
    let items: Vec<_> = items.into_iter().filter_map(|item| Answer::read(item).ok()).collect();
    if items.is_empty() {
        return print("There are no contexts.");
    }
    Table::of(&items, &COLUMNS).print()
}

fn select(Named { name, form }: &Named) -> Result<(), Failure> {
    let mut contexts = Contexts::load()?;
    contexts.named(name, "context use")?;
    contexts.current = Some(name.clone());
    contexts.save()?;
    told(&contexts, name, *form, &format!("context {name} is in use"))
}

fn show(name: Option<&str>, form: Form) -> Result<(), Failure> {
    require_a_reader()?;
    let contexts = Contexts::load()?;
    let found = match name {
        Some(name) => contexts.named(name, "context show")?,
        None => in_effect()?.ok_or_else(|| {
            Failure::new(ExitCode::Failed, "no context is in use; `triggerd context use` sets one")
        })?,
    };
    let text = item(&contexts, &found.name, &found.context).to_string();
    if form.is_json() {
        return print(&text);
    }
    let shown = Answer::read(text).map(|item| details(&item, &[])).unwrap_or_default();
    shown.iter().try_for_each(|line| print(line))
}

fn remove(yes: &Yes, Named { name, form }: &Named) -> Result<(), Failure> {
    let mut contexts = Contexts::load()?;
    contexts.named(name, "context remove")?;
    yes.confirm(&format!("Remove the context {name} and its key?"))?;
    contexts.contexts.remove(name);
    contexts.current = contexts.current.filter(|current| current != name);
    contexts.save()?;
    told(&contexts, name, *form, &format!("context {name} is removed"))
}
