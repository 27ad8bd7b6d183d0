//! The server and the key of a command: from options first, then from the environment, then, for
//! the address alone, from the configuration. With both given, a command needs no configuration.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::client::Client;
use super::target::{Credential, Target};
use crate::base::exit_code::ExitCode;
use crate::config::{ClientVariable, Config, Source, client_variable};

/// Options of every command that talks to a server.
#[derive(Args)]
pub(super) struct Server {
    /// URL of the server: http://HOST:PORT, HOST:PORT, or https://HOST/PREFIX behind a proxy
    /// [default: the environment variable TRIGGERD_URL, else the listen address of the
    /// configuration]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Print JSON, one document on a line, for programs
    #[arg(long)]
    pub(super) json: bool,
}

/// The option for the caller's key.
#[derive(Args)]
pub(super) struct Key {
    /// API key [default: the environment variable TRIGGERD_API_KEY, which hides the key from the
    /// process list]
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
        self.load_with_help("\nWith --url (or TRIGGERD_URL) the command needs no configuration")
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

impl Server {
    /// True if an option or the environment names a server.
    pub(super) fn is_named(&self) -> Result<bool, Failure> {
        Ok(self.url.is_some() || variable(ClientVariable::Url)?.is_some())
    }

    /// The address of the server, from the first source that is set.
    pub(super) fn target(&self, settings: &Settings) -> Result<Target, Failure> {
        settings.check_named()?;
        if let Some(url) = &self.url {
            return Target::parse(url, "--url");
        }
        if let Some(url) = variable(ClientVariable::Url)? {
            return Target::parse(&url, ClientVariable::Url.name());
        }
        let (config, source) = settings.load()?;
        Target::parse(&reachable(&config).to_string(), &format!("[server] listen of {source}"))
    }
}

impl Key {
    /// The key, from the first source that is set.
    fn credential(&self) -> Result<Credential, Failure> {
        let (given, origin) = match &self.key {
            Some(key) => (Some(key.trim().to_owned()), "--key"),
            None => (variable(ClientVariable::ApiKey)?, ClientVariable::ApiKey.name()),
        };
        let text = given.filter(|key| !key.is_empty()).ok_or_else(|| {
            let message = "no API key is set: give --key or set TRIGGERD_API_KEY. `triggerd key \
                create --org NAME` makes a key";
            Failure::new(ExitCode::Usage, message)
        })?;
        Ok(Credential { text, origin: origin.to_owned() })
    }
}

impl With {
    /// Makes a client for this server with this key.
    pub(super) fn client(&self, settings: &Settings) -> Result<Client, Failure> {
        let key = self.key.credential()?;
        Client::new(self.server.target(settings)?, key)
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
