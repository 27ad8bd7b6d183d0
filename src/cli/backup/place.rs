//! The bucket that a command names, as the place of a backup.

use std::path::Path;

use super::failures::failure;
use crate::backup::Bucket;
use crate::base::exit_code::ExitCode;
use crate::base::threads::Stop;
use crate::cli::failure::Failure;
use crate::cli::reach::Settings;
use crate::config::{S3Settings, S3Url};

/// Returns the place in a bucket that this path names, or none if the path is of a file system.
///
/// # Errors
/// The URL is wrong, or there are no credentials.
pub(super) fn bucket_at(path: &Path, settings: &Settings) -> Result<Option<Bucket>, Failure> {
    let Some(url) = url_of(path)? else { return Ok(None) };
    bucket(&url, settings).map(Some)
}

/// Returns the place of an archive in a bucket, and its name there.
///
/// # Errors
/// The URL is wrong, or there are no credentials.
pub(super) fn archive_at(
    path: &Path,
    settings: &Settings,
) -> Result<Option<(Bucket, String)>, Failure> {
    let Some(url) = url_of(path)? else { return Ok(None) };
    let Some((parent, name)) = url.split_last() else { return Ok(None) };
    Ok(Some((bucket(&parent, settings)?, name.to_owned())))
}

/// Returns the URL that this path is, if it is one.
///
/// # Errors
/// The URL is wrong.
pub(super) fn url_of(path: &Path) -> Result<Option<S3Url>, Failure> {
    let wrong = |fault| Failure::new(ExitCode::Usage, format!("the place of the backup {fault}"));
    S3Url::of(path).transpose().map_err(wrong)
}

/// Returns this place in a bucket.
///
/// # Errors
/// There are no credentials.
pub(super) fn bucket(url: &S3Url, settings: &Settings) -> Result<Bucket, Failure> {
    crate::delivery::sender::install_crypto();
    let s3 = S3Settings::from(&settings.load_for_bucket()?.backup);
    Bucket::of(url, &s3, &Stop::new()).map_err(failure)
}
