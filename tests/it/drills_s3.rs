//! Drills of backups in a bucket. Needs Python; see `s3_store`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::backups::fill;
use crate::backups_s3::{Place, url};
use crate::harness::{Process, command};

/// Starts a server that keeps one backup in the bucket, and drills when it is asked.
fn serve(place: &Place) -> Process {
    place.serve(&format!("directory = {:?}\nkeep = 1\ndrill_every_seconds = 0\n", url("")))
}

fn drill(server: &Process) -> (Option<i32>, String) {
    command(&server.data_dir, &["drill", "--url", &server.url])
}

fn backup(place: &Place, server: &Process) {
    fill(&server.org("Acme"), 60);
    place.good(&["backup", &url(""), "--url", &server.url]);
}

fn outcome(server: &Process) -> Value {
    server.admin().get("/health").json["drill"]["outcome"].clone()
}

/// The files of drills in the data directory.
fn drills_in(data: &Path) -> Vec<String> {
    let names = fs::read_dir(data).unwrap().map(|it| it.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    names.filter(|name| name.contains("drill-")).collect()
}

#[test]
fn a_drill_restores_the_newest_backup_in_a_bucket_and_the_one_that_passed_stays() {
    let Some(place) = Place::start() else { return };
    let server = serve(&place);
    let (code, said) = drill(&server);
    assert!(code == Some(1) && said.contains("holds no backup of this server"), "{said}");
    assert_eq!(outcome(&server), "skipped");
    backup(&place, &server);
    let passed = place.store.keys_with("/backups/").remove(0);
    let (code, said) = drill(&server);
    assert!(code == Some(0) && said.contains(&url("20")), "{said}");
    assert_eq!(outcome(&server), "passed");
    let left = drills_in(&place.data());
    assert!(left.len() == 1 && left[0].contains(".json"), "only the result stays: {left:?}");
    // `keep` is 1, but no newer one has passed.
    backup(&place, &server);
    backup(&place, &server);
    let kept = place.store.keys_with("/backups/");
    assert!(kept.len() == 2 && kept[0] == passed, "{kept:?}");
    assert_eq!(drill(&server).0, Some(0));
    backup(&place, &server);
    let now = place.store.keys_with("/backups/");
    assert!(now.len() == 2 && now[0] == kept[1], "{now:?}");
}

#[test]
fn a_damaged_object_fails_the_drill_and_a_store_that_is_away_does_not() {
    let Some(place) = Place::start() else { return };
    let server = serve(&place);
    backup(&place, &server);
    let object = place.store.keys_with("/objects/").remove(0);
    place.store.put(&object, "rotten");
    let (code, said) = drill(&server);
    assert!(code == Some(1) && said.contains("is damaged"), "{said}");
    assert_eq!(outcome(&server), "failed");
    let left = drills_in(&place.data());
    assert!(left.len() == 1 && left[0].contains(".json"), "{left:?}");
    // A store that does not answer says nothing about the backup.
    drop(place.store);
    let (code, said) = drill(&server);
    assert!(code == Some(1) && said.contains("does not answer"), "{said}");
    assert_eq!(outcome(&server), "skipped");
    assert_eq!(server.admin().metric("triggerd_drill_failures_total"), 1.0);
}
