//! Endpoints' secrets: sealed where they are kept, open only while a request is signed. Called when one is made and when an
//! attempt is.

use zeroize::Zeroizing;

use crate::base::vault::Vault;
use crate::model::endpoint::{Endpoint, SealedSecret, Secret};
use crate::model::id::EndpointId;
use crate::model::time::Timestamp;

/// Seals the secret of an endpoint; it opens for that endpoint alone.
pub fn seal(vault: &Vault, endpoint: EndpointId, secret: &Secret) -> Option<SealedSecret> {
    vault.seal(secret.bytes(), &endpoint.to_bytes()).map(SealedSecret::new)
}

/// The secrets that sign now, the newest first; none if they were sealed with another key.
pub fn open(vault: &Vault, endpoint: &Endpoint, now: Timestamp) -> Option<Vec<Secret>> {
    let whose = endpoint.id.to_bytes();
    let open = |sealed: &SealedSecret| {
        let bytes = Zeroizing::new(vault.open(sealed.bytes(), &whose)?);
        Some(Secret::new(bytes.as_slice().try_into().ok()?))
    };
    endpoint.secrets(now).map(open).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::endpoint::EndpointSettings;

    const NOW: Timestamp = Timestamp(1_000);

    #[test]
    fn an_endpoints_secrets_open_for_it_alone_while_they_sign() {
        let (vault, id) = (Vault::new(&[3; 32]), EndpointId(7));
        let sealed = |byte| seal(&vault, id, &Secret::new([byte; 32])).unwrap();
        let mut endpoint = Endpoint::new(id, EndpointSettings::default(), sealed(1), NOW);
        endpoint.rotate(sealed(2), NOW, Timestamp(2_000));
        let both = [Secret::new([2; 32]), Secret::new([1; 32])];
        assert_eq!(open(&vault, &endpoint, NOW).as_deref(), Some(both.as_slice()));
        assert_eq!(open(&vault, &endpoint, Timestamp(2_000)).as_deref(), Some(&both[..1]), "its time has come");
        assert_eq!(open(&Vault::new(&[4; 32]), &endpoint, NOW), None);
        endpoint.id = EndpointId(8);
        assert_eq!(open(&vault, &endpoint, NOW), None, "another endpoint's");
    }
}
