//! Secrets and header values of endpoints: sealed in storage, open only during a request or when
//! shown to their owner. Called when a secret is made, for each attempt, and when headers are
//! shown.

use zeroize::Zeroizing;

use crate::base::vault::Vault;
use crate::model::endpoint::{Endpoint, SealedSecret, Secret};
use crate::model::id::EndpointId;
use crate::model::time::Timestamp;

/// Seals the secret of an endpoint. It opens for this endpoint only.
pub fn seal(vault: &Vault, endpoint: EndpointId, secret: &Secret) -> Option<SealedSecret> {
    vault.seal(secret.bytes(), &endpoint.to_bytes()).map(SealedSecret::new)
}

/// Opens the secrets that sign at this steady time, the newest first; `None` if they were sealed
/// with another key.
pub fn open(vault: &Vault, endpoint: &Endpoint, now: Timestamp) -> Option<Vec<Secret>> {
    let whose = endpoint.id.to_bytes();
    let open = |sealed: &SealedSecret| {
        let bytes = Zeroizing::new(vault.open(sealed.bytes(), &whose)?);
        Some(Secret::new(bytes.as_slice().try_into().ok()?))
    };
    endpoint.secrets(now).map(open).collect()
}

/// The context of a sealed header value: the value opens only for this endpoint and name, and never
/// as a signing secret.
fn header_of(endpoint: EndpointId, name: &str) -> Vec<u8> {
    [endpoint.to_bytes().as_slice(), b"header ", name.as_bytes()].concat()
}

/// Seals the value of an endpoint's own header.
pub fn seal_header(
    vault: &Vault,
    endpoint: EndpointId,
    (name, value): (&str, &str),
) -> Option<SealedSecret> {
    vault.seal(value.as_bytes(), &header_of(endpoint, name)).map(SealedSecret::new)
}

/// Opens the endpoint's own headers; `None` if they were sealed with another key.
pub fn open_headers(vault: &Vault, endpoint: &Endpoint) -> Option<Vec<(String, String)>> {
    let open = |(name, sealed): &(String, SealedSecret)| {
        let value = vault.open(sealed.bytes(), &header_of(endpoint.id, name))?;
        Some((name.clone(), String::from_utf8(value).ok()?))
    };
    endpoint.settings.headers.iter().map(open).collect()
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
        endpoint.rotate(sealed(2), NOW, 1_000);
        let both = [Secret::new([2; 32]), Secret::new([1; 32])];
        assert_eq!(open(&vault, &endpoint, NOW).as_deref(), Some(both.as_slice()));
        assert_eq!(
            open(&vault, &endpoint, Timestamp(2_000)).as_deref(),
            Some(&both[..1]),
            "its time has come"
        );
        assert_eq!(open(&Vault::new(&[4; 32]), &endpoint, NOW), None);
        endpoint.id = EndpointId(8);
        assert_eq!(open(&vault, &endpoint, NOW), None, "another endpoint's");
    }

    #[test]
    fn a_header_opens_under_its_name_at_its_endpoint_alone() {
        let (vault, id) = (Vault::new(&[3; 32]), EndpointId(7));
        let secret = seal(&vault, id, &Secret::new([1; 32])).unwrap();
        let sealed = seal_header(&vault, id, ("x-a", "value")).unwrap();
        assert!(!sealed.bytes().windows(5).any(|window| window == b"value"));
        let mut endpoint = Endpoint::new(id, EndpointSettings::default(), secret.clone(), NOW);
        endpoint.settings.headers = vec![("x-a".into(), sealed.clone())];
        assert_eq!(open_headers(&vault, &endpoint), Some(vec![("x-a".into(), "value".into())]));
        assert_eq!(open_headers(&Vault::new(&[4; 32]), &endpoint), None);
        for odd in [("x-b", &sealed), ("x-a", &secret)] {
            endpoint.settings.headers = vec![(odd.0.into(), odd.1.clone())];
            assert_eq!(open_headers(&vault, &endpoint), None, "{}", odd.0);
        }
        endpoint.settings.headers = vec![("x-a".into(), sealed.clone())];
        endpoint.id = EndpointId(8);
        assert_eq!(open_headers(&vault, &endpoint), None, "another endpoint's");
        (endpoint.id, endpoint.secret) = (id, sealed);
        assert_eq!(open(&vault, &endpoint, NOW), None, "a header's value does not sign");
    }
}
