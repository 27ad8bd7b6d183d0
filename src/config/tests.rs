use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::rules::breaker::WINDOW_MAX;

pub(super) fn from_env<const N: usize>(
    variables: [(&str, &str); N],
) -> Result<Config, ConfigError> {
    Config::load_from(None, &[], &Environment::from(variables)).map(|(config, _)| config)
}

fn faults_of(error: ConfigError) -> Vec<Fault> {
    match error {
        ConfigError::Faults(faults) => faults,
        other => panic!("not a list of faults: {other}"),
    }
}

pub(super) fn the_fault(result: Result<Config, ConfigError>) -> Fault {
    let faults = faults_of(result.unwrap_err());
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults[0].clone()
}

#[test]
fn a_time_has_the_unit_in_the_name_of_its_key() {
    let text = "[server]\nclient_timeout_seconds = 7\n[intake]\nwait_ms_max = 8\n\
        [delivery]\ntimeout_ms = 9\nconnect_timeout_ms = 6\nretry_schedule_seconds = [10]";
    let config = Config::from_toml(text).unwrap();
    assert_eq!(config.server.client_timeout, Duration::from_secs(7));
    assert_eq!(config.intake.wait_max, Duration::from_millis(8));
    assert_eq!(config.delivery.timeout, Duration::from_millis(9));
    assert_eq!(config.delivery.retry_schedule, [Duration::from_secs(10)]);
}

#[test]
fn the_defaults_that_other_parts_depend_on() {
    let config = Config::from_toml("").unwrap();
    assert!(config.server.listen.ip().is_loopback(), "others cannot reach the server by default");
    assert!(config.egress.allow_networks.is_empty() && config.server.cors_origins.is_empty());
    assert_eq!(config.keys.admin_token, None);
    assert_eq!(WINDOW_MAX, 64, "the upper bound of delivery.breaker_window");
}

#[test]
fn the_default_retry_schedule_is_the_documented_one() {
    let schedule = Config::from_toml("").unwrap().delivery.retry_schedule;
    let seconds: Vec<_> = schedule.iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]);
}

