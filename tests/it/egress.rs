//! No request reaches a forbidden address in any spelling: hundreds of spellings of special
//! addresses are tried when an endpoint is created, changed and tested, and at every attempt. A
//! listener on the loopback address is the canary, to which nothing may connect.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::Path;

use serde_json::{Value, json};
use triggerd::rules::egress::EgressRules;

use crate::harness::{Client, Process, settings, until};

/// Addresses of the special blocks (IANA registries): loopback, private, link-local and metadata,
/// carrier-grade, and so on.
const SPECIAL: [[u8; 4]; 16] = [
    [127, 0, 0, 1],
    [127, 255, 0, 7],
    [10, 0, 0, 7],
    [172, 16, 5, 4],
    [192, 168, 1, 1],
    [169, 254, 169, 254],
    [100, 64, 0, 1],
    [100, 100, 100, 200],
    [0, 0, 0, 0],
    [0, 1, 2, 3],
    [192, 0, 0, 8],
    [192, 0, 2, 5],
    [198, 18, 0, 1],
    [203, 0, 113, 9],
    [224, 0, 0, 1],
    [255, 255, 255, 255],
];

const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// An address in every spelling known from URL parsers, resolvers and operating systems.
fn spellings(bytes: [u8; 4]) -> Vec<String> {
    [ipv4_spellings(bytes), ipv6_spellings(bytes)].concat()
}

fn ipv4_spellings([a, b, c, d]: [u8; 4]) -> Vec<String> {
    let number = u32::from_be_bytes([a, b, c, d]);
    let v4 = Ipv4Addr::from(number).to_string();
    let full_width = |c: char| {
        char::from_u32(u32::from(c) + if c.is_ascii_digit() { 0xfee0 } else { 0 }).unwrap()
    };
    vec![
        v4.clone(),
        format!("{v4}."),
        format!("{number}"),
        format!("0x{number:x}"),
        format!("0X{number:08X}"),
        format!("0{number:o}"),
        format!("{a}.{}", number & 0xff_ffff),
        format!("{a}.{b}.{}", number & 0xffff),
        format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("0{a:o}.0x{b:x}.{c}.{d}"),
        v4.replace('.', "。"),
        v4.chars().map(full_width).collect(),
        v4.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02x}")),
        format!("user@{v4}"),
        format!("example.com:pass@{v4}"),
    ]
}

fn ipv6_spellings(bytes: [u8; 4]) -> Vec<String> {
    let number = u32::from_be_bytes(bytes);
    let (high, low) = (number >> 16, number & 0xffff);
    let v4 = Ipv4Addr::from(number);
    let bits = |text: &str| text.parse::<Ipv6Addr>().unwrap().to_bits();
    let carried = |prefix: &str, shift: u32| {
        format!("[{}]", Ipv6Addr::from(bits(prefix) | u128::from(number) << shift))
    };
    vec![
        format!("[::ffff:{v4}]"),
        format!("[::ffff:{high:x}:{low:x}]"),
        format!("[0:0:0:0:0:FFFF:{high:04X}:{low:04X}]"),
        format!("[64:ff9b::{v4}]"),
        format!("[64:ff9b::{high:x}:{low:x}]"),
        format!("[2002:{high:x}:{low:x}::1]"),
        carried("2002::", 80),
        // Teredo holds the client's address with all bits inverted.
        format!("[{}]", Ipv6Addr::from(bits("2001:0:808:808::") | u128::from(!number))),
        carried("fe80::", 0),
        carried("fd00:ec2::", 0),
        carried("::", 0),
    ]
}

fn all_spellings() -> BTreeSet<String> {
    SPECIAL.into_iter().flat_map(spellings).collect()
}

/// A listener to which nothing may connect.
struct Canary(TcpListener);

impl Canary {
    fn start() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    fn was_reached(&self) -> bool {
        self.0.accept().is_ok()
    }
}

/// A server that may reach only these networks.
fn server(data: &Path, allow: &[&str]) -> Process {
    let before = "allow_networks = [\"127.0.0.0/8\"]";
    let config = settings(data, "");
    assert!(config.contains(before));
    Process::start_on(data, &config.replace(before, &format!("allow_networks = {allow:?}")))
}

fn url(host: &str, port: u16) -> String {
    // Userinfo before the host is kept.
    format!("http://{host}:{port}/hook")
}

