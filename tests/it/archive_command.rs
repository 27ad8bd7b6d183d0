//! `triggerd archive`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use triggerd::app::App;
use triggerd::base::clock::Clock;
use triggerd::config::Config;

use super::{archived, archiving, files, finished, has_ending, has_failed, ids, status};
use crate::backups::text;
use crate::damage::rotten;
use crate::harness::{Client, Process, command, settings, until};

/// Runs the command for a running server.
fn archive(server: &Process, time: &str, directory: &Path) -> (Option<i32>, String) {
    command(&server.data_dir, &["archive", time, text(directory), "--url", &server.url])
}

#[test]
fn the_events_of_a_time_are_written_for_all_organizations_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let (org, other) = (server.org("Acme"), server.org("Other"));
    let all = dir.path().join("all");
    let (code, said) = archive(&server, "..", &all);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no event was received") && said.contains("nothing was written"));
    assert!(!all.exists());
    let mut events = finished(&org, 100);
    events.push(other.send("a.b", &json!("x\n😀")).id());
    let secret = org.send("a.b", &json!("secret")).id();
    assert_eq!(org.delete(&format!("/api/events/{secret}")).status, 200);
    let (code, said) = archive(&server, "1h..", &all);
    assert!(code == Some(0) && said.contains("102 events"), "{said}");
    let lines = archived(&all);
    assert_eq!(lines.len(), 102);
    assert!(events.iter().all(|event| ids(&lines).contains(event)));
    let line = |id: &str| lines.iter().find(|line| line["id"] == json!(id)).unwrap();
    assert_eq!(line(&secret)["payload"], json!(null));
    assert_eq!(line(&events[100])["payload"], json!("x\n😀"));
    let organizations: Vec<_> =
        [&events[0], &events[100]].iter().map(|id| line(id)["organization_id"].clone()).collect();
    assert_ne!(organizations[0], organizations[1]);
    let name = files(&all)[0].file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name.starts_with("events-20") && name.ends_with(&format!("{}.jsonl.zst", events[0])));
    // Nothing is overwritten, and nothing half is left.
    let (code, said) = archive(&server, "..", &all);
    assert!(code == Some(1) && said.contains("exists already"), "{said}");
    let (code, said) = archive(&server, "2h..1h", &dir.path().join("none"));
    assert!(code == Some(1) && said.contains("nothing was written"), "{said}");
    let (code, said) = archive(&server, "..", &all.join("file/sub"));
    assert_eq!(code, Some(0), "a directory is made: {said}");
    let in_the_way = files(&all).into_iter().find(|path| has_ending(path, ".zst")).unwrap();
    let (code, said) = archive(&server, "..", &in_the_way.join("sub"));
    assert!(code == Some(1) && said.contains("the archive cannot be written"), "{said}");
    assert_eq!(archived(&all).len(), 102);
    assert!(!files(&all).iter().any(|path| has_ending(path, ".part")));
}

#[test]
fn a_stopped_server_gives_the_same_lines_and_its_data_directory_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let (org, other) = (server.org("Acme"), server.org("Other"));
    assert_eq!(finished(&org, 30).len(), 30);
    let (open, secret) = (other.send("a.b", &json!("x\n😀")).id(), org.send("a.b", &json!(1)).id());
    assert_eq!(org.delete(&format!("/api/events/{secret}")).status, 200);
    let [running, stopped, later] = ["running", "stopped", "later"].map(|it| dir.path().join(it));
    assert_eq!(archive(&server, "..", &running).0, Some(0));
    assert_eq!(server.stop().0, Some(0));
    let content = |file: &PathBuf| (file.clone(), fs::read(file).unwrap());
    let all = || files(&data.join("journal")).iter().map(content).collect::<Vec<_>>();
    let before = all();
    let (code, said) = command(&data, &["archive", "1h..", text(&stopped)]);
    assert!(code == Some(0) && said.contains("32 events"), "{said}");
    assert_eq!(archived(&stopped), archived(&running));
    assert!(ids(&archived(&stopped)).contains(&open));
    let (code, said) = command(&data, &["archive", "2h..1h", text(&later)]);
    assert!(code == Some(1) && said.contains("nothing was written"), "{said}");
    let (code, said) = command(&data, &["archive", "..", text(&stopped)]);
    assert!(code == Some(1) && said.contains("exists already"), "{said}");
    assert!(before == all() && files(dir.path()).len() > 2, "the journal has changed");
    let scratch = files(dir.path());
    assert!(!scratch.iter().any(|path| path.to_string_lossy().contains("scratch")), "{scratch:?}");
    let (code, said) = command(&dir.path().join("none"), &["archive", "..", text(&later)]);
    assert!(code != Some(0) && !later.exists(), "{said}");
}