#[test]
fn a_variable_that_begins_like_ours_and_is_none_is_a_fault_that_says_what_was_meant() {
    for (name, meant) in [
        ("TRIGGERD_SERVER_LISTEN", "TRIGGERD__SERVER__LISTEN"),
        ("TRIGGERD_SERVER__LISTEN", "TRIGGERD__SERVER__LISTEN"),
        ("TRIGGERD_TIERS_FREE_BURST", "TRIGGERD__TIERS__FREE__BURST"),
        ("triggerd__server__listen", "TRIGGERD__SERVER__LISTEN"),
        ("TRIGGERD.SERVER.LISTEN", "TRIGGERD__SERVER__LISTEN"),
        ("TRIGGERD_PORT", "SECTION__KEY"),
    ] {
        let fault = the_fault(from_env([(name, "127.0.0.1:1")]));
        assert!(fault.key == name && fault.detail.contains(meant), "{fault}");
    }
    // Variables of a client, of a test, of a container beside a service called triggerd, and of
    // other programs.
    from_env([
        ("TRIGGERD_URL", "x"),
        ("TRIGGERD_API_KEY", "x"),
        ("TRIGGERD_TEST_BINARY", "x"),
        ("TRIGGERD_SERVICE_HOST", "10.0.0.1"),
        ("TRIGGERD_PORT", "tcp://10.0.0.1:8080"),
        ("TRIGGERD_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("TRIGGERDX_SERVER_LISTEN", "x"),
        ("TRIGGER", "x"),
    ])
    .unwrap();
}

#[test]
fn a_quoted_dotted_key_is_not_the_key_of_a_section() {
    assert_eq!(the_fault(Config::from_toml("\"server.workers\" = 1")).key, "server.workers");
}

#[test]
fn all_faults_are_named_at_once_each_with_its_origin() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mine.toml");
    std::fs::write(
        &path,
        "[server]\nworkers = \"many\"\nshutdown_seconds = 60\n[dedup]\nwindow = 1\n",
    )
    .unwrap();
    let environment =
        Environment::from([("TRIGGERD__EGRESS__ALLOW_NETWORKS", "10.0.0.0/8, 10.1.2.3/16,here")]);
    let error = Config::load_from(Some(&path), &[], &environment).unwrap_err();
    let text = error.to_string();
    let faults = faults_of(error);
    let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    let networks = "egress.allow_networks";
    assert_eq!(
        keys,
        ["dedup.window", "server.workers", "server.shutdown_seconds", networks, networks],
        "{text}"
    );
    for expected in
        ["5 faults", "\"many\"", "whole number", "1 to 9, not 60", "10.1.0.0/16", "\"here\""]
    {
        assert!(text.contains(expected), "{expected} is missing in: {text}");
    }
    let places: Vec<_> = [5, 2, 3].map(|line| format!("{}, line {line}", path.display())).into();
    assert!(faults[..3].iter().map(|fault| &fault.origin).eq(&places), "{text}");
    assert!(
        faults[3..].iter().all(|fault| fault.origin == "TRIGGERD__EGRESS__ALLOW_NETWORKS"),
        "{text}"
    );
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("triggerd.toml");
    std::fs::write(&path, "[server]\nworkers = 3\n[tiers.free]\nburst = 7\n").unwrap();
    let environment = Environment::from([
        ("TRIGGERD__TIERS__FREE__BURST", "8"),
        ("TRIGGERD__EGRESS__ALLOW_NETWORKS", "127.0.0.0/8,10.0.0.0/8"),
        ("TRIGGERD__DELIVERY__RETRY_SCHEDULE_SECONDS", "1, 2"),
        ("TRIGGERD__DELIVERY__JITTER_SHARE", "0"),
        ("TRIGGERD__STORAGE__DATA_DIR", "12"),
    ]);
    let absent = directory.path().join("absent.toml");
    let (config, source) = Config::load_from(None, &[&absent, &path], &environment).unwrap();
    assert_eq!(config.server.workers, 3);
    assert_eq!(config.tiers.free.burst, NonZeroU32::new(8).unwrap());
    assert_eq!(config.egress.allow_networks.len(), 2);
    assert_eq!(config.delivery.retry_schedule, [1, 2].map(Duration::from_secs));
    assert_eq!(config.storage.data_dir, PathBuf::from("12"), "text stays text");
    assert_eq!(source.file.as_deref(), Some(path.as_path()));
    assert_eq!(source.variables.len(), 5);
    assert!(source.to_string().contains("TRIGGERD__TIERS__FREE__BURST"), "{source}");
}

#[test]
fn a_tiers_requests_are_ten_times_its_events_unless_they_are_named() {
    for (text, expected) in [
        ("events_per_second = 7\nburst = 9", (70, 90)),
        ("events_per_second = 7\nburst = 9\nrequests_per_second = 8", (8, 90)),
        ("requests_per_second = 1\nrequest_burst = 2", (1, 2)),
        ("burst = 100000000\nrequest_burst = 0", (500, 1_000_000_000)),
    ] {
        let tiers = Config::from_toml(&format!("[tiers.free]\n{text}")).unwrap().tiers;
        assert_eq!(
            (tiers.free.requests_per_second.get(), tiers.free.request_burst.get()),
            expected,
            "{text}"
        );
    }
    let fault = the_fault(Config::from_toml("[tiers.pro]\nrequest_burst = 1000000001"));
    assert_eq!(fault.key, "tiers.pro.request_burst");
}

#[test]
fn an_empty_variable_is_an_empty_list() {
    let config = from_env([("TRIGGERD__DELIVERY__RETRY_SCHEDULE_SECONDS", "")]).unwrap();
    assert!(config.delivery.retry_schedule.is_empty());
}

#[test]
fn a_variable_of_the_wrong_type_is_named() {
    let fault = the_fault(from_env([("TRIGGERD__INTAKE__QUEUE", "1e3")]));
    assert_eq!(
        (fault.key.as_str(), fault.origin.as_str()),
        ("intake.queue", "TRIGGERD__INTAKE__QUEUE")
    );
    assert!(fault.detail.contains("\"1e3\""), "{fault}");
}

