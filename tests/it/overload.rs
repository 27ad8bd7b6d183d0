//! `triggerd bench` with the real binary, and a server under more load than it can accept. These
//! tests hold on every machine, however slow and busy; gates judge throughput and latency.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Process, until};

/// Runs `triggerd bench` in this directory with this configuration.
fn bench(dir: &Path, config: &str, arguments: &[&str]) -> Output {
    let file = dir.join("bench.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_triggerd"));
    command.arg("--config").arg(file).arg("bench").args(arguments);
    if !arguments.iter().any(|argument| ["--url", "--dir"].contains(argument)) {
        command.arg("--dir").arg(dir);
    }
    command.output().unwrap()
}

fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", text_of(&output.stderr)))
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn number(value: &Value, pointer: &str) -> f64 {
    value
        .pointer(pointer)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

/// Checks that the figures of a run fit each other; returns the number of accepted events.
fn events_of_a_consistent_run(run: &Value) -> f64 {
    let statuses = run["statuses"].as_object().unwrap();
    assert!(statuses.keys().all(|status| status == "202"), "nothing but 202: {run:#}");
    let answered = statuses.get("202").map_or(0.0, |count| count.as_f64().unwrap());
    // The server counted the same events, and wrote them in the reported groups.
    assert_eq!(number(run, "/events_accepted"), answered, "{run:#}");
    let latency = &run["latency_ms"];
    let percentiles = ["p50", "p99", "p999", "max"].map(|name| latency[name].as_f64().unwrap());
    assert!(percentiles.is_sorted() && number(run, "/rss_bytes") > 1e6, "{run:#}");
    if answered > 0.0 {
        assert!(percentiles[0] > 0.0 && number(run, "/cpu_us_per_event") >= 0.0, "{run:#}");
        let (commands, sync_ms) = (number(run, "/commit_group/mean"), number(run, "/sync_ms/mean"));
        assert!(commands >= 1.0 && sync_ms > 0.0, "{run:#}");
    }
    // Each connection of a closed loop posts at least once.
    let connections = number(run, "/load/connections");
    assert!(run["load"]["kind"] == "open" || answered >= connections, "{run:#}");
    answered
}

#[test]
fn bench_measures_a_server_of_its_own_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let arguments =
        ["--seconds", "1", "--connections", "4,8", "--payload-bytes", "512", "--deliver", "--json"];
    // With the default limit, events would be refused when other work occupies the disk for half a
    // second.
    let output = bench(dir.path(), "[intake]\nwait_ms_max = 60000\n", &arguments);
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{}", text_of(&output.stderr));
    let runs = report["runs"].as_array().unwrap();
    let loads: Vec<_> = runs.iter().map(|run| run["load"]["kind"].as_str().unwrap()).collect();
    assert_eq!(
        loads,
        ["closed", "closed", "open", "open", "closed"],
        "the last one with deliveries"
    );
    let mut events = 0.0;
    for run in runs {
        events += events_of_a_consistent_run(run);
    }
    // Open loop: exactly the requests due, at 50 % and 80 % of the best closed loop.
    let best =
        number(&runs[0], "/requests_per_second").max(number(&runs[1], "/requests_per_second"));
    for (run, share) in [(&runs[2], 0.5), (&runs[3], 0.8)] {
        let due = number(run, "/load/requests_per_second");
        assert!((best.floor() * share - due - 0.5).abs() <= 0.5, "{due} of {best}");
        assert_eq!(number(run, "/events_accepted") + number(run, "/unsent"), due, "in one second");
    }
    let delivery = &report["delivery"];
    assert_eq!(number(delivery, "/arrived"), number(&runs[4], "/events_accepted"), "{delivery:#}");
    // The first event and the warm-up add to these events.
    assert!(number(&report, "/disk/payload_bytes") > events * 512.0);
    assert!(number(&report, "/disk/bytes_per_payload_byte") > 1.0, "payloads are on the disk");
    assert!(
        number(&report, "/sync_floor/p50_ms") > 0.0 && number(&report, "/machine/cores") >= 1.0
    );
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["bench.toml"]);
}

