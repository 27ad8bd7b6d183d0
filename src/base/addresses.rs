//! Spellings of addresses that mean different addresses to different programs. Called by every
//! reader of a written address.
//!
//! A number with a leading zero is octal to the C library, to browsers and to the `url` crate,
//! decimal to others, and an error to the rest (RFC 6943, 3.1.1).

/// Returns an address or a network without leading zeros in its decimal numbers (the octets of
/// IPv4, the length of a prefix). `None` if there are no such zeros. The groups of IPv6 are
/// hexadecimal: leading zeros are usual there and mean nothing.
pub fn without_leading_zeros(text: &str) -> Option<String> {
    let (address, prefix) =
        text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let octets_begin = address.rfind(':').map_or(0, |colon| colon + 1);
    let (groups, octets) = address.split_at(octets_begin);
    let octets = if octets.contains('.') {
        octets.split('.').map(decimal).collect::<Vec<_>>().join(".")
    } else {
        octets.to_owned()
    };
    let prefix = prefix.map_or_else(String::new, |prefix| format!("/{}", decimal(prefix)));
    let plain = format!("{groups}{octets}{prefix}");
    (plain != text).then_some(plain)
}

/// Returns a decimal number without leading zeros, and any other text unchanged.
pub fn decimal(text: &str) -> &str {
    if text.len() < 2 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text;
    }
    match text.trim_start_matches('0') {
        "" => "0",
        number => number,
    }
}

/// Returns true if the host of the URL is an IPv4 address with a leading zero in a number.
pub fn has_octal_host(url: &str) -> bool {
    let behind_scheme =
        url.split_once(':').map_or("", |(_, rest)| rest).trim_start_matches(['/', '\\']);
    let authority = behind_scheme.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, behind)| behind);
    let host = host_and_port.split(':').next().unwrap_or_default().trim_end_matches('.');
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    host.split('.').all(is_number) && host.split('.').any(|part| decimal(part) != part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_before_decimal_numbers_are_found_and_those_of_hexadecimal_groups_are_not() {
        for (text, plain) in [
            ("010.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.0/08", "10.0.0.0/8"),
            ("10.00.000.0/8", "10.0.0.0/8"),
            ("0010.1.2.3", "10.1.2.3"),
            ("::ffff:010.0.0.1", "::ffff:10.0.0.1"),
            ("fd00::/008", "fd00::/8"),
            ("0.0.0.0/00", "0.0.0.0/0"),
        ] {
            assert_eq!(without_leading_zeros(text).as_deref(), Some(plain), "{text}");
        }
        for text in
            ["10.0.0.0/8", "0.0.0.0/0", "fd00:0db8::0001/32", "::0/0", "", "a/b", "100.100.1.10"]
        {
            assert_eq!(without_leading_zeros(text), None, "{text}");
        }
    }

    #[test]
    fn only_a_host_that_is_an_address_can_have_an_octal_number() {
        for url in [
            "http://010.8.8.8/",
            "https://8.8.8.010:443",
            "http:8.08.8.8",
            "http://u@01.1.1.1./?a",
            "http://010",
        ] {
            assert!(has_octal_host(url), "{url}");
        }
        for url in [
            "http://10.8.8.8/010",
            "http://010.example.com/",
            "http://0.0.0.0",
            "http://[::01]/",
            "x",
            "",
        ] {
            assert!(!has_octal_host(url), "{url}");
        }
    }
}
