//! The failed checks of `/health` in words, each with its remedy.

use serde::Serialize;
use serde_json::Value;

/// A fault, and what to do about it.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    /// The part of the server; for problems, the check of `/health`.
    pub(super) about: String,
    pub(super) what: String,
    /// What the operator has to do.
    pub(super) remedy: String,
}

impl Finding {
    pub(super) fn new(about: &str, what: impl Into<String>, remedy: &str) -> Self {
        Self { about: about.to_owned(), what: what.into(), remedy: remedy.to_owned() }
    }
}

/// Returns the failed checks of `/health`.
pub(super) fn problems(checks: &Value) -> Vec<Finding> {
    let checks = checks.as_object().into_iter().flatten();
    let failed = checks.filter_map(|(check, word)| Some((check, word.as_str()?)));
    failed
        .filter(|(_, word)| *word != "ok")
        .map(|(check, word)| match known(check, word) {
            Some((what, remedy)) => Finding::new(check, what, remedy),
            None => Finding::new(check, format!("the check says {word}"), "Read the log."),
        })
        .collect()
}

/// Returns a failed check in words, and its remedy.
fn known(check: &str, word: &str) -> Option<(&'static str, &'static str)> {
    Some(match (check, word) {
        ("server", "starting") => {
            ("the server is starting", "Wait. The log shows the progress of a long start.")
        }
        ("server", "stopping") => (
            "the server is stopping",
            "If it should run, start it again: `systemctl start triggerd`.",
        ),
        ("data_dir", "lost") => (
            "the data directory or a part of the journal was removed or changed",
            "Do not start the server again. The log names the file and says how to put it back; \
             otherwise restore a backup.",
        ),
        ("data_dir", "incomplete") => (
            "FORMAT or secrets.key was removed or changed",
            "Put the file back before the server stops, as the log says: the next start needs it.",
        ),
        ("state", "unreadable") => (
            "the state cannot be read",
            "Restart the server: it computes the state again. Nothing is lost.",
        ),
        ("journal", "damaged") => (
            "a part of the journal is damaged and is not served",
            "Copy the data directory as it is, stop the server, and run `triggerd verify`.",
        ),
        ("intake", "full") => (
            "more changes come in than the disk can write; some are refused",
            "Look for other programs that use the disk. If this stays, the machine is too small.",
        ),
        ("disk", word) => return disk(word),
        _ => return None,
    })
}

fn disk(word: &str) -> Option<(&'static str, &'static str)> {
    Some(match word {
        "below_reserve" => (
            "the disk has less free space than the reserve: new events are refused with 507, and \
             everything else goes on",
            "Free disk space, or lower finished_seconds and open_seconds in [retention] and \
             reload. The server goes on by itself.",
        ),
        "too_few_files" => (
            "the disk has too few free inodes: new events are refused with 507, and everything \
             else goes on",
            "Remove files that are not needed. The server goes on by itself.",
        ),
        "quota_exceeded" => (
            "the disk quota of the server's user is used up: new events are refused with 507, and \
             everything else goes on",
            "Raise the quota. The server goes on by itself.",
        ),
        "file_too_large" => (
            "a file is as large as the server may make it: new events are refused with 507, and \
             everything else goes on",
            "Raise the server's limit on the size of files (LimitFSIZE= of the systemd unit, \
             ulimit -f), and restart it.",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_failed_check_has_words_and_an_unknown_one_is_shown_too() {
        let checks = json!({
            "server": "ok", "disk": "below_reserve", "journal": "damaged", "moon": "new",
        });
        let found = problems(&checks);
        let about: Vec<_> = found.iter().map(|finding| finding.about.as_str()).collect();
        assert_eq!(about, ["disk", "journal", "moon"]);
        assert_eq!(found[2].what, "the check says new");
        for (check, words) in [
            ("server", &["starting", "stopping"][..]),
            ("data_dir", &["lost", "incomplete"]),
            ("disk", &["below_reserve", "too_few_files", "quota_exceeded", "file_too_large"]),
            ("state", &["unreadable"]),
            ("journal", &["damaged"]),
            ("intake", &["full"]),
        ] {
            assert!(words.iter().all(|word| known(check, word).is_some()), "{check}");
        }
    }
}
