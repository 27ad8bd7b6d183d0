//! Media types in `datacontenttype` and `Content-Type` (RFC 9110, 8.3.1; names by RFC 6838, 4.2).
//! CloudEvents are read and compared by this module.

use std::borrow::Cow;

/// Maximum length of a type or a subtype (RFC 6838, 4.2).
const NAME_BYTES_MAX: usize = 127;

/// A media type, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) struct MediaType<'a> {
    essence: Cow<'a, str>,
    /// Names and unquoted values, in the order of the text.
    parameters: Vec<(&'a str, Cow<'a, str>)>,
}

impl<'a> MediaType<'a> {
    /// Reads a media type, or returns `None` for any other text.
    pub(in crate::http) fn read(text: &'a str) -> Option<Self> {
        let (essence, mut rest) = text.split_at(text.find(';').unwrap_or(text.len()));
        let essence = if rest.is_empty() { essence } else { essence.trim_end_matches(is_space) };
        let (kind, subtype) = essence.split_once('/')?;
        if !(is_name(kind) && is_name(subtype)) {
            return None;
        }
        let mut parameters = Vec::new();
        // The rest is empty or begins with a semicolon.
        while let Some(behind) = rest.strip_prefix(';') {
            let behind = behind.trim_start_matches(is_space);
            if behind.is_empty() || behind.starts_with(';') {
                rest = behind; // an empty parameter
                continue;
            }
            let (name, behind) = behind.split_once('=')?;
            let (value, behind) = value(behind)?;
            if !is_token(name) {
                return None;
            }
            parameters.push((name, value));
            rest = match behind.trim_start_matches(is_space) {
                "" if !behind.is_empty() => return None, // spaces stand only around semicolons
                behind => behind,
            };
        }
        rest.is_empty().then(|| Self { essence: lower(essence), parameters })
    }

    /// True for JSON: the subtype is `json` or ends in `+json` (CloudEvents' JSON format, 3.1).
    pub(in crate::http) fn is_json(&self) -> bool {
        self.essence.ends_with("/json") || self.essence.ends_with("+json")
    }

    /// True for text or XML in UTF-8: `charset` is absent, UTF-8 or US-ASCII.
    pub(in crate::http) fn is_text(&self) -> bool {
        let charset = self.parameters.iter().find(|(name, _)| is_charset(name));
        let is_utf_8 = charset.is_none_or(|(_, value)| {
            ["utf-8", "utf8", "us-ascii"].iter().any(|known| value.eq_ignore_ascii_case(known))
        });
        let is_xml = self.essence.ends_with("/xml") || self.essence.ends_with("+xml");
        is_utf_8 && (is_xml || self.essence.starts_with("text/"))
    }

    /// Returns a text that is the same for all spellings of this media type. Spaces, quotes, the
    /// order of parameters, and the case of names and of a charset have no meaning (RFC 9110,
    /// 8.3.1; RFC 2045, 5.1). JSON is UTF-8 whatever its charset (RFC 8259, 11).
    pub(in crate::http) fn normal(&self) -> String {
        let counts = |(name, _): &&(&str, Cow<'_, str>)| !(self.is_json() && is_charset(name));
        let line = |(name, value): &(&str, Cow<'_, str>)| {
            let value = if is_charset(name) { lower(value) } else { Cow::Borrowed(&**value) };
            format!(";{}={value:?}", lower(name))
        };
        let mut parameters: Vec<String> = self.parameters.iter().filter(counts).map(line).collect();
        parameters.sort();
        format!("{}{}", self.essence, parameters.concat())
    }
}

fn is_charset(name: &str) -> bool {
    name.eq_ignore_ascii_case("charset")
}

fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// Reads the value of a parameter, a token or a quoted string (RFC 9110, 5.6.6). Returns the value
/// and the text behind the value.
fn value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c| c == ';' || is_space(c)).unwrap_or(text.len());
        let (token, behind) = text.split_at(end);
        return is_token(token).then_some((Cow::Borrowed(token), behind));
    };
    let mut plain = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return Some((Cow::Owned(plain), characters.as_str())),
            '\\' => plain.push(characters.next().filter(|c| is_quotable(*c))?),
            c if is_quotable(c) => plain.push(c),
            _ => return None,
        }
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// True for a character inside of quotes: visible, a space, or not ASCII (RFC 9110, 5.6.4).
fn is_quotable(c: char) -> bool {
    is_space(c) || !c.is_ascii() || c.is_ascii_graphic()
}

