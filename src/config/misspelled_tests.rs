//! Tests of the faults in a misspelled configuration: which key, where, the fault and the
//! correction.

use super::tests::{from_env, the_fault};
use super::*;

/// The only fault of a text, after a check that it names its line.
fn fault_of(text: &str) -> Fault {
    let fault = the_fault(Config::from_toml(text));
    assert!(fault.origin.starts_with("(text), line "), "{fault}");
    fault
}

fn says(cases: &[(&str, &str, &str)]) {
    for (text, key, part) in cases {
        let fault = fault_of(text);
        assert_eq!(fault.key, *key, "{text}: {fault}");
        assert!(fault.detail.contains(part), "{text}: {fault}");
    }
}

#[test]
fn a_misspelled_section_gets_the_nearest_or_none() {
    says(&[
        ("[servr]\nlisten = \"127.0.0.1:1\"", "servr", "did you mean [server]?"),
        ("[Server]\nworkers = 1", "Server", "did you mean [server]?"),
        ("[storge]\nx = 1", "storge", "did you mean [storage]?"),
        ("[deliveries]\ntimeout_ms = 1", "deliveries", "did you mean [delivery]?"),
        ("[logs]\nlevel = \"info\"", "logs", "did you mean [log]?"),
        (
            "[tiers.gold]\nburst = 1",
            "tiers.gold",
            "[tiers.enterprise], [tiers.free] and [tiers.pro], and others cannot be added",
        ),
        ("[tiers.entreprise]\nburst = 1", "tiers.entreprise", "did you mean [tiers.enterprise]?"),
        ("[tier.free]\nburst = 1", "tier", "did you mean [tiers]?"),
        ("[server.tls]\ncert = 1", "server.tls", "[server] has keys and no sections"),
        ("[database]\nurl = \"x\"", "database", "`triggerd config init` lists all"),
        ("[listen]\nport = 1", "listen", "listen is a key: `server.listen`"),
        ("[[server]]\nworkers = 1", "server", "must be a section, [server], not a list"),
    ]);
    for far in ["[database]", "[tiers.gold]", "[server.tls]"] {
        assert!(!fault_of(&format!("{far}\na = 1")).detail.contains("did you mean"), "{far}");
    }
}

#[test]
fn a_misspelled_key_gets_the_nearest_or_none() {
    says(&[
        ("[server]\nlissten = \"127.0.0.1:1\"", "server.lissten", "did you mean `server.listen`?"),
        (
            "[server]\ntrusted-proxies = []",
            "server.trusted-proxies",
            "did you mean `server.trusted_proxies`?",
        ),
        (
            "[server]\nmaxConnections = 1",
            "server.maxConnections",
            "did you mean `server.max_connections`?",
        ),
        ("[server]\nshutdown = 1", "server.shutdown", "did you mean `server.shutdown_seconds`?"),
        ("[dedup]\nwindow_hours = 1", "dedup.window_hours", "did you mean `dedup.window_seconds`?"),
        ("[log]\nmax_file_bytes = 1", "log.max_file_bytes", "did you mean `log.file_bytes_max`?"),
        ("[storage]\ndatadir = \"x\"", "storage.datadir", "did you mean `storage.data_dir`?"),
        ("[server]\ndata_dir = \"x\"", "server.data_dir", "did you mean `storage.data_dir`?"),
        ("[server]\nqueue = 1", "server.queue", "did you mean `intake.queue` or `workers.queue`?"),
        ("listen = \"127.0.0.1:1\"", "listen", "did you mean `server.listen`?"),
        (
            "[egress]\nallow_network = []",
            "egress.allow_network",
            "did you mean `egress.allow_networks`?",
        ),
        ("\"server.workers\" = 1", "server.workers", "without quotes"),
    ]);
    for far in [
        "[server]\nfoo = 1",
        "[server]\ntls = 1",
        "[delivery]\nretries = 1",
        "[log]\nx = 1",
        "qqq = 3",
    ] {
        let fault = fault_of(far);
        assert!(!fault.detail.contains("did you mean"), "nothing is near: {fault}");
        assert!(fault.detail.contains("lists all of them"), "{fault}");
    }
}

#[test]
fn a_misspelled_variable_gets_the_nearest_or_none() {
    for (name, part) in [
        ("TRIGGERD__SERVR__LISTEN", "`server.listen`"),
        ("TRIGGERD__SERVER__LISTN", "`server.listen`"),
        ("TRIGGERD__LISTEN", "`server.listen`"),
        ("TRIGGERD__TIERS__GOLD__BURST", "`tiers.enterprise.burst` or"),
        ("TRIGGERD__SERVER__FOO", "lists all of them"),
        ("TRIGGERD__SERVER", "name a key of the section"),
    ] {
        let fault = the_fault(from_env([(name, "x")]));
        assert!(fault.detail.contains(part) && fault.origin == name, "{fault}");
    }
    for (name, meant) in [
        ("TRIGGERD_LISTEN", "did you mean TRIGGERD__SERVER__LISTEN?"),
        ("TRIGGERD_DATA_DIR", "did you mean TRIGGERD__STORAGE__DATA_DIR?"),
        ("TRIGGERD_SERVER_LISTN", "did you mean TRIGGERD__SERVER__LISTEN?"),
        ("TRIGGERD_APIKEY", "did you mean TRIGGERD_API_KEY?"),
        ("TRIGGERD_FOO", "keys are TRIGGERD__SECTION__KEY"),
    ] {
        let fault = the_fault(from_env([(name, "x")]));
        assert!(fault.detail.contains(meant), "{fault}");
    }
}

