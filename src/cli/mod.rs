//! The command line: one file a subcommand. Those that work with a server talk to it over HTTP, like anybody else.

mod account;
mod audit;
mod bench;
mod check_config;
mod client;
mod demo;
mod endpoints;
mod events;
mod explain;
mod rebuild;
mod replays;
mod serve;
mod tail;
mod verify;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::base::exit_code::ExitCode;
use crate::config::{Config, Source};

/// Event appliance: post an event, pull it from an inbox or have it pushed as a signed webhook.
#[derive(Parser)]
#[command(name = "triggerd", version, max_term_width = 100)]
struct Cli {
    /// Configuration file [default: ./config/triggerd.toml, then /etc/triggerd/triggerd.toml, then built-in defaults]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server until SIGTERM or Ctrl-C
    Serve,
    /// Show the main job on a temporary directory: an event sent, delivered, verified, pulled, acknowledged
    Demo,
    /// Check the configuration and print what is in effect
    CheckConfig,
    /// API keys
    #[command(subcommand)]
    Key(account::KeyCommand),
    /// Post an event
    Send(events::Send),
    /// Show the events nobody has acknowledged, oldest first
    Inbox(events::Inbox),
    /// Acknowledge events
    Ack(events::Ack),
    /// Say what became of an event, and why each endpoint got it or did not
    Explain(explain::Explain),
    /// Show events and attempts as they happen
    Tail(tail::Tail),
    /// Endpoints that events are pushed to
    #[command(subcommand)]
    Endpoint(endpoints::EndpointCommand),
    /// Past events delivered once more
    #[command(subcommand)]
    Replay(replays::ReplayCommand),
    /// Measure what this machine takes in, how long that takes and what it costs
    Bench(bench::Bench),
    /// Check a stopped server's data directory: the whole journal, and that the state is what the journal gives
    Verify(verify::Verify),
    /// Make a stopped server's state anew from its journal
    Rebuild(rebuild::Rebuild),
    /// Print the version
    Version,
}

/// How to reach the server, for the commands that talk to one.
#[derive(Args)]
struct Server {
    /// The server [default: where the configuration says it listens]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

/// Why a command ends without having done its work.
struct Failure {
    code: ExitCode,
    message: String,
}

impl Failure {
    fn new(code: ExitCode, message: impl std::fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }
}

/// Runs the command of this process's arguments.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no mistakes; clap prints each where it belongs.
            let code = if error.use_stderr() { ExitCode::Usage } else { ExitCode::Clean };
            return if error.print().is_ok() { code } else { ExitCode::Failed };
        }
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(Failure { code, message }) => {
            eprint(&format!("triggerd: {message}"));
            code
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    let file = cli.config.as_deref();
    match cli.command {
        Command::Version => {
            print(&format!("triggerd {}", env!("CARGO_PKG_VERSION")));
            Ok(ExitCode::Clean)
        }
        Command::Demo => demo::run(),
        Command::Serve => serve::run(load(file)?),
        Command::CheckConfig => check_config::run(&load(file)?),
        Command::Key(command) => account::run(command, &load(file)?.0),
        Command::Send(command) => command.run(&load(file)?.0),
        Command::Inbox(command) => command.run(&load(file)?.0),
        Command::Ack(command) => command.run(&load(file)?.0),
        Command::Explain(command) => command.run(&load(file)?.0),
        Command::Tail(command) => command.run(&load(file)?.0),
        Command::Endpoint(command) => command.run(&load(file)?.0),
        Command::Replay(command) => command.run(&load(file)?.0),
        Command::Bench(command) => command.run(&load(file)?.0),
        Command::Verify(command) => command.run(&load(file)?.0),
        Command::Rebuild(command) => command.run(&load(file)?.0),
    }
}

fn load(file: Option<&Path>) -> Result<(Config, Source), Failure> {
    Config::load(file).map_err(|error| Failure::new(error.exit_code(), error))
}

/// A line on standard output. A reader that left (`| head`) is no error of ours.
fn print(line: &str) {
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// A line with nothing in it that a terminal would obey: for what others wrote.
fn printable(line: &str) -> String {
    let harmless = |c: char| match c {
        '\t' | '\r' | '\n' => ' ',
        _ if c.is_control() => '\u{fffd}',
        _ => c,
    };
    line.chars().map(harmless).collect()
}

/// A line on standard error.
fn eprint(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn what_others_wrote_moves_no_cursor() {
        assert_eq!(printable("a\u{1b}[2J\u{9b}1mb\r\nc é"), "a\u{fffd}[2J\u{fffd}1mb  c é");
    }
}
