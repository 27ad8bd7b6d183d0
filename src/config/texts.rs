//! Checks of text values: paths, networks and log levels. A value that parses and then has no
//! effect is refused, because this is worse than an error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::suggest;
use crate::base::addresses;

/// Levels of a log, as the configuration names them.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// The modules of triggerd that can be named as the source of a log line.
const MODULES: [&str; 18] = [
    "app", "archive", "audit", "backup", "base", "cli", "commands", "commit", "config", "data_dir",
    "delivery", "http", "journal", "logging", "model", "pipeline", "rules", "store",
];
/// The libraries that write log lines.
const LIBRARIES: [&str; 12] = [
    "actix_http",
    "actix_rt",
    "actix_server",
    "actix_web",
    "hyper",
    "hyper_util",
    "mio",
    "reqwest",
    "rustls",
    "rustls_platform_verifier",
    "sled",
    "tokio",
];
/// The port in a proposal for an address without a port.
const PORT: u16 = 8080;

/// The fault of a path, if there is one. No shell reads the path, so `~` and `$NAME` would become
/// names of directories.
pub(super) fn path_fault(text: &str) -> Option<String> {
    if text.contains('\0') {
        return Some(format!("must not contain a NUL character: {text:?}"));
    }
    let parts = || text.split('/');
    if parts().next().is_some_and(|first| first.starts_with('~')) {
        return Some(format!(
            "~ is not expanded; write the path of the home directory, not {text:?}"
        ));
    }
    let is_variable = |part: &str| {
        let name = part.split_once('$').map(|(_, name)| name.trim_start_matches('{'));
        name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
    };
    let variable = parts().find(|part| is_variable(part));
    variable
        .map(|variable| format!("{variable} is not expanded; write the whole path, not {text:?}"))
}

/// Parses an address to listen on.
///
/// # Errors
/// The fault of the text, with a correction if one is near.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    const RULE: &str = "must be an address and a port such as 127.0.0.1:8080";
    let write = |meant: &dyn std::fmt::Display| Err(format!("{RULE}, not {text:?}; write {meant}"));
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let plain_host = addresses::without_leading_zeros(host);
    if plain_host.is_some() || addresses::decimal(port) != port {
        let meant =
            format!("{}:{}", plain_host.as_deref().unwrap_or(host), addresses::decimal(port));
        if meant.parse::<SocketAddr>().is_ok() {
            return Err(format!(
                "must not have numbers that begin with zeros, which some programs read as octal; \
                 write {meant}"
            ));
        }
    }
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return write(&SocketAddr::new(address, PORT));
    }
    match (host, port.parse::<u16>()) {
        ("localhost", Ok(port)) => write(&SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        ("" | "*", Ok(port)) => {
            let (all, here) =
                (SocketAddr::from(([0; 4], port)), SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            write(&format_args!(
                "{all} for every address of this machine, or {here} for this machine only"
            ))
        }
        _ => Err(format!("{RULE}, not {text:?}")),
    }
}

/// Parses a network to compare addresses with.
///
/// # Errors
/// The fault of the text. A network that no address can be in is a fault too: IPv4 addresses are
/// always compared as IPv4, however they are written.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    if let Some(meant) =
        addresses::without_leading_zeros(text).and_then(|plain| plain.parse::<IpNet>().ok())
    {
        let meant = right(meant);
        return Err(format!(
            "{text} must not have numbers that begin with zeros, which some programs read as \
             octal; write {meant}"
        ));
    }
    let Ok(network) = text.parse::<IpNet>() else {
        let alone =
            text.parse::<IpAddr>().map(|address| format!("; write {}", right(address.into())));
        let alone = alone.unwrap_or_default();
        return Err(format!(
            "must be networks such as 10.1.0.0/16 or fd00::/8, not {text:?}{alone}"
        ));
    };
    if network.trunc() != network {
        // The text is an address of a host with a prefix: either the host or its network may be
        // meant.
        return Err(format!(
            "must be networks; {text} is an address in the network {}",
            network.trunc()
        ));
    }
    let meant = right(network);
    if meant == network {
        return Ok(network);
    }
    Err(format!(
        "{text} matches no address, because an IPv4 address is always compared as IPv4; write \
         {meant}"
    ))
}

