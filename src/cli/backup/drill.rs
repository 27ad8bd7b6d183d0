//! `triggerd drill`: lets the running server restore and verify its newest backup.

use clap::Args;

use super::job::finished;
use crate::base::exit_code::ExitCode;
use crate::cli::admin::Admin;
use crate::cli::answer::text;
use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::cli::reach::{Server, Settings};

/// The path of drills in the API.
const PATH: &str = "/api/admin/drill";

#[derive(Args)]
pub(in crate::cli) struct Drill {
    #[command(flatten)]
    admin: Admin,
    #[command(flatten)]
    server: Server,
}

impl Drill {
    pub(in crate::cli) fn run(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        let client = self.admin.client(&self.server, settings)?;
        let job = finished(&client, (PATH, None), "restore its newest backup")?;
        let line = if self.server.form.is_json() {
            job.to_string()
        } else {
            let backup = text(&job, "backup");
            format!("drill     {backup}: restored, verified; only the restored copy was deleted")
        };
        print(&line).map(|()| ExitCode::Clean)
    }
}
