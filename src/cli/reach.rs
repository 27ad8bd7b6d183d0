//! The server and the key of a command: from options first, then from the environment, then from a
//! context, then, for the address alone, from the configuration. With both given, a command needs
//! neither a context nor a configuration.
//!
//! The key of a context goes to the URL of this context only, unless an option names the context:
//! `--url` or `TRIGGERD_URL` may lead to a server that must not see the key.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::audit::dir_failure;
use super::client::Client;
use super::contexts::{Contexts, NamedContext};
use super::form::Form;
use super::target::{Credential, Target};
use crate::base::exit_code::ExitCode;
use crate::config::{ClientVariable, Config, Source, client_variable};
use crate::data_dir::{DataDir, DataDirError, LookedAt};

/// Options of every command that talks to a server.
#[derive(Args)]
pub(super) struct Server {
    /// URL of the server: http://HOST:PORT, HOST:PORT, or https://HOST/PREFIX behind a proxy
    /// [default: the environment variable TRIGGERD_URL, else the context in use, else the listen
    /// address of the configuration]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Context: a server and a key saved by `triggerd context add` [default: the environment
    /// variable TRIGGERD_CONTEXT, else the context of `triggerd context use`]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    #[command(flatten)]
    pub(super) form: Form,
}

/// The option for the caller's key.
#[derive(Args)]
pub(super) struct Key {
    /// API key [default: the environment variable TRIGGERD_API_KEY, which hides the key from the
    /// process list, else the key of the context]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

/// The options for the key and the server.
#[derive(Args)]
pub(super) struct With {
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    pub(super) server: Server,
}

/// The place of the configuration, for commands that may not need it.
pub(super) struct Settings {
    named: Option<PathBuf>,
}

impl Settings {
    /// Remembers the file that `--config` names, if any.
    pub(super) fn new(named: Option<PathBuf>) -> Self {
        Self { named }
    }

    /// Loads the configuration for a command that talks to a server. An unreadable file in a
    /// default place is skipped; a named file must be readable.
    pub(super) fn load(&self) -> Result<(Config, Source), Failure> {
        self.load_with_help(
            "\nWith --url, TRIGGERD_URL or a context the command needs no configuration",
        )
    }

    /// Loads the configuration for a command that reads a bucket.
    pub(super) fn load_for_bucket(&self) -> Result<Config, Failure> {
        self.load_with_help("").map(|(config, _)| config)
    }

    fn load_with_help(&self, help: &str) -> Result<(Config, Source), Failure> {
        Config::load_for_client(self.named.as_deref()).map_err(|error| {
            let help = if self.named.is_some() { "" } else { help };
            Failure::new(error.exit_code(), format!("{error}{help}"))
        })
    }

    /// A named file must be valid, even if the command does not need it.
    fn check_named(&self) -> Result<(), Failure> {
        if self.named.is_some() { self.load().map(drop) } else { Ok(()) }
    }
}

/// The configuration of a stopped server, and its data directory, which no server can use meanwhile.
pub(super) type Stopped = (Config, LookedAt);

/// The server of a command, and its context.
struct Found {
    target: Target,
    /// The context whose key may be sent to the server.
    context: Option<NamedContext>,
    /// True if an option names the context.
    by_option: bool,
}

impl Server {
    /// True if an option, the environment or a context names a server.
    fn is_named(&self, settings: &Settings) -> Result<bool, Failure> {
        let is_given = self.url.is_some() || self.context.is_some();
        Ok(is_given || variable(ClientVariable::Url)?.is_some() || settings.context()?.is_some())
    }

    /// The configuration and the data directory of a stopped server. None if a server runs, or if
    /// one is named.
    pub(super) fn stopped(&self, settings: &Settings) -> Result<Option<Stopped>, Failure> {
        if self.is_named(settings)? {
            return Ok(None);
        }
        let (config, _) = settings.load()?;
        match DataDir::look(&config.storage.data_dir) {
            Ok(looked_at) => Ok(Some((config, looked_at))),
            Err(DataDirError::InUse(_)) => Ok(None),
            Err(error) => Err(dir_failure(&error)),
        }
    }

    /// The address of the server, from the first source that is set.
    pub(super) fn target(&self, settings: &Settings) -> Result<Target, Failure> {
        self.find(settings).map(|found| found.target)
    }

    /// The address of a server that may see the admin token of this machine: a context may lead to
    /// another machine, and nobody named the token for it.
    pub(super) fn own_target(&self, settings: &Settings) -> Result<Target, Failure> {
        let Found { target, context, .. } = self.find(settings)?;
        match context {
            Some(context) if !is_this_machine(&target.url) => {
                let message = format!(
                    "the server {} comes from {}, so the admin token of this machine is not sent \
                     to it; name its token with --admin-token-file",
                    context.context.url,
                    context.origin()
                );
                Err(Failure::new(ExitCode::Usage, message))
            }
            _ => Ok(target),
        }
    }