/// True for a token (RFC 9110, 5.6.2).
fn is_token(text: &str) -> bool {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_right)
}

/// True for the name of a type or a subtype (RFC 6838, 4.2).
fn is_name(text: &str) -> bool {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
    text.len() <= NAME_BYTES_MAX
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().all(is_right)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_MEDIA_TYPES: [&str; 26] = [
        "",
        "/",
        "text",
        "text/",
        "/plain",
        "a/b/c",
        "*/*",
        "text/*",
        " a/b",
        "a/b ",
        "a /b",
        "a/b,c/d",
        "a/b;c",
        "a/b;=d",
        "a/b;c=",
        "a/b;c= d",
        "a/b;c =d",
        "a/b;c=d ",
        "a/b;c=d e=f",
        "a/b;c=\"d",
        "a/b;c=\"d\"e",
        "a/b;c=\"d\\",
        "a/b;c=\"\u{7f}\"",
        "a/b;c=d/e",
        "-a/b",
        "a/\u{e4}",
    ];

    #[test]
    fn media_types_are_those_of_the_grammar() {
        let longest = "x".repeat(127);
        for good in [
            "text/plain",
            "application/vnd.a-b_c+json",
            "a/b;c=d",
            "a/b ; c=d\t; e=\"f;\\\"g\\\" h\"",
            "a/b;",
            "a/b; ;c=d;;",
            "a/b;c=\"\"",
            "a/b;c=\"\u{e4}\"",
            "1/2",
            &format!("{longest}/{longest}"),
        ] {
            assert!(MediaType::read(good).is_some(), "{good}");
        }
        let too_long = format!("x{longest}/a");
        for bad in NO_MEDIA_TYPES.into_iter().chain([too_long.as_str()]) {
            assert_eq!(MediaType::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn spellings_of_one_media_type_are_the_same() {
        let normal = |text: &str| MediaType::read(text).unwrap().normal();
        let groups: &[&[&str]] = &[
            &["text/plain", "Text/PLAIN", "text/plain;", "text/plain ; ;"],
            &[
                "text/plain;charset=utf-8",
                "text/plain; charset=UTF-8",
                "TEXT/plain ;\tCharSet=\"Utf-8\"",
            ],
            &["text/plain;charset=utf-8;a=b", "text/plain; A=\"\\b\" ; charset=utf-8"],
            &["text/plain;charset=utf-8;a=B"],
            &["text/plain;charset=latin1"],
            &["text/plain;a=\"b;c=d\""],
            &["text/plain;a=b;c=d"],
            &["application/json", "Application/JSON; charset=utf-8"],
            &["application/json;a=b", "application/json; charset=x; a=b"],
            &["application/vnd.a+json", "application/vnd.a+json;charset=utf-8"],
        ];
        for (place, group) in groups.iter().enumerate() {
            let first = normal(group[0]);
            assert!(group.iter().all(|text| normal(text) == first), "{group:?}");
            for other in groups.iter().skip(place + 1).flat_map(|group| group.iter()) {
                assert_ne!(normal(other), first, "{group:?} and {other}");
            }
        }
    }

    #[test]
    fn json_and_text_are_known_by_type_and_charset() {
        let read = |text| MediaType::read(text).unwrap();
        assert!(read("Application/JSON; a=b").is_json() && read("a/b+json").is_json());
        assert!(!read("text/jsonp").is_json() && !read("a/b;c=\"x/json\"").is_json());
        for text in ["text/x", "a/xml; charset=\"UTF-8\"", "a/b+xml", "text/a;x=\";charset=b\""] {
            assert!(read(text).is_text(), "{text}");
        }
        for other in ["a/b", "text/x;charset=latin1", "text/x; a=\"b;c\"; charset=utf-16"] {
            assert!(!read(other).is_text(), "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in "[a/;=\"\\\\ b\u{e4}*]{0,20}") {
            if let Some(read) = MediaType::read(&text) {
                let normal = read.normal();
                proptest::prop_assert_eq!(MediaType::read(&normal).unwrap().normal(), normal);
            }
        }
    }
}
