//! A store with the interface of Amazon S3, as its own program: moto. Needs Python; see `python`.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::{Arc, OnceLock, mpsc};

use reqwest::Method;

use crate::harness::{Client, until};
use crate::python::installed;

/// The bucket of a store.
pub(crate) const BUCKET: &str = "backups-of-tests";
/// The header of a request that somebody has signed. The store does not check the signature.
const SIGNED: (&str, &str) = (
    "Authorization",
    "AWS4-HMAC-SHA256 Credential=A/20260101/eu-central-1/s3/aws4_request, SignedHeaders=host, \
     Signature=0",
);

/// A running store with an empty bucket. Ends with the value.
pub(crate) struct S3Store {
    process: Child,
    client: Client,
    _dir: tempfile::TempDir,
}

impl S3Store {
    /// Starts a store. The error says why there is none.
    pub(crate) fn start(checks_keys: bool) -> Result<Self, String> {
        let program = installed("moto")?.join("bin/moto_server");
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        // A number of requests whose credentials are not checked: the one that makes the bucket.
        let unchecked = if checks_keys { "1" } else { "inf" };
        let process = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .env("INITIAL_NO_AUTH_ACTION_COUNT", unchecked)
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let url = until(|| {
            let text = std::fs::read_to_string(&log).unwrap();
            let (_, rest) = text.split_once("Running on ")?;
            Some(rest.split_once('\n')?.0.trim().to_owned())
        });
        let client = Client::new(&url, "");
        assert_eq!(client.request(Method::PUT, &format!("/{BUCKET}"), &[], "").status, 200);
        Ok(Self { process, client, _dir: dir })
    }

    pub(crate) fn url(&self) -> String {
        self.client.url.clone()
    }

    /// The keys of all objects, in their order.
    pub(crate) fn keys(&self) -> Vec<String> {
        let listed = self.client.get(&format!("/{BUCKET}?list-type=2")).text;
        let keys = listed.split("<Key>").skip(1).filter_map(|rest| rest.split('<').next());
        keys.map(str::to_owned).collect()
    }

    /// The keys of the objects whose key has this part.
    pub(crate) fn keys_with(&self, part: &str) -> Vec<String> {
        self.keys().into_iter().filter(|key| key.contains(part)).collect()
    }

    pub(crate) fn put(&self, key: &str, content: &str) {
        let path = format!("/{BUCKET}/{key}");
        assert_eq!(self.client.request(Method::PUT, &path, &[SIGNED], content).status, 200);
    }

    /// The content of an object that is a text.
    pub(crate) fn get(&self, key: &str) -> String {
        let answer = self.client.request(Method::GET, &format!("/{BUCKET}/{key}"), &[SIGNED], "");
        assert_eq!(answer.status, 200);
        answer.text
    }

    /// Replaces the content of an object by that of another one.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        let source = format!("/{BUCKET}/{from}");
        let headers = [SIGNED, ("x-amz-copy-source", &source)];
        let path = format!("/{BUCKET}/{to}");
        assert_eq!(self.client.request(Method::PUT, &path, &headers, "").status, 200);
    }

    pub(crate) fn delete(&self, key: &str) {
        let path = format!("/{BUCKET}/{key}");
        assert_eq!(self.client.request(Method::DELETE, &path, &[SIGNED], "").status, 204);
    }
}

impl Drop for S3Store {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A way to a store that passes requests on, but holds those with a text until they are released.
pub(crate) struct Stuck {
    pub(crate) url: String,
    held: mpsc::Receiver<()>,
    released: Arc<OnceLock<()>>,
}

impl Stuck {
    pub(crate) fn before(store: &S3Store, text: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let to = store.url().replace("http://", "");
        let (sender, held) = mpsc::channel();
        let released = Arc::new(OnceLock::new());
        let go = Arc::clone(&released);
        std::thread::spawn(move || {
            for from in listener.incoming().map_while(Result::ok) {
                let (to, sender, go) = (to.clone(), sender.clone(), Arc::clone(&go));
                std::thread::spawn(move || pass(from, &to, text, (&sender, &go)));
            }
        });
        Self { url, held, released }
    }

    /// Waits until a request is held.
    pub(crate) fn wait(&self) {
        self.held.recv().unwrap();
    }

    /// Passes on what is held, and holds nothing any more.
    pub(crate) fn release(&self) {
        self.released.set(()).unwrap();
    }
}

/// Passes a connection on, and holds it open from the text on.
fn pass(
    mut from: TcpStream,
    to: &str,
    text: &str,
    (held, released): (&mpsc::Sender<()>, &OnceLock<()>),
) {
    let mut to = TcpStream::connect(to).unwrap();
    let (mut back, mut answers) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    std::thread::spawn(move || drop(std::io::copy(&mut answers, &mut back)));
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer).unwrap_or_default();
        let piece = &buffer[..count];
        let is_awaited = piece.windows(text.len()).any(|part| part == text.as_bytes());
        if is_awaited && released.get().is_none() {
            held.send(()).unwrap();
            released.wait();
        }
        if count == 0 || to.write_all(piece).is_err() {
            drop(to.shutdown(Shutdown::Both));
            return;
        }
    }
}
