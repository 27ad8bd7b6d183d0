//! Finds the client's address, also behind proxies. The operator names the trusted proxies
//! (`[server] trusted_proxies`). The list of hops is read from its end, and only as far as the
//! proxies in it are trusted, so entries forged by a client are never reached.
//!
//! Two headers are understood: `Forwarded` (RFC 7239) and `X-Forwarded-For`. A proxy sets one
//! of them and usually lets the other pass as the client sent it. The request does not show which
//! of them the proxy has set, so neither is believed if both are present and disagree.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Maximum number of hops that are read.
const HOPS_MAX: usize = 32;

/// Returns the client's address: the address of the peer, or the address that a trusted proxy
/// reports.
pub(in crate::http) fn client_address(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> IpAddr {
    let peer = peer.to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    if !is_trusted(peer) {
        return peer;
    }
    let along = |name: &HeaderName, address_of: fn(&str) -> Option<IpAddr>| {
        headers.contains_key(name).then(|| {
            let mut client = peer;
            for hop in hops(headers, name).take(HOPS_MAX) {
                // The hop is hidden, unknown or malformed: entries before such a hop have no
                // trusted source.
                let Some(address) = hop.and_then(address_of) else { break };
                client = address;
                if !is_trusted(client) {
                    break;
                }
            }
            client
        })
    };
    match (along(&FORWARDED, forwarded_for), along(&X_FORWARDED_FOR, node)) {
        (Some(one), Some(other)) if one != other => peer,
        (one, other) => one.or(other).unwrap_or(peer),
    }
}

/// Returns the elements of a list header, the last first. `None` stands for a line that is not
/// text.
fn hops<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Option<&'a str>> {
    let lines: Vec<_> = headers.get_all(name).collect();
    lines.into_iter().rev().flat_map(|line| {
        let text = line.to_str().ok();
        let elements = text.into_iter().flat_map(elements_from_end).map(Some);
        text.is_none().then_some(None).into_iter().chain(elements)
    })
}

/// Splits a line at commas outside of quotes, from the end, so a quote left open by the client
/// hides nothing added by a proxy. Empty elements do not count (RFC 9110, 5.6.1).
fn elements_from_end(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        loop {
            let text = rest?;
            let element = match last_outside_quotes(text, b',') {
                Some(at) => {
                    rest = text.get(..at);
                    text.get(at + 1..)?
                }
                None => rest.take()?,
            };
            if !element.trim().is_empty() {
                return Some(element.trim());
            }
        }
    })
}

/// Returns the index of the last byte `wanted` outside of quoted strings, read from the end.
fn last_outside_quotes(text: &str, wanted: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let is_escaped =
        |at: usize| bytes.iter().take(at).rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
    let mut quoted = false;
    (0..bytes.len()).rev().find(|at| match bytes.get(*at) {
        Some(b'"') if !is_escaped(*at) => {
            quoted = !quoted;
            false
        }
        Some(byte) => *byte == wanted && !quoted,
        None => false,
    })
}

/// Returns the address of `for=` in an element of `Forwarded`, or `None` if `for` is absent,
/// malformed or repeated.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    let mut rest = Some(element);
    while let Some(text) = rest {
        let at = last_outside_quotes(text, b';');
        let pair = at.map_or(Some(text), |at| text.get(at + 1..))?;
        rest = at.and_then(|at| text.get(..at));
        if let Some((name, value)) = pair.split_once('=')
            && name.trim().eq_ignore_ascii_case("for")
        {
            let value = value.trim();
            let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            let address = node(unquoted.unwrap_or(value))?;
            if found.replace(address).is_some() {
                return None;
            }
        }
    }
    found
}

