//! Refusals of a start or of a command, and their messages.

use std::os::unix::fs::symlink;

use super::*;

/// Checks that every file of a data directory belongs to the service.
fn nothing_is_of_root(data: &Path) {
    let mut found = Vec::new();
    owners(data, &mut found);
    found.retain(|(_, owner)| *owner != NOBODY);
    assert!(found.is_empty(), "root's: {found:?}");
}

/// Gives a file to root, starts the service and a rebuild, and gives the file back.
fn a_file_of_root_is_named(data: &Path, file: &str) {
    let path = data.join(file);
    let mode = fs::metadata(&path).unwrap().mode();
    chown(&path, Some(0), Some(0)).unwrap();
    let (code, text) = Start::on(data).under(&AS_NOBODY).ended();
    let text = text.lines().last().unwrap_or_default().to_owned();
    assert_eq!(code, Some(5), "{file}: {text}");
    for part in [path.to_str().unwrap(), "belongs to root (user 0)", "runs as nobody"] {
        assert!(text.contains(part), "{file}: {part} is missing in: {text}");
    }
    let (code, text) = run(data, &["rebuild"], &AS_NOBODY);
    assert!(code == Some(5) && text.contains(path.to_str().unwrap()), "{file}: {text}");
    chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode(), mode);
}

#[test]
fn what_root_rebuilds_belongs_to_the_service_and_what_it_may_not_read_is_named() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let data = dir.path().join("data");
    let server = Start::on(&data).ready();
    let key = server.admin().new_org("Acme").key;
    server.client(&key).send("a.b", &json!(1));
    assert_eq!(server.stop().0, Some(0));
    // The directory belongs to another user, like that of a service.
    give(&data, NOBODY);
    let service = || Start::on(&data).under(&AS_NOBODY);
    fs::remove_file(data.with_extension("log")).unwrap();
    assert_eq!(run(&data, &["rebuild"], &[]).0, Some(0));
    nothing_is_of_root(&data);
    let server = service().ready();
    assert_eq!(server.client(&key).inbox().len(), 1);
    assert_eq!(server.stop().0, Some(0));
    // A start as root creates files of this user, too.
    let server = Start::on(&data).ready();
    let big = json!("x".repeat(200_000));
    (0..12).for_each(|_| assert_eq!(server.client(&key).send("a.b", &big).status, 202));
    assert_eq!(server.stop().0, Some(0));
    nothing_is_of_root(&data);
    // A file that belongs to root nevertheless is named, with its owner and the user of the
    // process.
    for odd in ["journal/00000000000000000001.seg", "FORMAT", "LOCK", "sled", "secrets.key"] {
        a_file_of_root_is_named(&data, odd);
    }
    assert_eq!(service().ready().stop().0, Some(0));
}

/// Makes a part of a directory unreadable for other users, and asserts that each command says so.
fn assert_unreadable_is_named(data: &Path, part: &Path, commands: &[&[&str]]) {
    let mode = fs::metadata(part).unwrap().permissions();
    fs::set_permissions(part, fs::Permissions::from_mode(0o000)).unwrap();
    for words in commands {
        let (code, text) = run(data, words, &AS_NOBODY);
        let named = [part.to_str().unwrap(), "belongs to root (user 0)", "runs as nobody"];
        let is_named = named.iter().all(|it| text.contains(it));
        assert!(code == Some(5) && is_named, "{} {words:?}: {code:?} {text}", part.display());
    }
    fs::set_permissions(part, mode).unwrap();
}

/// Lets every user read everything below a directory.
fn open_to_all(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            open_to_all(&path);
        } else {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
}

#[test]
fn a_part_that_may_not_be_read_is_neither_damaged_nor_missing() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let data = dir.path().join("data");
    let server = Start::on(&data).ready();
    let key = server.admin().new_org("Acme").key;
    server.client(&key).send("a.b", &json!(1));
    assert_eq!(server.stop().0, Some(0));
    let (all, restored) = (dir.path().join("backups"), dir.path().join("restored"));
    fs::create_dir(&all).unwrap();
    let [all, restored] = [&all, &restored].map(|path| path.to_str().unwrap());
    assert_eq!(run(&data, &["backup", all], &[]).0, Some(0));
    let backup = fs::read_dir(all).unwrap().next().unwrap().unwrap().path();
    [&data, Path::new(all)].into_iter().for_each(open_to_all);
    let first = "journal/00000000000000000001.seg";
    let generation = fs::read_dir(data.join("sled")).unwrap().next().unwrap().unwrap().path();
    let in_data = ["FORMAT", "journal", first, "sled"].map(|name| data.join(name));
    for part in in_data.iter().chain([&data, &generation]) {
        assert_unreadable_is_named(&data, part, &[&["verify"], &["backup", all]]);
    }
    let one = backup.to_str().unwrap();
    let both: [&[&str]; 4] = [
        &["verify", all],
        &["verify", one],
        &["restore", all, restored],
        &["restore", one, restored],
    ];
    for name in ["manifest.json", "journal", first, ""] {
        let part = if name.is_empty() { backup.clone() } else { backup.join(name) };
        assert_unreadable_is_named(&data, &part, &both);
    }
    assert_unreadable_is_named(&data, Path::new(all), &both);
}

