//! `triggerd context`: servers and keys by name, the order of their sources, and the file that
//! holds them.

use super::*;

/// A text with the form and the checksum of a key.
pub(super) const STALE_KEY: &str =
    "trg_live_01h2xcejqtf2nbrexx3vqjhp41_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA3OtfuE";

/// A server, and a user with a home directory.
struct Home {
    world: World,
}

impl Home {
    fn new() -> Self {
        Self { world: World::new() }
    }

    fn path(&self) -> PathBuf {
        self.world.dir.path().join("home")
    }

    fn file(&self) -> PathBuf {
        self.path().join(".config/triggerd/contexts.toml")
    }

    fn run_with(&self, variables: &[(&str, &str)], words: &[&str]) -> Ran {
        let mut command = command(&self.world.empty(), words);
        command.env("HOME", self.path()).envs(variables.iter().copied());
        Ran::of(command.output().unwrap())
    }

    fn run(&self, words: &[&str]) -> Ran {
        self.run_with(&[], words)
    }

    fn good(&self, words: &[&str]) -> Ran {
        let ran = self.run(words);
        assert_eq!(ran.code, Some(0), "{words:?}: {ran:?}");
        ran
    }

    /// Saves the server of the world under a name.
    fn add(&self, name: &str) {
        let (url, key) = (&self.world.server.url, &self.world.org.key);
        self.good(&["context", "add", name, "--url", url, "--key", key]);
    }
}

#[test]
fn a_context_takes_the_place_of_url_and_key_and_never_shows_the_key() {
    let home = Home::new();
    let (url, key) = (home.world.server.url.clone(), home.world.org.key.clone());
    assert_eq!(home.good(&["context", "list"]).out, "There are no contexts.\n");
    home.add("local");
    assert_eq!(home.good(&["inbox"]).out, "The inbox is empty.\n");
    home.good(&["context", "add", "other", "--url", "https://events.example.com/prefix/"]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&home.file()), mode(home.file().parent().unwrap())), (0o600, 0o700));
    let prefix = key.rsplit_once('_').unwrap().0;
    for words in [
        &["context", "list"][..],
        &["context", "list", "--json"],
        &["context", "list", "--jsonl"],
        &["context", "show"],
        &["context", "show", "local", "--json"],
        &["context", "use", "local", "--json"],
        &["context", "add", "local", "--url", &url, "--key", &key, "--replace", "--json"],
    ] {
        let ran = home.good(words);
        let is_masked = ran.out.contains(prefix) && !ran.out.contains(&key);
        assert!(is_masked && ran.err.is_empty(), "{words:?}: {ran:?}");
    }
    let listed = home.good(&["context", "list", "--json"]).json();
    assert_eq!(listed["data"][0]["key_prefix"], prefix, "as the API shows it");
    let other = json!({"name": "other", "url": "https://events.example.com/prefix",
        "key_prefix": null, "current": false});
    assert_eq!(listed["data"][1], other);
    home.good(&["context", "use", "other"]);
    assert_eq!(home.good(&["context", "show", "--json"]).json()["name"], "other");
    assert_eq!(home.good(&["inbox", "--context", "local"]).out, "The inbox is empty.\n");
    home.good(&["context", "remove", "other"]);
    assert_eq!(home.run(&["context", "show"]).code, Some(1), "none is in use");
    let files = std::fs::read_dir(home.file().parent().unwrap()).unwrap().count();
    assert_eq!(files, 1, "no draft stays");
}

#[test]
fn a_context_that_does_not_exist_or_exists_already_is_named_with_what_to_do() {
    let home = Home::new();
    home.add("local");
    let cut = home.world.org.key[1..].to_owned();
    for (words, parts) in [
        (&["inbox", "--context", "nowhere"][..], ["--context", "there are: local"]),
        (&["context", "use", "nowhere"], ["no context nowhere", "there are: local"]),
        (&["context", "add", "local", "--url", "h"], ["already", "--replace"]),
        (&["context", "add", "a b", "--url", "h"], ["a b", "letters, digits"]),
        (&["context", "add", "a", "--url", "ftp://h"], ["--url", "neither http nor https"]),
        (&["context", "add", "a", "--url", "h", "--key", "notakey"], ["API key", "checksum"]),
        (&["context", "add", "a", "--url", "h", "--key", &cut], ["API key", "checksum"]),
    ] {
        let ran = home.run(words);
        let all = parts.iter().all(|part| ran.err.contains(part));
        assert!(ran.code == Some(2) && all, "{words:?}: {ran:?}");
    }
    let ran = home.run_with(&[("TRIGGERD_CONTEXT", "nowhere")], &["inbox"]);
    assert!(ran.code == Some(2) && ran.err.contains("TRIGGERD_CONTEXT: "), "{ran:?}");
    let homeless = run(&home.world.empty(), &["context", "add", "a", "--url", "h"]);
    assert!(homeless.code == Some(2) && homeless.err.contains("XDG_CONFIG_HOME"), "{homeless:?}");
}

