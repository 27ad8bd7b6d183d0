//! `triggerd bench`: measures how many events this machine accepts, with which latency and at which
//! cost, so that an operator can choose a machine. Starts a server on a temporary directory, or
//! measures a running server.
//!
//! The benchmark uses only HTTP, `/metrics` and the operating system's figures of the process.

mod connection;
mod load;
mod machine;
mod overload;
mod report;
mod request;
mod run;
mod schedule;
mod scrape;
mod server;
mod sink;
mod stage;
mod subject;
mod tally;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Failure;
use super::output::{eprint, print_text};
use super::reach::{self, variable};
use super::target::{Credential, Target};
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::os_words;
use crate::config::{ClientVariable, Config};
use machine::{Machine, SyncFloor};
use overload::{MULTIPLES, Peak, Verdict};
use report::{Report, Settings};
use run::{Disk, Run};
use server::Server;
use stage::{Stage, failed};
use subject::Subject;
use tally::whole;

/// Default numbers of connections of the closed loops.
const CONNECTIONS: [usize; 3] = [20, 64, 256];
/// Default numbers of connections with `--overload`; the last is many more clients than needed to
/// keep the server busy.
const CONNECTIONS_OVERLOAD: [usize; 2] = [64, 1024];
/// Rates of the open loops, in percent of the best closed loop.
const OPEN_PERCENT: [u64; 2] = [50, 80];
/// Duration of the load before the first run, in which caches, pools and the processor's clock
/// settle.
const WARM_UP: Duration = Duration::from_secs(1);

/// Options of the benchmark.
#[derive(Args)]
pub(super) struct Bench {
    /// Measure a running server instead of starting a server; needs a key
    #[arg(long, value_name = "URL", conflicts_with = "dir")]
    url: Option<String>,
    /// API key of the organization to post for, with --url [default: the environment variable
    /// TRIGGERD_API_KEY]
    #[arg(long, value_name = "KEY", requires = "url")]
    key: Option<String>,
    /// Numbers of connections to try, separated by commas [default: 20,64,256; with --overload
    /// 64,1024, where the last number is used for the overload]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = count(1..=20_000))]
    connections: Option<Vec<u32>>,
    /// Seconds of each run
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Bytes of each payload
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = count(16..=8 << 20))]
    payload_bytes: u32,
    /// Events in each request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count(1..=10_000))]
    batch: u32,
    /// Run only an open loop with this number of requests a second [default: closed loops, then
    /// open loops with 50 % and 80 % of their best rate]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: Option<u64>,
    /// Also deliver the events to an endpoint on this machine
    #[arg(long, conflicts_with = "overload")]
    deliver: bool,
    /// Send 1, 3 and 10 times the load that the server can accept; exit code 1 if a promise is
    /// broken
    #[arg(long, conflicts_with = "rate")]
    overload: bool,
    /// Rounds of the overload, each beside a run at the peak rate; the median counts
    #[arg(long, value_name = "N", requires = "overload", default_value_t = 3,
    value_parser = count(1..=99))]
    rounds: u32,
    /// Directory for the temporary data directory, whose disk is measured [default: beside
    /// data_dir]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

fn count(range: std::ops::RangeInclusive<i64>) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(range)
}

impl Bench {
    pub(super) fn run(self, settings: &reach::Settings) -> Result<ExitCode, Failure> {
        let config = &settings.load()?.0;
        raise_file_limit();
        let dir = self.dir.clone().unwrap_or_else(|| beside(&config.storage.data_dir));
        let sync_floor = if self.url.is_none() { Some(SyncFloor::measure(&dir)?) } else { None };
        // The machine is read before the load moves to a single processor.
        let machine = Machine::of(&dir);
        let subject = self.subject(config, &dir)?;
        let mut report = Report {
            version: env!("CARGO_PKG_VERSION"),
            optimized: !cfg!(debug_assertions),
            settings: self.settings(subject.server.as_ref(), &machine),
            machine,
            sync_floor,
            runs: Vec::new(),
            delivery: None,
            disk: None,
            overload: Vec::new(),
        };
        let mut stage = Stage::new(subject, Duration::from_secs(self.seconds), self.planned())?;
        stage.subject.knock()?;
        stage.warm_up(WARM_UP)?;
        self.measure(&mut stage, &mut report)?;
        stage.finish();
        report.disk = disk(&mut stage, self.payload_bytes)?;
        let kept = report.overload.iter().all(|verdict| verdict.broken_promises.is_empty());
        print_text(&if self.json {
            serde_json::to_string_pretty(&report).map_err(failed)?
        } else {
            report.text()
        })?;
        Ok(if kept { ExitCode::Clean } else { ExitCode::Failed })
    }

    fn measure(&self, stage: &mut Stage, report: &mut Report) -> Result<(), Failure> {
        let connections = self.connections();
        let most = connections.last().copied().unwrap_or(1);
        if self.overload {
            return self.overload(stage, report, &connections);
        }
        if let Some(rate) = self.rate {
            report.runs.push(stage.open(most, rate)?);
        } else {
            for connections in &connections {
                report.runs.push(stage.closed(*connections)?);
            }
        }
        if self.rate.is_none() {
            let best = best(&report.runs);
            for percent in OPEN_PERCENT {
                report.runs.push(stage.open(most, whole(best) * percent / 100)?);
            }
        }
        if self.deliver {
            let (run, delivered) = stage.deliver(most)?;
            report.runs.push(run);
            report.delivery = Some(delivered);
        }
        Ok(())
    }

