//! The rules for the attributes of a CloudEvent. Sources: CloudEvents 1.0.2 core (Type System and
//! each attribute), JSON format 2.2, RFC 3339, RFC 3986, RFC 9110.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::http::input::fields::string;
use crate::http::input::media_type::MediaType;
use crate::model::cloudevent::{ATTRIBUTE_BYTES_MAX, ATTRIBUTE_NAME_CHARS_MAX, AttributeValue};
use crate::model::event::is_control;
use crate::model::time::{BadTimestamp, Timestamp};

/// The attributes of the core specification, all of which are nonempty texts.
const OF_THE_CORE: [&str; 8] =
    ["specversion", "id", "source", "type", "time", "subject", "dataschema", "datacontenttype"];

/// The broken rule, as text for the client.
type Rule = Cow<'static, str>;

/// Reads the value of an attribute from JSON.
pub(in crate::http) fn of_json(name: &str, value: &RawValue) -> Result<AttributeValue, Rule> {
    let text = value.get();
    let is_core = OF_THE_CORE.contains(&name);
    match text.bytes().next() {
        Some(b'"') => {
            let text = string(value).ok_or("must be a string of Unicode characters")?;
            of_text(name, &text).map(AttributeValue::Text)
        }
        _ if is_core => Err("must be a string".into()),
        Some(b't') => Ok(AttributeValue::Boolean(true)),
        Some(b'f') => Ok(AttributeValue::Boolean(false)),
        // A 32-bit integer has no negative zero, and would come back without its sign.
        Some(b'-') if text == "-0" => Err("must be a 32-bit integer: write 0, not -0".into()),
        Some(b'-' | b'0'..=b'9') => {
            let number = text.parse().map_err(|_not_whole| "must be a 32-bit integer")?;
            Ok(AttributeValue::Integer(number))
        }
        _ => Err("must be a string, a 32-bit integer, true or false".into()),
    }
}

/// Checks the value of a text attribute, and returns a copy.
pub(in crate::http) fn of_text(name: &str, text: &str) -> Result<String, Rule> {
    if text.len() > ATTRIBUTE_BYTES_MAX {
        return Err(format!("must be at most {ATTRIBUTE_BYTES_MAX} bytes").into());
    }
    if text.chars().any(is_control) {
        return Err(
            "must not have control characters or Unicode noncharacters such as U+FFFF".into()
        );
    }
    if OF_THE_CORE.contains(&name) && text.is_empty() {
        return Err("must not be empty".into());
    }
    let is_right = match name {
        "specversion" if text != crate::model::cloudevent::SPECVERSION => {
            Err("must be 1.0, the one version of CloudEvents that is read")
        }
        "source" if !is_uri_reference(text) => {
            Err("must be a URI reference such as /shop or https://example.com/shop (RFC 3986, 4.1)")
        }
        "dataschema" if !is_absolute_uri(text) => {
            Err("must be an absolute URI such as https://example.com/schema (RFC 3986, 4.3)")
        }
        "datacontenttype" if MediaType::read(text).is_none() => Err(
            "must be a media type such as `application/json` or `text/plain; charset=utf-8` (RFC \
             9110, 8.3.1)",
        ),
        "time" if !is_time(text) => Err("must be an RFC 3339 time such as 2026-01-31T10:00:00Z"),
        _ => Ok(()),
    };
    is_right.map(|()| text.to_owned()).map_err(Cow::Borrowed)
}

/// True for a name of lower-case letters and digits (core, Naming Conventions), except `data`.
pub(in crate::http) fn is_name(name: &str) -> bool {
    let is_right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=ATTRIBUTE_NAME_CHARS_MAX).contains(&name.len())
        && name.bytes().all(is_right)
        && name != "data"
}

/// True for a URI or a relative reference (RFC 3986, 4.1).
fn is_uri_reference(text: &str) -> bool {
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (text, query) = text.split_once('?').unwrap_or((text, ""));
    let first_segment = text.split('/').next().unwrap_or_default();
    // Without a scheme, the first segment of a path has no colon.
    let hierarchy = match first_segment.split_once(':') {
        Some((scheme, _)) if !is_scheme(scheme) => return false,
        Some((scheme, _)) => text.get(scheme.len() + 1..).unwrap_or_default(),
        None => text,
    };
    let (authority, path) = match hierarchy.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", hierarchy),
    };
    let is_query = |text: &str| is_made_of(text, b":@/?");
    is_authority(authority) && is_made_of(path, b":@/") && is_query(query) && is_query(fragment)
}