#[test]
fn a_flag_counts_before_the_environment_the_environment_before_a_context_and_so_on() {
    let home = Home::new();
    home.add("local");
    home.good(&["context", "add", "closed", "--url", "127.0.0.1:1", "--key", STALE_KEY]);
    let source = |variables: &[(&str, &str)], words: &[&str]| {
        let ran = home.run_with(variables, &[&["status", "--json"], words].concat());
        if ran.out.is_empty() { ran.err } else { ran.json()["url_source"].as_str().unwrap().into() }
    };
    let url = home.world.server.url.clone();
    let (by_url, by_name) = (("TRIGGERD_URL", "127.0.0.1:2"), ("TRIGGERD_CONTEXT", "closed"));
    assert_eq!(source(&[by_url, by_name], &["--url", &url]), "--url");
    assert_eq!(source(&[by_url, by_name], &["--context", "local"]), "the context local");
    assert!(source(&[by_url, by_name], &[]).contains("127.0.0.1:2 (TRIGGERD_URL)"));
    assert!(source(&[by_name], &[]).contains("http://127.0.0.1:1 (the context closed)"));
    assert_eq!(source(&[], &[]), "the context local");
    // A configuration that an option names counts before the context in use.
    let file = home.world.empty().join("mine.toml");
    std::fs::write(&file, "[server]\nlisten = \"127.0.0.1:3\"\n").unwrap();
    let named = source(&[], &["--config", file.to_str().unwrap()]);
    assert!(named.contains("127.0.0.1:3") && named.contains("mine.toml"), "{named}");
    // The key: an option, an explicit context, the environment, the context in use.
    let key_source = |variables: &[(&str, &str)], words: &[&str]| {
        let ran = home.run_with(variables, &[&["inbox"], words].concat());
        assert_eq!(ran.code, Some(1), "{ran:?}");
        ran.err
    };
    home.good(&["context", "add", "local", "--url", &url, "--key", STALE_KEY, "--replace"]);
    let by_key = ("TRIGGERD_API_KEY", "wrong");
    assert!(key_source(&[by_key], &["--key", "bad"]).contains("the key from --key"));
    let explicit = key_source(&[by_key], &["--context", "local"]);
    assert!(explicit.contains("the key from the context local"), "{explicit}");
    assert!(key_source(&[by_key], &[]).contains("the key from TRIGGERD_API_KEY"));
    assert!(key_source(&[], &[]).contains("the key from the context local"));
}