#[test]
fn a_damaged_journal_of_a_stopped_server_is_said_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    rotten(&data);
    let target = dir.path().join("target");
    let (code, said) = command(&data, &["archive", "..", text(&target)]);
    assert!(code == Some(3) && said.contains("the journal is damaged"), "{said}");
    assert!(said.contains("triggerd verify") && !target.exists(), "{said}");
}

#[test]
fn a_time_that_is_none_is_refused_and_so_is_a_key_that_is_not_the_operators() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(&dir.path().join("data"));
    let org = server.org("Acme");
    let target = dir.path().join("target");
    for (time, why) in [("1h", "two times"), ("x..", "x.."), ("..2020", "..2020")] {
        let (code, said) = archive(&server, time, &target);
        assert!(code == Some(2) && said.contains(why) && said.contains("FROM..TO"), "{said}");
    }
    let (code, said) = archive(&server, "1h..2h", &target);
    assert!(code == Some(1) && said.contains("later than since"), "{said}");
    assert_eq!(org.post_text("/api/admin/archive", "").status, 403);
    assert_eq!(org.with_key("").post_text("/api/admin/archive", "").status, 401);
    // Two at a time are refused, and one after the other is not.
    org.send("a.b", &json!(1));
    let line = until(|| {
        let answer = server.admin().post_text("/api/admin/archive?since=1h", "");
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(line.header("content-type"), "application/jsonl");
    assert_eq!((line.text.lines().count(), &line.json["type"]), (1, &json!("a.b")));
}

/// The id of the first event of the days below.
const EVENT: &str = "evt_01m8gh6m04fcctp3awkvgt0000";

/// A line with this id, of this day.
fn line(id: &str, day: &str) -> String {
    format!("{{\"id\":\"{id}\",\"received_at\":\"{day}T10:00:00Z\"}}\n")
}

/// Runs the command against a server that answers with these lines, and at its end with `end`.
/// Returns the exit code, what was said, and the written files.
fn against(lines: &str, end: &str) -> (Option<i32>, String, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = listener.local_addr().unwrap().to_string();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/jsonl\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{lines}\r\n{end}",
        lines.len()
    );
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 16 << 10]).unwrap() > 0);
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let (token, data) = (dir.path().join("token"), dir.path().join("data"));
    fs::write(&token, "a token").unwrap();
    fs::write(data.with_extension("toml"), "").unwrap();
    let target = dir.path().join("some").join("target");
    let words = ["archive", "..", text(&target), "--url", &url, "--admin-token-file", text(&token)];
    let (code, said) = command(&data, &words);
    let named = |path: PathBuf| path.strip_prefix(dir.path()).unwrap().display().to_string();
    let ours = ["some", "token", "data.toml"].map(|name| dir.path().join(name));
    let strange = files(dir.path()).into_iter().filter(|path| !ours.contains(path));
    let written = files(&target).into_iter().chain(strange).map(named).collect();
    (code, said, written)
}

#[test]
fn an_answer_that_breaks_off_leaves_the_days_that_are_complete_and_no_half_one() {
    let lines = line(EVENT, "2026-01-01") + &line(EVENT, "2026-01-02");
    let whole = format!("some/target/events-2026-01-01-{EVENT}.jsonl.zst");
    // Within the answer, and within its last line although the answer ends.
    let cut = lines.clone() + line(EVENT, "2026-01-02").trim_end();
    for (lines, end) in [(lines, ""), (cut, "0\r\n\r\n")] {
        let (code, said, written) = against(&lines, end);
        assert!(code == Some(1) && said.contains("broke off"), "{said}");
        assert!(said.contains("2026-01-01") && !said.contains("2026-01-02"), "{said}");
        assert_eq!(written, [whole.as_str()]);
    }
}