/// True for the scheme of a URI (RFC 3986, 3.1).
fn is_scheme(text: &str) -> bool {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic()) && text.bytes().all(is_right)
}

/// True for an authority: user, host and port (RFC 3986, 3.2).
fn is_authority(text: &str) -> bool {
    let (user, rest) = text.split_once('@').unwrap_or(("", text));
    let (is_host, port) = if let Some((address, rest)) =
        rest.strip_prefix('[').and_then(|rest| rest.split_once(']'))
    {
        (is_ip_literal(address), rest.strip_prefix(':').unwrap_or(rest))
    } else {
        let (name, port) = rest.split_once(':').unwrap_or((rest, ""));
        (is_made_of(name, b""), port)
    };
    is_made_of(user, b":") && is_host && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// True for the text inside the brackets of an IP literal (RFC 3986, 3.2.2).
fn is_ip_literal(text: &str) -> bool {
    let Some(future) = text.strip_prefix(['v', 'V']) else {
        return text.parse::<std::net::Ipv6Addr>().is_ok();
    };
    future.split_once('.').is_some_and(|(version, address)| {
        let is_version =
            !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_version && !address.is_empty() && !address.contains('%') && is_made_of(address, b":")
    })
}

/// True if the text has only unreserved characters, sub-delimiters, percent-encoded bytes (RFC
/// 3986, 2) and bytes of `more`.
fn is_made_of(text: &str, more: &[u8]) -> bool {
    let is_right = |byte: u8| {
        byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte) || more.contains(&byte)
    };
    let mut escapes = text
        .split('%')
        .skip(1)
        .map(|behind| behind.bytes().take(2).filter(u8::is_ascii_hexdigit).count());
    text.bytes().all(is_right) && escapes.all(|digits| digits == 2)
}

/// True for an absolute URI (RFC 3986, 4.3). A fragment is allowed too, because schemas are often
/// named by fragments.
fn is_absolute_uri(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty())
        && is_uri_reference(text)
}