#[test]
fn contradictions_are_refused() {
    for (text, key) in [
        ("[delivery]\nconnect_timeout_ms = 16000", "delivery.connect_timeout_ms"),
        ("[delivery]\nmax_in_flight = 63", "delivery.max_in_flight_per_org"),
        ("[delivery]\nmax_in_flight_per_org = 15", "delivery.max_in_flight_per_endpoint"),
        ("[delivery]\nbreaker_window = 4", "delivery.breaker_failures_in_a_row"),
        ("[delivery]\nbreaker_failures_in_a_row = 41", "delivery.breaker_failures_in_a_row"),
        ("[delivery]\nbreaker_pause_seconds = 301", "delivery.breaker_pause_seconds"),
        ("[intake]\nbatch_bytes_max = 2048", "intake.event_bytes_max"),
        ("[intake]\ngroup_bytes = 65536", "intake.event_bytes_max"),
        ("[intake]\nqueue_bytes = 8388607", "intake.batch_bytes_max"),
    ] {
        let fault = the_fault(Config::from_toml(text));
        assert_eq!(fault.key, key, "{text}");
        assert!(fault.detail.contains("at most"), "{fault}");
    }
}

/// Values out of range or of the wrong type, each with its key.
const REFUSED: [(&str, &str); 43] = [
    ("[server]\nlisten = \"localhost\"", "server.listen"),
    ("[server]\nworkers = -1", "server.workers"),
    ("[server]\nworkers = 1.5", "server.workers"),
    ("[server]\nworkers = true", "server.workers"),
    ("[server]\nworkers = 513", "server.workers"),
    ("[server]\nbind_seconds = 3601", "server.bind_seconds"),
    ("[storage]\ndata_dir = \"a\\u0000b\"", "storage.data_dir"),
    ("[storage]\ndata_dir = \"~/x\"", "storage.data_dir"),
    ("[storage]\ndata_dir = \"$HOME/x\"", "storage.data_dir"),
    ("[log]\ndirectory = \"~/logs\"", "log.directory"),
    ("[log]\ndirectory = \"${HOME}/logs\"", "log.directory"),
    ("[server]\nlisten = \"010.0.0.1:80\"", "server.listen"),
    ("[server]\ntrusted_proxies = [\"10.0.0.0/08\"]", "server.trusted_proxies"),
    ("[egress]\nallow_networks = [\"010.0.0.0/8\"]", "egress.allow_networks"),
    ("[log]\ndirectory = \"/tmp/\\u0000\"", "log.directory"),
    ("[log]\nlevel = \"inof\"", "log.level"),
    ("[log]\nlevel = \"\"", "log.level"),
    ("[log]\nfile_bytes_max = 1", "log.file_bytes_max"),
    ("[egress]\nallow_networks = [\"::ffff:10.0.0.0/104\"]", "egress.allow_networks"),
    ("[server]\nshutdown_seconds = 10", "server.shutdown_seconds"),
    ("[server]\ncors_origins = [\"https://a.example/path\"]", "server.cors_origins"),
    ("[server]\ncors_origins = [1]", "server.cors_origins"),
    ("[storage]\ndata_dir = \"\"", "storage.data_dir"),
    ("[storage]\ndata_dir = 7", "storage.data_dir"),
    ("[storage]\nsegment_bytes = 65535", "storage.segment_bytes"),
    ("[dedup]\nwindow_seconds = 0", "dedup.window_seconds"),
    ("[dedup]\nwindow_seconds = 7776001", "dedup.window_seconds"),
    ("[tiers.pro]\nburst = 0", "tiers.pro.burst"),
    ("[delivery]\nretry_schedule_seconds = [5, \"x\"]", "delivery.retry_schedule_seconds"),
    ("[delivery]\nretry_schedule_seconds = [0]", "delivery.retry_schedule_seconds"),
    ("[delivery]\njitter_share = nan", "delivery.jitter_share"),
    ("[delivery]\njitter_share = 1.1", "delivery.jitter_share"),
    ("[delivery]\nbreaker_window = 65", "delivery.breaker_window"),
    ("[delivery]\nbreaker_failures_in_a_row = 0", "delivery.breaker_failures_in_a_row"),
    ("[delivery]\nbreaker_failure_share = 0", "delivery.breaker_failure_share"),
    ("[delivery]\nbreaker_failure_share = 1.01", "delivery.breaker_failure_share"),
    ("[delivery]\nbreaker_failure_share = nan", "delivery.breaker_failure_share"),
    ("[delivery]\nbreaker_pause_seconds = 0", "delivery.breaker_pause_seconds"),
    ("[delivery]\nbreaker_pause_seconds_max = 86401", "delivery.breaker_pause_seconds_max"),
    ("[log]\nlevel = \"a=b=c\"", "log.level"),
    ("[log]\nformat = \"xml\"", "log.format"),
    ("server = 1", "server"),
    ("tiers.free = [1]", "tiers.free"),
];

