//! The syscall lint: several clients run at once under strace. Each 2xx must come after a finished
//! sync covering the write of the acknowledged frame, in a segment whose name was synced.
//!
//! A snapshot, too, must be synced before it gets its name.
//!
//! The ids in an answer find the acknowledged frame: the frame contains the same bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;

use serde_json::json;
use triggerd::model::id::decode_base32;

use crate::harness::{Client, Process};
use crate::scenario::{Outcome, Plan, keep};
use crate::server::config;
use crate::syscalls::{Moment, Syscall, read};

const CLIENTS: u64 = 4;
/// Number of rounds that make a snapshot due, at the latest at the stop.
const SNAPSHOT_ROUNDS: u64 = 40;
/// `sync_file_range` is missing on purpose: the call makes nothing durable.
const CALLS: &str =
    "trace=?open,openat,linkat,pwrite64,pwritev,write,writev,sendto,sendmsg,fsync,fdatasync";

pub(crate) fn run(plan: &Plan) -> Outcome {
    if Command::new("strace").arg("-V").output().is_err() {
        return Outcome::Skipped("strace is not installed".to_owned());
    }
    let trace = plan.dir.join("trace");
    let mut wrapper =
        vec!["strace", "-f", "-y", "-xx", "-s", "70000", "--seccomp-bpf", "-e", CALLS];
    wrapper.extend(["-o", trace.to_str().unwrap()]);
    let data = plan.dir.join("data");
    // The smallest allowed segments, so that many are made.
    let config = config(&data).replace("segment_bytes = 262144", "segment_bytes = 65536");
    let server = Process::spawn(&data, &config, &wrapper).ready();
    let server = server.unwrap_or_else(|(status, log)| panic!("not ready: {status}\n{log}"));
    let admin = server.admin();
    let key = admin.new_org("traced").key;
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (url, key, admin) = (server.url.clone(), key.clone(), admin.key.clone());
            let rounds = plan.rounds;
            scope.spawn(move || {
                ask(&Client::new(&url, &key), &Client::new(&url, &admin), client, rounds);
            });
        }
    });
    server.stop_wrapped();
    keep("trace", &data);
    let judged = judge(&std::fs::read_to_string(&trace).unwrap());
    let Judged { answers, ids, segments, snapshots } =
        judged.unwrap_or_else(|fault| panic!("{fault}"));
    let least = usize::try_from(CLIENTS * plan.rounds).unwrap();
    assert!(answers >= least, "only {answers} answers were found in the trace");
    assert!(snapshots > 0 || plan.rounds < SNAPSHOT_ROUNDS, "no snapshot was taken");
    Outcome::Passed(format!(
        "{answers} answers with {ids} ids, each after its sync; {segments} segments' names synced; \
         {snapshots} snapshots, each synced before it got its name"
    ))
}

/// Sends every kind of request with a durable change.
fn ask(org: &Client, admin: &Client, client: u64, rounds: u64) {
    for round in 0..rounds {
        let payload = json!("x".repeat(if round % 8 == 3 { 9_000 } else { 200 }));
        let sent = org.send_once(&format!("{client}-{round}"), &payload);
        assert_eq!(sent.status, 202);
        match round % 4 {
            0 => assert_eq!(org.ack(&sent.id()).status, 200),
            1 => assert_eq!(org.send_once(&format!("{client}-{round}"), &payload).status, 200),
            2 => {
                let item = |n: u64| json!({"type": "a", "payload": n});
                assert_eq!(
                    org.post("/api/events/batch", &json!({"events": [item(1), item(2), item(3)]}))
                        .status,
                    200
                );
            }
            _ => {
                // A new organization gets the endpoint: otherwise the events would be routed as
                // well.
                let other = admin.new_org("another");
                assert_eq!(
                    other
                        .post("/api/webhook/config", &json!({"url": "http://127.0.0.1:9/"}))
                        .status,
                    201
                );
            }
        }
    }
}

/// Counts of the answers, ids, segment names and snapshots that were in order.
#[derive(Debug, Default)]
struct Judged {
    answers: usize,
    ids: usize,
    segments: usize,
    snapshots: usize,
}

/// The knowledge at a point of the trace.
#[derive(Default)]
struct Known {
    /// The finished writes of each segment, and of each file that has no name yet.
    written: BTreeMap<String, BTreeSet<usize>>,
    /// The finished writes covered by each running sync.
    covers: BTreeMap<usize, BTreeSet<usize>>,
    synced: BTreeSet<usize>,
    unnamed: BTreeSet<String>,
    /// Names made before a running sync of their directory began.
    names: BTreeMap<usize, BTreeSet<String>>,
    /// The writes to segments that hold an id, in order.
    holding: HashMap<[u8; 16], Vec<usize>>,
}

fn judge(trace: &str) -> Result<Judged, String> {
    let (calls, moments) = read(trace);
    let (mut known, mut judged) = (Known::default(), Judged::default());
    for moment in moments {
        match moment {
            Moment::Begins(number) => {
                known.begins(&calls, number);
                judged.snapshots += known.check_snapshot(&calls[number])?;
                let data = calls[number].data();
                // "HTTP/1.1 2"
                if data.starts_with("485454502f312e312032") {
                    judged.answers += 1;
                    judged.ids += known.check(&calls, &data)?;
                }
            }
            Moment::Ends(number) => judged.segments += known.ends(&calls, number),
        }
    }
    Ok(judged)
}

