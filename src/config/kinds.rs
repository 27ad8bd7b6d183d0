//! The kinds of keys. Each function declares a key: its name, its default, its range, the check of
//! a given value, and the type of the checked value.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use toml::Value;
use url::Url;

use super::declare::{Checked, Declared, Given, Key};
use super::s3_url::directory_or_bucket;
use super::shape::{self, Shape};
use super::texts;
use super::values::{AdminToken, LogFormat};

/// The fault of a value whose shape differs from the declared shape. Earlier checks prevent it.
const MISSHAPEN: &str = "has no value of the right type";

/// A number of things.
pub(super) fn count(
    name: &'static str,
    default: u64,
    range: RangeInclusive<u64>,
) -> Declared<usize> {
    let show = |value: &usize| integer(u64::try_from(*value).unwrap_or(u64::MAX));
    whole(name, &[default], range, |value| usize::try_from(value).ok(), show)
}

/// A number of bytes or files on a disk, which may exceed the memory.
pub(super) fn size(name: &'static str, default: u64, range: RangeInclusive<u64>) -> Declared<u64> {
    whole(name, &[default], range, Some, |value| integer(*value))
}

/// A small number.
pub(super) fn number(
    name: &'static str,
    default: u64,
    range: RangeInclusive<u64>,
) -> Declared<u32> {
    let show = |value: &u32| integer(u64::from(*value));
    whole(name, &[default], range, |value| u32::try_from(value).ok(), show)
}

/// A time in seconds.
pub(super) fn seconds(
    name: &'static str,
    default: u64,
    range: RangeInclusive<u64>,
) -> Declared<Duration> {
    let show = |value: &Duration| integer(value.as_secs());
    whole(name, &[default], range, |value| Some(Duration::from_secs(value)), show)
}

/// A time in seconds, with the same default for each tier.
pub(super) fn seconds_of_tier(
    name: &'static str,
    default: u64,
    range: RangeInclusive<u64>,
) -> Declared<Duration> {
    let show = |value: &Duration| integer(value.as_secs());
    whole(name, &[default; 3], range, |value| Some(Duration::from_secs(value)), show)
}

/// A time in milliseconds.
pub(super) fn milliseconds(
    name: &'static str,
    default: u64,
    range: RangeInclusive<u64>,
) -> Declared<Duration> {
    let show = |value: &Duration| integer(u64::try_from(value.as_millis()).unwrap_or(u64::MAX));
    whole(name, &[default], range, |value| Some(Duration::from_millis(value)), show)
}

/// A rate or a burst, with a default for each tier.
pub(super) fn rate(
    name: &'static str,
    defaults: [u64; 3],
    range: RangeInclusive<u64>,
) -> Declared<NonZeroU32> {
    let show = |value: &NonZeroU32| integer(u64::from(value.get()));
    whole(name, &defaults, range, non_zero, show)
}

/// A rate or a burst that is 0 by default in each tier; 0 means `factor` times the value of the key
/// `of`.
pub(super) fn rate_or_multiple(
    name: &'static str,
    range: RangeInclusive<u64>,
    of: &'static str,
    factor: u64,
) -> Declared<NonZeroU32> {
    let most = *range.end();
    let mut declared = rate(name, [0; 3], 0..=most);
    declared.read = Box::new(move |given| {
        let value = number_in(given, &range)?;
        let multiple = || given.number_of(of)?.saturating_mul(factor).clamp(1, most).into();
        let value = if value == 0 { multiple() } else { Some(value) };
        value.and_then(non_zero).ok_or_else(misshapen)
    });
    declared
}

/// A share from 0 to 1.
pub(super) fn share(name: &'static str, default: f64) -> Declared<f64> {
    fraction(name, default, "0.0 to 1.0", |share| (0.0..=1.0).contains(&share))
}

/// A switch, on or off.
pub(super) fn flag(name: &'static str, default: bool) -> Declared<bool> {
    let read = |given: &Given<'_>| given.value().and_then(Value::as_bool).ok_or_else(misshapen);
    let allowed = "true or false".to_owned();
    let key = key(name, Shape::Flag, vec![Value::Boolean(default)], allowed);
    declared(key, read, |flag| Value::Boolean(*flag))
}

/// A share above 0 and up to 1.
pub(super) fn share_above_zero(name: &'static str, default: f64) -> Declared<f64> {
    fraction(name, default, "above 0.0 and up to 1.0", |share| share > 0.0 && share <= 1.0)
}

