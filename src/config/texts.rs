//! Values that are text: paths, networks and what is logged. Each is judged here as what it stands for, because a value
//! that parses and then does nothing is worse than one that is refused.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Levels of a log, as the configuration names them.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// What log lines can come from: our modules,
const MODULES: [&str; 15] = [
    "app", "audit", "base", "cli", "commit", "config", "data_dir", "delivery", "http", "journal", "logging", "model",
    "pipeline", "rules", "store",
];
/// and libraries that log something.
pub const LIBRARIES: [&str; 11] = [
    "actix_http",
    "actix_rt",
    "actix_server",
    "actix_web",
    "hyper",
    "hyper_util",
    "mio",
    "reqwest",
    "rustls",
    "sled",
    "tokio",
];
/// Two names are taken for a typo of each other from this likeness on (Jaro-Winkler, 0 to 1).
const LIKENESS_MIN: f64 = 0.75;

/// What is wrong with a path, if anything is.
pub(super) fn path_fault(text: &str) -> Option<String> {
    let nul = || format!("must not have a NUL character in it, as no file name can: {text:?}");
    text.contains('\0').then(nul)
}

/// A network to compare addresses with.
///
/// # Errors
/// What is wrong with the text, also when no address could ever be in the network: addresses of IPv4 are always compared
/// as such, however they are written.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let network: IpNet =
        text.parse().map_err(|_malformed| format!("must be networks such as 10.1.0.0/16 or fd00::/8, not {text:?}"))?;
    if network.trunc() != network {
        // A host's address with a prefix: was the host meant, or its network? Not for us to guess.
        return Err(format!("must be networks; {text} is an address in {}", network.trunc()));
    }
    let IpNet::V6(v6) = network else { return Ok(network) };
    match carried(v6) {
        None => Ok(network),
        Some(v4) => Err(format!("{text} matches nothing, because IPv4 addresses are compared as such; write {v4}")),
    }
}

