//! Exit codes for a data directory that is in use, damaged or incomplete. Crashes, power cuts and
//! rot are in the crash lab, `tests/lab`.

use serde_json::json;

use crate::harness::{Client, Process};

#[test]
fn a_second_server_on_the_directory_and_a_damaged_journal_are_told_by_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let Err((status, log)) = Process::try_start(&data, "", &[]) else {
        panic!("two servers on one directory")
    };
    assert_eq!(status.code(), Some(4), "{log}");
    let org = server.org("Acme");
    for n in 0..3 {
        org.send("a", &json!(n));
    }
    assert_eq!(server.stop().0, Some(0));
    let segment = data.join("journal/00000000000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let Err((status, log)) = Process::try_start(&data, "", &[]) else {
        panic!("damage was not found")
    };
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("00000000000000000001.seg") && log.contains("offset 64"), "{log}");
}

#[test]
fn a_journal_that_lost_a_part_is_told_by_exit_code_and_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Process::start(&data);
    let org = server.org("Acme");
    let payload = json!("x".repeat(200_000));
    for _ in 0..12 {
        assert_eq!(org.send("a", &payload).status, 202);
    }
    assert_eq!(server.stop().0, Some(0));
    let mut segments: Vec<_> = std::fs::read_dir(data.join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    segments.sort();
    assert!(segments.len() >= 3, "{segments:?}");
    let aside = dir.path().join("aside");
    let (first, middle, last) = (&segments[0], &segments[1], segments.last().unwrap());
    for missing in [first, middle, last] {
        std::fs::rename(missing, &aside).unwrap();
        let Err((status, log)) = Process::try_start(&data, "", &[]) else {
            panic!("{missing:?} is not missed")
        };
        assert_eq!(status.code(), Some(3), "{missing:?}: {log}");
        std::fs::rename(&aside, missing).unwrap();
    }
    std::fs::rename(data.join("journal"), &aside).unwrap();
    assert_eq!(
        Process::try_start(&data, "", &[]).err().and_then(|(status, _)| status.code()),
        Some(3)
    );
    std::fs::remove_dir_all(data.join("sled")).unwrap();
    assert_eq!(
        Process::try_start(&data, "", &[]).err().and_then(|(status, _)| status.code()),
        Some(3)
    );
    std::fs::rename(&aside, data.join("journal")).unwrap();
    let server = Process::start(&data);
    assert_eq!(Client::new(&server.url, &org.key).inbox().len(), 12, "whole again");
}
