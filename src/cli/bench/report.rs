//! The report of all runs, for operators.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::machine::{Machine, SyncFloor};
use super::overload::Verdict;
use super::run::{Delivered, Disk, Kind, Run};
use super::tally::float;

const MIB: f64 = 1_048_576.0;
const GIB: f64 = 1_073_741_824.0;
/// The columns of the table of runs; each row has a cell for each.
const RUN_COLUMNS: [&str; 14] = [
    "load",
    "conns",
    "events/s",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "max ms",
    "errors",
    "group",
    "sync ms",
    "CPU µs/event",
    "server cores",
    "load cores",
    "RSS MiB",
];
/// The columns of the table of overloads.
const OVERLOAD_COLUMNS: [&str; 14] = [
    "times peak",
    "due/s",
    "sent/s",
    "accepted/s",
    "of peak",
    "of best",
    "refused/s",
    "refused p50 ms",
    "p99 ms",
    "max ms",
    "accepted p99 ms",
    "CPU µs/accepted",
    "RSS + MiB",
    "verdict",
];

/// The whole report; `--json` prints its JSON.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    /// True if this binary was built with optimization. Without optimization, the figures mean
    /// little.
    pub(super) optimized: bool,
    pub(super) settings: Settings,
    pub(super) machine: Machine,
    /// Absent if the server ran already.
    pub(super) sync_floor: Option<SyncFloor>,
    pub(super) runs: Vec<Run>,
    pub(super) delivery: Option<Delivered>,
    pub(super) disk: Option<Disk>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) overload: Vec<Verdict>,
}

/// The options of the benchmark, and the settings of the server that matter here (absent if the
/// server ran already).
#[derive(Clone, Debug, Serialize)]
pub(super) struct Settings {
    pub(super) seconds: f64,
    pub(super) payload_bytes: usize,
    pub(super) batch: u32,
    /// The measured server's URL, if it ran already.
    pub(super) url: Option<String>,
    /// True if the load has a processor for itself and the server has the others.
    pub(super) load_apart: bool,
    pub(super) group_commands: Option<usize>,
    pub(super) group_bytes: Option<usize>,
    pub(super) queue: Option<usize>,
    pub(super) workers: Option<usize>,
}

impl Report {
    /// Formats the report as tables for a terminal.
    pub(super) fn text(&self) -> String {
        let parts =
            [Some(self.heading()), Some(self.table()), self.overload_table(), Some(self.sizing())];
        parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n")
    }

    fn heading(&self) -> String {
        let Self { machine, .. } = self;
        let mut lines = vec![format!(
            "triggerd {}: {} core{} ({}), {:.1} GiB memory, {}",
            self.version,
            machine.cores,
            if machine.cores == 1 { "" } else { "s" },
            machine.cpu,
            float(machine.memory_bytes) / GIB,
            machine.kernel
        )];
        if let Some(SyncFloor { syncs, p50_ms, p99_ms, .. }) = self.sync_floor {
            let filesystem = &machine.filesystem;
            lines.push(format!(
                "disk: {filesystem}; 4 KiB and fdatasync, {syncs} times: p50 {p50_ms:.2} ms, p99 \
                 {p99_ms:.2} ms"
            ));
        }
        lines.push(self.load());
        if machine.has_no_disk() && self.sync_floor.is_some() {
            lines.push(
                "WARNING: the directory is in memory, where syncs cost nothing; name a directory \
                 on the disk with --dir"
                    .into(),
            );
        }
        if !self.optimized {
            lines.push(
                "WARNING: this binary was built without optimization; build it with --release"
                    .into(),
            );
        }
        lines.join("\n")
    }

    /// The load, and the processors that it shares with the server.
    fn load(&self) -> String {
        let Self { settings, .. } = self;
        let batch = if settings.batch > 1 {
            format!(", {} events a request", settings.batch)
        } else {
            String::new()
        };
        let what = format!(
            "load: payloads of {} bytes{batch}, {:.0} s a run",
            settings.payload_bytes, settings.seconds
        );
        match &settings.url {
            Some(url) => format!("{what}, on {url}"),
            None if settings.load_apart => {
                format!("{what}; the load runs on one processor, the server on the others")
            }
            None => format!("{what}; server and load share this machine"),
        }
    }

