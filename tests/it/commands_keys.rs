//! The commands about keys, and the users who may run them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{Ran, World, run, run_with};
use crate::harness::{Client, Process, binary};

#[test]
fn key_create_says_where_it_looked_for_the_token() {
    let world = World::new();
    let (dir, url, file) = (world.empty(), world.server.url.as_str(), world.token_file());
    let create = ["key", "create", "--json", "--url", url, "--org"];
    let ran = run(&dir, &[&create[..], &["A"]].concat());
    let expected = dir.canonicalize().unwrap().join("data/admin.token");
    let told = [
        "built-in defaults",
        &format!("{}: it does not exist", expected.display()),
        "--admin-token-file",
        "--config",
    ];
    assert!(ran.code == Some(1) && told.iter().all(|part| ran.err.contains(part)), "{ran:?}");
    let made = run(&dir, &[&create[..], &["A", "--admin-token-file", &file]].concat());
    assert!(
        made.code == Some(0) && made.json()["key"].as_str().unwrap().starts_with("trg_"),
        "{made:?}"
    );
    assert_eq!(
        run_with(&dir, &[("TRIGGERD_ADMIN_TOKEN_FILE", &file)], &[&create[..], &["B"]].concat())
            .code,
        Some(0)
    );
    let credentials = world.server.data_dir.display().to_string();
    let variables = [("CREDENTIALS_DIRECTORY", credentials.as_str())];
    assert_eq!(run_with(&dir, &variables, &[&create[..], &["C"]].concat()).code, Some(0));
    let absent = run(&dir, &[&create[..], &["D", "--admin-token-file", "/nowhere/token"]].concat());
    assert!(absent.code == Some(2) && absent.err.contains("/nowhere/token"), "{absent:?}");
    std::fs::write(dir.join("other.token"), "trgadm_of_another_server\n").unwrap();
    let foreign = run(&dir, &[&create[..], &["E", "--admin-token-file", "other.token"]].concat());
    let told = ["does not accept the key from the file other.token", "unauthorized"];
    assert!(
        foreign.code == Some(1) && told.iter().all(|part| foreign.err.contains(part)),
        "{foreign:?}"
    );
}

/// A directory open to every user, with the binary inside.
fn public_dir() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    open(dir.path());
    let copy = dir.path().join("triggerd");
    if std::fs::hard_link(binary(), &copy).is_err() {
        std::fs::copy(binary(), &copy).unwrap();
    }
    open(&copy);
    (dir, copy)
}

#[test]
fn another_user_can_use_the_commands_and_is_told_what_it_may_not() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let world = World::new();
    let (dir, copy) = public_dir();
    std::fs::create_dir(dir.path().join("config")).unwrap();
    let config = dir.path().join("config/triggerd.toml");
    std::fs::write(&config, crate::harness::settings(&world.server.data_dir, "")).unwrap();
    let as_nobody = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).args(words);
        Ran::of(
            command
                .current_dir(dir.path())
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .output()
                .unwrap(),
        )
    };
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (url, key) = (world.server.url.as_str(), world.org.key.as_str());
    let ran = as_nobody(&["inbox", "--url", url, "--key", key]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "The inbox is empty.\n"), "{ran:?}");
    let ran = as_nobody(&["inbox", "--key", key]);
    assert!(
        ran.code == Some(1) && ran.err.contains("config/triggerd.toml (Permission denied"),
        "{ran:?}"
    );
    assert_eq!(as_nobody(&["check-config"]).code, Some(5), "a server command needs it");
    let ran =
        as_nobody(&["inbox", "--url", url, "--key", key, "--config", config.to_str().unwrap()]);
    assert!(ran.code == Some(5) && ran.err.contains("belongs to root"), "it was named: {ran:?}");
    let create = ["key", "create", "--org", "A", "--url", url];
    let ran = as_nobody(&create);
    let told = ["config/triggerd.toml (Permission denied", "user 65534", "sudo"];
    assert!(ran.code == Some(5) && told.iter().all(|part| ran.err.contains(part)), "{ran:?}");
    // The user may read the configuration, but not the data directory.
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ran = as_nobody(&create);
    let token = format!("{}: Permission denied; ", world.token_file());
    assert!(
        ran.code == Some(5) && ran.err.contains(&token) && !ran.err.contains("first time"),
        "{ran:?}"
    );
    let ran = as_nobody(&[&create[..], &["--admin-token-file", &world.token_file()]].concat());
    assert!(
        ran.code == Some(5) && ran.err.contains("Permission denied") && ran.err.contains("65534"),
        "{ran:?}"
    );
}

#[test]
fn a_name_in_use_is_said_with_its_id_and_an_id_is_no_name() {
    let world = World::new();
    let create = |org: &str| {
        Ran::of(world.admin(&["key", "create", "--json", "--org", org]).output().unwrap())
    };
    let first = create("My company").json();
    let id = first["organization_id"].as_str().unwrap();
    for again in ["My company", "  My company "] {
        let ran = create(again);
        assert!(
            ran.code == Some(1) && ran.err.contains(id) && ran.err.contains("organization_exists"),
            "{ran:?}"
        );
    }
    assert_eq!(create("my company").code, Some(0), "case tells names apart");
    let more = create(id).json();
    assert_eq!((more["organization_id"].as_str(), more["key"] == first["key"]), (Some(id), false));
    for absent in ["org_zzz", "org_", " org_zzz", "ORG_zzz", "org_01h455vb4pex5vsknk084sn02q"] {
        let ran = create(absent);
        assert!(ran.code == Some(1) && ran.err.contains("not_found"), "{absent}: {ran:?}");
    }
    // The server checks the name, and so does the change itself: of many concurrent requests, one
    // creates the organization.
    let admin = world.server.admin();
    let refused = admin.post("/api/keys/generate", &json!({"organization": "My company"}));
    assert_eq!(
        (refused.status, refused.code(), &refused.json["organization_id"]),
        (409, "organization_exists", &json!(id))
    );
    assert_eq!(
        admin.post("/api/keys/generate", &json!({"organization": " \u{3000} "})).status,
        422
    );
    let (url, token) = (admin.url.clone(), admin.key.clone());
    let racing = (0..8).map(|_| {
        let (url, token) = (url.clone(), token.clone());
        std::thread::spawn(move || {
            Client::new(&url, &token).post("/api/keys/generate", &json!({"organization": "Race"}))
        })
    });
    let answers: Vec<_> =
        racing.collect::<Vec<_>>().into_iter().map(|it| it.join().unwrap()).collect();
    let made: Vec<_> = answers.iter().filter(|it| it.status == 201).collect();
    assert!(
        made.len() == 1
            && answers
                .iter()
                .all(|it| it.json["organization_id"] == made[0].json["organization_id"])
    );
    // The rule also holds after a restart, from the journal alone.
    let data = world.server.data_dir.clone();
    let World { server, dir, .. } = world;
    assert_eq!(server.stop().0, Some(0));
    std::fs::remove_dir_all(data.join("sled")).unwrap();
    let server = Process::start(&data);
    assert_eq!(
        server.admin().post("/api/keys/generate", &json!({"organization": "Race"})).status,
        409
    );
    drop(dir);
}
