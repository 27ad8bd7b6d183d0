//! Decides which addresses a webhook may reach. Called when an endpoint is set, before every
//! attempt, and by the resolver for every address of a name. Judges values only and resolves no
//! names.
//!
//! All blocks of the IANA special-purpose registries (RFC 6890 and successors), multicast, and IPv6
//! outside of the global unicast space 2000::/3 are refused. An IPv6 address with an embedded IPv4
//! address is judged as the IPv4 address. The operator's allowed networks take precedence.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

use crate::base::{addresses, library_errors};

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;

/// The refused IPv4 blocks, narrower before wider. Source: IANA IPv4 Special-Purpose Address
/// Registry and IPv4 Multicast Address Space. Operators read the name in the last column.
const SPECIAL_V4: [(Ipv4Net, &str); 20] = [
    (v4(0, 0, 0, 0, 8), "this network"),
    (v4(10, 0, 0, 0, 8), "private network"),
    (v4(100, 64, 0, 0, 10), "carrier-grade NAT"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    // The address of most cloud providers' metadata services.
    (v4(169, 254, 0, 0, 16), "link-local, cloud metadata"),
    // Azure's metadata service has a public address.
    (v4(168, 63, 129, 16, 32), "cloud metadata"),
    (v4(172, 16, 0, 0, 12), "private network"),
    (v4(192, 0, 0, 0, 24), "IETF protocol assignments"),
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(192, 31, 196, 0, 24), "AS112"),
    (v4(192, 52, 193, 0, 24), "multicast tunnelling"),
    (v4(192, 88, 99, 0, 24), "6to4 relay"),
    (v4(192, 168, 0, 0, 16), "private network"),
    (v4(192, 175, 48, 0, 24), "AS112"),
    (v4(198, 18, 0, 0, 15), "benchmarking"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(255, 255, 255, 255, 32), "broadcast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
];

/// The refused IPv6 blocks, narrower before wider. Source: IANA IPv6 Special-Purpose Address
/// Registry and RFC 4291. Addresses with an embedded IPv4 address (IPv4-mapped and -compatible,
/// 64:ff9b::/96, 6to4) are judged as IPv4 instead.
const SPECIAL_V6: [(Ipv6Net, &str); 15] = [
    (v6([0; 8], 128), "unspecified"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback"),
    // The local network chooses where the IPv4 address is embedded, so it cannot be extracted.
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "local NAT64"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "discard-only"),
    (v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64), "dummy prefix"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), "Teredo"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "IETF protocol assignments"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "documentation"),
    (v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), "AS112"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "documentation"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "segment routing"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "private network"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "site-local"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
];

/// Everything else outside of [`GLOBAL_UNICAST_V6`], which is unassigned.
const ELSEWHERE_V6: (Ipv6Net, &str) = (v6([0; 8], 0), "outside of 2000::/3");
const GLOBAL_UNICAST_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
const COMPATIBLE: Ipv6Net = v6([0; 8], 96);
const MAPPED: Ipv6Net = v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96);
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix_len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix_len)
}

const fn v6(segments: [u16; 8], prefix_len: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from_segments(segments), prefix_len)
}

/// The operator's egress settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressRules {
    /// Networks that may be reached although they are special. An IPv6 address with an embedded
    /// IPv4 address is looked up here as the IPv4 address.
    pub allow: Vec<IpNet>,
}

/// A forbidden address, and the rule that forbids it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} is {}in {} ({}); allow it with [egress] allow_networks",
    self.other_spelling(),
    rule.network,
    rule.name
)]
pub struct Blocked {
    /// The address as given.
    pub address: IpAddr,
    /// The address that was judged: the embedded IPv4 address, if present.
    pub judged: IpAddr,
    /// The block that contains the judged address.
    pub rule: Rule,
}

impl Blocked {
    /// Names the judged address if it was written in another way.
    fn other_spelling(&self) -> String {
        if self.judged == self.address {
            return String::new();
        }
        format!("another way to write {}, which is ", self.judged)
    }
}

/// A refused block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The addresses of the block, as CIDR.
    pub network: IpNet,
    /// The purpose of the block, as shown to operators.
    pub name: &'static str,
}

/// Host and port of a URL, before the name is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name or address, without the brackets of IPv6.
    pub host: String,
    /// The port of the URL, or the default port of the scheme.
    pub port: u16,
    /// The address, if the URL has a literal address instead of a name.
    pub address: Option<IpAddr>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            _ => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Why a URL is forbidden as written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The text is not a URL; holds the parser's reason.
    #[error("must be a URL such as https://example.com/hook: {}", library_errors::url_fault(*.0))]
    NotAUrl(url::ParseError),
    /// The scheme is neither http nor https; holds the scheme.
    #[error("the scheme is {0}; only http and https are allowed")]
    Scheme(String),
    /// A user name or password before the host.
    #[error("the URL must not contain a user name or password")]
    UserInfo,
    /// The URL has no host.
    #[error("the URL has no host")]
    NoHost,
    /// An IPv4 address with a leading zero in a number; holds the address as parsed.
    #[error(
        "the numbers of the host's address begin with zeros, which some programs read as octal; \
         write {0} if this address is meant"
    )]
    LeadingZeros(String),
    /// Port 0, on which no server can listen.
    #[error("port 0 cannot be reached")]
    PortZero,
    /// A name that always means this machine (RFC 6761, 6.3); holds the name and the blocked
    /// loopback address.
    #[error("{0} names this machine: {1}")]
    LocalName(String, Blocked),
    /// A literal address that must not be reached.
    #[error(transparent)]
    Blocked(#[from] Blocked),
}

