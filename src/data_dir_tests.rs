//! The data directory: its lock, its secrets, and names that lead elsewhere.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn a_directory_is_made_private_locked_and_keeps_its_token() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a/b");
    let dir = DataDir::open(&path).unwrap();
    let token = dir.admin_token().unwrap();
    let mode = |file: &Path| fs::metadata(file).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join("admin.token"))), (0o700, 0o600));
    assert!(matches!(DataDir::open(&path), Err(DataDirError::InUse(_))));
    drop(dir);
    assert_eq!(DataDir::open(&path).unwrap().admin_token().unwrap(), token);
    assert!(token.len() > 64 && token.starts_with("trgadm_"));
}

#[test]
fn a_secret_that_others_can_read_or_that_is_none_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("admin.token");
    let read = |place| admin_token_in(root.path(), place).map_err(|error| error.to_string());
    let write = |text: &str, mode: u32| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    assert_eq!(read(Place::DataDir), Ok(None));
    for (text, mode, what) in [
        ("0123456789abcdef", 0o644, "mode 0644"),
        ("0123456789abcdef", 0o640, "chmod 600"),
        ("x", 0o600, "no admin token"),
        ("", 0o600, "no admin token"),
        ("0123456789 bcdef", 0o600, "no admin token"),
    ] {
        write(text, mode);
        let refused = read(Place::DataDir).unwrap_err();
        assert!(refused.contains(what) && refused.contains("admin.token"), "{refused}");
    }
    fs::write(&path, b"0123456789abcdef\xff\xfe").unwrap();
    assert!(read(Place::DataDir).unwrap_err().contains("no admin token"), "it is no text");
    write("0123456789abcdef\n", 0o600);
    assert_eq!(read(Place::DataDir), Ok(Some("0123456789abcdef".to_owned())));
    write("0123456789abcdef\n", 0o440);
    assert!(read(Place::Credentials).is_ok(), "systemd guards it");
    write("", 0o400);
    assert!(read(Place::Credentials).is_err(), "an empty credential is a mistake");
    fs::write(root.path().join("secrets.key"), "00".repeat(32)).unwrap();
    fs::set_permissions(root.path().join("secrets.key"), fs::Permissions::from_mode(0o604))
        .unwrap();
    assert!(read_secrets_key(root.path(), Place::DataDir).is_err());
}

#[test]
fn names_that_lead_elsewhere_are_not_written_to_and_nothing_of_roots_is_given_away() {
    let root = tempfile::tempdir().unwrap();
    let (path, other) = (root.path().join("data"), root.path().join("other"));
    fs::create_dir(&path).unwrap();
    fs::write(&other, "another file").unwrap();
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        std::os::unix::fs::chown(&path, Some(4_711), Some(4_711)).unwrap();
    }
    let before = fs::metadata(&other).unwrap().uid();
    std::os::unix::fs::symlink(&other, path.join("LOCK")).unwrap();
    let refused = DataDir::open(&path).unwrap_err().to_string();
    assert!(refused.contains("LOCK") && refused.contains("symbolic link"), "{refused}");
    fs::remove_file(path.join("LOCK")).unwrap();
    for name in ["FORMAT.new", "admin.token.new", "secrets.key.new"] {
        std::os::unix::fs::symlink(&other, path.join(name)).unwrap();
    }
    let mut dir = DataDir::open(&path).unwrap();
    dir.complete(Timestamp(0)).unwrap();
    dir.admin_token().unwrap();
    dir.make_secrets_key().unwrap();
    drop(dir);
    let after = fs::metadata(&other).unwrap();
    assert_eq!(
        (after.uid(), fs::read_to_string(&other).unwrap()),
        (before, "another file".to_owned())
    );
    let owner = |name: &str| fs::metadata(path.join(name)).unwrap().uid();
    let expected = if is_root { 4_711 } else { before };
    assert_eq!([owner("LOCK"), owner("FORMAT"), owner("secrets.key")], [expected; 3]);
}
