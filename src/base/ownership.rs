//! Whose files are. What root makes in somebody else's directory is given to that one, so that the service can go on with
//! it; and who may not open a file is told whose it is. Called by whoever makes files, and by errors that name one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown, fchown};
use std::path::Path;

use rustix::process::{geteuid, getuid};

/// Gives an open file that root has just made in a directory to the directory's owner. Nothing for anybody else.
///
/// # Errors
/// When the directory cannot be looked at, or the filesystem knows no owners.
pub fn give_to_owner_of(dir: &Path, file: &File) -> io::Result<()> {
    match foreign_owner(dir)? {
        Some((user, group)) => fchown(file, Some(user), Some(group)),
        None => Ok(()),
    }
}

/// The same for a directory that was made in `dir`.
///
/// # Errors
/// As [`give_to_owner_of`].
pub fn give_path_to_owner_of(dir: &Path, made: &Path) -> io::Result<()> {
    match foreign_owner(dir)? {
        Some((user, group)) => chown(made, Some(user), Some(group)),
        None => Ok(()),
    }
}

/// Gives what is root's of a file, or of a directory and everything below it, to the owner of `dir`. Symbolic links are
/// left alone.
///
/// # Errors
/// At the first file that cannot be given away.
pub fn give_tree_to_owner_of(dir: &Path, made: &Path) -> io::Result<()> {
    let Some((user, group)) = foreign_owner(dir)? else { return Ok(()) };
    let mut paths = vec![made.to_owned()];
    while let Some(path) = paths.pop() {
        // It may be gone by now: somebody may write here.
        let Ok(facts) = fs::symlink_metadata(&path) else { continue };
        if facts.is_symlink() {
            continue;
        }
        if facts.uid() == 0 {
            chown(&path, Some(user), Some(group))?;
        }
        if facts.is_dir() {
            for entry in fs::read_dir(&path)? {
                paths.push(entry?.path());
            }
        }
    }
    Ok(())
}

/// The owner and group of a directory, if this process is root's and the directory is not.
fn foreign_owner(dir: &Path) -> io::Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let facts = fs::metadata(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })?;
    Ok((facts.uid() != 0).then(|| (facts.uid(), facts.gid())))
}

/// What to add to an error about this path when it was a lack of permission: whose it is and who we are. Else nothing.
pub fn denied(path: &Path, cause: &io::Error) -> String {
    if cause.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    // What is not there, or below a directory that is closed to us, is spoken of by what is above it.
    let found = path.ancestors().find_map(|path| Some((path, fs::symlink_metadata(path).ok()?)));
    let us = format!("this process runs as {}", user(getuid().as_raw()));
    match found {
        Some((found, facts)) => {
            let (owner, mode) = (user(facts.uid()), facts.mode() & 0o7777);
            format!("; {} belongs to {owner} (mode {mode:04o}), and {us}", found.display())
        }
        None => format!("; {us}"),
    }
}

/// A user by name and number.
fn user(number: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?);
        (uid.parse() == Ok(number)).then(|| name.to_owned())
    });
    name.map_or_else(|| format!("user {number}"), |name| format!("{name} (user {number})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_is_told_whose_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let absent = directory.path().join("a/b");
        let told = denied(&absent, &io::ErrorKind::PermissionDenied.into());
        assert!(
            told.contains(&directory.path().display().to_string()) && told.contains("this process runs as"),
            "{told}"
        );
        assert!(told.contains("(mode 0"), "{told}");
        assert_eq!(denied(&absent, &io::ErrorKind::NotFound.into()), "");
        assert_eq!(user(0), "root (user 0)");
    }

    #[test]
    fn what_root_makes_in_anothers_directory_is_given_to_them() {
        if !geteuid().is_root() {
            return; // nobody else can give files away
        }
        let directory = tempfile::tempdir().unwrap();
        let (dir, below) = (directory.path(), directory.path().join("a/b"));
        chown(dir, Some(4_711), Some(4_712)).unwrap();
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("c"), "").unwrap();
        give_tree_to_owner_of(dir, &dir.join("a")).unwrap();
        let owner = |path: &Path| (fs::metadata(path).unwrap().uid(), fs::metadata(path).unwrap().gid());
        assert_eq!([owner(&below), owner(&below.join("c"))], [(4_711, 4_712); 2]);
        let file = File::create(dir.join("d")).unwrap();
        give_to_owner_of(dir, &file).unwrap();
        assert_eq!(owner(&dir.join("d")), (4_711, 4_712));
    }
}