    /// Makes a client for this server with this key.
    pub(super) fn client(&self, key: &Key, settings: &Settings) -> Result<Client, Failure> {
        self.client_and_context(key, settings).map(|(client, _)| client)
    }

    fn client_and_context(
        &self,
        key: &Key,
        settings: &Settings,
    ) -> Result<(Client, Option<NamedContext>), Failure> {
        let Found { target, context, by_option } = self.find(settings)?;
        let (credential, context) = key.credential(context, by_option)?;
        Ok((Client::new(target, credential)?, context))
    }

    /// Finds the server in the first source that is set.
    fn find(&self, settings: &Settings) -> Result<Found, Failure> {
        settings.check_named()?;
        let named = self.context.as_deref();
        let named = named.map(|name| Contexts::load()?.named(name, "--context")).transpose()?;
        let target = match (&self.url, &named) {
            (Some(url), _) => Some(Target::parse(url, "--url")?),
            (None, Some(named)) => Some(named.target()?),
            (None, None) => None,
        };
        if let Some(target) = target {
            return Ok(Found { target, context: named, by_option: true });
        }
        if let Some(url) = variable(ClientVariable::Url)? {
            let target = Target::parse(&url, ClientVariable::Url.name())?;
            return Ok(Found { target, context: None, by_option: false });
        }
        if let Some(context) = settings.context()? {
            let target = context.target()?;
            return Ok(Found { target, context: Some(context), by_option: false });
        }
        let (config, source) = settings.load()?;
        let origin = format!("[server] listen of {source}");
        let target = Target::parse(&reachable(&config).to_string(), &origin)?;
        Ok(Found { target, context: None, by_option: false })
    }
}

impl Settings {
    /// Returns the context in effect without an option; none if `--config` names the server.
    fn context(&self) -> Result<Option<NamedContext>, Failure> {
        if self.named.is_some() { Ok(None) } else { in_effect() }
    }
}

/// Returns the context that counts without an option: of the environment, else the one in use.
pub(super) fn in_effect() -> Result<Option<NamedContext>, Failure> {
    if let Some(name) = variable(ClientVariable::Context)? {
        return Contexts::load()?.named(&name, ClientVariable::Context.name()).map(Some);
    }
    let contexts = Contexts::load()?;
    let current = contexts.current.as_deref();
    current.map(|name| contexts.named(name, "the context in use")).transpose()
}

/// True if the URL can lead to this machine only.
fn is_this_machine(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl Key {
    /// The key, from the first source that is set, and the context if it is the source.
    fn credential(
        &self,
        context: Option<NamedContext>,
        by_option: bool,
    ) -> Result<(Credential, Option<NamedContext>), Failure> {
        if let Some(key) = &self.key {
            return match key.trim() {
                "" => Err(no_key()),
                text => Ok((Credential::key(text, "--key"), None)),
            };
        }
        let of_context = context.as_ref().and_then(|context| {
            Some(Credential::key(context.context.key.clone()?, context.origin()))
        });
        if !by_option || of_context.is_none() {
            let origin = ClientVariable::ApiKey;
            if let Some(text) = variable(origin)? {
                return Ok((Credential::key(text, origin.name()), None));
            }
        }
        Ok((of_context.ok_or_else(no_key)?, context))
    }
}

fn no_key() -> Failure {
    let message = "no API key is set: give --key, set TRIGGERD_API_KEY, or name a context that has \
        a key with --context. `triggerd key create --org NAME` makes a key";
    Failure::new(ExitCode::Usage, message)
}

impl With {
    /// Makes a client for this server with this key.
    pub(super) fn client(&self, settings: &Settings) -> Result<Client, Failure> {
        self.server.client(&self.key, settings)
    }

    /// Makes the client, and returns the context if the key comes from it.
    pub(super) fn client_and_context(
        &self,
        settings: &Settings,
    ) -> Result<(Client, Option<NamedContext>), Failure> {
        self.server.client_and_context(&self.key, settings)
    }
}

/// Reads a variable of the environment; an error is a wrong usage.
pub(super) fn variable(which: ClientVariable) -> Result<Option<String>, Failure> {
    client_variable(which).map_err(|error| Failure::new(ExitCode::Usage, error))
}

/// The address at which the configured server can be reached: for a wildcard address, the loopback
/// address.
fn reachable(config: &Config) -> std::net::SocketAddr {
    let mut address = config.server.listen;
    match address.ip() {
        std::net::IpAddr::V4(ip) if ip.is_unspecified() => {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        std::net::IpAddr::V6(ip) if ip.is_unspecified() => {
            address.set_ip(std::net::Ipv6Addr::LOCALHOST.into());
        }
        _ => {}
    }
    address
}
