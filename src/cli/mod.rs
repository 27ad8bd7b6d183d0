//! The command line, with one file for each subcommand. Commands that work with a server use its
//! HTTP API like any other client.

mod account;
mod admin;
mod answer;
mod archive;
mod arguments;
mod audit;
mod audit_log;
mod backup;
mod bench;
mod check_config;
mod client;
mod completions;
mod config_file;
mod confirm;
mod context;
mod contexts;
mod dead_letters;
mod deliveries;
pub mod demo;
mod endpoint_settings;
mod endpoints;
mod event_history;
mod events;
mod explain;
mod failure;
mod form;
mod list;
mod losses;
mod openapi;
mod orgs;
mod output;
mod reach;
mod rebuild;
mod replays;
mod serve;
mod snapshots;
mod status;
mod table;
mod tail;
mod target;
mod verify;
mod whoami;

use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser, Subcommand};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use self::failure::Failure;
use self::output::{eprint, print, require_a_reader};
use self::reach::Settings;
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::os_words;
use crate::config::{Config, Source};
use crate::logging;

/// The order of the sources of a setting, for `--help`.
const PRECEDENCE: &str = "\
Commands that talk to a server need no configuration file. The first source that is set counts:
  the server   --url or --context, TRIGGERD_URL, TRIGGERD_CONTEXT, the context of `context use`,
               [server] listen of the configuration (else http://127.0.0.1:8080); --config leaves
               out the contexts of the environment and of `context use`
  the key      --key, the key of --context, TRIGGERD_API_KEY, the key of the context that gave the
               server
  the admin token, for `key create --org`, `org` and `audit --as-admin`
               --admin-token-file, TRIGGERD_ADMIN_TOKEN_FILE, [keys] admin_token of the
               configuration, the systemd credential admin.token, <data_dir>/admin.token
An unreadable configuration file in a default place is ignored; a file that --config names must be
valid.

Exit codes: 0 done, 1 refused or no answer, 2 wrong usage or configuration, 3 data directory damaged
or of another version, 4 data directory in use, 5 not permitted, 70 fatal error at run time.";

/// Event appliance: post an event, pull it from an inbox or have it pushed as a signed webhook.
#[derive(Parser)]
#[command(name = "triggerd", version, max_term_width = 100, after_help = PRECEDENCE)]
struct Cli {
    /// Configuration file [default: ./config/triggerd.toml, then /etc/triggerd/triggerd.toml, then
    /// built-in defaults]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server until SIGTERM or Ctrl-C
    Serve(serve::Serve),
    /// Run the main job once in a temporary directory: send, deliver, verify, pull and acknowledge
    /// an event
    Demo,
    /// Check the configuration and print the values in effect
    CheckConfig(check_config::CheckConfig),
    /// Show every configuration key, with its meaning and its default
    #[command(subcommand)]
    Config(config_file::ConfigCommand),
    /// Print the OpenAPI document of the HTTP API
    Openapi(openapi::Openapi),
    #[command(flatten)]
    OfClient(ClientCommand),
    /// Name servers, each with a URL and a key
    #[command(subcommand, alias = "contexts")]
    Context(context::ContextCommand),
    /// Verify the data directory of a stopped server: the whole journal, every snapshot, and that
    /// the state matches them. With a BACKUP, verify this backup
    Verify(verify::Verify),
    /// Compute the state of a stopped server again, from the newest whole snapshot and the journal
    /// behind it
    Rebuild(rebuild::Rebuild),
    /// Restore a backup into a new data directory, whose deliveries are held
    Restore(backup::restore::Restore),
    /// Let a restored server deliver
    #[command(subcommand)]
    Deliver(backup::restore::DeliverCommand),
    /// Print the script by which a shell completes commands and options
    Completions(completions::Completions),
    /// Print the manual page, or write the pages of all commands into a directory
    Man(completions::Man),
    /// Print the version
    Version {
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
}

/// Commands that talk to a server.
#[derive(Subcommand)]
enum ClientCommand {
    /// Show whether a server is healthy, what is wrong and what to do: exit code 0 if it is
    /// healthy, else 1
    Status(status::Status),
    /// Create organizations and manage API keys
    #[command(subcommand, alias = "keys")]
    Key(account::KeyCommand),
    /// Show the calling key, its scopes and its organization
    Whoami(whoami::Whoami),
    /// Manage the organizations of a server; needs the admin token
    #[command(subcommand, alias = "orgs")]
    Org(orgs::OrgCommand),
    /// Show who changed what, when, and from where
    Audit(Box<audit_log::AuditLog>),
    /// Post an event
    Send(events::Send),
    /// Show the events that are not acknowledged, oldest first
    Inbox(events::Inbox),
    /// Acknowledge events
    Ack(events::Ack),
    /// List all events, acknowledged or not, the newest first
    Events(event_history::Events),
    /// Show or erase an event
    #[command(subcommand)]
    Event(event_history::EventCommand),
    /// Explain the state of an event, and why each endpoint received the event or did not
    Explain(explain::Explain),
    /// Show events and attempts as they happen
    Tail(tail::Tail),
    /// Manage the endpoints that events are pushed to
    #[command(subcommand, alias = "endpoints")]
    Endpoint(endpoints::EndpointCommand),
    /// List deliveries by endpoint, the newest event first
    Deliveries(deliveries::Deliveries),
    /// Show or retry a delivery
    #[command(subcommand)]
    Delivery(deliveries::DeliveryCommand),
    /// List, replay or drop the deliveries that were given up
    #[command(subcommand, alias = "dead-letter")]
    DeadLetters(dead_letters::DeadLetterCommand),
    /// Deliver past events again
    #[command(subcommand, alias = "replays")]
    Replay(replays::ReplayCommand),
    /// Back up the data directory, whether its server runs or not
    Backup(backup::Backup),
    /// Write the events received in a time span into files of JSON lines, one for each day
    Archive(archive::Archive),
    /// Let the server test its newest backup: restore it into a scratch directory and verify it.
    /// The backup stays as it is
    Drill(backup::drill::Drill),
    /// Measure the throughput, latency and cost of a server on this machine
    Bench(bench::Bench),
}

/// Runs the command that this process's arguments name.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => return told(&answer).unwrap_or_else(failed),
    };
    survive_the_limit_of_file_sizes().and_then(|()| dispatch(cli)).unwrap_or_else(failed)
}