/// True for an RFC 3339 time of any year, also before 1970.
fn is_time(text: &str) -> bool {
    text.parse::<Timestamp>() != Err(BadTimestamp::NotRfc3339)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(of_text(name, text).as_deref(), Ok(*text), "{name}");
        }
        for text in bad {
            assert!(of_text(name, text).is_err(), "{name}: {text:?}");
        }
    }

    const REFERENCES: [&str; 19] = [
        "#fragment",
        "/",
        "?q",
        "//host/a",
        "urn:x:y",
        "1-555-123-4567",
        "mailto:a@b.c",
        "/%C3%a4",
        "a:",
        "./1:2",
        "a/b:c//d",
        "//",
        "https://u:p@h.example:8080/a;b=c,d/@x?q=/?#/?",
        "http://[2001:db8::1]:80/",
        "http://[::ffff:1.2.3.4]",
        "//[v1f.a:b]",
        "http://h:/",
        "file:///a",
        "tag:a@b.c,2026:x",
    ];

    const NO_REFERENCES: [&str; 29] = [
        "",
        "a b",
        "<a>",
        "/%",
        "/%4",
        "/%zz",
        "a\\b",
        "/ä",
        ":a",
        "1a:b",
        "a_b:c",
        "/a[0]",
        "a#b#c",
        "/a|b",
        "{a}",
        "a^b",
        "\"a\"",
        "`a`",
        "http://a:b/",
        "http://[::1/",
        "http://[::zz]/",
        "http://[1.2.3.4]/",
        "//[v.a]",
        "//[::1]a",
        "//a@b@c",
        "//a:1:2",
        "//h%/",
        "?[a]",
        "#[a]",
    ];

    #[test]
    fn a_number_that_would_come_back_as_another_one_is_refused() {
        let read = |text: &str| of_json("ext", &RawValue::from_string(text.to_owned()).unwrap());
        assert_eq!(read("0").unwrap(), AttributeValue::Integer(0));
        assert_eq!(read("-2147483648").unwrap(), AttributeValue::Integer(i32::MIN));
        for odd in ["-0", "-0.0", "1.0", "2147483648", "1e3"] {
            assert!(read(odd).unwrap_err().contains("32-bit integer"), "{odd}");
        }
    }

    #[test]
    fn each_attribute_of_the_core_has_its_rule() {
        check(
            "id",
            &["1", "ä", " ", "a b"],
            &["", "a\nb", "a\u{7f}", "\u{85}", "\u{fffe}", "\u{1ffff}", "\u{fdd0}"],
        );
        check("subject", &["x"], &[""]);
        check("specversion", &["1.0"], &["", "1", "1.1", "0.3", "1.0.2"]);
        check("source", &REFERENCES, &NO_REFERENCES);
        check(
            "dataschema",
            &["https://a/b", "urn:x", "a:b#/c"],
            &["", "/a", "//a/b?c=d", "a", ":a", "1a:b", "a:", "a:b c"],
        );
        let types =
            ["text/plain", "application/vnd.a+json; charset=utf-8", "application/xml;a=\"b c\""];
        check("datacontenttype", &types, &["", "xyz", "a/", "/b", "a b/c", ";a/b", "a/b; c=\"d"]);
        let most = "x".repeat(ATTRIBUTE_BYTES_MAX);
        check("anything", &["", &most], &[&format!("{most}x")]);
    }

    #[test]
    fn times_are_those_of_rfc_3339() {
        let good = [
            "2018-04-05T17:31:00Z",
            "2018-04-05t17:31:00z",
            "2018-04-05T17:31:00.000000000Z",
            "2018-04-05T18:31:00.12345678901234567890+01:00",
            "2018-04-05T16:31:00-23:59",
            "1937-01-01T12:00:27.87+00:20",
            "0001-01-01T00:00:00Z",
            "1990-12-31T23:59:60Z",
            "9999-12-31T23:59:59Z",
            "2024-02-29T00:00:00-00:00",
        ];
        let bad = [
            "",
            "lunchtime",
            "2018-04-05",
            "2018-04-05T18:31Z",
            "2018-04-05T18:31:00",
            "2018-04-05 18:31:00Z",
            "2018-04-05T18:31:00X",
            "2018-04-05T18:31:00.Z",
            "2018-04-05T18:31:00,5Z",
            "2018-04-05T18:31:00+25:00",
            "2018-04-05T18:31:00+01:60",
            "2018-04-05T18:31:00+xx:00",
            "2018-04-05T18:31:00+05",
            "2018-04-05T18:31:00+0530",
            "2018-04-05T18:31:00Zx",
            "2018-04-05T24:00:00Z",
            "2018-04-05T18:60:00Z",
            "2018-04-05T18:31:61Z",
            "2018-02-29T00:00:00Z",
            "2018-13-01T00:00:00Z",
            "18-04-05T18:31:00Z",
            "+018-04-05T18:31:00Z",
            "2018-04-05T18:31:00ä1:00",
        ];
        check("time", &good, &bad);
    }

    #[test]
    fn values_have_their_types_in_json() {
        let read = |name: &str, json: &str| of_json(name, serde_json::from_str(json).unwrap());
        assert_eq!(read("ext", "\"a\\u00e4\""), Ok(AttributeValue::Text("aä".to_owned())));
        assert_eq!(read("ext", "true"), Ok(AttributeValue::Boolean(true)));
        assert_eq!(read("ext", "false"), Ok(AttributeValue::Boolean(false)));
        for (json, number) in [("0", 0), ("2147483647", i32::MAX), ("-2147483648", i32::MIN)] {
            assert_eq!(read("ext", json), Ok(AttributeValue::Integer(number)));
        }
        for json in [
            "2147483648",
            "-2147483649",
            "1.5",
            "1.0",
            "1e3",
            "[]",
            "{}",
            "\"\\ud800\"",
            "\"\\u0007\"",
        ] {
            assert!(read("ext", json).is_err(), "{json}");
        }
        for name in OF_THE_CORE {
            assert!(read(name, "25").is_err() && read(name, "true").is_err(), "{name}");
        }
    }

    #[test]
    fn names_are_lower_case_letters_and_digits() {
        for good in ["a", "0", "comexampleextension1", &"x".repeat(255)] {
            assert!(is_name(good), "{good}");
        }
        for bad in
            ["", "A", "my.ext", "my-ext", "my_ext", "ä", "data", "data_base64", &"x".repeat(256)]
        {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