#[test]
fn a_misspelled_value_gets_the_nearest_or_a_rule() {
    says(&[
        ("[log]\nlevel = \"inof\"", "log.level", "did you mean info?"),
        ("[log]\nlevel = \"warning\"", "log.level", "did you mean warn?"),
        ("[log]\nformat = \"jsno\"", "log.format", "did you mean json?"),
        ("[log]\nformat = \"xml\"", "log.format", "must be \"auto\", \"json\" or \"text\""),
        ("[server]\nlisten = \"localhost:80\"", "server.listen", "write 127.0.0.1:80"),
        (
            "[server]\ncors_origins = [\"a.example\"]",
            "server.cors_origins",
            "such as https://app.example.com",
        ),
        (
            "[server]\ntrusted_proxies = [\"10.0.0.1\"]",
            "server.trusted_proxies",
            "write 10.0.0.1/32",
        ),
        (
            "[egress]\nallow_networks = [\"010.0.0.0/8\"]",
            "egress.allow_networks",
            "write 10.0.0.0/8",
        ),
        ("[storage]\ndata_dir = \"~/x\"", "storage.data_dir", "~ is not expanded"),
        ("[server]\nshutdown_seconds = 60", "server.shutdown_seconds", "must be 1 to 9, not 60"),
    ]);
}

#[test]
fn a_value_with_a_unit_is_proposed_in_the_unit_of_its_key() {
    says(&[
        ("[delivery]\ntimeout_ms = \"15s\"", "delivery.timeout_ms", "; write 15000"),
        ("[delivery]\ntimeout_ms = \"15000ms\"", "delivery.timeout_ms", "; write 15000"),
        ("[dedup]\nwindow_seconds = \"7d\"", "dedup.window_seconds", "; write 604800"),
        ("[dedup]\nwindow_seconds = \"1 hour\"", "dedup.window_seconds", "; write 3600"),
        ("[storage]\nsegment_bytes = \"32MiB\"", "storage.segment_bytes", "; write 33554432"),
        ("[storage]\nsegment_bytes = \"32MB\"", "storage.segment_bytes", "; write 32000000"),
        ("[storage]\nsegment_bytes = \"64k\"", "storage.segment_bytes", "; write 65536"),
        (
            "[delivery]\nretry_schedule_seconds = [\"5s\", \"5m\"]",
            "delivery.retry_schedule_seconds",
            "; write [5, 300]",
        ),
        (
            "[server]\nbody_timeout_seconds = \"0.5s\"",
            "server.body_timeout_seconds",
            "a whole number",
        ),
        (
            "[delivery]\nbreaker_pause_seconds_max = \"5min\"",
            "delivery.breaker_pause_seconds_max",
            "; write 300",
        ),
    ]);
    let fault = the_fault(from_env([("TRIGGERD__DELIVERY__TIMEOUT_MS", "15s")]));
    assert!(fault.detail.ends_with("; write 15000"), "{fault}");
}

#[test]
fn a_value_of_the_wrong_type_is_proposed_in_the_right_one() {
    says(&[
        ("[server]\nworkers = \"3\"", "server.workers", "not \"3\"; write 3"),
        ("[server]\nworkers = \"10_000\"", "server.workers", "; write 10000"),
        ("[server]\nmax_connections = 1e3", "server.max_connections", "; write 1000"),
        ("[server]\nworkers = 1.5", "server.workers", "must be a whole number, 0 or more, not 1.5"),
        ("[server]\nworkers = true", "server.workers", "not true"),
        ("[server]\nworkers = -1", "server.workers", "not -1"),
        ("[server]\nlisten = 8080", "server.listen", "must be a string in quotes, not 8080"),
        ("[delivery]\njitter_share = \"0.2\"", "delivery.jitter_share", "; write 0.2"),
        (
            "[egress]\nallow_networks = \"10.0.0.0/8\"",
            "egress.allow_networks",
            "; write [\"10.0.0.0/8\"]",
        ),
        (
            "[delivery]\nretry_schedule_seconds = 5",
            "delivery.retry_schedule_seconds",
            "; write [5]",
        ),
        ("server = 1", "server", "must be a section with keys"),
        ("[server.listen]\nport = 1", "server.listen", "not a section"),
    ]);
}
