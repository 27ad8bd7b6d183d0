//! The admin token for the commands with admin rights. If there is no token, the error lists the
//! places searched and the result of each.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;
use super::client::Client;
use super::reach::{Server, Settings, variable};
use super::target::Credential;
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::io_words;
use crate::base::{ownership, regular};
use crate::config::{ClientVariable, Config, Source, credentials_directory};
use crate::data_dir::ADMIN_TOKEN_FILE;

/// The directory in which systemd puts the credentials of the packaged service. Only root can read
/// it.
const SERVICE_CREDENTIALS: &str = "/run/credentials/triggerd.service";

/// The place of the admin token, as an option.
#[derive(Args)]
pub(super) struct Admin {
    /// File that holds the admin token [default: the environment variable
    /// TRIGGERD_ADMIN_TOKEN_FILE; else keys.admin_token of the configuration, the systemd
    /// credential admin.token, or the file admin.token in the data directory]
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
}

/// The places searched so far, and the result of each.
#[derive(Default)]
struct Search {
    looked: Vec<String>,
    is_forbidden: bool,
}

impl Admin {
    /// Returns true if an option or the environment names the file of the token.
    pub(super) fn is_named(&self) -> Result<bool, Failure> {
        Ok(self.admin_token_file.is_some() || variable(ClientVariable::AdminTokenFile)?.is_some())
    }

    /// Makes a client that sends the admin token.
    pub(super) fn client(&self, server: &Server, settings: &Settings) -> Result<Client, Failure> {
        let named = match &self.admin_token_file {
            Some(file) => Some((file.clone(), "--admin-token-file")),
            None => variable(ClientVariable::AdminTokenFile)?
                .map(|file| (PathBuf::from(file), ClientVariable::AdminTokenFile.name())),
        };
        let (target, token) = match named {
            Some((file, option)) => (server.target(settings)?, of_named_file(&file, option)?),
            None => (server.own_target(settings)?, found(settings)?),
        };
        Client::new(target, token)
    }
}

/// Finds the token of the server of this machine.
fn found(settings: &Settings) -> Result<Credential, Failure> {
    let (config, source) = settings.load()?;
    if let Some(token) = &config.keys.admin_token {
        let origin = format!("[keys] admin_token of {source}");
        return Ok(Credential::admin_token(token.reveal(), origin));
    }
    let mut search = Search::default();
    search.looked.push("--admin-token-file and TRIGGERD_ADMIN_TOKEN_FILE: not given".to_owned());
    search.looked.push(format!("[keys] admin_token: not set (configuration: {source})"));
    if credentials_directory().is_none() {
        search.looked.push("CREDENTIALS_DIRECTORY: not set".to_owned());
    }
    let found = places(&config).iter().find_map(|place| search.look(place));
    found.ok_or_else(|| search.failure(&source))
}

fn of_named_file(file: &Path, option: &str) -> Result<Credential, Failure> {
    let refused = |why: &dyn std::fmt::Display, code| {
        Failure::new(
            code,
            format!("the admin token cannot be read from {} ({option}): {why}", file.display()),
        )
    };
    // A shell's pipe may carry the token of an option.
    match token_in(file, |file| std::fs::read_to_string(file)) {
        Ok(Some(text)) => {
            Ok(Credential::admin_token(text, format!("the file {}, {option}", file.display())))
        }
        Ok(None) => Err(refused(&"the file is empty", ExitCode::Usage)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(refused(
            &format_args!("{}{}", io_words(&error), ownership::denied(file, &error)),
            ExitCode::NotPermitted,
        )),
        Err(error) => Err(refused(&io_words(&error), ExitCode::Usage)),
    }
}

/// The token files of a server with this configuration, and of the packaged service.
fn places(config: &Config) -> Vec<PathBuf> {
    let data_dir = &config.storage.data_dir;
    let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.clone());
    let dirs =
        credentials_directory().into_iter().chain([data_dir, PathBuf::from(SERVICE_CREDENTIALS)]);
    dirs.map(|dir| dir.join(ADMIN_TOKEN_FILE)).collect()
}

/// Returns the token in a file, read with `read`; none if the file is empty.
fn token_in(
    file: &Path,
    read: impl FnOnce(&Path) -> io::Result<String>,
) -> io::Result<Option<String>> {
    let text = read(file)?;
    Ok(Some(text.trim().to_owned()).filter(|token| !token.is_empty()))
}

impl Search {
    fn look(&mut self, file: &Path) -> Option<Credential> {
        let what = match token_in(file, regular::read_to_string) {
            Ok(Some(text)) => {
                let origin = format!("the file {}", file.display());
                return Some(Credential::admin_token(text, origin));
            }
            Ok(None) => "it is empty".to_owned(),
            Err(error) => {
                self.is_forbidden |= error.kind() == io::ErrorKind::PermissionDenied;
                format!("{}{}", io_words(&error), ownership::denied(file, &error))
            }
        };
        self.looked.push(format!("{}: {what}", file.display()));
        None
    }

    fn failure(self, source: &Source) -> Failure {
        let (code, help) = if self.is_forbidden || !source.skipped.is_empty() {
            let help = "Run the command as root or as the server's user, such as `sudo triggerd \
                key create …`, or name a token file that you may read with --admin-token-file.";
            (ExitCode::NotPermitted, help)
        } else {
            let help = "A server creates the file when it starts with this configuration for the \
                first time. If the server uses another configuration, name its file with --config; \
                if its token is kept elsewhere, name the token file with --admin-token-file.";
            (ExitCode::Failed, help)
        };
        let looked = self.looked.join("\n  ");
        Failure::new(
            code,
            format!("no admin token was found. Places searched:\n  {looked}\n{help}"),
        )
    }
}
