//! The owners of files. A file of root's in another user's directory is given to the directory's
//! owner, so that the service can use the file. An error about a file without permission names the
//! file's owner. Called by every maker of files, and by errors about files.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fstat, openat,
};
use rustix::io::Errno;
use rustix::process::{geteuid, getuid};

use crate::base::regular;

/// Gives an open file of root's in `dir` to the owner of `dir`. Does nothing for other users, and
/// nothing to a file that may be another file of root's: the owner of `dir` can give any file a
/// name there.
///
/// # Errors
/// `dir` cannot be inspected, or the filesystem has no owners.
pub fn give_to_owner_of(dir: &Path, file: &File) -> io::Result<()> {
    match foreign_owner(dir)? {
        Some(owner) => give(file, &fstat(file)?, owner),
        None => Ok(()),
    }
}

/// Gives a directory that was just made in `dir` to the owner of `dir`.
///
/// # Errors
/// See [`give_to_owner_of`].
pub fn give_path_to_owner_of(dir: &Path, made: &Path) -> io::Result<()> {
    let Some(owner) = foreign_owner(dir)? else { return Ok(()) };
    let made = openat(CWD, made, UNFOLLOWED | OFlags::DIRECTORY, Mode::empty())?;
    give(&made, &fstat(&made)?, owner)
}

/// Gives root's files at `made`, and everything below, to the owner of the surrounding `dir`.
/// Symbolic links and files with a second name are left alone. Nothing is opened by its full path,
/// because the owner can replace any part of the path at any moment.
///
/// # Errors
/// A file cannot be given away; the files after it keep their owner.
pub fn give_tree_to_owner_of(dir: &Path, made: &Path) -> io::Result<()> {
    let (Some(owner), Some(name)) = (foreign_owner(dir)?, made.file_name()) else { return Ok(()) };
    let dir = openat(
        CWD,
        or_here(dir),
        UNFOLLOWED.difference(OFlags::NOFOLLOW) | OFlags::DIRECTORY,
        Mode::empty(),
    )?;
    let mut waiting = vec![(Rc::new(dir), CString::new(name.as_bytes())?)];
    while let Some((parent, name)) = waiting.pop() {
        // The file may be gone by now: the owner may write here.
        let Ok(found) = openat(&*parent, &name, UNFOLLOWED, Mode::empty()) else { continue };
        let facts = fstat(&found)?;
        give(&found, &facts, owner)?;
        if FileType::from_raw_mode(facts.st_mode).is_dir() {
            let (directory, names) = opened(&found)?;
            waiting.extend(names.into_iter().map(|name| (Rc::clone(&directory), name)));
        }
    }
    Ok(())
}

/// Flags to inspect a name without following a symbolic link, and without reading or writing.
const UNFOLLOWED: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Returns an open directory and the names in it.
fn opened(directory: &OwnedFd) -> io::Result<(Rc<OwnedFd>, Vec<CString>)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(directory, c".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        if ![c".", c".."].contains(&entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok((Rc::new(directory), names))
}

/// Gives a file of root's away if it is a directory, or a regular file without a second name.
fn give(found: &impl AsFd, facts: &Stat, (user, group): (u32, u32)) -> io::Result<()> {
    let may_be_given = match FileType::from_raw_mode(facts.st_mode) {
        FileType::Directory => true,
        FileType::RegularFile => facts.st_nlink <= 1,
        _ => false,
    };
    if facts.st_uid == 0 && may_be_given {
        chownat(
            found,
            c"",
            Some(Uid::from_raw(user)),
            Some(Gid::from_raw(group)),
            AtFlags::EMPTY_PATH,
        )?;
    }
    Ok(())
}

/// Opens a regular file. The open fails if the name is a symbolic link: the owner of a directory
/// can put a link anywhere in it, and root would write to the target.
///
/// # Errors
/// The file cannot be opened, or is a link, or not regular.
pub fn open_unfollowed(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | regular::WITHOUT_WAITING;
    regular::checked(options.custom_flags(flags.bits().cast_signed()).open(path))
}

fn or_here(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() { Path::new(".") } else { dir }
}

/// Returns the user and group of a directory, if this process runs as root and root does not own
/// the directory.
fn foreign_owner(dir: &Path) -> io::Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let facts = fs::metadata(or_here(dir))?;
    Ok((facts.uid() != 0).then(|| (facts.uid(), facts.gid())))
}