impl Known {
    fn begins(&mut self, calls: &[Syscall], number: usize) {
        let call = &calls[number];
        let path = call.path();
        match (call.name.as_str(), file_of(call)) {
            ("fsync" | "fdatasync", Some(file)) => {
                self.covers.insert(number, self.written.get(&file).cloned().unwrap_or_default());
            }
            ("fsync", None) if path.ends_with("/journal") => {
                _ = self.names.insert(number, self.unnamed.clone());
            }
            _ if is_segment(&path) => self.note_ids(number, &call.data()),
            _ => {}
        }
    }

    fn note_ids(&mut self, write: usize, data: &str) {
        for window in bytes_of(data).windows(16) {
            let window: [u8; 16] = window.try_into().unwrap();
            // Journal integers are little-endian; texts and the keys of rows are not.
            let mut backwards = window;
            backwards.reverse();
            for id in [window, backwards].into_iter().filter(may_be_id) {
                let writes = self.holding.entry(id).or_default();
                if writes.last() != Some(&write) {
                    writes.push(write);
                }
            }
        }
    }

    /// Notes the end of a call. Returns the number of segment names synced.
    fn ends(&mut self, calls: &[Syscall], number: usize) -> usize {
        let call = &calls[number];
        if !call.succeeded() {
            return 0;
        }
        let made = match call.name.as_str() {
            "openat" if call.arguments.contains("O_CREAT") => call.opened(),
            "linkat" => call.last_text(),
            _ => String::new(),
        };
        if call.arguments.contains("O_TMPFILE") {
            // Other files may have had the number of the descriptor.
            let number = call.result.split('<').next().unwrap_or_default();
            self.written.retain(|file, _| file.split('<').next() != Some(number));
        } else if is_segment(&made) {
            self.unnamed.insert(made);
        } else if let Some(covered) = self.covers.remove(&number) {
            self.synced.extend(covered);
        } else if let Some(names) = self.names.remove(&number) {
            self.unnamed.retain(|name| !names.contains(name));
            return names.len();
        } else if let Some(file) = file_of(call) {
            self.written.entry(file).or_default().insert(number);
        }
        0
    }

    /// Checks that a file is on stable storage before it gets the name of a snapshot. Returns the
    /// number of snapshots that get their name.
    fn check_snapshot(&self, call: &Syscall) -> Result<usize, String> {
        let name = call.last_text();
        if call.name != "linkat" || Path::new(&name).extension() != Some("snap".as_ref()) {
            return Ok(0);
        }
        let source = call.first_text();
        let descriptor = format!("{}<", source.trim_start_matches("/proc/self/fd/"));
        let file = self.written.iter().find(|(file, _)| file.starts_with(&descriptor));
        let Some((_, writes)) = file else {
            return Err(format!("nothing was written to {source}, which becomes {name}"));
        };
        if writes.is_subset(&self.synced) {
            return Ok(1);
        }
        Err(format!("{name} got its name before a sync covered it"))
    }

    /// Checks that each id in an answer is on stable storage. Returns the number of ids.
    fn check(&self, calls: &[Syscall], answer: &str) -> Result<usize, String> {
        let text: String = bytes_of(answer).into_iter().map(char::from).collect();
        let ids = ids_in(&text);
        // A confirmation is the second frame with the id of the event.
        let which = usize::from(text.contains("acknowledged_at"));
        for (id, bytes) in &ids {
            let Some(write) = self.holding.get(bytes).and_then(|writes| writes.get(which)) else {
                return Err(format!("{id} is acknowledged and was never written: {text}"));
            };
            if !self.synced.contains(write) {
                return Err(format!(
                    "no finished sync covers the write of {id} before its answer: {text}"
                ));
            }
            let segment = calls[*write].path();
            if self.unnamed.contains(&segment) {
                return Err(format!(
                    "{id} is acknowledged in {segment}, whose name was never synced"
                ));
            }
        }
        Ok(ids.len())
    }
}

/// Returns the segment, or the unnamed file in the journal's directory, on which the call works.
fn file_of(call: &Syscall) -> Option<String> {
    let path = call.path();
    if is_segment(&path) {
        return Some(path);
    }
    let is_unnamed = path.contains("/journal/#");
    is_unnamed.then(|| descriptor_of(&call.arguments).to_owned())
}

/// Returns the number and the path of the descriptor at the beginning of the text, up to `>`.
fn descriptor_of(text: &str) -> &str {
    text.split('>').next().unwrap_or_default()
}

fn is_segment(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "seg")
}

/// Returns true if the bytes can be a UUIDv7 (RFC 9562, section 5.7: version and variant).
fn may_be_id(bytes: &[u8; 16]) -> bool {
    bytes[6] >> 4 == 7 && bytes[8] >> 6 == 0b10
}

fn bytes_of(hexadecimal: &str) -> Vec<u8> {
    let digit =
        |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = hexadecimal.as_bytes().chunks_exact(2);
    pairs.filter_map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Returns the ids in an answer, each with its bytes.
fn ids_in(text: &str) -> Vec<(String, [u8; 16])> {
    let mut found = Vec::new();
    for prefix in ["\"id\":\"evt_", "\"key_id\":\"key_", "\"id\":\"ep_"] {
        for part in text.split(prefix).skip(1) {
            let suffix = part.split('"').next().unwrap_or_default();
            let number =
                decode_base32(suffix).unwrap_or_else(|| panic!("{prefix}{suffix} is no id"));
            found.push((format!("{prefix}{suffix}"), number.to_be_bytes()));
        }
    }
    found
}