impl EgressRules {
    /// Judges an address by the allowed networks and the special blocks.
    ///
    /// # Errors
    /// The rule that forbids the address.
    pub fn judge_address(&self, address: IpAddr) -> Result<(), Blocked> {
        let judged = unwrap(address);
        if self.allow.iter().any(|network| network.contains(&judged)) {
            return Ok(());
        }
        match rule_for(judged) {
            None => Ok(()),
            Some(rule) => Err(Blocked { address, judged, rule }),
        }
    }

    /// Parses a URL and judges it like [`Self::judge_url`].
    ///
    /// # Errors
    /// Why the URL is forbidden as written.
    pub fn judge_text(&self, text: &str) -> Result<(Url, Target), EgressError> {
        let url = Url::parse(text).map_err(EgressError::NotAUrl)?;
        let target = self.judge_url(&url)?;
        if addresses::has_octal_host(text) {
            return Err(EgressError::LeadingZeros(target.host));
        }
        Ok((url, target))
    }

    /// Judges scheme, port and literal address of a URL. The `url` crate has already normalized all
    /// spellings of an address (decimal, octal, hexadecimal, full-width digits, trailing dot). A
    /// name is judged when it is resolved, except for names that always mean this machine.
    ///
    /// # Errors
    /// Why the URL is forbidden as written.
    pub fn judge_url(&self, url: &Url) -> Result<Target, EgressError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(EgressError::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EgressError::UserInfo);
        }
        let host = url.host().ok_or(EgressError::NoHost)?;
        let port = url.port_or_known_default().ok_or(EgressError::NoHost)?;
        if port == 0 {
            return Err(EgressError::PortZero);
        }
        let (host, address) = match host {
            Host::Ipv4(address) => (address.to_string(), Some(IpAddr::V4(address))),
            Host::Ipv6(address) => (address.to_string(), Some(IpAddr::V6(address))),
            Host::Domain(name) => {
                if name.trim_matches('.').is_empty() {
                    return Err(EgressError::NoHost);
                }
                if is_local_name(name) {
                    self.local_addresses()
                        .map_err(|blocked| EgressError::LocalName(name.to_owned(), blocked))?;
                }
                (name.to_owned(), None)
            }
        };
        if let Some(address) = address {
            self.judge_address(address)?;
        }
        Ok(Target { host, port, address })
    }

    /// Returns the addresses of a name of this machine: the allowed ones of the two loopback
    /// addresses.
    ///
    /// # Errors
    /// Neither loopback address is allowed.
    pub fn local_addresses(&self) -> Result<Vec<IpAddr>, Blocked> {
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let allowed: Vec<IpAddr> =
            loopback.into_iter().filter(|address| self.judge_address(*address).is_ok()).collect();
        if allowed.is_empty() {
            self.judge_address(Ipv4Addr::LOCALHOST.into())?;
        }
        Ok(allowed)
    }
}

/// True if the name always means this machine: `localhost` and all names below it (RFC 6761, 6.3).
pub fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Returns the embedded IPv4 address of an IPv6 address, or the address itself: IPv4-mapped and
/// IPv4-compatible (RFC 4291, 2.5.5), NAT64 (RFC 6052, 2.1), 6to4 (RFC 3056, 2). `::` and `::1` are
/// themselves.
fn unwrap(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let [_, high, low, .., last_high, last_low] = v6.segments();
    if v6.is_unspecified() || v6.is_loopback() {
        address
    } else if MAPPED.contains(&v6) || COMPATIBLE.contains(&v6) || NAT64.contains(&v6) {
        embedded(last_high, last_low)
    } else if SIX_TO_FOUR.contains(&v6) {
        embedded(high, low)
    } else {
        address
    }
}

fn embedded(high: u16, low: u16) -> IpAddr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into()
}

/// Returns the first rule that forbids the address.
fn rule_for(address: IpAddr) -> Option<Rule> {
    match address {
        IpAddr::V4(v4) => SPECIAL_V4
            .iter()
            .find(|(network, _)| network.contains(&v4))
            .map(|(network, name)| Rule { network: IpNet::V4(*network), name }),
        IpAddr::V6(v6) => SPECIAL_V6
            .iter()
            .find(|(network, _)| network.contains(&v6))
            .or((!GLOBAL_UNICAST_V6.contains(&v6)).then_some(&ELSEWHERE_V6))
            .map(|(network, name)| Rule { network: IpNet::V6(*network), name }),
    }
}