/// The network in the spelling that matches addresses.
fn right(network: IpNet) -> IpNet {
    match network.trunc() {
        IpNet::V6(v6) => carried(v6).map_or(IpNet::V6(v6), IpNet::V4),
        v4 @ IpNet::V4(_) => v4,
    }
}

/// The IPv4 network that is meant, if all addresses of this network embed IPv4 addresses:
/// IPv4-mapped and IPv4-compatible addresses (RFC 4291, 2.5.5), NAT64 (RFC 6052, 2.1) and 6to4 (RFC
/// 3056, 2).
fn carried(network: Ipv6Net) -> Option<Ipv4Net> {
    let address = network.addr();
    let [_, high, low, .., last_high, last_low] = address.segments();
    let embedded =
        |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    let within = |segments: [u16; 8], bits: u8| {
        let block = Ipv6Net::new(Ipv6Addr::from_segments(segments), bits);
        block.is_ok_and(|block| block.contains(&network))
    };
    let itself = network.contains(&Ipv6Addr::UNSPECIFIED) || network.contains(&Ipv6Addr::LOCALHOST);
    let in_last = within([0, 0, 0, 0, 0, 0xffff, 0, 0], 96)
        || within([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96)
        || within([0; 8], 96) && !itself;
    if in_last {
        return Ipv4Net::new(
            embedded(last_high, last_low),
            network.prefix_len().saturating_sub(96),
        )
        .ok();
    }
    if within([0x2002, 0, 0, 0, 0, 0, 0, 0], 16) {
        return Ipv4Net::new(embedded(high, low), network.prefix_len().saturating_sub(16).min(32))
            .ok();
    }
    None
}

/// The fault of the text of `log.level`, if there is one.
pub(super) fn level_fault(text: &str) -> Option<String> {
    const RULE: &str = "must be off, error, warn, info, debug or trace, or a list such as \
        info,triggerd::delivery=debug";
    let mut everything = None;
    for directive in text.split(',').map(str::trim) {
        let (target, level) = match directive.split_once('=') {
            Some((target, level)) => (Some(target.trim()), Some(level.trim())),
            None if is_level(directive) => (None, Some(directive)),
            None => (Some(directive), None),
        };
        if let Some(level) = level.filter(|level| !is_level(level)) {
            return Some(format!("{RULE}; {level:?} is not a level{}", suggestion(level, &LEVELS)));
        }
        match target {
            Some(target) => {
                if let Some(fault) = target_fault(target, level.is_some()) {
                    return Some(format!("{RULE}; {fault}"));
                }
            }
            None => {
                if let Some(first) = everything.replace(directive) {
                    return Some(format!(
                        "{RULE}; two levels are set for all modules, {first} and {directive}"
                    ));
                }
            }
        }
    }
    None
}

/// True if this is a level, not the name of a module.
pub fn is_level(text: &str) -> bool {
    LEVELS.iter().any(|level| text.eq_ignore_ascii_case(level))
}

fn target_fault(target: &str, has_level: bool) -> Option<String> {
    let (first, rest) =
        target.split_once("::").map_or((target, None), |(first, rest)| (first, Some(rest)));
    let module = rest.map(|rest| rest.split("::").next().unwrap_or(rest));
    match module {
        Some(module) if first == "triggerd" => (!MODULES.contains(&module))
            .then(|| format!("triggerd has no module {module:?}{}", suggestion(module, &MODULES))),
        _ if first == "triggerd" || LIBRARIES.contains(&first) => None,
        _ if has_level => {
            Some(format!("nothing is logged by {target:?}{}", suggestion(first, &LIBRARIES)))
        }
        _ => Some(format!(
            "{target:?} is neither a level nor a module{}",
            suggestion(target, &LEVELS)
        )),
    }
}

/// The proposal that is appended to a fault if one of these words is near.
pub(super) fn suggestion(text: &str, known: &[&str]) -> String {
    let near = suggest::nearest(text, known.iter().copied());
    near.map_or_else(String::new, |known| format!("; did you mean {known}?"))
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
        for text in [
            "::1/128",
            "::/0",
            "::/96",
            "2000::/3",
            "fd00::/8",
            "64:ff9b:1::/48",
            "0.0.0.0/0",
            "10.0.0.1/32",
        ] {
            network(text).unwrap();
        }
        for text in ["10.1.2.3/16", "10.0.0.0/33", "10.0.0.0", "", "a/8"] {
            network(text).unwrap_err();
        }
    }

    #[test]
    fn a_network_with_leading_zeros_is_refused_with_the_spelling_that_is_right() {
        for (text, meant) in [
            ("010.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.0/08", "10.0.0.0/8"),
            ("10.00.0.0/8", "10.0.0.0/8"),
            ("0010.0.0.0/8", "10.0.0.0/8"),
            ("010.1.0.0/8", "10.0.0.0/8"),
            ("fd00::/08", "fd00::/8"),
            ("::ffff:010.0.0.0/104", "10.0.0.0/8"),
            ("10.0.0.1/032", "10.0.0.1/32"),
            ("10.0.0.1", "10.0.0.1/32"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ] {
            let fault = network(text).unwrap_err();
            assert!(
                fault.contains(text) && fault.ends_with(&format!("; write {meant}")),
                "{text}: {fault}"
            );
        }
        network("fd00:0db8::/32").unwrap();
    }

    #[test]
    fn an_address_to_listen_on_that_is_wrong_is_refused_with_one_that_may_be_meant() {
        for (text, meant) in [
            ("010.0.0.1:80", "write 10.0.0.1:80"),
            ("127.0.0.1:08080", "write 127.0.0.1:8080"),
            ("127.0.0.1", "write 127.0.0.1:8080"),
            ("::1", "write [::1]:8080"),
            ("localhost:80", "write 127.0.0.1:80"),
            (":80", "write 0.0.0.0:80 for every address"),
            ("*:80", "or 127.0.0.1:80 for this machine"),
            ("80", "must be an address and a port"),
            ("http://127.0.0.1:80", "must be an address and a port"),
            ("127.0.0.1:65536", "must be an address and a port"),
        ] {
            let fault = listen_address(text).unwrap_err();
            assert!(fault.contains(meant), "{text}: {fault}");
        }
        for text in ["127.0.0.1:0", "[::]:8080", "[fd00:0db8::1]:80", "0.0.0.0:80"] {
            listen_address(text).unwrap();
        }
    }

    #[test]
    fn a_path_that_a_shell_would_expand_is_refused() {
        for (text, part) in [
            ("~", "~ is not expanded"),
            ("~/x", "~ is not expanded"),
            ("~triggerd/x", "~ is not expanded"),
            ("$HOME/x", "$HOME is not expanded"),
            ("${HOME}/x", "${HOME} is not expanded"),
            ("/srv/$NAME/x", "$NAME is not expanded"),
            ("/srv/a-${NAME}", "is not expanded"),
            ("a\0b", "NUL"),
        ] {
            let fault = path_fault(text).unwrap_or_else(|| panic!("{text} is taken"));
            assert!(fault.contains(part), "{text}: {fault}");
        }
        for text in ["./~/x", "/srv/a~", "/srv/~a", "/srv/$", "/srv/5$", "/srv/a$1", "data", ""] {
            assert_eq!(path_fault(text), None, "{text}");
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
            ("a=b=c", "not a level"),
            ("info,[span]=debug", "nothing is logged"),
        ] {
            let fault = level_fault(text).unwrap_or_else(|| panic!("{text} is taken"));
            assert!(fault.contains(part), "{text}: {fault}");
        }
        for text in [
            "off",
            "INFO",
            "warn,triggerd::http=trace",
            "info, triggerd::delivery::scheduler=debug",
            "triggerd=debug",
        ] {
            assert_eq!(level_fault(text), None, "{text}");
        }
    }

    #[test]
    fn the_modules_that_can_be_named_are_those_that_there_are() {
        let there = include_str!("../lib.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        // Audit lines have a target of their own.
        let mut there: Vec<_> = there.chain(["audit"]).collect();
        there.sort_unstable();
        assert_eq!(there, MODULES);
    }
}