/// At most `most` times in seconds.
pub(super) fn list_of_seconds(
    name: &'static str,
    default: &[u64],
    range: RangeInclusive<u64>,
    most: usize,
) -> Declared<Vec<Duration>> {
    let default = Value::Array(default.iter().map(|each| integer(*each)).collect());
    let allowed = format!("at most {most} items of {}", shape::range_in_words(name, &range));
    let read = move |given: &Given<'_>| {
        let list = given.value().and_then(Value::as_array).ok_or_else(misshapen)?;
        let number = |each: &Value| u64::try_from(each.as_integer()?).ok();
        let numbers: Vec<u64> = list.iter().filter_map(number).collect();
        let outside = numbers.iter().filter(|each| !range.contains(each));
        let mut faults: Vec<_> = outside.map(|each| out_of_range(&range, *each)).collect();
        if numbers.len() > most {
            faults.push(format!("must have at most {most} items, not {}", numbers.len()));
        }
        ok_unless(faults, || numbers.into_iter().map(Duration::from_secs).collect())
    };
    let show =
        |list: &Vec<Duration>| Value::Array(list.iter().map(|it| integer(it.as_secs())).collect());
    declared(key(name, Shape::Numbers, vec![default], allowed), read, show)
}

/// An address to listen on.
pub(super) fn address(name: &'static str, default: &str) -> Declared<SocketAddr> {
    text(name, default, |text| texts::listen_address(text).map_err(|fault| vec![fault]), string)
}

/// Networks of addresses.
pub(super) fn networks(name: &'static str) -> Declared<Vec<IpNet>> {
    list(name, |items| {
        let (mut networks, mut faults) = (vec![], vec![]);
        for item in items {
            match texts::network(item) {
                Ok(network) => networks.push(network),
                Err(fault) => faults.push(fault),
            }
        }
        ok_unless(faults, || networks)
    })
}

/// Origins of web pages, or `*` alone.
pub(super) fn origins(name: &'static str) -> Declared<Vec<String>> {
    list(name, |items| {
        let is_wrong = |item: &&&str| !(is_origin(item) || **item == "*" && items.len() == 1);
        let rule = "must be origins such as https://app.example.com (scheme, host and port only), \
                    or \"*\" as the only item";
        let faults = items.iter().filter(is_wrong).map(|item| format!("{rule}, not {item:?}"));
        ok_unless(faults.collect(), || items.iter().map(ToString::to_string).collect())
    })
}

/// A directory.
pub(super) fn directory(name: &'static str, default: &str) -> Declared<PathBuf> {
    let read = |text: &str| {
        let mut faults: Vec<_> = texts::path_fault(text).into_iter().collect();
        if text.trim().is_empty() {
            faults.push("must name a directory".to_owned());
        }
        ok_unless(faults, || PathBuf::from(text))
    };
    text(name, default, read, |path| string(&path.display()))
}

/// A directory of backups or a place in a bucket; or none, which is the default.
pub(super) fn optional_backups(name: &'static str) -> Declared<Option<PathBuf>> {
    let mut declared = optional_path(name);
    let read_path = declared.read;
    declared.read = Box::new(move |given| {
        let path = read_path(given)?;
        let checked = path.map(|path| directory_or_bucket(&path.to_string_lossy())).transpose();
        checked.map_err(|fault| vec![fault])
    });
    declared
}

/// The URL of a server, or none, which is the default.
pub(super) fn optional_url(name: &'static str) -> Declared<Option<String>> {
    let fault = |text: &str| match Url::parse(text) {
        // The URL is shown in errors, and the password must not be.
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            Some("must be a URL without a user and a password".to_owned())
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => None,
        _ => Some(format!("must be a URL such as https://s3.example.com, not {text:?}")),
    };
    let read = move |text: &str| {
        let faults = Some(text).filter(|text| !text.is_empty()).and_then(fault);
        ok_unless(faults.into_iter().collect(), || given_text(text))
    };
    text(name, "", read, |url| string(&url.as_deref().unwrap_or_default()))
}

/// A text, or none, which is the default.
pub(super) fn optional_text(name: &'static str) -> Declared<Option<String>> {
    let show = |text: &Option<String>| string(&text.as_deref().unwrap_or_default());
    text(name, "", |text| Ok(given_text(text)), show)
}

