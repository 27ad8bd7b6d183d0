//! The measured server: a child process of this binary on a temporary directory, which is removed
//! afterwards.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::machine::{field, kibibytes, unusable};
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::{io_words, os_words};
use crate::base::{random, threads};
use crate::cli::Failure;
use crate::cli::output::eprint;
use crate::config::{Config, LogFormat};
use crate::data_dir::read_admin_token;
use crate::model::org::Tier;

/// Time limit for the start, and for the stop.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A rate that no load reaches, because the server is measured and not its rate limits.
const UNLIMITED: u32 = 100_000_000;

/// A running child process and its temporary directory.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    dir: PathBuf,
    /// The settings of the server.
    pub(super) config: Config,
    pub(super) url: String,
}

/// Processor time and memory of the server so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) cpu: Duration,
    pub(super) rss_bytes: u64,
}

impl Server {
    /// Starts a server with these settings in a new directory below `dir`. Address, data directory
    /// and rate limits are replaced.
    pub(super) fn start(config: Config, dir: &Path) -> Result<Self, Failure> {
        let name = format!("triggerd-bench-{:08x}", u32::from_be_bytes(random::bytes()));
        let dir = dir.join(name);
        fs::create_dir(&dir).map_err(|error| unusable(&dir, &error))?;
        let config = settings(config, &dir);
        let spawn = || {
            let (file, log) = (dir.join("triggerd.toml"), File::create(dir.join("server.log"))?);
            fs::write(&file, config.effective())?;
            // The environment is empty, so that only the file configures the server.
            let mut command = Command::new(std::env::current_exe()?);
            command.env_clear().arg("--config").arg(file).arg("serve");
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
        };
        let child = spawn().map_err(|error| {
            drop(fs::remove_dir_all(&dir));
            let words = os_words(&error);
            Failure::new(ExitCode::Failed, format!("the server cannot be started: {words}"))
        })?;
        let mut server = Self { child, dir, config, url: String::new() };
        server.url = server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<String, Failure> {
        let (began, pause) = (Instant::now(), threads::Signal::new());
        let log = self.dir.join("server.log");
        while began.elapsed() < PATIENCE {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if let Some(address) = text.lines().find_map(ready_on) {
                return Ok(format!("http://{address}"));
            }
            if !matches!(self.child.try_wait(), Ok(None)) {
                return Err(Failure::new(
                    ExitCode::Failed,
                    format!("the server did not start:\n{text}"),
                ));
            }
            pause.wait(LOOK_EVERY);
        }
        Err(Failure::new(ExitCode::Failed, "the server did not start in time"))
    }

    /// The admin token that the server created.
    pub(super) fn admin_token(&self) -> Result<String, Failure> {
        let token = read_admin_token(&self.config.storage.data_dir);
        let token = token.map_err(|error| Failure::new(ExitCode::Failed, error))?;
        token.ok_or_else(|| Failure::new(ExitCode::Failed, "the server created no admin token"))
    }

    /// Processor time and memory so far; none if the operating system does not report them.
    pub(super) fn usage(&self) -> Option<Usage> {
        let read =
            |name: &str| fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).ok();
        let rss_bytes = field(&read("status")?, "VmRSS").and_then(kibibytes)?;
        Some(Usage { cpu: cpu_time(&read("stat")?)?, rss_bytes })
    }

    /// Size of the data on disk in bytes, in whole blocks as du(1) counts.
    pub(super) fn disk_bytes(&self) -> u64 {
        blocks_below(&self.config.storage.data_dir) * 512
    }

    /// Stops the server with SIGTERM. Returns true if the server stopped cleanly.
    pub(super) fn stop(&mut self) -> bool {
        if kill_process(Pid::from_child(&self.child), Signal::TERM).is_err() {
            return false;
        }
        let (began, pause) = (Instant::now(), threads::Signal::new());
        while began.elapsed() < PATIENCE {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.success();
            }
            pause.wait(LOOK_EVERY);
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The server's data is temporary, so a kill loses nothing.
            drop(self.child.kill());
            drop(self.child.wait());
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            let (dir, words) = (self.dir.display(), io_words(&error));
            eprint(&format!("triggerd: the directory {dir} could not be deleted: {words}"));
        }
    }
}

fn settings(mut config: Config, dir: &Path) -> Config {
    config.server.listen.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    config.server.listen.set_port(0);
    config.storage.data_dir = dir.join("data");
    config.keys.admin_token = None;
    let unlimited = std::num::NonZeroU32::new(UNLIMITED).unwrap_or(std::num::NonZeroU32::MAX);
    for limit in [&mut config.tiers.free, &mut config.tiers.pro, &mut config.tiers.enterprise] {
        limit.events_per_second = unlimited;
        limit.burst = unlimited;
    }
    let loopback = ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8);
    config.egress.allow_networks = vec![loopback.into()];
    config.log.format = LogFormat::Json;
    config.log.directory = None;
    if !config.log.level.contains("info") {
        "info".clone_into(&mut config.log.level);
    }
    config
}

/// The tier of the organization that posts the events.
pub(super) const TIER: Tier = Tier::Enterprise;

/// The address, if this log line says that the server is ready.
fn ready_on(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| line.get(name).and_then(Value::as_str);
    text("address").filter(|_| text("message") == Some("triggerd is ready")).map(str::to_owned)
}

/// User and system time of a process; proc_pid_stat(5), fields 14 and 15.
pub(super) fn cpu_time(stat: &str) -> Option<Duration> {
    // The name in field 2 can contain any character, also spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_millis(ticks.checked_mul(1_000)?.checked_div(per_second)?))
}

/// Processor time of this process itself.
pub(super) fn own_cpu_time() -> Option<Duration> {
    cpu_time(&fs::read_to_string("/proc/self/stat").ok()?)
}

fn blocks_below(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let blocks = |entry: fs::DirEntry| {
        let Ok(metadata) = entry.metadata() else { return 0 };
        metadata.blocks() + if metadata.is_dir() { blocks_below(&entry.path()) } else { 0 }
    };
    entries.filter_map(Result::ok).map(blocks).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "17 (a) b (c) S 1 17 17 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 100 1000 10";
        let per_second = rustix::param::clock_ticks_per_second();
        assert_eq!(cpu_time(stat), Some(Duration::from_millis(300_000 / per_second)));
        assert_eq!(cpu_time("nonsense"), None);
        assert!(own_cpu_time().is_some());
    }

    #[test]
    fn the_child_gets_the_settings_but_not_the_place_and_the_limits() {
        let text = "[server]\nlisten = \"0.0.0.0:80\"\n[intake]\nqueue = 77\n[keys]\nadmin_token = \
             \"sixteen-characters\"\n";
        let config = settings(Config::from_toml(text).unwrap(), Path::new("/somewhere/below"));
        let effective = config.effective();
        assert_eq!(Config::from_toml(&effective).unwrap(), config, "{effective}");
        assert_eq!(config.intake.queue, 77);
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:0");
        assert!(config.storage.data_dir.starts_with("/somewhere/below"));
        assert!(!effective.contains("sixteen-characters"));
    }
}
