//! The differences between two configurations, key by key.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::Config;
use super::declare::join;

/// A key whose value has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, such as `tiers.free.burst`.
    pub key: String,
    /// The value before, as TOML. The value of a secret is masked.
    pub was: String,
    /// The value now, in the same form.
    pub is: String,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, was, is } = self;
        if was == is { write!(f, "{key} (not shown)") } else { write!(f, "{key} ({was} → {is})") }
    }
}

impl Config {
    /// Returns the keys with another value in `new`, sorted; the admin token comes last.
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let (before, now) = (self.flat(), new.flat());
        let mut changes: Vec<Change> = now
            .into_iter()
            .filter_map(|(key, is)| {
                let was = before.get(&key).cloned().unwrap_or_default();
                (was != is).then_some(Change { key, was, is })
            })
            .collect();
        // The masked value is the same for two different tokens.
        if self.keys.admin_token != new.keys.admin_token {
            changes.retain(|change| change.key != "keys.admin_token");
            let (key, was) = ("keys.admin_token".to_owned(), String::new());
            changes.push(Change { key, is: was.clone(), was });
        }
        changes
    }

    /// Every key with its value as TOML.
    fn flat(&self) -> BTreeMap<String, String> {
        let mut flat = BTreeMap::new();
        if let Ok(table) = Table::try_from(self) {
            flatten("", &table, &mut flat);
        }
        flat
    }
}

fn flatten(section: &str, table: &Table, into: &mut BTreeMap<String, String>) {
    for (name, value) in table {
        let key = join(section, name);
        match value {
            Value::Table(table) => flatten(&key, table, into),
            value => _ = into.insert(key, value.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_running_server_takes_over_is_told_from_what_it_does_not() {
        let before = Config::from_toml("[tiers.free]\nburst = 7\nrequest_burst = 9").unwrap();
        let text = "[server]\nworkers = 3\ntrusted_proxies = \
            [\"10.0.0.0/8\"]\n[tiers.free]\nburst = 8\nrequest_burst = 9\n[log]\nlevel \
            = \"debug\"\nformat = \"text\"\n\
                    [egress]\nallow_networks = [\"10.0.0.0/8\"]\n[keys]\nadmin_token \
                    = \"canary-canary-canary\"";
        let new = Config::from_toml(text).unwrap();
        let taken = before.reloaded(&new);
        let keys = |changes: &[Change]| {
            changes.iter().map(|change| change.key.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            keys(&before.changes(&taken)),
            ["egress.allow_networks", "log.level", "server.trusted_proxies", "tiers.free.burst"]
        );
        assert_eq!(
            keys(&taken.changes(&new)),
            ["log.format", "server.workers", "keys.admin_token"]
        );
        let told: Vec<_> = before.changes(&new).iter().map(ToString::to_string).collect();
        assert!(told.contains(&"tiers.free.burst (7 → 8)".to_owned()), "{told:?}");
        assert!(!told.concat().contains("canary"), "{told:?}");
        assert!(before.changes(&before.clone()).is_empty());
    }
}