#[test]
fn who_owns_the_data_directory_gets_no_other_file_of_roots() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let other = dir.path().join("other");
    fs::write(&other, "root's alone").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    let intact = || {
        let facts = fs::metadata(&other).unwrap();
        (facts.uid(), facts.mode() & 0o777, fs::read_to_string(&other).unwrap())
            == (0, 0o600, "root's alone".to_owned())
    };
    // A start as root creates everything in a directory of the service.
    fs::create_dir(&data).unwrap();
    chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
    for name in ["FORMAT.new", "admin.token.new", "secrets.key.new"] {
        symlink(&other, data.join(name)).unwrap();
    }
    assert_eq!(Start::on(&data).ready().stop().0, Some(0));
    assert!(intact(), "the start wrote to it, or gave it away");
    let log = data.with_extension("log");
    fs::remove_file(&log).unwrap();
    for name in ["LOCK", "journal/00000000000000000001.seg"] {
        let (path, kept) = (data.join(name), dir.path().join("kept"));
        fs::rename(&path, &kept).unwrap();
        symlink(&other, &path).unwrap();
        let (code, text) = run(&data, &["rebuild"], &[]);
        assert!(code != Some(0) && text.contains(path.to_str().unwrap()), "{text}");
        let (code, text) = Start::on(&data).ended();
        assert!(code != Some(0) && text.contains("symbolic links are not followed here"), "{text}");
        assert!(intact(), "{name}");
        fs::rename(&kept, &path).unwrap();
    }
    // A file with a second name may belong to anybody.
    fs::hard_link(&other, data.join("sled/second")).unwrap();
    assert_eq!(run(&data, &["rebuild"], &[]).0, Some(0));
    assert!(intact(), "a second name");
}

#[test]
fn a_directory_in_use_is_said_to_be_whatever_happens_in_it() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let data = dir.path().join("data");
    let server = Start::on(&data).under(&AS_NOBODY).ready();
    // Files come and go in the directory; the second server must not even look at this one.
    let odd = data.join("journal/odd");
    fs::write(&odd, "").unwrap();
    fs::set_permissions(&odd, fs::Permissions::from_mode(0o000)).unwrap();
    let (code, text) = run(&data, &["serve"], &AS_NOBODY);
    assert!(code == Some(4) && text.contains("in use by another triggerd"), "{code:?}: {text}");
    fs::remove_file(&odd).unwrap();
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn other_things_that_are_not_permitted_are_named_too() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    // A directory that cannot be created, a directory that cannot be entered, a log file, and a
    // configuration.
    let inside = closed.join("data");
    fs::write(closed.with_extension("log"), "").unwrap();
    let data = dir.path().join("data");
    let start = Start::on(&data).under(&AS_NOBODY);
    let start = Start { config: settings(&inside, ""), ..start };
    let (code, text) = start.ended();
    assert!(code == Some(5) && text.contains("closed") && text.contains("nobody"), "{text}");
    let logs = format!("[log]\ndirectory = {:?}\n", closed.join("logs").display().to_string());
    let (code, text) = Start::on(&data).config(&logs).under(&AS_NOBODY).ended();
    assert!(code == Some(5) && text.contains("closed") && text.contains("nobody"), "{text}");
    let config = data.with_extension("toml");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    let (code, text) = run(&data, &["serve"], &AS_NOBODY);
    assert!(
        code == Some(5) && text.contains("data.toml") && text.contains("belongs to root"),
        "{text}"
    );
}

#[test]
fn what_the_configuration_cannot_mean_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for (more, variable, part) in [
        (
            "[workers]\nthreads = 1\n",
            Some(("TRIGGERD_SERVER_LISTEN", "127.0.0.1:1")),
            "TRIGGERD__SERVER__LISTEN",
        ),
        ("[log]\nlevel = \"inof\"\n", None, "did you mean info?"),
    ] {
        let mut start = Start::on(&data).config(more);
        if let Some((name, value)) = variable {
            start = start.variable(name, value);
        }
        let (code, text) = start.ended();
        assert!(code == Some(2) && text.contains(part), "{more}: {text}");
    }
    let many = settings(&data, "").replace("[server]\n", "[server]\nworkers = 1024\n");
    let (code, text) = Start { config: many, ..Start::on(&data) }.ended();
    assert!(code == Some(2) && text.contains("server.workers"), "{text}");
    let most = settings(&data, "").replace("[server]\n", "[server]\nworkers = 512\n");
    assert_eq!(
        Start { config: most, ..Start::on(&data) }.ready().stop().0,
        Some(0),
        "the most that is allowed starts"
    );
}

#[test]
fn a_data_directory_that_cannot_be_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    Start::on(&data).ready().stop();
    fs::write(data.join("admin.token"), "x").unwrap();
    fs::set_permissions(data.join("admin.token"), fs::Permissions::from_mode(0o644)).unwrap();
    let (code, text) = Start::on(&data).ended();
    assert!(code == Some(2) && text.contains("admin.token") && text.contains("0644"), "{text}");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let (code, text) = Start::on(&file).ended();
    assert!(
        code == Some(2) && text.contains("is not a directory") && text.contains("data_dir"),
        "{text}"
    );
    let gone = dir.path().join("gone");
    fs::write(gone.with_extension("toml"), settings(&gone, "")).unwrap();
    for words in ["verify", "rebuild"] {
        let (code, text) = run(&gone, &[words], &[]);
        assert!(
            code == Some(2)
                && text.contains("there is no data directory")
                && text.contains("data_dir"),
            "{text}"
        );
    }
    assert!(!gone.exists(), "nothing is made where there is nothing to look at");
}