    fn table(&self) -> String {
        let rows = self.runs.iter().map(|run| {
            let Run { load, latency_ms, .. } = run;
            let what = match (load.kind, load.requests_per_second) {
                (Kind::Open, Some(rate)) => format!("open, {rate}/s"),
                (Kind::Closed | Kind::Open, _) => "closed".to_owned(),
            };
            let or_dash = |figure: Option<f64>, digits: usize| {
                figure.map_or("-".to_owned(), |it| format!("{it:.digits$}"))
            };
            vec![
                what,
                load.connections.to_string(),
                format!("{:.0}", run.events_per_second),
                format!("{:.2}", latency_ms.p50),
                format!("{:.2}", latency_ms.p99),
                format!("{:.2}", latency_ms.p999),
                format!("{:.2}", latency_ms.max),
                run.errors(),
                or_dash(run.commit_group.map(|group| group.mean), 1),
                or_dash(run.sync_ms.map(|sync| sync.mean), 2),
                or_dash(run.cpu_us_per_event, 1),
                or_dash(run.server_cores, 2),
                or_dash(run.load_cores, 2),
                or_dash(run.rss_bytes.map(|bytes| float(bytes) / MIB), 0),
            ]
        });
        table(&RUN_COLUMNS, rows)
    }

    fn overload_table(&self) -> Option<String> {
        if self.overload.is_empty() {
            return None;
        }
        let rows = self.overload.iter().map(|it| {
            vec![
                format!("{}", it.multiple),
                format!("{}", it.due_per_second),
                format!("{:.0}", it.sent_per_second),
                format!("{:.0}", it.good_per_second),
                format!("{:.0} %", it.share_of_peak * 100.0),
                format!("{:.0} %", it.share_of_best * 100.0),
                format!("{:.0}", it.refused_per_second),
                format!("{:.1}", it.refused_p50_ms),
                format!("{:.1}", it.refused_p99_ms),
                format!("{:.1}", it.refused_max_ms),
                format!("{:.1}", it.good_p99_ms),
                it.cpu_us_per_request.map_or("-".to_owned(), |us| format!("{us:.1}")),
                it.rss_grown_bytes
                    .map_or("-".to_owned(), |bytes| format!("{:.0}", float(bytes) / MIB)),
                if it.broken_promises.is_empty() {
                    "kept".to_owned()
                } else {
                    it.broken_promises.join("; ")
                },
            ]
        });
        Some(table(&OVERLOAD_COLUMNS, rows))
    }

    /// The figures that decide the size of a machine.
    fn sizing(&self) -> String {
        let mut lines = self.peak();
        for run in self.runs.iter().filter(|run| run.load.kind == Kind::Open) {
            let Run { load, latency_ms, .. } = run;
            let rate = load.requests_per_second.unwrap_or_default();
            lines.push(format!(
                "at {rate:>6} requests/s  p99 {:.1} ms, p99.9 {:.1} ms",
                latency_ms.p99, latency_ms.p999
            ));
        }
        if let Some(rss) = self.runs.iter().filter_map(|run| run.rss_bytes).max() {
            lines.push(format!("memory             {:.0} MiB", float(rss) / MIB));
        }
        if let Some(disk) = self.disk {
            let payload = float(u64::try_from(self.settings.payload_bytes).unwrap_or(u64::MAX));
            let million = disk.bytes_per_payload_byte * payload * 1e6 / GIB;
            let ratio = disk.bytes_per_payload_byte;
            lines.push(format!(
                "disk               {million:.2} GiB for a million events ({ratio:.2} bytes for \
                 each payload byte)"
            ));
        }
        if let Some(it) = self.delivery {
            lines.push(format!(
                "delivery           {:.0}/s to one endpoint ({:.0}/s while events arrived; {:.1} s \
                 behind at the end); {} of {:.0} delivered",
                it.per_second, it.per_second_meanwhile, it.seconds_behind, it.arrived, it.events
            ));
        }
        lines.join("\n")
    }

    /// The highest rate among the runs, and its cost.
    fn peak(&self) -> Vec<String> {
        let rate = |run: &&Run| run.events_per_second;
        let best = self.runs.iter().max_by(|one, other| rate(one).total_cmp(&rate(other)));
        let Some(best) = best else { return Vec::new() };
        let mut lines = vec![format!(
            "peak               {:.0} events/s ({} connections)",
            best.events_per_second, best.load.connections
        )];
        lines.extend(best.cpu_us_per_event.map(|cpu| {
            format!(
                "processor          {cpu:.0} µs for each event: one core handles {:.0} events/s",
                1e6 / cpu
            )
        }));
        lines
    }
}

fn table<const N: usize>(heads: &[&str; N], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(heads).add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
