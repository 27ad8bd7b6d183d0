//! Refuses directories of the configuration in the data directory, which holds nothing else.

use std::path::Path;
use std::time::Duration;

use super::start_error::StartError;
use crate::archive::{Place, place_of};
use crate::config::{Config, S3Url};

/// Time that a directory has to answer at the start.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Refuses directories for logs, backups and archives in the data directory. Returns false if the
/// one for archives does not answer; this prevents no start.
///
/// # Errors
/// [`StartError::DirectoryInside`], or no thread can be started.
pub fn check_directories(config: &Config) -> Result<bool, StartError> {
    let Config { backup, retention, .. } = config;
    check_log_directory(config)?;
    let backups = backup.directory.as_deref().filter(|directory| S3Url::of(directory).is_none());
    check("[backup] directory", backups, config)?;
    check("[retention] archive_directory", retention.archive_directory.as_deref(), config)
}

/// Refuses a directory for logs in the data directory. The log begins before anything else.
///
/// # Errors
/// See [`check_directories`].
pub fn check_log_directory(config: &Config) -> Result<(), StartError> {
    check("[log] directory", config.log.directory.as_deref(), config).map(drop)
}

/// Returns false if the directory does not answer.
fn check(key: &'static str, path: Option<&Path>, config: &Config) -> Result<bool, StartError> {
    let Some(path) = path else { return Ok(true) };
    let place = place_of(path, &config.storage.data_dir, ANSWER_MAX);
    match place.map_err(StartError::Threads)? {
        Place::Inside => Err(StartError::DirectoryInside { key, path: path.to_owned() }),
        Place::Outside => Ok(true),
        Place::Unknown => Ok(false),
    }
}