#[test]
fn values_out_of_range_or_of_the_wrong_type_are_refused() {
    for (text, key) in REFUSED {
        assert_eq!(the_fault(Config::from_toml(text)).key, key, "{text}");
    }
}

#[test]
fn edges_of_ranges_are_allowed() {
    for text in [
        "[server]\nlisten = \"[::]:0\"\ncors_origins = [\"*\"]\nshutdown_seconds = 9",
        "[server]\ncors_origins = [\"https://a.example\", \"http://localhost:3000\"]",
        "[storage]\nsegment_bytes = 65_536\nreserve_bytes = 0",
        "[dedup]\nwindow_seconds = 7776000",
        "[delivery]\njitter_share = 1\nretry_schedule_seconds = []\nmax_in_flight = \
         16\nmax_in_flight_per_org = 16",
        "[delivery]\nbreaker_window = 0\nbreaker_failures_in_a_row = 1000\nbreaker_failure_share \
         = 1.0",
        "[delivery]\nbreaker_window = 64\nbreaker_failures_in_a_row = 64\nbreaker_failure_share = \
         0.01",
        "[delivery]\nbreaker_pause_seconds = 86400\nbreaker_pause_seconds_max = 86400",
        "[egress]\nallow_networks = [\"::1/128\"]",
        "[log]\nlevel = \"warn,triggerd::http=trace\"",
    ] {
        Config::from_toml(text).unwrap();
    }
}

#[test]
fn backups_need_a_directory_to_be_made_or_kept_by_themselves() {
    for (key, value) in [("every_seconds", 3_600), ("keep", 3), ("drill_every_seconds", 0)] {
        let fault = the_fault(Config::from_toml(&format!("[backup]\n{key} = {value}")));
        let said = "needs [backup] directory, which is empty; name it, or leave this key out";
        assert_eq!(fault.key, format!("backup.{key}"));
        assert!(fault.to_string().contains(said), "{fault}");
        let with = format!("[backup]\ndirectory = \"/backup\"\n{key} = {value}");
        Config::from_toml(&with).unwrap();
    }
    Config::from_toml("[backup]\ndirectory = \"\"\nevery_seconds = 0\nkeep = 7").unwrap();
}