#[test]
fn the_key_of_a_context_goes_to_no_other_server_and_neither_does_the_admin_token() {
    let home = Home::new();
    home.add("local");
    let (elsewhere, asked) = says(answer("200 OK", r#"{"data":[],"has_more":false}"#));
    for (variables, words) in [
        (vec![], vec!["inbox", "--url", elsewhere.as_str()]),
        (vec![("TRIGGERD_URL", elsewhere.as_str())], vec!["inbox"]),
    ] {
        let ran = home.run_with(&variables, &words);
        assert!(ran.code == Some(2) && ran.err.contains("no API key"), "{ran:?}");
    }
    assert!(asked.try_recv().is_err(), "the server was not asked");
    // Who names both means both, as for a tunnel to the server.
    home.good(&["inbox", "--url", &elsewhere, "--context", "local"]);
    assert!(asked.recv().unwrap().contains(&home.world.org.key));
    home.good(&["context", "add", "far", "--url", "http://192.0.2.1:1"]);
    let create = ["key", "create", "--org", "A", "--context"];
    let ran = home.run(&[&create[..], &["far"]].concat());
    let said = ["the context far", "--admin-token-file"].map(|part| ran.err.contains(part));
    assert_eq!((ran.code, said), (Some(2), [true; 2]), "{ran:?}");
    let ran = home
        .run(&[&create[..], &["local", "--admin-token-file", &home.world.token_file()]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    // On this machine the token is searched for as ever.
    let ran = home.run(&[&create[..], &["local"]].concat());
    assert!(ran.code == Some(1) && ran.err.contains("Places searched"), "{ran:?}");
}

#[test]
fn a_file_that_others_can_read_or_that_is_damaged_is_refused_without_showing_a_key() {
    let home = Home::new();
    home.add("local");
    let set_mode = |mode| {
        std::fs::set_permissions(home.file(), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for mode in [0o644, 0o640, 0o604] {
        set_mode(mode);
        for words in [&["inbox"][..], &["context", "list"], &["context", "use", "local"]] {
            let ran = home.run(words);
            let advice = format!("chmod 600 {}", home.file().display());
            assert!(ran.code == Some(2) && ran.err.contains(&advice), "{words:?}: {ran:?}");
        }
    }
    set_mode(0o600);
    home.good(&["inbox"]);
    // A command that needs no context does not read the file.
    std::fs::write(home.file(), "current = \"a\"\n[contexts.a]\nkey = trg_live_secret\n").unwrap();
    let (url, key) = (home.world.server.url.as_str(), home.world.org.key.as_str());
    home.good(&["inbox", "--url", url, "--key", key]);
    let ran = home.run(&["inbox"]);
    assert!(ran.code == Some(2) && ran.err.contains("line 3 is not valid"), "{ran:?}");
    assert!(!ran.err.contains("secret"), "{ran:?}");
}

#[test]
fn a_key_comes_from_standard_input_and_its_rotation_stays_in_the_context() {
    let home = Home::new();
    let (url, key) = (home.world.server.url.as_str(), home.world.org.key.as_str());
    let words = ["context", "add", "local", "--url", url, "--key", "-"];
    let mut add = command(&home.world.empty(), &words);
    add.env("HOME", home.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = add.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{key}\n").as_bytes()).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    let rotated = home.good(&["key", "rotate", "--grace", "0", "--json"]).json();
    let new = rotated["key"].as_str().unwrap();
    assert!(std::fs::read_to_string(home.file()).unwrap().contains(new), "the key is saved");
    let shown = home.good(&["key", "show", "--json"]).json();
    assert_eq!(shown["id"], rotated["key_id"], "the context has the new key");
    assert_eq!(home.run(&["inbox", "--key", key]).code, Some(1), "the old one has ended");
    // A key that does not come from the context leaves the context alone.
    let other = home.good(&["key", "rotate", "--key", new, "--json"]).json();
    let file = std::fs::read_to_string(home.file()).unwrap();
    assert!(file.contains(new) && !file.contains(other["key"].as_str().unwrap()));
}

#[test]
fn a_shell_reads_its_script_and_man_has_a_page_for_each_command() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(dir.path(), &["completions", shell]);
        let has_words =
            ["dead-letters", "rotate-secret", "jsonl"].map(|word| ran.out.contains(word));
        assert_eq!((ran.code, has_words), (Some(0), [true; 3]), "{shell}: {}", ran.err);
        std::fs::write(dir.path().join(shell), ran.out).unwrap();
    }
    let checked = Command::new("bash").arg("-n").arg(dir.path().join("bash")).status().unwrap();
    assert!(checked.success());
    let script = format!(
        "source {}; COMP_WORDS=(triggerd endpoint up); COMP_CWORD=2; _triggerd triggerd up \
         endpoint; echo \"${{COMPREPLY[*]}}\"",
        dir.path().join("bash").display()
    );
    let completed = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8(completed.stdout).unwrap().trim(), "update");
    assert!(run(dir.path(), &["man"]).out.contains(".TH triggerd 1"));
    assert_eq!(run(dir.path(), &["man", "pages"]).code, Some(0));
    let page = dir.path().join("pages/triggerd-endpoint-update.1");
    assert!(std::fs::read_to_string(page).unwrap().contains("retry\\-schedule"));
    std::fs::write(dir.path().join("file"), "").unwrap();
    let failed = run(dir.path(), &["man", "file"]);
    assert!(failed.code == Some(1) && failed.err.contains("cannot be written"), "{failed:?}");
}
