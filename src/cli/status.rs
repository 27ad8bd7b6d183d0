//! `triggerd status`: the condition of a running server in plain words, from `/health` and
//! `/metrics`. It needs no key.

mod advice;
mod notices;
mod report;
mod series;
mod table;
mod units;

use clap::Args;

use self::notices::notices;
use self::report::Report;
use self::series::Series;
use super::Failure;
use super::client::Client;
use super::output::{print, print_json};
use super::reach::{Server, Settings};
use crate::base::exit_code::ExitCode;

const HEALTH: &str = "/health";
const METRICS: &str = "/metrics";
/// A member that every answer of `/health` has.
const STATUS: &str = "status";

#[derive(Args)]
pub(super) struct Status {
    #[command(flatten)]
    server: Server,
}

impl Status {
    pub(super) fn run(&self, settings: &Settings) -> Result<ExitCode, Failure> {
        let target = self.server.target(settings)?;
        let client = Client::without_key(target)?;
        let health = client.probe(HEALTH, &[STATUS, "version", "checks"])?;
        // A proxy may hide the metrics.
        let series = client.text(METRICS).ok().map(|text| Series::read(&text));
        let mut report =
            Report::of((client.shown(), client.url_origin()), &health, series.as_ref());
        report.notices = notices(&report, series.as_ref());
        if self.server.form.is_json() {
            let text = serde_json::to_string(&report);
            print_json(&text.map_err(|error| Failure::new(ExitCode::Failed, error))?)?;
        } else {
            table::lines(&report).iter().try_for_each(|line| print(line))?;
        }
        Ok(if report.is_healthy() { ExitCode::Clean } else { ExitCode::Failed })
    }
}