#[test]
fn bench_measures_a_server_that_runs_already_and_says_when_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let org = server.org("Acme");
    let url = server.url.as_str();
    let arguments =
        ["--url", url, "--key", &org.key, "--seconds", "1", "--batch", "5", "--rate", "20"];
    let output = bench(dir.path(), "", &arguments);
    let text = text_of(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}{}", text_of(&output.stderr));
    assert!(text.contains("open, 20/s") && text.contains("5 events a request"), "{text}");
    assert!(org.inbox().len() > 100, "20 requests of 5 events, the warm-up and the knock");
    let wrong = bench(dir.path(), "", &["--url", url, "--key", "no-such-key", "--seconds", "1"]);
    assert_eq!(wrong.status.code(), Some(1));
    let told = text_of(&wrong.stderr);
    let parts = ["401", "(--url)", "the key from --key"];
    assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    let proxied = bench(dir.path(), "", &["--url", "https://events.example", "--key", "k"]);
    assert_eq!(proxied.status.code(), Some(2), "{}", text_of(&proxied.stderr));
    let absent = dir.path().join("absent");
    let nowhere = bench(dir.path(), "", &["--dir", absent.to_str().unwrap()]);
    let told = text_of(&nowhere.stderr);
    let parts = [absent.to_str().unwrap(), "it does not exist", "--dir"];
    assert!(parts.iter().all(|part| told.contains(part)) && !told.contains("os error"), "{told}");
}

/// The failpoint for servers that are overloaded on every machine: each group has one command, and
/// its sync takes longer than any event may wait.
const SLOW: [&str; 2] = ["env", "TRIGGERD_FAILPOINTS=syncs_slowly"];

/// A server with these settings and slow syncs, and an organization.
fn slow_server(dir: &Path, intake: &str) -> (Process, Client) {
    let server = Process::try_start(
        &dir.join("data"),
        &format!("[intake]\ngroup_commands = 1\n{intake}"),
        &SLOW,
    );
    let server = server.unwrap_or_else(|(status, log)| panic!("not ready: {status}\n{log}"));
    let org = server.org("Acme");
    (server, org)
}

#[test]
fn far_more_load_than_it_can_take_is_refused_with_retry_after_and_the_server_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (server, org) = slow_server(dir.path(), "wait_ms_max = 5\n");
    let mut arguments =
        vec!["--overload", "--rounds", "1", "--seconds", "1", "--connections", "2,96", "--json"];
    arguments.extend(["--url", &server.url, "--key", &org.key]);
    let output = bench(dir.path(), "", &arguments);
    let report = report(&output);
    let verdicts = report["overload"].as_array().unwrap();
    assert_eq!(
        verdicts.iter().map(|it| it["multiple"].as_u64().unwrap()).collect::<Vec<_>>(),
        [1, 3, 10]
    );
    for verdict in verdicts {
        assert_eq!(number(verdict, "/wrong"), 0.0, "nothing but 2xx and refusals: {verdict:#}");
        assert_eq!(number(verdict, "/refused_without_retry_after"), 0.0, "{verdict:#}");
    }
    let refused: f64 = verdicts.iter().map(|it| number(it, "/refused_per_second")).sum();
    assert!(refused > 0.0, "it was too much: {report:#}");
    // The exit code matches the verdict.
    let kept = verdicts.iter().all(|it| it["broken_promises"].as_array().unwrap().is_empty());
    assert_eq!(output.status.code(), Some(i32::from(!kept)));
    until(|| (org.send("a.b", &json!(1)).status == 202).then_some(()));
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn bench_that_is_told_to_stop_takes_its_server_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_triggerd"));
    command.args(["bench", "--seconds", "60", "--connections", "2", "--dir"]).arg(dir.path());
    let mut bench = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let inside =
        || std::fs::read_dir(dir.path()).unwrap().filter_map(Result::ok).map(|entry| entry.path());
    // The load has begun when the server has accepted more than bench's first event.
    until(|| {
        let log =
            inside().find_map(|path| std::fs::read_to_string(path.join("server.log")).ok())?;
        let ready = log.lines().find(|line| line.contains("triggerd is ready"))?;
        let line: Value = serde_json::from_str(ready).ok()?;
        let server = Client::new(&format!("http://{}", line["address"].as_str()?), "");
        (server.metric("triggerd_events_accepted_total") > 1.0).then_some(())
    });
    let id = bench.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let server = children.split_whitespace().next().expect("bench runs a server");
    kill_process(Pid::from_child(&bench), Signal::TERM).unwrap();
    assert_eq!(bench.wait().unwrap().code(), Some(1), "it says that it was interrupted");
    assert!(!Path::new(&format!("/proc/{server}")).exists(), "its server ended before it");
    assert_eq!(inside().count(), 0, "nothing is left behind");
}

