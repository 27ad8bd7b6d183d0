//! One run and its figures, for the table and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::scrape::Spread;
use super::subject::Moment;
use super::tally::{Tally, float, max_ms, quantile_ms};

/// The way in which load is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Each connection waits for the answer before it posts again.
    Closed,
    /// Requests are sent on a schedule.
    Open,
}

/// The load that was put on the server.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Given {
    pub(super) kind: Kind,
    pub(super) connections: usize,
    /// Open loop: requests a second in the schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests_per_second: Option<u64>,
    /// Number of events in each request.
    pub(super) batch: u32,
}

/// The load of a run and its results.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Run {
    pub(super) load: Given,
    pub(super) seconds: f64,
    /// Requests answered with 2xx in time, per second.
    pub(super) requests_per_second: f64,
    /// Events of these requests, per second.
    pub(super) events_per_second: f64,
    /// Latency of 2xx answers, from the time the request was due; in a closed loop, from the time
    /// it was sent.
    pub(super) latency_ms: Latency,
    /// Number of answers of each status.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Number of requests without an answer.
    pub(super) broken: u64,
    /// Open loop: number of requests that were due and not sent, because all connections were
    /// waiting.
    pub(super) unsent: u64,
    /// Number of new events that the server counted, including those of its other clients.
    pub(super) events_accepted: f64,
    /// Number of commands in a commit group.
    pub(super) commit_group: Option<Spread>,
    pub(super) sync_ms: Option<Spread>,
    /// Processor time of the server; absent if the server ran already.
    pub(super) cpu_us_per_event: Option<f64>,
    /// Number of processors that the server kept busy.
    pub(super) server_cores: Option<f64>,
    /// Number of processors that the load and the sink kept busy.
    pub(super) load_cores: Option<f64>,
    /// Memory of the server at the end.
    pub(super) rss_bytes: Option<u64>,
}

/// Latencies of one run, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl Run {
    /// Computes the figures of the time between two moments.
    pub(super) fn of(load: Given, tally: &Tally, before: &Moment, after: &Moment) -> Self {
        let seconds = (tally.ends - tally.began).as_secs_f64();
        let grown = |name: &str| after.scrape.grown(&before.scrape, name);
        let events_accepted = grown("triggerd_events_accepted_total");
        let spread = |name: &str| after.scrape.spread(&before.scrape, name);
        let cpu = before
            .usage
            .zip(after.usage)
            .map(|(before, after)| after.cpu.saturating_sub(before.cpu).as_secs_f64());
        let own = before
            .own_cpu
            .zip(after.own_cpu)
            .map(|(before, after)| after.saturating_sub(before).as_secs_f64());
        let good = &tally.good;
        Self {
            load,
            seconds,
            requests_per_second: tally.good_per_second(),
            events_per_second: tally.good_per_second() * f64::from(load.batch),
            latency_ms: Latency {
                p50: quantile_ms(good, 0.5),
                p99: quantile_ms(good, 0.99),
                p999: quantile_ms(good, 0.999),
                max: max_ms(good),
            },
            statuses: tally.statuses.clone(),
            broken: tally.broken,
            unsent: tally.unsent,
            events_accepted,
            commit_group: spread("triggerd_commit_group_commands"),
            sync_ms: spread("triggerd_commit_sync_duration_seconds")
                .map(|spread| spread.scaled(1e3)),
            cpu_us_per_event: cpu
                .filter(|_| events_accepted > 0.0)
                .map(|cpu| cpu * 1e6 / events_accepted),
            server_cores: cpu.map(|cpu| cpu / seconds),
            load_cores: own.map(|own| own / seconds),
            rss_bytes: after.usage.map(|usage| usage.rss_bytes),
        }
    }

    /// The errors in a few words: statuses and their counts.
    pub(super) fn errors(&self) -> String {
        let bad = self.statuses.iter().filter(|(status, _)| !(200..300).contains(*status));
        let mut words: Vec<String> =
            bad.map(|(status, count)| format!("{count} × {status}")).collect();
        for (count, word) in [(self.broken, "broken"), (self.unsent, "unsent")] {
            if count > 0 {
                words.push(format!("{count} {word}"));
            }
        }
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    }
}

/// Delivery during and after a closed loop.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Delivered {
    /// Number of events to be delivered.
    pub(super) events: f64,
    pub(super) arrived: u64,
    /// Deliveries a second, from the first post to the last delivery.
    pub(super) per_second: f64,
    /// Deliveries a second while events were arriving.
    pub(super) per_second_meanwhile: f64,
    /// Seconds from the end of the load to the last delivery.
    pub(super) seconds_behind: f64,
}

/// The size of the data on disk.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Disk {
    pub(super) bytes: u64,
    pub(super) payload_bytes: f64,
    pub(super) bytes_per_payload_byte: f64,
}

impl Disk {
    /// Computes the ratio; none if there are no payloads.
    pub(super) fn of(bytes: u64, payload_bytes: f64) -> Option<Self> {
        (payload_bytes > 0.0).then(|| Self {
            bytes,
            payload_bytes,
            bytes_per_payload_byte: float(bytes) / payload_bytes,
        })
    }
}