    /// Takes turns: measures the peak, then its multiples from as many connections, and the peak
    /// again at the end of each round.
    fn overload(
        &self,
        stage: &mut Stage,
        report: &mut Report,
        connections: &[usize],
    ) -> Result<(), Failure> {
        let most = connections.last().copied().unwrap_or(1);
        let mut seen = MULTIPLES.map(|multiple| (multiple, Vec::new()));
        let mut before = peak(stage, report, connections)?;
        for _ in 0..self.rounds {
            for (multiple, rounds) in &mut seen {
                rounds.push(stage.overload(most, before, *multiple)?);
            }
            let after = peak(stage, report, connections)?;
            for last in seen.iter_mut().filter_map(|(_, rounds)| rounds.last_mut()) {
                last.peak = before.mean(after);
            }
            before = after;
        }
        report.overload =
            seen.iter().map(|(multiple, rounds)| Verdict::of(*multiple, rounds)).collect();
        Ok(())
    }

    fn subject(&self, config: &Config, dir: &Path) -> Result<Subject, Failure> {
        let payload_bytes = usize::try_from(self.payload_bytes).map_err(failed)?;
        let Some(url) = self.url.clone() else {
            let start = || Subject::start(config, dir, payload_bytes, self.batch);
            return if self.overload { machine::apart(start) } else { start() };
        };
        let (key, origin) = match self.key.clone() {
            Some(key) => (Some(key), "--key"),
            None => (variable(ClientVariable::ApiKey)?, ClientVariable::ApiKey.name()),
        };
        let text = key.ok_or_else(|| {
            Failure::new(ExitCode::Usage, "no API key is set: give --key or set TRIGGERD_API_KEY")
        })?;
        let credential = Credential::key(text, origin);
        let target = Target::parse(&url, "--url")?;
        Subject::reach(target, credential, payload_bytes, self.batch)
    }

    fn connections(&self) -> Vec<usize> {
        let given = self.connections.as_deref();
        let given = given
            .map(|given| given.iter().filter_map(|count| usize::try_from(*count).ok()).collect());
        given.unwrap_or_else(|| {
            if self.overload { CONNECTIONS_OVERLOAD.into() } else { CONNECTIONS.into() }
        })
    }

    /// Number of runs, for the progress bar.
    fn planned(&self) -> usize {
        let closed = self.connections().len();
        let runs = match (self.overload, self.rate) {
            (true, _) => {
                closed
                    + (closed + MULTIPLES.len() * 2)
                        * usize::try_from(self.rounds).unwrap_or(usize::MAX)
            }
            (false, Some(_)) => 1,
            (false, None) => closed + OPEN_PERCENT.len(),
        };
        runs + usize::from(self.deliver)
    }

    fn settings(&self, server: Option<&Server>, machine: &Machine) -> Settings {
        let intake = server.map(|server| &server.config.intake);
        Settings {
            seconds: Duration::from_secs(self.seconds).as_secs_f64(),
            payload_bytes: usize::try_from(self.payload_bytes).unwrap_or(usize::MAX),
            batch: self.batch,
            url: self.url.clone(),
            load_apart: self.overload && server.is_some() && machine.cores > 1,
            group_commands: intake.map(|intake| intake.group_commands),
            group_bytes: intake.map(|intake| intake.group_bytes),
            queue: intake.map(|intake| intake.queue),
            workers: server.map(|server| server.config.server.workers),
        }
    }
}

/// Measures the peak with closed loops. The last closed loop has as many connections as the
/// overload.
fn peak(stage: &mut Stage, report: &mut Report, connections: &[usize]) -> Result<Peak, Failure> {
    let closed = connections.iter().map(|connections| stage.closed(*connections));
    let closed = closed.collect::<Result<Vec<_>, _>>()?;
    let same = closed.last().map_or(0.0, |run| run.requests_per_second);
    let peak = Peak { same, best: best(&closed) };
    report.runs.extend(closed);
    Ok(peak)
}

/// The highest rate among the runs, in requests a second.
fn best(runs: &[Run]) -> f64 {
    runs.iter().map(|run| run.requests_per_second).fold(0.0, f64::max)
}

/// The parent of the data directory, which is on the disk that the server will use.
fn beside(data_dir: &Path) -> PathBuf {
    let parent = data_dir.parent().filter(|parent| parent.is_dir());
    parent.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Raises the limit of open files. Each connection is a file, here and in the server, which
/// inherits the limit.
fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        let words = os_words(&error.into());
        eprint(&format!("triggerd: the limit of open files could not be raised: {words}"));
    }
}

/// Stops the server and measures its data on disk; none if the server ran already.
fn disk(stage: &mut Stage, payload_bytes: u32) -> Result<Option<Disk>, Failure> {
    let accepted = stage
        .subject
        .look()?
        .scrape
        .grown(&scrape::Scrape::default(), "triggerd_events_accepted_total");
    let Some(server) = &mut stage.subject.server else { return Ok(None) };
    if !server.stop() {
        return Err(failed("the server did not stop cleanly"));
    }
    Ok(Disk::of(server.disk_bytes(), accepted * f64::from(payload_bytes)))
}
