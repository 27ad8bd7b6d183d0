//! `triggerd restore`: makes a data directory from a backup. `triggerd deliver on`: ends the hold
//! of its deliveries.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::failures::failure;
use super::input::Input;
use crate::backup::{Origin, restore};
use crate::base::clock::Clock;
use crate::base::exit_code::ExitCode;
use crate::cli::audit::dir_failure;
use crate::cli::failure::Failure;
use crate::cli::output::{counted, print, print_text};
use crate::cli::reach::Settings;
use crate::config::{Config, S3Url};
use crate::data_dir::{DataDir, DataDirError, let_deliver};
use crate::model::moment::Moment;
use crate::model::time::Timestamp;

#[derive(Args)]
pub(in crate::cli) struct Restore {
    /// A backup, a directory of backups (the newest is taken), an archive, each also in a bucket
    /// (s3://BUCKET/PREFIX, s3://BUCKET/PREFIX/NAME), or - for standard input
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The new data directory; it must be empty or not exist yet
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// Restore the journal up to this time only (RFC 3339, such as 2026-01-31T10:00:00Z, or a
    /// duration before now, such as 1h)
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// File with the age identity that opens an encrypted archive
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

impl Restore {
    pub(in crate::cli) fn run(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        if S3Url::of(&self.to).is_some() {
            let to = self.to.display();
            let message =
                format!("the new data directory must be a path of a file system, not {to}");
            return Err(Failure::new(ExitCode::Usage, message));
        }
        let now = Timestamp(Clock::system().now_ms());
        let until = self.until.map(|moment| moment.from(now));
        let restored = match Input::open(&self.from, self.identity.as_deref(), settings)? {
            Input::Bucket(backup) => restore(Origin::Bucket(&backup), &self.to, until),
            Input::Directory(backup) => restore(Origin::Directory(&backup), &self.to, until),
            Input::Archive(archive, name) => {
                restore(Origin::Archive(archive, &name), &self.to, until)
            }
        };
        let restored = restored.map_err(failure)?;
        let (to, made_at) = (self.to.display().to_string(), restored.manifest.made_at);
        if self.json {
            let line = json!({
                "data_dir": to,
                "made_at": made_at,
                "end": restored.end,
                "bytes": restored.manifest.bytes,
                "deliveries": "held",
            });
            return print(&line.to_string()).map(|()| ExitCode::Clean);
        }
        print_text(&format!(
            "restored  {to}: {}, up to position {}, from the backup of {made_at}\n\
             Deliveries are held, because the original server may still run. Name the directory in \
             [storage] data_dir and start the server; `triggerd deliver on` lets it deliver from \
             the next start on.",
            counted(restored.manifest.bytes, "byte"),
            restored.end
        ))?;
        Ok(ExitCode::Clean)
    }
}

#[derive(Subcommand)]
pub(in crate::cli) enum DeliverCommand {
    /// Let the server of a restored data directory deliver, from its next start on
    On {
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
}

impl DeliverCommand {
    pub(in crate::cli) fn run(&self, config: &Config) -> Result<ExitCode, Failure> {
        let Self::On { json } = self;
        let dir = &config.storage.data_dir;
        let is_running = match DataDir::look(dir) {
            Ok(_) => false,
            Err(DataDirError::InUse(_)) => true,
            Err(error) => return Err(dir_failure(&error)),
        };
        let was_held = let_deliver(dir).map_err(|error| dir_failure(&error))?;
        // A server that runs may have started while the deliveries were held.
        let needs_restart = is_running;
        if *json {
            let line = json!({ "was_held": was_held, "needs_restart": needs_restart });
            return print(&line.to_string()).map(|()| ExitCode::Clean);
        }
        let line = match (was_held, needs_restart) {
            (false, false) => "no deliveries were held",
            (false, true) => {
                "no deliveries are held any more; restart the server if it was started before"
            }
            (true, false) => "the next start of the server delivers",
            (true, true) => "restart the server: it delivers from then on",
        };
        print(line).map(|()| ExitCode::Clean)
    }
}