#[test]
fn hundreds_of_spellings_of_special_addresses_are_refused_wherever_a_url_can_be_set() {
    let (dir, canary) = (tempfile::tempdir().unwrap(), Canary::start());
    let server = server(&dir.path().join("data"), &[]);
    let org = server.org("Acme");
    let fine = org.post("/api/endpoints", &json!({"url": "https://example.com/"}));
    let path = format!("/api/endpoints/{}", fine.json["id"].as_str().unwrap());
    let hosts = all_spellings();
    assert!(hosts.len() >= 250, "only {} spellings", hosts.len());
    for host in &hosts {
        let body = json!({ "url": url(host, canary.port()) });
        let answers = [
            org.post("/api/endpoints", &body),
            org.post("/api/webhook/config", &body),
            org.patch(&path, &body),
        ];
        for answer in answers {
            assert_eq!(answer.status, 422, "{host}: {answer:?}");
            let is_named =
                answer.code() == "egress_blocked" || answer.code() == "validation_failed";
            assert!(
                is_named && answer.json["errors"][0]["pointer"] == "/url",
                "{host}: {answer:?}"
            );
        }
    }
    for (scheme, rest) in
        [("ftp", "://example.com/"), ("file", ":///etc/passwd"), ("gopher", "://127.0.0.1/")]
    {
        let answer = org.post("/api/endpoints", &json!({ "url": format!("{scheme}{rest}") }));
        assert_eq!(answer.status, 422, "{scheme}: {answer:?}");
    }
    let made = org.get("/api/endpoints").json;
    assert_eq!(made["data"].as_array().unwrap().len(), 1, "nothing was made");
    assert!(!canary.was_reached());
    assert_eq!(server.stop().0, Some(0));
}

/// All URLs of the canary that rules with loopback addresses allow.
fn loopback_urls(canary: &Canary) -> Vec<String> {
    let names = ["localhost".to_owned(), "a.localhost.".to_owned()];
    let hosts = spellings([127, 0, 0, 1]).into_iter().chain(names);
    let rules = EgressRules { allow: LOOPBACK.map(|network| network.parse().unwrap()).into() };
    let urls = hosts.map(|host| url(&host, canary.port()));
    let allowed: Vec<_> = urls.filter(|url| rules.judge_text(url).is_ok()).collect();
    assert!(allowed.len() >= 15, "{allowed:?}");
    allowed
}

/// The endpoints were created while their addresses were allowed; names and literals are checked
/// again at every attempt.
fn attempts_after_a_change_of_rules(
    then_allowed: &[&str],
    timeout_ms: u32,
) -> (Vec<Value>, Canary) {
    let (dir, canary) = (tempfile::tempdir().unwrap(), Canary::start());
    let data = dir.path().join("data");
    let first = server(&data, &LOOPBACK);
    let org = first.org("Acme");
    let endpoint = |url: &String| {
        let settings = json!({"url": url, "retry_schedule": [], "timeout_ms": timeout_ms});
        format!("/api/endpoints/{}", org.endpoint(&settings))
    };
    let paths: Vec<_> = loopback_urls(&canary).iter().map(endpoint).collect();
    assert_eq!(first.stop().0, Some(0));
    assert!(!canary.was_reached(), "setting a URL asks nobody");

    let second = server(&data, then_allowed);
    let org = Client::new(&second.url, &org.key);
    let tested =
        paths.iter().map(|path| org.post(&format!("{path}/test"), &json!({})).json).collect();
    org.send("a.b", &json!(1));
    for path in &paths {
        until(|| {
            (org.get(&format!("{path}/stats")).json["attempts_failed"] == json!(1)).then_some(())
        });
    }
    (tested, canary)
}

#[test]
fn an_address_that_is_allowed_no_more_is_refused_at_the_next_attempt() {
    let (tested, canary) = attempts_after_a_change_of_rules(&[], 60_000);
    for outcome in tested {
        assert_eq!(outcome["error"]["code"], "egress_blocked", "{outcome}");
    }
    assert!(!canary.was_reached());
}

#[test]
fn the_canary_is_reached_where_its_address_is_allowed() {
    let (tested, canary) = attempts_after_a_change_of_rules(&["127.0.0.0/8", "::1/128"], 300);
    assert!(tested.iter().any(|outcome| outcome["error"]["code"] == "timeout"), "{tested:?}");
    assert!(canary.was_reached(), "else the tests above could not fail");
}
