//! Resolves names and judges every address. Called by the connector for each connection, so that
//! only judged addresses are connected to. Knows nothing of HTTP.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::lookups::{Asked, Lookups, NoLookup};
use crate::model::id::OrgNo;
use crate::rules::egress::{Blocked, EgressRules, is_local_name};

/// Why a name cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The system's resolver found no address.
    #[error("{name} has no address: {reason}")]
    NoAddress {
        /// The name of the host.
        name: String,
        /// The reason, in the system's words.
        reason: String,
    },
    /// An address of the name is forbidden. The other addresses of the name do not matter.
    #[error("{name} has a forbidden address: {blocked}")]
    Blocked {
        /// The name of the host.
        name: String,
        /// The forbidden address and the rule.
        blocked: Blocked,
    },
}

/// Asks the system for the addresses of a name, and waits until its lookup begins. Returns `None`
/// for an address in place of a name and for a name of this machine, which need no lookup.
///
/// # Errors
/// The lookup did not begin within this time.
pub(super) async fn begin(
    lookups: &Arc<Lookups>,
    org: OrgNo,
    name: &str,
    within: Duration,
) -> Result<Option<Asked>, NoLookup> {
    if name.parse::<IpAddr>().is_ok() || is_local_name(name) {
        return Ok(None);
    }
    let mut asked = lookups.ask(org, name);
    match timeout(within, asked.begun()).await {
        Ok(()) => Ok(Some(asked)),
        Err(_elapsed) => Err(NoLookup(lookups.exhausted(org))),
    }
}

/// Returns all addresses of a name, or the literal address in its place, with this port. `asked` is
/// the lookup from [`begin`]. A name of this machine gets its allowed loopback addresses instead
/// (RFC 6761, 6.3).
///
/// # Errors
/// There is no address, or an address is forbidden.
pub(super) async fn resolve(
    rules: &EgressRules,
    (name, port): (&str, u16),
    asked: Option<Asked>,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let judged = if let Ok(address) = name.parse::<IpAddr>() {
        judge_all(rules, name, std::iter::once(address))
    } else if let Some(asked) = asked {
        match asked.found().await {
            Ok(found) => judge_all(rules, name, found.into_iter()),
            Err(reason) => Err(ResolveError::NoAddress { name: name.to_owned(), reason }),
        }
    } else {
        rules
            .local_addresses()
            .map_err(|blocked| ResolveError::Blocked { name: name.to_owned(), blocked })
    };
    Ok(judged?.into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

/// Returns the addresses of a name if all are allowed. A single forbidden address refuses the name:
/// a name with a public and a private address is an attack or a mistake.
fn judge_all(
    rules: &EgressRules,
    name: &str,
    addresses: impl Iterator<Item = IpAddr>,
) -> Result<Vec<IpAddr>, ResolveError> {
    let mut judged = Vec::new();
    for address in addresses {
        match rules.judge_address(address) {
            Ok(()) => judged.push(address),
            Err(blocked) => return Err(ResolveError::Blocked { name: name.to_owned(), blocked }),
        }
    }
    if judged.is_empty() {
        return Err(ResolveError::NoAddress {
            name: name.to_owned(),
            reason: "the name server returned no address".to_owned(),
        });
    }
    Ok(judged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(addresses: &[&str]) -> Result<Vec<IpAddr>, ResolveError> {
        let addresses = addresses.iter().map(|text| text.parse().unwrap());
        judge_all(&EgressRules::default(), "example.com", addresses)
    }

    #[test]
    fn one_forbidden_address_refuses_the_whole_name() {
        assert_eq!(judge(&["8.8.8.8", "2606:4700::1111"]).map(|found| found.len()), Ok(2));
        for mixed in
            [["8.8.8.8", "10.0.0.7"], ["10.0.0.7", "8.8.8.8"], ["8.8.8.8", "::ffff:10.0.0.7"]]
        {
            let refusal = judge(&mixed).unwrap_err().to_string();
            assert!(refusal.starts_with("example.com has a forbidden address: "), "{refusal}");
            assert!(refusal.contains("10.0.0.0/8 (private network)"), "{refusal}");
        }
    }

    #[test]
    fn a_name_without_addresses_is_not_found() {
        assert!(matches!(judge(&[]), Err(ResolveError::NoAddress { .. })));
    }

    async fn resolve_without_lookup(
        rules: &EgressRules,
        name: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        let lookups = Lookups::for_tests();
        let asked = begin(&lookups, OrgNo(1), name, Duration::ZERO).await.unwrap();
        assert!(asked.is_none(), "{name} needs no lookup");
        resolve(rules, (name, port), None).await
    }

    #[tokio::test]
    async fn names_of_this_machine_are_its_allowed_loopback_addresses() {
        let refused =
            resolve_without_lookup(&EgressRules::default(), "localhost", 80).await.unwrap_err();
        assert!(refused.to_string().contains("127.0.0.0/8 (loopback)"), "{refused}");
        let allowed = EgressRules { allow: vec!["127.0.0.0/8".parse().unwrap()] };
        let only: SocketAddr = "127.0.0.1:80".parse().unwrap();
        assert_eq!(resolve_without_lookup(&allowed, "Api.Localhost.", 80).await, Ok(vec![only]));
    }

    #[tokio::test]
    async fn an_address_in_place_of_a_name_is_judged_too() {
        let refused = resolve_without_lookup(&EgressRules::default(), "::ffff:10.0.0.7", 443)
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("10.0.0.0/8 (private network)"), "{refused}");
        let public: SocketAddr = "[2606:4700::1111]:443".parse().unwrap();
        assert_eq!(
            resolve_without_lookup(&EgressRules::default(), "2606:4700::1111", 443).await,
            Ok(vec![public])
        );
    }
}
