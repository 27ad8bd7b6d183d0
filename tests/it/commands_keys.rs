//! The commands about keys, organizations and the audit log, and the users who may run them.

use std::cell::Cell;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Ran, World, command, run, run_with};
use crate::harness::{Process, assert_has, binary, until};

#[test]
fn key_create_says_where_it_looked_for_the_token() {
    let world = World::new();
    let (dir, url, file) = (world.empty(), world.server.url.as_str(), world.token_file());
    let create = ["key", "create", "--json", "--url", url, "--org"];
    let ran = run(&dir, &[&create[..], &["A"]].concat());
    let expected = dir.canonicalize().unwrap().join("data/admin.token");
    let parts = [
        "built-in defaults",
        &format!("{}: it does not exist", expected.display()),
        "--admin-token-file",
        "--config",
    ];
    assert!(ran.code == Some(1) && parts.iter().all(|part| ran.err.contains(part)), "{ran:?}");
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
    let parts = ["does not accept the admin token from the file other.token", "unauthorized"];
    assert!(
        foreign.code == Some(1) && parts.iter().all(|part| foreign.err.contains(part)),
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

/// A directory with a configuration of the server's data, and a way to run commands there as a
/// user who owns nothing.
struct Nobody {
    dir: tempfile::TempDir,
    binary: PathBuf,
    config: PathBuf,
}

impl Nobody {
    fn beside(world: &World) -> Self {
        let (dir, binary) = public_dir();
        std::fs::create_dir(dir.path().join("config")).unwrap();
        let config = dir.path().join("config/triggerd.toml");
        std::fs::write(&config, crate::harness::settings(&world.server.data_dir, "")).unwrap();
        Self { dir, binary, config }
    }

    /// Sets the permissions of the configuration.
    fn set_mode(&self, mode: u32) {
        std::fs::set_permissions(&self.config, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn run(&self, words: &[&str]) -> Ran {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(&self.binary).args(words).current_dir(self.dir.path());
        Ran::of(command.env_clear().env("PATH", "/usr/bin:/bin").output().unwrap())
    }

    /// Asserts that a command ends with this exit code, and that its errors have these parts.
    fn fails(&self, words: &[&str], code: i32, parts: &[&str]) -> Ran {
        let ran = self.run(words);
        let all = parts.iter().all(|part| ran.err.contains(part));
        assert!(ran.code == Some(code) && all, "{words:?}: {parts:?}: {ran:?}");
        ran
    }
}

#[test]
fn another_user_can_use_the_commands_and_is_told_what_it_may_not() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let world = World::new();
    let nobody = Nobody::beside(&world);
    nobody.set_mode(0o600);
    let (url, key) = (world.server.url.as_str(), world.org.key.as_str());
    let ran = nobody.run(&["inbox", "--url", url, "--key", key]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "The inbox is empty.\n"), "{ran:?}");
    let unreadable = "config/triggerd.toml (Permission denied";
    nobody.fails(&["inbox", "--key", key], 1, &[unreadable]);
    // A server command needs the configuration, and so does a command that names it.
    nobody.fails(&["check-config"], 5, &[]);
    let named = ["inbox", "--url", url, "--key", key, "--config", nobody.config.to_str().unwrap()];
    nobody.fails(&named, 5, &["belongs to root"]);
    let create = ["key", "create", "--org", "A", "--url", url];
    nobody.fails(&create, 5, &[unreadable, "user 65534", "sudo"]);
    // The user may read the configuration, but not the data directory.
    nobody.set_mode(0o644);
    let file = world.token_file();
    let ran = nobody.fails(&create, 5, &[&format!("{file}: Permission denied; ")]);
    assert!(!ran.err.contains("first time"), "{ran:?}");
    let with_token = [&create[..], &["--admin-token-file", &file]].concat();
    nobody.fails(&with_token, 5, &["Permission denied", "65534"]);
}

fn create(world: &World, org: &str) -> Ran {
    Ran::of(world.admin(&["key", "create", "--json", "--org", org]).output().unwrap())
}

#[test]
fn a_name_in_use_is_said_with_its_id_and_an_id_is_no_name() {
    let world = World::new();
    let first = create(&world, "My company").json();
    let id = first["organization_id"].as_str().unwrap();
    for again in ["My company", "  My company "] {
        let ran = create(&world, again);
        let said = [id, "organization_exists"].map(|part| ran.err.contains(part));
        assert_eq!((ran.code, said), (Some(1), [true; 2]), "{ran:?}");
    }
    assert_eq!(create(&world, "my company").code, Some(0), "case tells names apart");
    let more = create(&world, id).json();
    assert_eq!((more["organization_id"].as_str(), more["key"] == first["key"]), (Some(id), false));
    for absent in ["org_zzz", "org_", " org_zzz", "ORG_zzz", "org_01h455vb4pex5vsknk084sn02q"] {
        let ran = create(&world, absent);
        assert!(ran.code == Some(1) && ran.err.contains("not_found"), "{absent}: {ran:?}");
    }
    let admin = world.server.admin();
    let refused = admin.post("/api/keys/generate", &json!({"organization": "My company"}));
    assert_eq!(
        (refused.status, refused.code(), &refused.json["organization_id"]),
        (409, "organization_exists", &json!(id))
    );
    let blank = admin.post("/api/keys/generate", &json!({"organization": " \u{3000} "}));
    assert_eq!(blank.status, 422);
}

/// The server checks the name, and so does the change itself.
#[test]
fn of_many_requests_for_one_name_one_creates_the_organization() {
    let World { server, dir: _dir, .. } = World::new();
    let request = json!({"organization": "Race"});
    let racing = [(); 8].map(|()| {
        let (admin, request) = (server.admin(), request.clone());
        std::thread::spawn(move || admin.post("/api/keys/generate", &request))
    });
    let answers = racing.map(|thread| thread.join().unwrap());
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1, "{answers:?}");
    let id = &answers[0].json["organization_id"];
    assert!(answers.iter().all(|answer| answer.json["organization_id"] == *id), "{answers:?}");
    // The rule also holds after a restart, from the journal alone.
    let data = server.data_dir.clone();
    assert_eq!(server.stop().0, Some(0));
    std::fs::remove_dir_all(data.join("sled")).unwrap();
    let server = Process::start(&data);
    assert_eq!(server.admin().post("/api/keys/generate", &request).status, 409);
}

#[test]
fn a_caller_learns_who_it_is_and_the_operator_runs_organizations() {
    let world = World::new();
    let who = world.run(&["whoami"]);
    assert!(who.code == Some(0) && who.out.starts_with("organization  Acme (org_"), "{who:?}");
    let tier_and_scopes = ["\ntier          free\n", "\nscopes        all\n"];
    assert!(tier_and_scopes.iter().all(|part| who.out.contains(part)), "{who:?}");
    let admin = |words: &[&str]| Ran::of(world.admin(words).output().unwrap());
    let made = admin(&["org", "create", "Beta", "--tier", "pro", "--json"]).json();
    let id = made["id"].as_str().unwrap();
    let taken = admin(&["org", "create", "Beta"]);
    assert!(taken.code == Some(1) && taken.err.contains(id), "{taken:?}");
    let nothing = admin(&["org", "update", id]);
    assert_eq!(nothing.code, Some(2), "{nothing:?}");
    let changed = admin(&["org", "update", id, "--name", "Gamma", "--inbox-mode", "ack_only"]);
    assert_eq!(changed.out, format!("{id} is changed\n"));
    assert_eq!(admin(&["org", "suspend", id]).out, format!("{id} is suspended\n"));
    let shown = admin(&["org", "show", id, "--json"]).json();
    let expected = json!({
        "name": "Gamma", "tier": "pro", "inbox_mode": "ack_only", "suspended": true,
    });
    assert_has(&shown, &expected);
    assert_eq!(admin(&["org", "resume", id]).out, format!("{id} is active\n"));
    let listed = admin(&["org", "list", "--name", "Gamma"]);
    assert!(listed.out.contains(id) && listed.out.lines().count() == 2, "{listed:?}");
    let audit = admin(&["audit", "--as-admin", "--org", id, "--action", "organization.changed"]);
    let suspended = "suspended: false -> true";
    assert!(audit.out.contains(suspended) && audit.out.lines().count() == 4, "{audit:?}");
    let request = admin(&["audit", "--as-admin", "--org", id, "--limit", "1", "--json"]).json();
    let request = request["data"][0]["request_id"].as_str().unwrap().to_owned();
    let newest = audit.out.lines().nth(1).unwrap();
    assert!(newest.starts_with(id) && newest.contains(&request), "{audit:?}");
    assert!(audit.out.starts_with("ORGANIZATION") && audit.out.contains("REQUEST"), "{audit:?}");
    let own = world.run(&["audit"]);
    assert!(!own.out.contains(id) && own.out.contains("key.created"), "{own:?}");
    assert_eq!(world.run(&["audit", "--org", id]).code, Some(2), "it needs the admin token");
}

#[test]
fn the_audit_log_is_followed_from_now_on_or_from_a_time_on_until_ctrl_c() {
    let world = World::new();
    let (url, key) = (world.server.url.as_str(), world.org.key.as_str());
    let follow = |more: &[&str]| {
        let words = ["audit", "--follow", "--jsonl", "--url", url, "--key", key];
        let mut command = command(&world.empty(), &[&words, more].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let next =
            move || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
        (child, next)
    };
    let (mut all, mut next) = follow(&["--since", "1h"]);
    assert_eq!(next()["action"], "organization.created");
    assert_eq!(next()["action"], "key.created");
    let endpoint = world.org.endpoint(&json!({"url": "https://example.com/"}));
    assert_eq!(next()["action"], "endpoint.created");
    // Only what comes after the command has begun; it may begin at any time.
    let (mut new, next_new) = follow(&[]);
    let (sender, first) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut next_new = next_new;
        drop(sender.send(next_new()));
    });
    let number = Cell::new(0);
    let first = until(|| {
        number.set(number.get() + 1);
        let description = json!({"description": number.get().to_string()});
        world.org.patch(&format!("/api/endpoints/{endpoint}"), &description);
        first.try_recv().ok()
    });
    assert_eq!(first["action"], "endpoint.changed");
    for child in [&mut all, &mut new] {
        kill_process(Pid::from_child(child), Signal::INT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "Ctrl-C is no failure");
    }
}
