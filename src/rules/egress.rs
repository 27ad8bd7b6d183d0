//! Which addresses a webhook may reach. Called when an endpoint is set, before every attempt, and by the resolver for
//! every address a name has. Judges values only; resolving names is not its business.
//!
//! Refused is everything in the IANA special-purpose registries (RFC 6890 and successors), multicast, and IPv6 outside of
//! the global unicast space 2000::/3. An IPv6 address that only carries an IPv4 address is judged as that one. What an
//! operator allows by CIDR wins.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

use crate::base::{addresses, library_errors};

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;

/// The IPv4 blocks that are refused, the narrower before the wider. Source: IANA IPv4 Special-Purpose Address Registry and
/// IPv4 Multicast Address Space; the last column is what an operator reads.
const SPECIAL_V4: [(Ipv4Net, &str); 20] = [
    (v4(0, 0, 0, 0, 8), "this network"),
    (v4(10, 0, 0, 0, 8), "private network"),
    (v4(100, 64, 0, 0, 10), "carrier-grade NAT"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    // The metadata services of cloud providers live here.
    (v4(169, 254, 0, 0, 16), "link-local, cloud metadata"),
    // Azure's is the one that has a public address.
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

/// The IPv6 blocks that are refused, the narrower before the wider. Source: IANA IPv6 Special-Purpose Address Registry and
/// RFC 4291. What carries an IPv4 address (IPv4-mapped and -compatible, 64:ff9b::/96, 6to4) is judged as that one instead.
const SPECIAL_V6: [(Ipv6Net, &str); 15] = [
    (v6([0; 8], 128), "unspecified"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback"),
    // Where in it the IPv4 address stands is up to the local network, so it cannot be judged by that.
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

/// Whatever else is outside of [`GLOBAL_UNICAST_V6`]: nothing there is assigned to anyone.
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

/// What this server's webhooks may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressRules {
    /// Networks that may be reached although they are special. An IPv6 address that carries an IPv4 address is looked up
    /// here as the IPv4 address.
    pub allow: Vec<IpNet>,
}

/// An address that must not be reached, and the rule that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The address as it was given.
    pub address: IpAddr,
    /// The address that was judged: the IPv4 address inside, if there is one.
    pub judged: IpAddr,
    /// The block it is in.
    pub rule: Rule,
}

/// A block of addresses that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The block.
    pub network: IpNet,
    /// What it is for.
    pub name: &'static str,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is ", self.address)?;
        if self.judged != self.address {
            write!(f, "another way to write {}, which is ", self.judged)?;
        }
        write!(f, "in {} ({}); allow it with [egress] allow_networks", self.rule.network, self.rule.name)
    }
}

impl std::error::Error for Blocked {}

/// Where a URL leads, as far as it says so itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name or address, without the brackets of IPv6.
    pub host: String,
    /// The port; the scheme's, if the URL names none.
    pub port: u16,
    /// The address, if the URL has one instead of a name.
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

/// Why a URL is forbidden as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EgressError {
    /// No URL at all; the parser's reason.
    NotAUrl(url::ParseError),
    /// Neither http nor https.
    Scheme(String),
    /// A user name or password before the host.
    UserInfo,
    /// No host.
    NoHost,
    /// An IPv4 address with a zero before one of its numbers; what we read it as.
    LeadingZeros(String),
    /// Port 0, which nothing can listen on.
    PortZero,
    /// A name that always means this machine (RFC 6761, 6.3).
    LocalName(String, Blocked),
    /// An address that must not be reached.
    Blocked(Blocked),
}

impl fmt::Display for EgressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAUrl(reason) => {
                let reason = library_errors::url_fault(*reason);
                write!(f, "must be a URL such as https://example.com/hook: {reason}")
            }
            Self::Scheme(scheme) => write!(f, "the scheme is {scheme}; only http and https are allowed"),
            Self::UserInfo => f.write_str("the URL must not contain a user name or password"),
            Self::NoHost => f.write_str("the URL has no host"),
            Self::LeadingZeros(host) => write!(
                f,
                "the numbers of the host's address begin with zeros, which some programs read as octal; \
                 write {host} if this address is meant"
            ),
            Self::PortZero => f.write_str("port 0 cannot be reached"),
            Self::LocalName(name, blocked) => write!(f, "{name} names this machine: {blocked}"),
            Self::Blocked(blocked) => blocked.fmt(f),
        }
    }
}

impl std::error::Error for EgressError {}

impl From<Blocked> for EgressError {
    fn from(blocked: Blocked) -> Self {
        Self::Blocked(blocked)
    }
}

impl EgressRules {
    /// Whether this address may be reached.
    ///
    /// # Errors
    /// The rule that forbids it.
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
    /// Why it is forbidden as written.
    pub fn judge_text(&self, text: &str) -> Result<(Url, Target), EgressError> {
        let url = Url::parse(text).map_err(EgressError::NotAUrl)?;
        let target = self.judge_url(&url)?;
        if addresses::has_octal_host(text) {
            return Err(EgressError::LeadingZeros(target.host));
        }
        Ok((url, target))
    }

    /// Judges what a URL says by itself: scheme, port and a literal address. The `url` crate has made one spelling of
    /// every way to write an address by then (decimal, octal, hexadecimal, full-width digits, trailing dot). A name is
    /// judged when it is resolved, except for those that always mean this machine.
    ///
    /// # Errors
    /// Why it is forbidden as written.
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
                    self.local_addresses().map_err(|blocked| EgressError::LocalName(name.to_owned(), blocked))?;
                }
                (name.to_owned(), None)
            }
        };
        if let Some(address) = address {
            self.judge_address(address)?;
        }
        Ok(Target { host, port, address })
    }

    /// What a name of this machine resolves to: those of its two loopback addresses that are allowed.
    ///
    /// # Errors
    /// When neither is.
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

/// Whether the name always means this machine: `localhost` and everything below it (RFC 6761, 6.3).
pub fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// The IPv4 address that an IPv6 address carries, or the address itself: IPv4-mapped and IPv4-compatible (RFC 4291,
/// 2.5.5), NAT64 (RFC 6052, 2.1), 6to4 (RFC 3056, 2). `::` and `::1` are themselves.
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

/// The first rule that forbids the address.
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