/// Posts on many connections until `enough` posts were refused; returns the refusals and the
/// accepted ids.
fn post_until_refused(
    url: &str,
    key: &str,
    body: &str,
    enough: usize,
) -> (Vec<Answer>, Vec<String>) {
    const POSTERS: usize = 24;
    // Maximum number of posts of each connection; with slow syncs, ten seconds without a refusal.
    const POSTS_MAX: usize = 20;
    let (refused, taken) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let count = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..POSTERS {
            scope.spawn(|| {
                let client = Client::new(url, key);
                for _ in 0..POSTS_MAX {
                    if count.load(Ordering::SeqCst) >= enough {
                        return;
                    }
                    let answer = client.post_text("/api/events", body);
                    if answer.status == 202 {
                        taken.lock().unwrap().push(answer.id());
                    } else {
                        count.fetch_add(1, Ordering::SeqCst);
                        refused.lock().unwrap().push(answer);
                    }
                }
            });
        }
    });
    (refused.into_inner().unwrap(), taken.into_inner().unwrap())
}

/// Puts more load on a server than it can accept; checks the refusals, and the server right after.
fn refuses_and_is_well_right_after(intake: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (server, org) = slow_server(dir.path(), intake);
    // One request at a time is no overload.
    until(|| (org.send("a.b", &json!(1)).status == 202).then_some(()));
    let before = org.metric("triggerd_events_rejected_total{reason=\"overloaded\"}");
    let body = json!({"type": "a.b", "payload": 2}).to_string();
    let (refused, taken) = post_until_refused(&server.url, &org.key, &body, 20);
    assert!(refused.len() >= 20, "{} refused, {} taken", refused.len(), taken.len());
    for answer in &refused {
        assert_eq!((answer.status, answer.code()), (503, "overloaded"), "{answer:?}");
        assert_eq!(answer.header("retry-after"), "1");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    let rejected = org.metric("triggerd_events_rejected_total{reason=\"overloaded\"}") - before;
    assert_eq!(rejected, f64::from(u32::try_from(refused.len()).unwrap()));
    // When the waiting events are stored, the server accepts events again. Exactly the acknowledged
    // events exist.
    until(|| (org.send("a.b", &json!(3)).status == 202).then_some(()));
    assert_eq!(org.inbox().len(), taken.len() + 2);
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn a_full_intake_queue_answers_503_and_stores_nothing_of_it() {
    refuses_and_is_well_right_after("queue = 1\n");
}

#[test]
fn what_waits_for_too_long_has_events_answered_with_503_until_it_is_stored() {
    refuses_and_is_well_right_after("wait_ms_max = 1\n");
}

#[test]
#[should_panic(expected = "0 refused")]
fn the_same_load_is_not_refused_where_it_may_wait() {
    refuses_and_is_well_right_after("wait_ms_max = 60000\n");
}
