//! Starts without the key of the endpoints' secrets, if the operator asks for this. Secrets sealed
//! with the lost key are gone, and their endpoints stay disabled until their owners set new
//! secrets.

use std::path::Path;
use std::sync::Arc;

use super::StartError;
use crate::base::random;
use crate::base::vault::Vault;
use crate::commands::{Command, PutEndpoint};
use crate::commit::Engine;
use crate::config::credentials_directory;
use crate::data_dir::{Place, read_secrets_key};
use crate::delivery::secrets;
use crate::model::endpoint::{DisabledReason, Endpoint, Secret};
use crate::model::time::Timestamp;
use crate::store::{Destination, StateError, Store};

/// Number of endpoints changed in one submission.
const AT_ONCE: usize = 500;

/// The key that seals endpoints' secrets: systemd's credential, else the file of the data
/// directory; none if there is neither.
pub(super) fn key(data_dir: &Path) -> Result<Option<[u8; 32]>, StartError> {
    let credential =
        credentials_directory().map(|dir| read_secrets_key(&dir, Place::Credentials)).transpose();
    match credential.map_err(StartError::DataDir)?.flatten() {
        Some(key) => Ok(Some(key)),
        None => read_secrets_key(data_dir, Place::DataDir).map_err(StartError::DataDir),
    }
}

/// Checks that the key at hand opens the secrets of all endpoints. `triggerd verify` calls this
/// function too.
///
/// # Errors
/// The error with which a start is refused.
pub fn check_secrets(data_dir: &Path, store: &Store) -> Result<(), StartError> {
    let of = store.all_endpoints().map_err(StartError::State)?.len();
    let Some(key) = key(data_dir)? else {
        return if of > 0 { Err(StartError::SecretsKeyLost { of }) } else { Ok(()) };
    };
    let lost = unopened(&Vault::new(&key), store).map_err(StartError::State)?;
    match lost.first() {
        Some(endpoint) => Err(StartError::SecretsKey { endpoint: endpoint.id, of }),
        None => Ok(()),
    }
}

/// Returns the endpoints with a secret or a header that this key does not open.
pub(super) fn unopened(vault: &Vault, store: &Store) -> Result<Vec<Arc<Endpoint>>, StateError> {
    let now = store.counts()?.steady;
    let mut endpoints = store.all_endpoints()?;
    endpoints.retain(|endpoint| {
        secrets::open(vault, endpoint, now).is_none()
            || secrets::open_headers(vault, endpoint).is_none()
    });
    Ok(endpoints)
}

/// Gives these endpoints new secrets, removes the values of their headers and disables them, so
/// that no request goes out with a signature unknown to its receiver. An endpoint already disabled
/// by its owner keeps this reason. An owner must rotate the secret before enabling the endpoint,
/// because nobody knows the new secret.
pub(super) fn forget(engine: &Engine, lost: &[Arc<Endpoint>]) -> Result<(), StartError> {
    let now = Timestamp(engine.clock.now_ms());
    for endpoints in lost.chunks(AT_ONCE) {
        let mut commands = Vec::new();
        for endpoint in endpoints {
            let found = engine.store.destination(endpoint.id).map_err(StartError::State)?;
            let Some(Destination { org, .. }) = found else { continue };
            let organization =
                engine.store.org_id(org).map_err(StartError::State)?.map(|id| id.to_string());
            let headers = endpoint.settings.headers.len();
            let (endpoint, url) = (renewed(&engine.vault, endpoint, now)?, &endpoint.settings.url);
            tracing::warn!(
                target: crate::logging::AUDIT,
                organization, endpoint = %endpoint.id, url, headers,
                "the endpoint's secret and the values of its headers are lost; it is disabled \
                 until its owner rotates the secret, sets the headers again and enables it"
            );
            commands.push(Command::PutEndpoint(PutEndpoint { org, endpoint, sets_enabled: true }));
        }
        if !engine.intake.push_and_wait(commands) {
            return Err(StartError::ForgetSecrets(
                "the journal accepts no changes; the log has the cause",
            ));
        }
    }
    Ok(())
}

fn renewed(vault: &Vault, endpoint: &Endpoint, now: Timestamp) -> Result<Endpoint, StartError> {
    let sealed = secrets::seal(vault, endpoint.id, &Secret::new(random::bytes()));
    let secret = sealed.ok_or(StartError::ForgetSecrets("a new secret could not be encrypted"))?;
    let mut endpoint = Endpoint { secret, updated_at: now, ..endpoint.clone() };
    endpoint.retiring.clear();
    endpoint.settings.headers.clear();
    endpoint.disabled = endpoint.disabled.or(Some(DisabledReason::SecretLost));
    Ok(endpoint)
}
