//! Backups and restores in places and of contents that are refused, and restores beside what an
//! earlier one left behind.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::backups::{ask, backups, fill, restore, segments, small, text};
use crate::harness::{Process, command};

/// A directory with the data of a stopped server, and a backup as an archive and in a directory.
struct Backed {
    dir: tempfile::TempDir,
}

impl Backed {
    fn up() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let server = Process::start_on(&data, &small(&data, ""));
        fill(&server.org("Acme"), 40);
        assert_eq!(server.stop().0, Some(0));
        let backed = Self { dir };
        for target in ["b.tar.zst", "backups"] {
            assert_eq!(backed.run(&["backup", text(&backed.path(target))]).0, Some(0));
        }
        backed
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, words: &[&str]) -> (Option<i32>, String) {
        command(&self.path("data"), words)
    }

    fn assert_refused(&self, words: &[&str], says: &str) {
        let (code, said) = self.run(words);
        assert!(matches!(code, Some(1..=3)) && said.contains(says), "{words:?}: {code:?} {said}");
    }

    /// Asserts that the backup is refused, and that a restore leaves nothing behind.
    fn assert_wrong(&self, backup: &Path, says: &str) {
        let to = self.path("new/deep/to");
        self.assert_refused(&["verify", text(backup)], says);
        self.assert_refused(&["restore", text(backup), text(&to)], says);
        assert!(!self.path("new").exists(), "the parents that were made are removed, too");
    }
}

#[test]
fn a_backup_is_not_made_in_the_data_directory_and_not_under_a_misleading_name() {
    let backed = Backed::up();
    let data = backed.path("data");
    for name in ["backups", "journal", "not/there/yet", "b.tar.zst", "../data/b.zst"] {
        let target = data.join(name);
        backed.assert_refused(&["backup", text(&target)], "is in the data directory");
        let backups = backed.path("backups");
        let restore = ["restore", text(&backups), text(&target)];
        backed.assert_refused(&restore, "is in the data directory");
        let archive = ["archive", "1h..", text(&target), "--url", "127.0.0.1:1"];
        backed.assert_refused(&archive, "is in the data directory");
    }
    // Also if the configuration does not name it.
    let target = data.join("b.tar.zst");
    let elsewhere = ["backup", text(&target), "--url", "127.0.0.1:1"];
    backed.assert_refused(&elsewhere, "is in the data directory");
    std::os::unix::fs::symlink(&data, backed.path("link")).unwrap();
    let target = backed.path("link/backups");
    backed.assert_refused(&["backup", text(&target)], "is in the data directory");
    for (name, says) in
        [("b.tar.zst.age", "would not be encrypted"), ("b.tar.gz", "no .gz"), ("b.tar", "no .tar")]
    {
        backed.assert_refused(&["backup", text(&backed.path(name))], says);
        assert!(!backed.path(name).exists());
    }
    let server = Process::start_on(&data, &small(&data, ""));
    let (code, said) = ask(&server, &[text(&data.join("backups"))]);
    assert!(code == Some(1) && said.contains("is in the data directory"), "{said}");
    assert!(!data.join("backups").exists());
    // A wrong token makes none, either.
    let (token, new) = (backed.path("token"), backed.path("new"));
    let right = fs::read_to_string(data.join("admin.token")).unwrap();
    fs::write(&token, flipped(right.trim())).unwrap();
    assert_ne!(fs::read_to_string(&token).unwrap(), right);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&token, mode).unwrap();
    let (code, said) = ask(&server, &[text(&new), "--admin-token-file", text(&token)]);
    assert!(code != Some(0) && said.contains("unauthorized") && !new.exists(), "{said}");
}

/// Changes the last digit of a token.
fn flipped(token: &str) -> String {
    let (rest, last) = token.split_at(token.len() - 1);
    format!("{rest}{}\n", if last == "a" { 'b' } else { 'a' })
}

#[test]
fn an_archive_with_anything_else_in_it_is_refused() {
    let backed = Backed::up();
    let mut plain = Vec::new();
    let packed = File::open(backed.path("b.tar.zst")).unwrap();
    zstd::Decoder::new(packed).unwrap().read_to_end(&mut plain).unwrap();
    let long = "x".repeat(300);
    let entries: [(&str, tar::EntryType); 7] = [
        ("../escaped", tar::EntryType::Regular),
        ("/tmp/triggerd-escaped", tar::EntryType::Regular),
        ("journal/00000000000000000001.seg", tar::EntryType::Symlink),
        ("journal", tar::EntryType::Symlink),
        ("journal/00000000000000000009.seg", tar::EntryType::Link),
        ("journal/99999999999999999999.seg", tar::EntryType::Regular),
        (&long, tar::EntryType::Regular),
    ];
    for (number, (name, kind)) in entries.into_iter().enumerate() {
        for comes_first in [true, false] {
            let archive = backed.path(&format!("{number}-{comes_first}.tar.zst"));
            pack(&plain, &archive, Some((name, kind, comes_first)));
            backed.assert_wrong(&archive, "");
        }
    }
    // The same archive without anything else in it is not refused.
    let (archive, to) = (backed.path("same.tar.zst"), backed.path("to"));
    pack(&plain, &archive, None);
    for words in [vec!["verify", text(&archive)], vec!["restore", text(&archive), text(&to)]] {
        let (code, said) = backed.run(&words);
        assert_eq!(code, Some(0), "{said}");
    }
    assert!(!backed.path("escaped").exists() && !Path::new("/tmp/triggerd-escaped").exists());
}