fn given_text(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// A path, or none, which is the default.
pub(super) fn optional_path(name: &'static str) -> Declared<Option<PathBuf>> {
    let read = |text: &str| {
        let path = (!text.is_empty()).then(|| PathBuf::from(text));
        ok_unless(texts::path_fault(text).into_iter().collect(), || path)
    };
    let show = |path: &Option<PathBuf>| string(&path.as_deref().unwrap_or(Path::new("")).display());
    text(name, "", read, show)
}

/// The levels of the log.
pub(super) fn log_level(name: &'static str, default: &str) -> Declared<String> {
    let read =
        |text: &str| ok_unless(texts::level_fault(text).into_iter().collect(), || text.to_owned());
    text(name, default, read, string)
}

/// The form of the log's lines.
pub(super) fn log_format(name: &'static str, default: LogFormat) -> Declared<LogFormat> {
    let read = |text: &str| {
        text.parse().map_err(|_unknown| {
            let meant = texts::suggestion(text, &["auto", "json", "text"]);
            vec![format!("must be \"auto\", \"json\" or \"text\", not {text:?}{meant}")]
        })
    };
    text(name, default.into(), read, |format| string(&<&str>::from(format)))
}

/// The admin token, of so many visible ASCII characters; or none, which is the default.
pub(super) fn admin_token(
    name: &'static str,
    length: RangeInclusive<usize>,
) -> Declared<Option<AdminToken>> {
    let allowed = format!("{} to {} visible ASCII characters", length.start(), length.end());
    let fault = format!("must be {allowed}, or empty (not shown)");
    let read = move |text: &str| {
        let is_token =
            length.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        match text {
            "" => Ok(None),
            _ if is_token => Ok(Some(AdminToken::new(text.to_owned()))),
            _ => Err(vec![fault.clone()]),
        }
    };
    // The mask is too short for a token, so a printed configuration cannot be loaded again with the
    // mask.
    let masked = |token: &Option<AdminToken>| string(if token.is_some() { &"(set)" } else { &"" });
    let mut declared = text(name, "", read, masked);
    declared.key.allowed = format!("{allowed}, or empty");
    declared.key.is_secret = true;
    declared
}

// ---- shapes -----------------------------------------------------------------------------------

fn whole<T: 'static>(
    name: &'static str,
    defaults: &[u64],
    range: RangeInclusive<u64>,
    convert: fn(u64) -> Option<T>,
    show: fn(&T) -> Value,
) -> Declared<T> {
    let allowed = shape::range_in_words(name, &range);
    let defaults = defaults.iter().map(|each| integer(*each)).collect();
    let read = move |given: &Given<'_>| {
        let value = number_in(given, &range)?;
        convert(value).ok_or_else(|| vec![format!("is too large for this machine: {value}")])
    };
    declared(key(name, Shape::Whole, defaults, allowed), read, show)
}

fn fraction(
    name: &'static str,
    default: f64,
    allowed: &'static str,
    is_allowed: fn(f64) -> bool,
) -> Declared<f64> {
    let read = move |given: &Given<'_>| {
        let value = match given.value() {
            Some(Value::Float(value)) => *value,
            Some(Value::Integer(0)) => 0.0,
            Some(Value::Integer(1)) => 1.0,
            Some(other) => return Err(vec![format!("must be {allowed}, not {other}")]),
            None => return Err(misshapen()),
        };
        let fault = || vec![format!("must be {allowed}, not {value}")];
        is_allowed(value).then_some(value).ok_or_else(fault)
    };
    let key = key(name, Shape::Fraction, vec![Value::Float(default)], allowed.to_owned());
    declared(key, read, |value| Value::Float(*value))
}

fn text<T>(
    name: &'static str,
    default: &str,
    read: impl Fn(&str) -> Checked<T> + 'static,
    show: fn(&T) -> Value,
) -> Declared<T> {
    let read =
        move |given: &Given<'_>| read(given.value().and_then(Value::as_str).ok_or_else(misshapen)?);
    declared(key(name, Shape::Text, vec![string(&default)], String::new()), read, show)
}

/// A list of texts, empty by default.
fn list<T: ToString + 'static>(
    name: &'static str,
    read: fn(&[&str]) -> Checked<Vec<T>>,
) -> Declared<Vec<T>> {
    let read = move |given: &Given<'_>| {
        let items = given.value().and_then(Value::as_array).ok_or_else(misshapen)?;
        read(&items.iter().filter_map(Value::as_str).collect::<Vec<_>>())
    };
    let show = |items: &Vec<T>| Value::Array(items.iter().map(|item| string(item)).collect());
    let default = Value::Array(vec![]);
    declared(key(name, Shape::Texts, vec![default], String::new()), read, show)
}

fn declared<T>(
    key: Key,
    read: impl Fn(&Given<'_>) -> Checked<T> + 'static,
    show: fn(&T) -> Value,
) -> Declared<T> {
    Declared { key, read: Box::new(read), show }
}

fn key(name: &'static str, shape: Shape, defaults: Vec<Value>, allowed: String) -> Key {
    let (is_secret, is_reloaded) = (false, false);
    Key {
        name,
        words: &[],
        defaults,
        shape,
        allowed,
        bounds: vec![],
        needs: None,
        is_secret,
        is_reloaded,
    }
}

// ---- values -----------------------------------------------------------------------------------

fn number_in(given: &Given<'_>, range: &RangeInclusive<u64>) -> Checked<u64> {
    let value = given.number_of(given.name()).ok_or_else(misshapen)?;
    if range.contains(&value) { Ok(value) } else { Err(vec![out_of_range(range, value)]) }
}

fn out_of_range(range: &RangeInclusive<u64>, value: u64) -> String {
    format!("must be {} to {}, not {value}", range.start(), range.end())
}

fn misshapen() -> Vec<String> {
    vec![MISSHAPEN.to_owned()]
}

fn ok_unless<T>(faults: Vec<String>, value: impl FnOnce() -> T) -> Checked<T> {
    if faults.is_empty() { Ok(value()) } else { Err(faults) }
}

fn non_zero(value: u64) -> Option<NonZeroU32> {
    NonZeroU32::new(u32::try_from(value).ok()?)
}

fn integer(value: u64) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

fn string(value: &impl ToString) -> Value {
    Value::String(value.to_string())
}

/// True for the serialization of an origin as browsers send it (RFC 6454, section 6.2).
fn is_origin(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text
    })
}
