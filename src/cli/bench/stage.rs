//! Runs the measurements one after the other on a runtime of one thread, with a progress bar.

use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::LocalSet;

use super::load::Rest;
use super::overload::{Peak, Seen};
use super::run::{Delivered, Given, Kind, Run};
use super::sink::Sink;
use super::subject::Subject;
use super::tally::{Tally, float, whole};
use crate::base::exit_code::ExitCode;
use crate::cli::Failure;

const BAR_EVERY: Duration = Duration::from_millis(200);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time without a delivery after which deliveries count as finished.
const DELIVERED_WITHIN: Duration = Duration::from_secs(10);

/// The measured server and the means to put load on it.
pub(super) struct Stage {
    runtime: Runtime,
    tasks: LocalSet,
    bar: ProgressBar,
    /// Ctrl-C and SIGTERM are caught, so that the started server does not stay behind.
    interrupt: Signal,
    terminate: Signal,
    window: Duration,
    pub(super) subject: Subject,
}

impl Stage {
    /// Makes a stage for this number of runs of this length.
    pub(super) fn new(subject: Subject, window: Duration, runs: usize) -> Result<Self, Failure> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let listen = |kind| {
            let _in_runtime = runtime.enter();
            signal(kind).map_err(failed)
        };
        let (interrupt, terminate) =
            (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        // The bar hides itself without a terminal.
        let length = window.as_millis().saturating_mul(runs.try_into().unwrap_or(u128::MAX));
        let bar = ProgressBar::new(u64::try_from(length).unwrap_or(u64::MAX));
        let style =
            ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}").map_err(failed)?;
        let (tasks, bar) = (LocalSet::new(), bar.with_style(style));
        Ok(Self { runtime, tasks, bar, interrupt, terminate, window, subject })
    }

    /// Puts load on the server without measuring.
    pub(super) fn warm_up(&mut self, window: Duration) -> Result<(), Failure> {
        self.bar.set_message("warming up");
        let load = self.subject.load.clone();
        let tally = self.drive(async move { load.closed(16, window).await })?;
        if tally.good.is_empty() {
            let statuses = tally.statuses;
            return Err(failed(format!(
                "no event was accepted: the answers were {statuses:?}, and {} requests had no \
                 answer",
                tally.broken
            )));
        }
        Ok(())
    }

    pub(super) fn closed(&mut self, connections: usize) -> Result<Run, Failure> {
        self.bar.set_message(format!("closed loop, {connections} connections"));
        let (load, window) = (self.subject.load.clone(), self.window);
        let given = self.given(Kind::Closed, connections, None);
        let before = self.subject.look()?;
        let tally = self.drive(async move { load.closed(connections, window).await })?;
        Ok(Run::of(given, &tally, &before, &self.subject.look()?))
    }

    pub(super) fn open(&mut self, connections: usize, rate: u64) -> Result<Run, Failure> {
        let given = self.given(Kind::Open, connections, Some(rate));
        let before = self.subject.look()?;
        let tally = self.schedule(connections, rate, Rest::Send)?;
        Ok(Run::of(given, &tally, &before, &self.subject.look()?))
    }

    /// Runs a multiple of the peak, then half the peak.
    pub(super) fn overload(
        &mut self,
        connections: usize,
        peak: Peak,
        multiple: u32,
    ) -> Result<Seen, Failure> {
        let due_per_second = whole(peak.same) * u64::from(multiple);
        let before = self.subject.look()?;
        let tally = self.schedule(connections, due_per_second, Rest::Leave)?;
        let overloaded = self.subject.look()?;
        let after = self.schedule(connections, whole(peak.same) / 2, Rest::Send)?;
        let later = self.subject.look()?;
        let seen = Seen { due_per_second, peak, tally, after, cpu_us: None, rss_grown_bytes: None };
        Ok(seen.used(&before, &overloaded, &later))
    }

    /// Runs a closed loop while every event is delivered to an endpoint.
    pub(super) fn deliver(&mut self, connections: usize) -> Result<(Run, Delivered), Failure> {
        self.bar.set_message("accepting and delivering");
        let sink = self.drive(Sink::start())?;
        self.subject.push_to(&sink.url())?;
        let (load, window) = (self.subject.load.clone(), self.window);
        let given = self.given(Kind::Closed, connections, None);
        let before = self.subject.look()?;
        let tally = self.drive(async move { load.closed(connections, window).await })?;
        let meanwhile = sink.count();
        let after = self.subject.look()?;
        let run = Run::of(given, &tally, &before, &after);
        let events = run.events_accepted;
        self.drive(async {
            let mut progress = (sink.count(), Instant::now());
            while float(sink.count()) < events && progress.1.elapsed() < DELIVERED_WITHIN {
                tokio::time::sleep(LOOK_EVERY).await;
                if sink.count() > progress.0 {
                    progress = (sink.count(), Instant::now());
                }
            }
            Ok(())
        })?;
        self.subject.push_nowhere()?;
        let last = sink.last().unwrap_or(tally.began);
        let took = last.saturating_duration_since(tally.began).as_secs_f64().max(f64::EPSILON);
        let delivered = Delivered {
            events,
            arrived: sink.count(),
            per_second: float(sink.count()) / took,
            per_second_meanwhile: float(meanwhile) / (tally.ends - tally.began).as_secs_f64(),
            seconds_behind: last.saturating_duration_since(tally.ends).as_secs_f64(),
        };
        Ok((run, delivered))
    }

    /// Removes the progress bar.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn given(&self, kind: Kind, connections: usize, requests_per_second: Option<u64>) -> Given {
        Given { kind, connections, requests_per_second, batch: self.subject.load.shape().batch }
    }

    fn schedule(&mut self, connections: usize, rate: u64, rest: Rest) -> Result<Tally, Failure> {
        self.bar.set_message(format!("open loop, {rate} requests/s"));
        let (load, window) = (self.subject.load.clone(), self.window);
        self.drive(async move { load.open(connections, rate, window, rest).await })
    }

    /// Runs the work until its end, or until a signal to stop.
    fn drive<T>(&mut self, work: impl Future<Output = io::Result<T>>) -> Result<T, Failure> {
        let (bar, position, began) = (&self.bar, self.bar.position(), Instant::now());
        let (interrupt, terminate) = (&mut self.interrupt, &mut self.terminate);
        let interrupted = || Err(Failure::new(ExitCode::Failed, "interrupted"));
        let show = async {
            loop {
                tokio::time::sleep(BAR_EVERY).await;
                bar.set_position(
                    position + u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                );
            }
        };
        let driven = self.tasks.run_until(async {
            tokio::select! {
                done = work => done.map_err(failed),
                () = show => Err(failed("the bar ended")),
                _ = interrupt.recv() => interrupted(),
                _ = terminate.recv() => interrupted(),
            }
        });
        self.runtime.block_on(driven)
    }
}

pub(super) fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(ExitCode::Failed, error)
}
