//! The names in a data directory, and the version of its format.

/// The format version of the whole data directory. It rises whenever files or records change in a
/// way that an earlier build cannot read, or the other way round. Until the first release there is
/// no migration: a directory of another build is refused by its version instead of being taken for
/// damaged. Version 5: `FORMAT` and the segments know that records were removed on purpose.
pub(super) const FORMAT_VERSION: u32 = 5;
pub(super) const FORMAT_FILE: &str = "FORMAT";
/// Name of the admin token's file, in the data directory and among systemd's credentials.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";
pub(super) const LOCK_FILE: &str = "LOCK";
pub(super) const JOURNAL_DIR: &str = "journal";
pub(super) const STATE_DIR: &str = "sled";
/// Name of the file with the key that seals endpoints' secrets.
pub(super) const SECRETS_KEY_FILE: &str = "secrets.key";
/// Prefix of the directory that keeps the files of a damaged journal.
pub const DAMAGED_PREFIX: &str = "journal-damaged";
/// Name of the file that holds deliveries back after a restore, also over restarts.
pub(super) const HELD_FILE: &str = "deliveries.held";
/// Name of the file with the path of the archive that the server has used.
pub(super) const ARCHIVE_FILE: &str = "archive.used";
/// The names in a restored directory, in the order in which they appear. `FORMAT` is the last one:
/// no server takes a directory without it.
pub const RESTORED_FILES: [&str; 5] =
    [JOURNAL_DIR, SECRETS_KEY_FILE, ADMIN_TOKEN_FILE, HELD_FILE, FORMAT_FILE];
/// The small files of a data directory that belong into a backup.
pub const SMALL_FILES: [&str; 3] = [FORMAT_FILE, SECRETS_KEY_FILE, ADMIN_TOKEN_FILE];
/// Name of the file that makes a directory a backup, which is no data directory.
pub const BACKUP_MANIFEST: &str = "manifest.json";
/// Every other name that triggerd uses in the data directory.
pub(super) const OWN_FILES: [&str; 8] = [
    FORMAT_FILE,
    LOCK_FILE,
    ADMIN_TOKEN_FILE,
    SECRETS_KEY_FILE,
    JOURNAL_DIR,
    STATE_DIR,
    HELD_FILE,
    ARCHIVE_FILE,
];
/// Suffix of a file's name until the file is complete.
pub(super) const DRAFT_SUFFIX: &str = ".new";

/// The program that wrote a directory of this format, which this version does not read.
pub(super) fn writer_of(version: u32) -> &'static str {
    if version < FORMAT_VERSION { "an earlier triggerd" } else { "a newer triggerd" }
}
