//! How S3-compatible stores are reached. The variables of the environment that every S3 tool takes
//! come first, then the keys of `[backup]`, then, for the credentials, systemd.

use std::path::{Path, PathBuf};

use super::backup::Backup;
use super::environment::{credentials_directory, foreign_variable};
use crate::base::library_errors::io_words;
use crate::base::regular;

/// The region of stores that have none.
const REGION: &str = "us-east-1";
/// The name of the credentials among systemd's.
const CREDENTIAL: &str = "s3.credentials";

/// How an S3-compatible store is reached.
pub struct S3Access {
    /// The URL of the store; none means Amazon's.
    pub endpoint: Option<String>,
    /// The region of the bucket.
    pub region: String,
    /// The credentials.
    pub keys: S3Keys,
}

/// The credentials of a store.
#[derive(Default)]
pub struct S3Keys {
    /// The id of the access key.
    pub id: String,
    /// The secret access key.
    pub secret: String,
    /// The token of a session, for credentials that expire.
    pub token: Option<String>,
}

/// The keys of `[backup]` about stores.
#[derive(Clone, Debug, Default)]
pub struct S3Settings {
    endpoint: Option<String>,
    region: Option<String>,
    credentials: Option<PathBuf>,
}

impl From<&Backup> for S3Settings {
    fn from(backup: &Backup) -> Self {
        Self {
            endpoint: backup.s3_endpoint.clone(),
            region: backup.s3_region.clone(),
            credentials: backup.s3_credentials.clone(),
        }
    }
}

impl S3Settings {
    /// Finds out how the store is reached, as of now: a file with credentials may have changed.
    ///
    /// # Errors
    /// There are no credentials, or they cannot be read.
    pub fn access(&self) -> Result<S3Access, String> {
        let endpoint = first_of(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])?;
        let endpoint = endpoint.or_else(|| self.endpoint.clone());
        let region = first_of(&["AWS_REGION", "AWS_DEFAULT_REGION"])?;
        let region = region.or_else(|| self.region.clone());
        let region = region.unwrap_or_else(|| REGION.to_owned());
        Ok(S3Access { endpoint, region, keys: self.keys()? })
    }

    fn keys(&self) -> Result<S3Keys, String> {
        let id = foreign_variable("AWS_ACCESS_KEY_ID")?;
        let secret = foreign_variable("AWS_SECRET_ACCESS_KEY")?;
        match (id, secret) {
            (Some(id), Some(secret)) => {
                let token = foreign_variable("AWS_SESSION_TOKEN")?;
                return Ok(S3Keys { id, secret, token });
            }
            (None, None) => {}
            _ => {
                let message = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set together";
                return Err(message.to_owned());
            }
        }
        let credential =
            || Some(credentials_directory()?.join(CREDENTIAL)).filter(|it| it.exists());
        match self.credentials.clone().or_else(credential) {
            Some(path) => keys_in(&path),
            None => Err("no credentials for the S3 store: set AWS_ACCESS_KEY_ID and \
                AWS_SECRET_ACCESS_KEY for this process, name a file in [backup] s3_credentials, or \
                name the directory of a file s3.credentials in CREDENTIALS_DIRECTORY"
                .to_owned()),
        }
    }
}

fn first_of(names: &[&str]) -> Result<Option<String>, String> {
    for name in names {
        if let Some(value) = foreign_variable(name)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Reads a file with the form of `~/.aws/credentials`: the default profile, or lines without one.
fn keys_in(path: &Path) -> Result<S3Keys, String> {
    let wrong = |why: &str| {
        format!("the credentials of the S3 store cannot be read from {}: {why}", path.display())
    };
    let text = regular::read_to_string(path).map_err(|error| wrong(&io_words(&error)))?;
    keys_of(&text).ok_or_else(|| {
        wrong(
            "it needs the lines `aws_access_key_id = …` and `aws_secret_access_key = …`, under \
             [default] or under no profile",
        )
    })
}

fn keys_of(text: &str) -> Option<S3Keys> {
    let (mut keys, mut is_default) = (S3Keys::default(), true);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if line.starts_with('[') {
            is_default = line.trim_matches(['[', ']', ' ']) == "default";
        }
        let Some((name, value)) = line.split_once('=').filter(|_| is_default) else { continue };
        let value = value.trim().to_owned();
        match name.trim().to_ascii_lowercase().as_str() {
            "aws_access_key_id" => keys.id = value,
            "aws_secret_access_key" => keys.secret = value,
            "aws_session_token" => keys.token = Some(value),
            _ => {}
        }
    }
    (!keys.id.is_empty() && !keys.secret.is_empty()).then_some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_those_of_the_default_profile() {
        let keys = "[other]\naws_access_key_id = no\naws_secret_access_key = no\n# a comment\n\
            [default]\n aws_access_key_id=AKIA\nAWS_SECRET_ACCESS_KEY = a=b \n";
        let keys = keys_of(keys).unwrap();
        assert_eq!((keys.id.as_str(), keys.secret.as_str(), keys.token), ("AKIA", "a=b", None));
        let bare = "aws_access_key_id=A\naws_secret_access_key=B\naws_session_token=C\n";
        assert_eq!(keys_of(bare).unwrap().token.as_deref(), Some("C"));
        for text in ["", "aws_access_key_id = A", "[other]\naws_access_key_id=A"] {
            assert!(keys_of(text).is_none(), "{text}");
        }
    }
}