/// Packs the entries of a tar again, with another entry before all of them or before the last.
fn pack(plain: &[u8], archive: &Path, more: Option<(&str, tar::EntryType, bool)>) {
    let out = zstd::Encoder::new(File::create(archive).unwrap(), 1).unwrap();
    let mut out = tar::Builder::new(out.auto_finish());
    if let Some((name, kind, true)) = more {
        append(&mut out, name, kind);
    }
    for entry in tar::Archive::new(plain).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut header = entry.header().clone();
        let path = entry.path().unwrap().into_owned();
        if let Some((name, kind, false)) = more
            && path == Path::new("manifest.json")
        {
            append(&mut out, name, kind);
        }
        out.append_data(&mut header, path, &mut entry).unwrap();
    }
    out.finish().unwrap();
}

/// Appends an entry with any name, which the tar crate would refuse.
fn append(out: &mut tar::Builder<impl std::io::Write>, name: &str, kind: tar::EntryType) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o600);
    if kind == tar::EntryType::Regular {
        header.set_size(3);
    } else {
        header.set_size(0);
        header.set_link_name("/etc/passwd").unwrap();
    }
    if name.len() > 100 {
        header.set_cksum();
        out.append_data(&mut header, name, &b"abc"[..]).unwrap();
        return;
    }
    let field = &mut header.as_old_mut().name;
    field[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    let body: &[u8] = if kind == tar::EntryType::Regular { b"abc" } else { b"" };
    out.append(&header, body).unwrap();
}

#[test]
fn files_that_do_not_belong_to_a_backup_are_refused() {
    let backed = Backed::up();
    let (target, to) = (backed.path("backups"), backed.path("to"));
    let backup = backups(&target).remove(0);
    let extra = backup.join("journal/00000000000000000777.seg");
    fs::write(&extra, "of another backup").unwrap();
    backed.assert_wrong(&backup, "00000000000000000777.seg: the manifest does not name the file");
    fs::remove_file(&extra).unwrap();
    fs::write(backup.join("notes.txt"), "of an operator").unwrap();
    assert_eq!(backed.run(&["verify", text(&backup)]).0, Some(0));
    // A backup is no data directory.
    fs::write(backup.with_extension("toml"), small(&backup, "")).unwrap();
    for words in [["serve"], ["verify"], ["rebuild"]] {
        let (code, said) = command(&backup, &words);
        assert!(code == Some(2) && said.contains("is a backup and no data"), "{words:?}: {said}");
    }
    let segment = segments(&backup).remove(0);
    let away = backed.path("away");
    fs::rename(&segment, &away).unwrap();
    std::os::unix::fs::symlink(&away, &segment).unwrap();
    backed.assert_refused(&["verify", text(&backup)], "symbolic links are not followed");
    // A newer backup whose manifest is a pipe, or damaged, is not passed over in silence.
    let newer = target.join("2999-01-01T00-00-00.000Z");
    fs::create_dir(&newer).unwrap();
    let manifest = newer.join("manifest.json");
    mknodat(CWD, &manifest, FileType::Fifo, Mode::RWXU, 0).unwrap();
    backed.assert_refused(&["restore", text(&target), text(&to)], "a pipe");
    fs::remove_file(&manifest).unwrap();
    fs::write(&manifest, "{}").unwrap();
    backed.assert_wrong(&target, "to take an older backup, name its directory");
    fs::remove_file(&manifest).unwrap();
    fs::remove_file(&segment).unwrap();
    fs::rename(&away, &segment).unwrap();
    assert_eq!(backed.run(&["restore", text(&target), text(&to)]).0, Some(0));
}

#[test]
fn a_restore_fills_an_empty_directory_and_clears_what_a_killed_one_left() {
    let backed = Backed::up();
    for (name, draft) in [("mount", "mount/.restoring"), ("new", "new.restoring")] {
        let (from, to, draft) = (backed.path("b.tar.zst"), backed.path(name), backed.path(draft));
        if name == "mount" {
            fs::create_dir_all(to.join("lost+found")).unwrap();
        }
        fs::create_dir_all(draft.join("journal")).unwrap();
        fs::write(draft.join("FORMAT.new"), "half").unwrap();
        fs::write(draft.join("photo.jpg"), "somebody's").unwrap();
        backed.assert_refused(&["restore", text(&from), text(&to)], "no restore wrote it");
        assert!(draft.join("photo.jpg").exists());
        fs::remove_file(draft.join("photo.jpg")).unwrap();
        let under_way = File::open(&draft).unwrap();
        under_way.lock().unwrap();
        backed.assert_refused(&["restore", text(&from), text(&to)], "is under way");
        drop(under_way);
        let (code, said) = restore(&backed.path("data"), &from, &to, &[]);
        assert_eq!(code, Some(0), "{said}");
        assert!(!draft.exists() && to.join("deliveries.held").exists());
        let server = Process::start_on(&to, &small(&to, ""));
        assert_eq!(server.stop().0, Some(0));
        assert_eq!(command(&to, &["verify"]).0, Some(0));
        backed.assert_refused(&["restore", text(&from), text(&to)], "is not empty");
    }
}