/// Prints clap's answer to the arguments: help or a version on standard output, or an error.
fn told(answer: &clap::Error) -> Result<ExitCode, Failure> {
    if !answer.use_stderr() {
        require_a_reader()?;
    } else if logging::is_read_by_journal(&std::io::stderr()) {
        complain(&answer.render().to_string());
        return Ok(ExitCode::Usage);
    }
    let failure = |error| Failure::new(ExitCode::Failed, output::unwritten(&error));
    answer.print().map_err(failure)?;
    Ok(if answer.use_stderr() { ExitCode::Usage } else { ExitCode::Clean })
}

/// Prints the reason of a failure.
fn failed(Failure { code, message }: Failure) -> ExitCode {
    if !message.is_empty() {
        complain(&format!("triggerd: {message}"));
    }
    code
}

/// Prints a message on standard error. For systemd's journal, each line begins with its priority;
/// sd-daemon(3).
fn complain(message: &str) {
    let priority = if logging::is_read_by_journal(&std::io::stderr()) { "<3>" } else { "" };
    message.lines().for_each(|line| eprint(&format!("{priority}{line}")));
}

/// Lets a write beyond the limit on the size of files (`ulimit -f`) fail like one on a full disk.
/// Without a handler for its signal, the system would end the process. The handler stays when the
/// runtime has gone.
fn survive_the_limit_of_file_sizes() -> Result<(), Failure> {
    let heard = tokio::runtime::Builder::new_current_thread().enable_io().build().and_then(|it| {
        let _in_runtime = it.enter();
        signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))
    });
    let failure = |error: std::io::Error| {
        let message = format!("the signal SIGXFSZ cannot be caught: {}", os_words(&error));
        Failure::new(ExitCode::Failed, message)
    };
    heard.map(drop).map_err(failure)
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    let file = cli.config.as_deref();
    // Servers and commands on a data directory need the configuration; commands that talk to a
    // server may do without.
    match cli.command {
        Command::Version { json } => {
            let version = env!("CARGO_PKG_VERSION");
            let text = if json {
                serde_json::json!({ "version": version }).to_string()
            } else {
                format!("triggerd {version}")
            };
            print(&text).map(|()| ExitCode::Clean)
        }
        Command::Demo => demo::run(),
        Command::Serve(command) => command.run(file, load(file)?),
        Command::CheckConfig(command) => command.run(&load(file)?),
        Command::Config(command) => command.run(),
        Command::Openapi(command) => command.run(),
        Command::Verify(command) => command.run(&load(file)?.0, &Settings::new(cli.config.clone())),
        Command::Rebuild(command) => command.run(&load(file)?.0),
        Command::Restore(command) => command.run(&Settings::new(cli.config)),
        Command::Deliver(command) => command.run(&load(file)?.0),
        Command::Context(command) => command.run(),
        Command::Completions(command) => command.run(Cli::command()),
        Command::Man(command) => command.run(Cli::command()),
        Command::OfClient(command) => command.run(&Settings::new(cli.config)),
    }
}

impl ClientCommand {
    fn run(self, settings: &Settings) -> Result<ExitCode, Failure> {
        match self {
            Self::Status(command) => command.run(settings),
            Self::Key(command) => account::run(command, settings),
            Self::Whoami(command) => command.run(settings),
            Self::Org(command) => command.run(settings),
            Self::Audit(command) => command.run(settings),
            Self::Send(command) => command.run(settings),
            Self::Inbox(command) => command.run(settings),
            Self::Ack(command) => command.run(settings),
            Self::Events(command) => command.run(settings),
            Self::Event(command) => command.run(settings),
            Self::Explain(command) => command.run(settings),
            Self::Tail(command) => command.run(settings),
            Self::Endpoint(command) => command.run(settings),
            Self::Deliveries(command) => command.run(settings),
            Self::Delivery(command) => command.run(settings),
            Self::DeadLetters(command) => command.run(settings),
            Self::Replay(command) => command.run(settings),
            Self::Backup(command) => command.run(settings),
            Self::Archive(command) => command.run(settings),
            Self::Drill(command) => command.run(settings),
            Self::Bench(command) => command.run(settings),
        }
    }
}

fn load(file: Option<&Path>) -> Result<(Config, Source), Failure> {
    Config::load(file).map_err(|error| Failure::new(error.exit_code(), error))
}