#[test]
fn the_address_of_a_store_has_no_password_and_the_fault_shows_none() {
    let of =
        |url: &str| format!("[backup]\ndirectory = \"s3://backups/p\"\ns3_endpoint = \"{url}\"");
    assert!(Config::from_toml(&of("https://s3.example.com")).is_ok());
    for url in ["http://user:secret@host", "http://secret@host", "ftp://host", "s3.example.com"] {
        let fault = the_fault(Config::from_toml(&of(url)));
        assert_eq!(fault.key, "backup.s3_endpoint", "{url}");
        assert!(!fault.to_string().contains("secret"), "{fault}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let path = Path::new("/nowhere/of/mine.toml");
    let error = Config::load_from(Some(path), &[], &Environment::default()).unwrap_err();
    assert!(
        matches!(error, ConfigError::Missing { .. })
            && error.to_string().contains("/nowhere/of/mine.toml"),
        "{error}"
    );
}

#[test]
fn a_number_of_more_than_64_bits_is_said_with_its_key_and_not_shown() {
    let large = "99999999999999999999";
    let text = format!(
        "[server]\nworkers = {large}\n[tiers.pro]\nburst = 0x1{large}\n[delivery]\nretry_schedule \
         = [1, {large}]\n[keys]\nadmin_token = {large}\n"
    );
    let error = Config::from_toml(&text).unwrap_err().to_string();
    for part in [
        "4 faults",
        "server.workers: the number is too large (set in (text) line 2)",
        "tiers.pro.burst: the number is too large (set in (text) line 4)",
        "delivery.retry_schedule: the number is too large (set in (text) line 6)",
        "keys.admin_token: the number is too large (set in (text) line 8)",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains(large), "it may be a secret: {error}");
}

#[test]
fn a_syntax_error_names_the_line_and_shows_none_of_it() {
    let error = Config::from_toml("[keys]\nadmin_token = \"canary-canary-canary\n").unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ConfigError::Syntax { .. }) && text.contains("line 2"), "{text}");
    assert!(!text.contains("canary"), "{text}");
}

#[test]
fn the_admin_token_is_shown_nowhere() {
    let text = "[keys]\nadmin_token = \"canary-canary-canary\"";
    let config = Config::from_toml(text).unwrap();
    assert_eq!(config.keys.admin_token.as_ref().unwrap().reveal(), "canary-canary-canary");
    assert!(!format!("{config:?}{}", config.effective()).contains("canary"));
    for bad in [
        "admin_token = \"canary\"",
        "admin_token = \"canary canary canary\"",
        "admin_token = [\"canary\"]",
    ] {
        let fault = the_fault(Config::from_toml(&format!("[keys]\n{bad}")));
        assert!(
            fault.key == "keys.admin_token" && !fault.to_string().contains("canary"),
            "{fault}"
        );
    }
}

#[test]
fn what_is_printed_as_effective_loads_again_as_the_same() {
    let given = "[server]\nworkers = 3\n[egress]\nallow_networks = \
        [\"10.0.0.0/8\"]\n[log]\ndirectory = \"/tmp/x\"";
    let config = Config::from_toml(given).unwrap();
    assert_eq!(Config::from_toml(&config.effective()).unwrap(), config);
    let token =
        Config::from_toml("[keys]\nadmin_token = \"canary-canary-canary\"").unwrap().effective();
    assert_eq!(
        the_fault(Config::from_toml(&token)).key,
        "keys.admin_token",
        "the mask is not taken for a token"
    );
}

proptest! {
    #[test]
    fn no_text_makes_loading_panic(text in "\\PC{0,200}") {
        drop(Config::from_toml(&text));
    }

    #[test]
    fn no_value_of_any_key_makes_loading_panic(
        section in prop::sample::select(vec!["server", "storage", "delivery", "egress", "log",
        "keys", "tiers.free"]),
        key in prop::sample::select(vec!["listen", "workers", "jitter_share", "allow_networks",
        "level", "burst", "a.b[0]"]),
        value in prop_oneof!["-?[0-9]{1,25}", "-?[0-9]{1,3}\\.[0-9]{1,3}",
        "\"[a-z*:/.,=0-9]{0,20}\"", "\\[.{0,10}\\]", "nan"],
    ) {
        drop(Config::from_toml(&format!("[{section}]\n{key} = {value}")));
        drop(Config::load_from(None, &[], &Environment::from([(
            format!("TRIGGERD__{section}__{key}").to_uppercase().as_str(), value.as_str())])));
    }
}

#[test]
fn the_grace_of_files_is_at_most_an_eighth_of_the_time_to_erase() {
    let fault = the_fault(Config::from_toml("[retention]\ngrace_seconds = 10801")).to_string();
    let said = "must be at most an eighth of retention.erase_seconds (86400), not 10801";
    assert!(fault.contains("retention.grace_seconds") && fault.contains(said), "{fault}");
    let erase = "[retention]\ngrace_seconds = 10801\nerase_seconds = 86408";
    assert_eq!(Config::from_toml(erase).unwrap().retention.grace, Duration::from_secs(10_801));
}