#[test]
fn an_answer_that_is_none_of_a_triggerd_names_no_file_and_fills_no_memory() {
    let endless = "x".repeat(17 << 20);
    for lines in [line("x/../../../evil", "2026-01-01"), line("a\\u001b[0m", "2026-01-01"), endless]
    {
        let (code, said, written) = against(&lines, "0\r\n\r\n");
        assert!(code == Some(1) && said.contains("a line of the answer is"), "{said}");
        assert!(!said.contains('\u{1b}') && said.len() < 500, "{said}");
        assert_eq!(written, [""; 0]);
    }
}

#[test]
fn an_event_that_cannot_be_read_stays_alone_and_the_others_are_archived_and_expire() {
    let dir = tempfile::tempdir().unwrap();
    let (data, expired) = (dir.path().join("data"), dir.path().join("expired"));
    let (key, ids_before) = rotten(&data);
    let server = Process::start_with(&data, &archiving(&expired));
    let (org, other) = (Client::new(&server.url, &key), server.org("Other"));
    // The command writes a line for it, goes on, and does not end as if all was well.
    let all = dir.path().join("all");
    let (code, said) = archive(&server, "..", &all);
    assert!(code == Some(1) && said.contains("1 event could not be read"), "{said}");
    assert!(said.contains(&ids_before[1]) && said.contains("triggerd verify"), "{said}");
    let lines = archived(&all);
    assert_eq!(ids(&lines), ids_before.iter().cloned().collect());
    for line in &lines {
        let is_rotten = line["id"] == json!(ids_before[1]);
        assert_eq!(line["unreadable"], if is_rotten { json!(true) } else { Value::Null });
        assert_eq!(line.get("payload").is_none(), is_rotten, "{}", line["id"]);
    }
    // Events of its block stay with it, those of later blocks and other organizations do not.
    for id in &ids_before {
        assert_eq!(org.ack(id).status, 200);
    }
    let (later, others) = (finished(&org, 200), finished(&other, 3));
    for (client, id) in [(&other, &others[2]), (&org, &later[100]), (&org, &later[199])] {
        until(|| (status(client, id) == 404).then_some(()));
    }
    assert_eq!((status(&org, &ids_before[0]), status(&org, &ids_before[1])), (200, 500));
    assert!(org.metric("triggerd_archive_failures_total") >= 1.0);
    assert!(!has_failed(&server), "the archive works");
    assert_eq!(server.stop().0, Some(0));
    let found = ids(&archived(&expired));
    assert!(others.iter().chain(&later[100..]).all(|event| found.contains(event)), "{found:?}");
    assert!(!ids_before.iter().any(|event| found.contains(event)), "{found:?}");
}

#[test]
fn an_archive_of_everything_has_the_events_of_a_clock_that_was_ahead_or_behind() {
    const NOW_MS: u64 = 1_800_000_000_000;
    const YEAR_MS: u64 = 365 * 86_400_000;
    let dir = tempfile::tempdir().unwrap();
    let more = "[retention]\nfinished_seconds = 0\nopen_seconds = 0\n";
    let config = Config::from_toml(&settings(&dir.path().join("data"), more)).unwrap();
    let clock = Clock::manual(NOW_MS);
    let app = App::start(config, clock.clone()).unwrap();
    let admin = Client::new(&format!("http://{}", app.address()), app.admin_token());
    let org = admin.new_org("Acme");
    let send_at = |at: u64| {
        clock.set_ms(at);
        org.send("a.b", &json!(at)).id()
    };
    let [now, ahead, behind] = [NOW_MS, NOW_MS + YEAR_MS, NOW_MS - YEAR_MS].map(send_at);
    clock.set_ms(NOW_MS);
    let shown = |query: &str| -> Vec<String> {
        let answer = until(|| {
            let answer = admin.post_text(&format!("/api/admin/archive{query}"), "");
            (answer.status == 200).then_some(answer)
        });
        let parsed = answer.text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        parsed.map(|line| line["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(shown(""), [&behind, &now, &ahead].map(String::clone), "day by day");
    assert_eq!(shown("?since=1d"), [&now, &ahead].map(String::clone));
    assert_eq!(shown("?until=2026-12-31T00:00:00Z"), [&behind].map(String::clone));
    // Thousands of years without an event take no time.
    assert_eq!(shown("?until=9999-01-01T00:00:00Z").len(), 3);
    app.stop();
}
