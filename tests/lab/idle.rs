//! A server without requests writes nothing and, where times are judged, hardly wakes.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Process, patience};
use crate::ledger::Ledger;
use crate::receiver::Receiver;
use crate::scenario::{Outcome, Plan, keep};

/// Longer than any delayed write after a request, such as the time at which keys were used.
const SILENCE: Duration = Duration::from_secs(11);
/// Longest time for which a server in a negative control may go on writing.
const GOES_ON: Duration = Duration::from_secs(30);
/// Threads that poll do so once a second, seven of sled's among them; actix's clocks poll twice. As
/// much again is allowed for rare timers.
const WAKEUPS_PER_SECOND: u64 = 50;
/// Ticks of 10 ms in ten seconds: 0.2 % of a core.
const TICKS_PER_TEN_SECONDS: u64 = 2;
/// Ticks always allowed: a short run counts few ticks, and a build for tests is slow.
const TICKS_MORE: u64 = 3;

/// actix's clocks wake their threads twice a second by writing a number into an `eventfd`, which is
/// only memory. No log line or journal frame is as short.
const WAKE_BYTES: u64 = 8;

pub(crate) fn run(plan: &Plan) -> Outcome {
    let data = plan.dir.join("data");
    let (mut server, _) = Process::boot(&data);
    fill(&server, &Ledger::new(&plan.dir.join("ledger")));
    let before = settled(&mut server);
    let began = Instant::now();
    pause(&mut server, Duration::from_secs(plan.rounds));
    let after = Figures::of(&server);
    let (seconds, ticks) = (began.elapsed().as_secs().max(1), after.ticks - before.ticks);
    let wakeups = after.wakeups.saturating_sub(before.wakeups);
    assert_eq!(before.written, after.written, "an idle server wrote");
    let ticks_max = TICKS_MORE + seconds * TICKS_PER_TEN_SECONDS / 10;
    assert!(
        !plan.judges_time || wakeups <= seconds * WAKEUPS_PER_SECOND,
        "an idle server woke {wakeups} times in {seconds} s"
    );
    assert!(
        !plan.judges_time || ticks <= ticks_max,
        "an idle server ran for {ticks} ticks of 10 ms in {seconds} s"
    );
    assert_eq!(server.stop().0, Some(0));
    keep("idle", &data);
    Outcome::Passed(format!(
        "nothing written, {wakeups} wakeups and {ticks} ticks of 10 ms in {seconds} s"
    ))
}

/// Makes a pulling and a pushing organization with a few events. No work is left.
fn fill(server: &Process, ledger: &Ledger) {
    let receiver = Receiver::start();
    let [(_, pulls), (_, pushes)] = server.orgs(ledger, &receiver);
    let [pulls, pushes] = [pulls, pushes].map(|key| server.admin().with_key(&key));
    for number in 0..10 {
        pulls.send_once(&format!("d-{number}"), &json!(number));
        pushes.send_once(&format!("d-{number}"), &json!(number));
    }
    pushes.inbox_until(<[_]>::is_empty);
}

/// Waits until nothing has been written for a while.
fn settled(server: &mut Process) -> Figures {
    let (began, mut last, mut silent) = (Instant::now(), Figures::of(server), Instant::now());
    loop {
        pause(server, Duration::from_millis(200));
        let now = Figures::of(server);
        if now.written != last.written {
            silent = Instant::now();
        } else if silent.elapsed() >= SILENCE {
            return now;
        }
        last = now;
        assert!(
            began.elapsed() < patience(GOES_ON),
            "an idle server goes on writing: {:?}",
            last.written
        );
    }
}

fn pause(server: &mut Process, long: Duration) {
    std::thread::park_timeout(long);
    if let Some(status) = server.ended() {
        panic!("the idle server ended: {status}");
    }
}

/// The kernel's figures of a process: proc_pid_io(5), proc_pid_stat(5), proc_pid_status(5).
struct Figures {
    /// Bytes given to `write` and the like, less [`WAKE_BYTES`] for each call, and bytes for the
    /// disk.
    written: [u64; 2],
    ticks: u64,
    /// Voluntary context switches of all threads.
    wakeups: u64,
}

impl Figures {
    fn of(server: &Process) -> Self {
        let dir = format!("/proc/{}", server.child.id());
        let read =
            |path: &str| std::fs::read_to_string(format!("{dir}/{path}")).unwrap_or_default();
        let io = read("io");
        assert!(io.contains("wchar"), "what the server writes cannot be counted");
        let [bytes, writes, to_disk] =
            ["wchar", "syscw", "write_bytes"].map(|name| field(&io, name));
        let written = [bytes.wrapping_sub(writes * WAKE_BYTES), to_disk];
        let stat = read("stat");
        let behind_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks = behind_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().unwrap())
            .sum();
        let threads = std::fs::read_dir(format!("{dir}/task")).into_iter().flatten();
        let wakeups = threads.map(|thread| {
            let name = thread.unwrap().file_name().into_string().unwrap();
            field(&read(&format!("task/{name}/status")), "voluntary_ctxt_switches")
        });
        Self { written, ticks, wakeups: wakeups.sum() }
    }
}

/// Returns the number after a name at the beginning of a line; 0 if the process is gone.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map_or(0, |value| value.trim().parse().unwrap())
}