/// Parses the address of a node: IPv4, or IPv6 with or without brackets, either with or without a
/// port (RFC 7239, 6). Some proxies write the port in `X-Forwarded-For` too.
fn node(text: &str) -> Option<IpAddr> {
    let in_brackets =
        || text.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok();
    let address = text.parse::<IpAddr>().ok();
    let address = address.or_else(|| in_brackets().map(IpAddr::V6));
    let address =
        address.or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    /// Returns the client's address for a connection from [`PROXY`].
    fn seen(lines: &[(&str, &str)]) -> String {
        seen_from(PROXY, lines)
    }

    fn seen_from(peer: &str, lines: &[(&str, &str)]) -> String {
        let trusted: Vec<IpNet> =
            ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()).to_vec();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(HeaderName::try_from(*name).unwrap(), value);
        }
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let lines = [("x-forwarded-for", "192.0.2.1")];
        assert_eq!(seen_from("198.51.100.7", &lines), "198.51.100.7");
        assert_eq!(seen_from("::ffff:198.51.100.7", &lines), "198.51.100.7");
        assert_eq!(
            seen_from("::ffff:10.0.0.1", &lines),
            "192.0.2.1",
            "the proxy's own, as a socket for both may say it"
        );
        assert_eq!(seen(&[]), PROXY);
        let mut headers = HeaderMap::new();
        headers.insert(X_FORWARDED_FOR, HeaderValue::from_static("192.0.2.1"));
        assert_eq!(
            client_address(PROXY.parse().unwrap(), &headers, &[]).to_string(),
            PROXY,
            "nobody is trusted"
        );
    }

    #[test]
    fn every_way_to_write_an_address_in_x_forwarded_for_is_read() {
        for (written, address) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1 , ", "192.0.2.1"),
            ("203.0.113.9, 192.0.2.1, 10.1.2.3,10.3.2.1", "192.0.2.1"),
            ("10.1.2.3, 10.3.2.1", "10.1.2.3"),
            ("203.0.113.9, unknown", PROXY),
            ("203.0.113.9, _hidden, 10.1.2.3", "10.1.2.3"),
            ("203.0.113.9, fe80::1%eth0", PROXY),
            ("203.0.113.9, 192.0.2.1:x", PROXY),
            ("203.0.113.9, 192.0.2.01", PROXY),
            ("203.0.113.9, 3221225985", PROXY),
            ("203.0.113.9, \u{e4}", PROXY),
            ("", PROXY),
        ] {
            assert_eq!(seen(&[("x-forwarded-for", written)]), address, "{written}");
        }
    }

    #[test]
    fn every_way_to_write_an_address_in_forwarded_is_read() {
        for (written, address) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=\"192.0.2.1:4711\";proto=https;by=10.0.0.1", "192.0.2.1"),
            ("proto=https; FOR = \"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("for=203.0.113.9, for=192.0.2.1, for=10.1.2.3", "192.0.2.1"),
            (
                "for=203.0.113.9;by=\"a,for=198.51.100.1\", for=10.1.2.3;by=\"x, \\\"for=1.2.3.4\"",
                "203.0.113.9",
            ),
            ("for=203.0.113.9, proto=https", PROXY),
            ("for=203.0.113.9, for=_gazonk", PROXY),
            ("for=203.0.113.9, for=unknown", PROXY),
            ("for=203.0.113.9, for=192.0.2.1;for=192.0.2.2", PROXY),
            ("for=\"203.0.113.9, for=192.0.2.1", "192.0.2.1"),
            ("for=203.0.113.9, for=\"192.0.2.1", PROXY),
        ] {
            assert_eq!(seen(&[("forwarded", written)]), address, "{written}");
        }
    }

    #[test]
    fn several_lines_are_one_list_and_the_last_line_is_the_nearest_hop() {
        let name = "x-forwarded-for";
        assert_eq!(
            seen(&[(name, "203.0.113.9"), (name, "192.0.2.1"), (name, "10.1.2.3")]),
            "192.0.2.1"
        );
        assert_eq!(seen(&[(name, "\u{e4}"), (name, "10.1.2.3")]), "10.1.2.3");
        let name = "forwarded";
        assert_eq!(seen(&[(name, "for=\"203.0.113.9"), (name, "for=192.0.2.1")]), "192.0.2.1");
        let long = format!("203.0.113.9{}", ", 10.1.2.3".repeat(HOPS_MAX));
        assert_eq!(seen(&[("x-forwarded-for", &long)]), "10.1.2.3", "so far and no further");
    }

    #[test]
    fn two_headers_that_disagree_are_not_believed() {
        let both = |one, other| seen(&[("forwarded", one), ("x-forwarded-for", other)]);
        assert_eq!(both("for=192.0.2.1", "192.0.2.1"), "192.0.2.1");
        assert_eq!(both("for=192.0.2.1", "192.0.2.2"), PROXY);
        assert_eq!(both("for=192.0.2.1", "unknown"), PROXY);
    }
}
