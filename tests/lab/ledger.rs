//! The knowledge of the load client: a file with a line for each event before it is sent, and a
//! line for each acknowledgement after its whole answer was read. The checker reads only this file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::random::Random;

/// Writes the file, shared by all clients of a load.
pub(crate) struct Ledger {
    path: PathBuf,
    file: Mutex<File>,
    dark: Arc<AtomicBool>,
    acknowledgements: AtomicU64,
}

/// An event to send. The tag and the size determine the payload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sent {
    /// Names the event for the lab; begins with the organization. A tag that ends in `d` is also
    /// the dedup id.
    pub(crate) tag: String,
    /// Size of the payload in bytes.
    pub(crate) bytes: usize,
}

impl Sent {
    pub(crate) fn dedup_id(&self) -> Option<&str> {
        self.tag.ends_with('d').then_some(&self.tag)
    }

    /// Returns JSON of `bytes` bytes, but at least the bare members. Each tag has another payload.
    pub(crate) fn payload(&self) -> String {
        let mut random = Random::of(7, &self.tag);
        let block: String =
            (0..61).map(|_| char::from(b'a' + u8::try_from(random.below(26)).unwrap())).collect();
        let mut payload = format!("{{\"tag\":\"{}\",  \"fill\":\"", self.tag);
        let fill = self.bytes.saturating_sub(payload.len() + 2);
        payload.push_str(&block.repeat(fill / block.len() + 1)[..fill]);
        payload.push_str("\"}");
        payload
    }
}

/// The content of the file, as the checker sees it.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Payload size by tag, of all events ever sent.
    pub(crate) sent: BTreeMap<String, usize>,
    /// Event id by tag, of all acknowledged events.
    pub(crate) stored: BTreeMap<String, String>,
    /// Events of which a confirmation was sent.
    pub(crate) confirming: BTreeSet<String>,
    /// Events whose confirmation was acknowledged.
    pub(crate) confirmed: BTreeSet<String>,
    /// All keys handed out so far.
    pub(crate) keys: BTreeSet<String>,
    /// The last URL that was set for the endpoint.
    pub(crate) endpoint: Option<String>,
}

impl Ledger {
    pub(crate) fn new(path: &Path) -> Self {
        let file = Mutex::new(File::create(path).unwrap());
        Self {
            path: path.to_owned(),
            file,
            dark: Arc::default(),
            acknowledgements: AtomicU64::new(0),
        }
    }

    fn note(&self, line: &str) {
        // Each line is a single write: readers see whole lines.
        self.file.lock().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Set while the power is off. An answer in the dark is no acknowledgement: on a cut filesystem
    /// a sync can succeed and write nothing (ext4 forgets that an extent could not be marked as
    /// written), and a machine without power answers nobody.
    pub(crate) fn dark(&self) -> &Arc<AtomicBool> {
        &self.dark
    }

    fn acknowledged(&self, line: &str) {
        if !self.dark.load(Ordering::SeqCst) {
            self.note(line);
            self.acknowledgements.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Returns the number of acknowledgements.
    pub(crate) fn acknowledgements(&self) -> u64 {
        self.acknowledgements.load(Ordering::SeqCst)
    }

    pub(crate) fn sending(&self, sent: &Sent) {
        self.note(&format!("send {} {}", sent.tag, sent.bytes));
    }

    pub(crate) fn stored(&self, tag: &str, id: &str) {
        self.acknowledged(&format!("stored {tag} {id}"));
    }

    pub(crate) fn confirming(&self, id: &str) {
        self.note(&format!("confirm {id}"));
    }

    pub(crate) fn confirmed(&self, id: &str) {
        self.acknowledged(&format!("confirmed {id}"));
    }

    pub(crate) fn key(&self, key: &str) {
        self.acknowledged(&format!("key {key}"));
    }

    pub(crate) fn endpoint(&self, url: &str) {
        self.acknowledged(&format!("endpoint {url}"));
    }

    pub(crate) fn read(&self) -> History {
        let mut history = History::default();
        for line in std::fs::read_to_string(&self.path).unwrap().lines() {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["send", tag, bytes] => {
                    history.sent.insert(tag.to_owned(), bytes.parse().unwrap());
                }
                ["stored", tag, id] => {
                    let before = history.stored.insert(tag.to_owned(), id.to_owned());
                    assert!(
                        before.is_none_or(|before| before == id),
                        "{tag} was acknowledged as two events"
                    );
                }
                ["confirm", id] => drop(history.confirming.insert(id.to_owned())),
                ["confirmed", id] => drop(history.confirmed.insert(id.to_owned())),
                ["key", key] => drop(history.keys.insert(key.to_owned())),
                ["endpoint", url] => history.endpoint = Some(url.to_owned()),
                _ => panic!("the ledger has no such line: {line}"),
            }
        }
        history
    }
}

impl History {
    /// Returns the unacknowledged events with a dedup id, for the next load to send again, as a
    /// producer does.
    pub(crate) fn unanswered(&self) -> Vec<Sent> {
        let unanswered = self.sent.iter().filter(|(tag, _)| !self.stored.contains_key(*tag));
        let sent = unanswered.map(|(tag, bytes)| Sent { tag: tag.clone(), bytes: *bytes });
        sent.filter(|sent| sent.dedup_id().is_some()).collect()
    }
}