/// The IPv4 network that is meant, if all addresses of this one only carry IPv4 addresses: IPv4-mapped and -compatible
/// ones (RFC 4291, 2.5.5), NAT64 (RFC 6052, 2.1) and 6to4 (RFC 3056, 2).
fn carried(network: Ipv6Net) -> Option<Ipv4Net> {
    let address = network.addr();
    let [_, high, low, .., last_high, last_low] = address.segments();
    let embedded = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    let within = |segments: [u16; 8], bits: u8| {
        let block = Ipv6Net::new(Ipv6Addr::from_segments(segments), bits);
        block.is_ok_and(|block| block.contains(&network))
    };
    let itself = network.contains(&Ipv6Addr::UNSPECIFIED) || network.contains(&Ipv6Addr::LOCALHOST);
    let in_last = within([0, 0, 0, 0, 0, 0xffff, 0, 0], 96)
        || within([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96)
        || within([0; 8], 96) && !itself;
    if in_last {
        return Ipv4Net::new(embedded(last_high, last_low), network.prefix_len().saturating_sub(96)).ok();
    }
    if within([0x2002, 0, 0, 0, 0, 0, 0, 0], 16) {
        return Ipv4Net::new(embedded(high, low), network.prefix_len().saturating_sub(16).min(32)).ok();
    }
    None
}

/// What is wrong with the text of `log.level`, if anything is.
pub(super) fn level_fault(text: &str) -> Option<String> {
    const RULE: &str = "must be error, warn, info, debug or trace, or such as info,triggerd::delivery=debug";
    let mut everything = None;
    for directive in text.split(',').map(str::trim) {
        let (target, level) = match directive.split_once('=') {
            Some((target, level)) => (Some(target.trim()), Some(level.trim())),
            None if is_level(directive) => (None, Some(directive)),
            None => (Some(directive), None),
        };
        if let Some(level) = level.filter(|level| !is_level(level)) {
            return Some(format!("{RULE}; {level:?} is no level{}", suggestion(level, &LEVELS)));
        }
        match target {
            Some(target) => {
                if let Some(fault) = target_fault(target, level.is_some()) {
                    return Some(format!("{RULE}; {fault}"));
                }
            }
            None => {
                if let Some(first) = everything.replace(directive) {
                    return Some(format!("{RULE}; there are two levels for everything, {first} and {directive}"));
                }
            }
        }
    }
    None
}

/// Whether this is a level, and no name of what logs.
pub fn is_level(text: &str) -> bool {
    LEVELS.iter().any(|level| text.eq_ignore_ascii_case(level))
}

fn target_fault(target: &str, has_level: bool) -> Option<String> {
    let (first, rest) = target.split_once("::").map_or((target, None), |(first, rest)| (first, Some(rest)));
    let module = rest.map(|rest| rest.split("::").next().unwrap_or(rest));
    match module {
        Some(module) if first == "triggerd" => (!MODULES.contains(&module))
            .then(|| format!("triggerd has no module {module:?}{}", suggestion(module, &MODULES))),
        _ if first == "triggerd" || LIBRARIES.contains(&first) => None,
        _ if has_level => Some(format!("nothing is logged by {target:?}{}", suggestion(first, &LIBRARIES))),
        _ => Some(format!("{target:?} is neither a level nor a module{}", suggestion(target, &LEVELS))),
    }
}

fn suggestion(text: &str, known: &[&str]) -> String {
    let lower = text.to_lowercase();
    let likeness = |known: &&&str| strsim::jaro_winkler(known, &lower);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let nearest = nearest.filter(|known| likeness(known) >= LIKENESS_MIN);
    nearest.map_or_else(String::new, |known| format!("; did you mean {known}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_no_address_is_in_is_refused_with_the_spelling_that_matches() {
        for (text, meant) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:192.168.7.1/128", "192.168.7.1/32"),
            ("64:ff9b::a00:0/104", "10.0.0.0/8"),
            ("::10.0.0.0/104", "10.0.0.0/8"),
            ("2002:a00::/24", "10.0.0.0/8"),
            ("2002:c0a8:101::/48", "192.168.1.1/32"),
            ("2002:c0a8:101:7::/64", "192.168.1.1/32"),
        ] {
            let fault = network(text).unwrap_err();
            assert!(fault.ends_with(&format!("write {meant}")), "{text}: {fault}");
        }
        for text in ["::1/128", "::/0", "::/96", "2000::/3", "fd00::/8", "64:ff9b:1::/48", "0.0.0.0/0", "10.0.0.1/32"] {
            network(text).unwrap();
        }
        for text in ["10.1.2.3/16", "10.0.0.0/33", "10.0.0.0", "", "a/8"] {
            network(text).unwrap_err();
        }
    }

    #[test]
    fn a_level_that_would_log_nothing_is_refused() {
        for (text, part) in [
            ("inof", "did you mean info?"),
            ("INOF", "did you mean info?"),
            ("info,debgu", "did you mean debug?"),
            ("triggerd=inof", "did you mean info?"),
            ("info,triggerd::delivry=debug", "did you mean delivery?"),
            ("info,trigerd::delivery=debug", "nothing is logged by"),
            ("info,debug", "two levels"),
            ("info,", "neither"),
            ("", "neither"),
            ("verbose", "neither"),
            ("a=b=c", "no level"),
            ("info,[span]=debug", "nothing is logged"),
        ] {
            let fault = level_fault(text).unwrap_or_else(|| panic!("{text} is taken"));
            assert!(fault.contains(part), "{text}: {fault}");
        }
        for text in
            ["off", "INFO", "warn,triggerd::http=trace", "info, triggerd::delivery::scheduler=debug", "triggerd=debug"]
        {
            assert_eq!(level_fault(text), None, "{text}");
        }
    }

    #[test]
    fn the_modules_that_can_be_named_are_those_that_there_are() {
        let there =
            include_str!("../lib.rs").lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        // What was done by whom is logged under a name of its own.
        let mut there: Vec<_> = there.chain(["audit"]).collect();
        there.sort_unstable();
        assert_eq!(there, MODULES);
    }
}
