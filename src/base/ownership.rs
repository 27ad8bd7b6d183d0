//! Whose files are. What root makes in somebody else's directory is given to that one, so that the service can go on with
//! it; and who may not open a file is told whose it is. Called by whoever makes files, and by errors that name one.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fstat, openat};
use rustix::io::Errno;
use rustix::process::{geteuid, getuid};

/// Gives an open file that root has made in a directory to the directory's owner. Nothing for anybody else, and nothing that
/// may be another file of root's: the directory's owner can put any name there.
///
/// # Errors
/// When the directory cannot be looked at, or the filesystem knows no owners.
pub fn give_to_owner_of(dir: &Path, file: &File) -> io::Result<()> {
    match foreign_owner(dir)? {
        Some(owner) => give(file, &fstat(file)?, owner),
        None => Ok(()),
    }
}

/// The same for a directory that was just made in `dir`.
///
/// # Errors
/// As [`give_to_owner_of`].
pub fn give_path_to_owner_of(dir: &Path, made: &Path) -> io::Result<()> {
    let Some(owner) = foreign_owner(dir)? else { return Ok(()) };
    let made = openat(CWD, made, UNFOLLOWED | OFlags::DIRECTORY, Mode::empty())?;
    give(&made, &fstat(&made)?, owner)
}

/// Gives what is root's of a file, or of a directory and everything below it, to the owner of `dir`, in which it is. Symbolic
/// links are left alone, and so are files that have another name elsewhere. Nothing is opened by its path, of which the owner
/// can replace each part at any moment.
///
/// # Errors
/// At the first file that cannot be given away.
pub fn give_tree_to_owner_of(dir: &Path, made: &Path) -> io::Result<()> {
    let (Some(owner), Some(name)) = (foreign_owner(dir)?, made.file_name()) else { return Ok(()) };
    let dir = openat(CWD, or_here(dir), UNFOLLOWED.difference(OFlags::NOFOLLOW) | OFlags::DIRECTORY, Mode::empty())?;
    let mut waiting = vec![(Rc::new(dir), CString::new(name.as_bytes())?)];
    while let Some((parent, name)) = waiting.pop() {
        // It may be gone by now: somebody may write here.
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

/// To look at what has a name, be it a symbolic link: nothing can be read or written by it.
const UNFOLLOWED: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory and the names in it.
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

/// Gives it away if it is root's, and a directory or a file that has no second name.
fn give(found: &impl AsFd, facts: &Stat, (user, group): (u32, u32)) -> io::Result<()> {
    let may_be_given = match FileType::from_raw_mode(facts.st_mode) {
        FileType::Directory => true,
        FileType::RegularFile => facts.st_nlink <= 1,
        _ => false,
    };
    if facts.st_uid == 0 && may_be_given {
        chownat(found, c"", Some(Uid::from_raw(user)), Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?;
    }
    Ok(())
}

/// Has a file opened only if its name is not a symbolic link. The owner of a directory can put one in any place in it, and
/// root would write to the file that it leads to.
pub fn unfollowed(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
}

fn or_here(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() { Path::new(".") } else { dir }
}

/// The owner and group of a directory, if this process is root's and the directory is not.
fn foreign_owner(dir: &Path) -> io::Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let facts = fs::metadata(or_here(dir))?;
    Ok((facts.uid() != 0).then(|| (facts.uid(), facts.gid())))
}

/// What to add to an error about this path when it was a lack of permission: whose it is and who we are. For a symbolic link
/// that was not followed, what to do about it. Else nothing.
pub fn denied(path: &Path, cause: &io::Error) -> String {
    if Errno::from_io_error(cause) == Some(Errno::LOOP) {
        return "; symbolic links are not followed here: replace the link by the file itself".to_owned();
    }
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
    use std::os::unix::fs::{chown, symlink};

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
        assert_eq!([owner(&tree), owner(&roots), owner(&directory.path().join("dir"))], [4_711, 0, 0]);
        give_to_owner_of(&dir, &File::open(tree.join("second")).unwrap()).unwrap();
        assert_eq!(owner(&roots), 0, "it has another name");
        assert!(give_path_to_owner_of(&dir, &tree.join("dir")).is_err(), "a link instead of what was made");
        assert_eq!(owner(&directory.path().join("dir")), 0);
        let refused = unfollowed(OpenOptions::new().write(true)).open(tree.join("link")).unwrap_err();
        assert!(denied(&tree.join("link"), &refused).contains("symbolic link"), "{refused}");
    }
}