/// Returns a suffix for an error about this path. If permission was denied, the suffix names the
/// file's owner and this process's user. For a symbolic link, the suffix tells the operator to
/// replace the link. Otherwise the suffix is empty.
pub fn denied(path: &Path, cause: &io::Error) -> String {
    if Errno::from_io_error(cause) == Some(Errno::LOOP) {
        return "; symbolic links are not followed here: replace the link by the file itself"
            .to_owned();
    }
    if cause.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    // If the path is absent or below a closed directory, the nearest visible parent is named.
    let found = path.ancestors().find_map(|path| Some((path, fs::symlink_metadata(path).ok()?)));
    let us = user(getuid().as_raw());
    match found {
        Some((found, facts)) => {
            let (owner, mode) = (user(facts.uid()), facts.mode() & 0o7777);
            let found = found.display();
            format!(
                "; {found} belongs to {owner} (mode {mode:04o}), but this process runs as {us}: \
                 run it as the owner or as root, or change the owner or the mode"
            )
        }
        None => format!("; this process runs as {us}"),
    }
}

/// Returns the name and number of a user.
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
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn who_may_not_is_told_whose_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let absent = directory.path().join("a/b");
        let told = denied(&absent, &io::ErrorKind::PermissionDenied.into());
        assert!(
            told.contains(&directory.path().display().to_string())
                && told.contains("this process runs as"),
            "{told}"
        );
        assert!(told.contains("(mode 0"), "{told}");
        assert_eq!(denied(&absent, &io::ErrorKind::NotFound.into()), "");
        assert_eq!(user(0), "root (user 0)");
    }

    #[test]
    fn what_root_makes_in_anothers_directory_is_given_to_them() {
        if !geteuid().is_root() {
            return; // only root can give files away
        }
        let directory = tempfile::tempdir().unwrap();
        let (dir, below) = (directory.path(), directory.path().join("a/b"));
        chown(dir, Some(4_711), Some(4_712)).unwrap();
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("c"), "").unwrap();
        give_tree_to_owner_of(dir, &dir.join("a")).unwrap();
        let owner =
            |path: &Path| (fs::metadata(path).unwrap().uid(), fs::metadata(path).unwrap().gid());
        assert_eq!([owner(&below), owner(&below.join("c"))], [(4_711, 4_712); 2]);
        let file = File::create(dir.join("d")).unwrap();
        give_to_owner_of(dir, &file).unwrap();
        assert_eq!(owner(&dir.join("d")), (4_711, 4_712));
        fs::create_dir(dir.join("e")).unwrap();
        give_path_to_owner_of(dir, &dir.join("e")).unwrap();
        assert_eq!(owner(&dir.join("e")), (4_711, 4_712));
    }

    #[test]
    fn no_other_file_of_roots_is_given_away_whatever_its_name_leads_to() {
        if !geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let (dir, roots) = (directory.path().join("d"), directory.path().join("roots"));
        fs::create_dir_all(dir.join("tree")).unwrap();
        fs::create_dir(directory.path().join("dir")).unwrap();
        fs::write(&roots, "root's").unwrap();
        chown(&dir, Some(4_711), Some(4_712)).unwrap();
        let tree = dir.join("tree");
        symlink(&roots, tree.join("link")).unwrap();
        symlink(directory.path().join("dir"), tree.join("dir")).unwrap();
        fs::hard_link(&roots, tree.join("second")).unwrap();
        give_tree_to_owner_of(&dir, &tree).unwrap();
        let owner = |path: &Path| fs::metadata(path).unwrap().uid();
        assert_eq!(
            [owner(&tree), owner(&roots), owner(&directory.path().join("dir"))],
            [4_711, 0, 0]
        );
        give_to_owner_of(&dir, &File::open(tree.join("second")).unwrap()).unwrap();
        assert_eq!(owner(&roots), 0, "it has another name");
        assert!(
            give_path_to_owner_of(&dir, &tree.join("dir")).is_err(),
            "a link instead of what was made"
        );
        assert_eq!(owner(&directory.path().join("dir")), 0);
        let refused =
            open_unfollowed(OpenOptions::new().write(true), &tree.join("link")).unwrap_err();
        assert!(denied(&tree.join("link"), &refused).contains("symbolic link"), "{refused}");
    }
}
