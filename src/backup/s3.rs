//! The objects below a prefix of a bucket: reads and writes them in pieces of bounded size, with
//! bounded time limits and retries, and says in words why a store refuses. The only importer of the
//! `object_store` crate.
//!
//! The futures run on the thread that calls, so that no thread of the server waits for a store.

use std::future::Future;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Limited};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, MultipartUpload, ObjectStore as _,
    ObjectStoreExt as _, RetryConfig,
};
use tokio::runtime::Runtime;

use super::error::BackupError;
use super::s3_errors::{TooLong, says_no_bucket, says_no_range, told};
use crate::base::library_errors::os_words;
use crate::base::threads::Stop;
use crate::config::{S3Access, S3Url};

/// Bytes of a piece that is uploaded or downloaded with one request, and the maximum size of any
/// answer. Ten thousand pieces, the most in one object, are 160 GB.
const PIECE_BYTES: usize = 16 << 20;
/// Maximum size of an answer that refuses a request.
const REFUSAL_BYTES_MAX: usize = 1 << 20;
/// Number of pieces that an upload of known size has at most, with some to spare for data that the
/// compression makes longer.
const PIECES_MAX: u64 = 9_000;
/// Time limit of one request: 16 MiB at half a megabit per second.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(5);
/// Time limit of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of objects in a list.
const LISTED_MAX: usize = 1_000_000;
/// Longest name of an object of triggerd in a folder, and longest tag that is noted, in bytes.
const NAME_BYTES_MAX: usize = 100;
/// Number of retries of a request that failed, and the time after which there are none.
const RETRIES_MAX: usize = 4;
const RETRY_TIME_MAX: Duration = Duration::from_mins(2);
/// Maximum time to wait for an object or for the next one of a list, with all retries. Without this
/// limit, a list of empty pages would never end.
const WAIT_MAX: Duration = Duration::from_mins(10);
/// Time after a stop in which an upload that failed, or a manifest that must not stay, is removed.
const REMOVAL_GRACE: Duration = Duration::from_secs(2);

/// An object in a list.
pub(super) struct Listed {
    /// The name, without its folder.
    pub(super) name: String,
    /// The time of its last change by the clock of the store, in milliseconds.
    pub(super) changed_ms: i64,
    /// A text that is another one when the content is another one, if the store gives any.
    pub(super) tag: Option<String>,
}

/// The objects below a prefix of a bucket.
pub(super) struct Store {
    objects: AmazonS3,
    runtime: Runtime,
    /// The bucket and the prefix.
    pub(super) url: S3Url,
    /// The store, for messages.
    endpoint: String,
    /// Ends every wait for the store.
    stop: Stop,
}

impl Store {
    /// Prepares requests to a store. Sends none.
    ///
    /// # Errors
    /// The access is not usable, or there is no HTTP client.
    pub(super) fn new(url: &S3Url, access: S3Access, stop: Stop) -> Result<Self, BackupError> {
        let S3Access { endpoint, region, keys } = access;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| {
            let why = os_words(&error);
            BackupError::Store(format!("the runtime for HTTP cannot be created: {why}"))
        })?;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&url.bucket)
            .with_region(&region)
            .with_access_key_id(keys.id)
            .with_secret_access_key(keys.secret)
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .with_http_connector(Direct)
            .with_retry(retries());
        if let Some(token) = keys.token {
            builder = builder.with_token(token);
        }
        if let Some(endpoint) = &endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let shown = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let objects = builder.build().map_err(|error| told(&error, url, &shown))?;
        Ok(Self { objects, runtime, url: url.clone(), endpoint: shown, stop })
    }

    /// Returns the objects in this folder of the prefix.
    pub(super) fn list(&self, folder: &str) -> Result<Vec<Listed>, BackupError> {
        let key = self.key(folder);
        let mut listed = self.objects.list(Some(&key));
        let (mut found, mut read) = (Vec::new(), 0_usize);
        while let Some(object) = self.wait(listed.try_next())? {
            // A folder below may hold an object of the same name.
            let name = object
                .location
                .filename()
                .filter(|name| name.len() <= NAME_BYTES_MAX)
                .filter(|name| object.location == key.clone().join(*name));
            let name = name.map(str::to_owned);
            let tag = object.e_tag.filter(|tag| tag.len() <= NAME_BYTES_MAX);
            let changed_ms = object.last_modified.timestamp_millis();
            found.extend(name.map(|name| Listed { name, changed_ms, tag }));
            read += 1;
            if read > LISTED_MAX {
                let place = self.url.join(folder);
                let why = format!(
                    "{place} holds more than {LISTED_MAX} objects, or its list never \
                                   ends; give the backups a prefix of their own"
                );
                return Err(BackupError::Store(why));
            }
        }
        Ok(found)
    }

    /// Returns the content of an object, or none if there is no object of this name.
    pub(super) fn get(
        self: &Arc<Self>,
        name: &str,
        bytes_max: u64,
    ) -> Result<Option<Vec<u8>>, BackupError> {
        let Some(mut download) = self.open(name)? else { return Ok(None) };
        if download.bytes > bytes_max {
            let (place, bytes) = (self.url.join(name), download.bytes);
            return Err(BackupError::Damaged(format!("{place} has {bytes} bytes, too many")));
        }
        let mut content = Vec::new();
        download.read_to_end(&mut content).map_err(of_io)?;
        Ok(Some(content))
    }

    /// Writes a small object.
    pub(super) fn put(&self, name: &str, content: Vec<u8>) -> Result<(), BackupError> {
        self.wait(self.objects.put(&self.key(name), content.into())).map(drop)
    }

    /// Deletes an object. It may be gone already.
    pub(super) fn delete(&self, name: &str) -> Result<(), BackupError> {
        self.delete_within(name, Duration::ZERO)
    }

    /// Deletes an object that must not stay, also shortly after a stop.
    pub(super) fn withdraw(&self, name: &str) -> Result<(), BackupError> {
        self.delete_within(name, REMOVAL_GRACE)
    }

    fn delete_within(&self, name: &str, grace: Duration) -> Result<(), BackupError> {
        let key = self.key(name);
        let deleted = async {
            match self.objects.delete(&key).await {
                Err(error) if is_missing(&error) => Ok(()),
                other => other,
            }
        };
        self.wait_beyond_stop(deleted, grace)
    }

    /// Returns true if there is an object of this name. Reads nothing of it.
    pub(super) fn exists(&self, name: &str) -> Result<bool, BackupError> {
        let key = self.key(name);
        self.wait(async {
            match self.objects.head(&key).await {
                Err(error) if is_missing(&error) => Ok(false),
                head => head.map(|_| true),
            }
        })
    }

    /// Begins to write an object of about this size. The object appears when the upload is
    /// finished.
    pub(super) fn upload(self: &Arc<Self>, name: &str, bytes: u64) -> Upload {
        let least = usize::try_from(bytes.div_ceil(PIECES_MAX)).unwrap_or(usize::MAX);
        let piece_bytes = least.max(PIECE_BYTES);
        Upload {
            store: Arc::clone(self),
            key: self.key(name),
            piece: Vec::new(),
            piece_bytes,
            parts: None,
        }
    }

    /// Opens an object for reading, or returns none if there is no object of this name.
    pub(super) fn open(self: &Arc<Self>, name: &str) -> Result<Option<Download>, BackupError> {
        let key = self.key(name);
        let first = async {
            match self.piece(&key, 0..PIECE_BYTES as u64).await {
                Ok(found) => Ok(Some(found)),
                Err(error) if is_missing(&error) => Ok(None),
                // An empty object has no range.
                Err(error) if says_no_range(&error) => Ok(Some((0, Bytes::new()))),
                Err(error) => Err(error),
            }
        };
        let Some((bytes, piece)) = self.wait(first)? else { return Ok(None) };
        let at = piece.len() as u64;
        Ok(Some(Download { store: Arc::clone(self), key, bytes, at, piece }))
    }

    /// Reads a part of an object. Returns the length of the object, and the bytes.
    async fn piece(&self, key: &Key, range: Range<u64>) -> object_store::Result<(u64, Bytes)> {
        let options = GetOptions::new().with_range(Some(range));
        let found = self.objects.get_opts(key, options).await?;
        let (bytes, wanted) = (found.meta.size, found.range.end.saturating_sub(found.range.start));
        let (mut piece, mut stream) = (Vec::new(), found.into_stream());
        while piece.len() as u64 <= wanted
            && let Some(more) = stream.try_next().await?
        {
            piece.extend_from_slice(&more);
        }
        if piece.len() as u64 == wanted {
            return Ok((bytes, piece.into()));
        }
        let what = if (piece.len() as u64) < wanted { "fewer" } else { "more" };
        let source =
            format!("the store sent {what} bytes of an object than the {wanted} announced");
        Err(object_store::Error::Generic { store: "S3", source: source.into() })
    }

    fn key(&self, name: &str) -> Key {
        Key::from(self.url.join(name).prefix)
    }

    /// Waits for an answer of the store, or for the stop.
    fn wait<T>(
        &self,
        answer: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, BackupError> {
        self.wait_beyond_stop(answer, Duration::ZERO)
    }

    /// Waits for an answer of the store, at most so long after a stop.
    fn wait_beyond_stop<T>(
        &self,
        answer: impl Future<Output = object_store::Result<T>>,
        grace: Duration,
    ) -> Result<T, BackupError> {
        let grace_is_over = async {
            self.stop.stopped().await;
            tokio::time::sleep(grace).await;
        };
        let answered = self.runtime.block_on(async {
            tokio::select! {
                answered = answer => Ok(answered),
                () = grace_is_over => Err("the server stops".to_owned()),
                () = tokio::time::sleep(WAIT_MAX) => {
                    let (store, seconds) = (&self.endpoint, WAIT_MAX.as_secs());
                    Err(format!("the store {store} did not answer fully within {seconds} s"))
                }
            }
        });
        match answered {
            Ok(answered) => answered.map_err(|error| told(&error, &self.url, &self.endpoint)),
            Err(why) => Err(BackupError::Store(why)),
        }
    }
}

/// Returns true if the object is missing, and not its bucket.
fn is_missing(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) && !says_no_bucket(error)
}

/// Connects to the store of the configuration only. An answer that names another place is an error:
/// the request would carry the session token there.
#[derive(Debug)]
struct Direct;

impl HttpConnector for Direct {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(REQUEST_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .build();
        let failed = |error| object_store::Error::Generic { store: "S3", source: Box::new(error) };
        client.map(|client| HttpClient::new(Bounded(client))).map_err(failed)
    }
}

/// Cuts off every answer that is longer than any that was asked for: `object_store` reads answers
/// whole, and a store may send one without an end.
#[derive(Debug)]
struct Bounded(reqwest::Client);

impl HttpService for Bounded {
    // The macro `async_trait` gives the method of the trait this form.
    fn call<'a, 'f>(
        &'a self,
        request: HttpRequest,
    ) -> BoxFuture<'f, Result<HttpResponse, HttpError>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let answer = self.0.call(request).await?;
            let is_good = answer.status().is_success();
            let bytes_max = if is_good { PIECE_BYTES } else { REFUSAL_BYTES_MAX };
            Ok(answer.map(|body| bounded(body, bytes_max)))
        })
    }
}

fn bounded(body: HttpResponseBody, bytes_max: usize) -> HttpResponseBody {
    let body = Limited::new(body, bytes_max).map_err(move |error| {
        let too_long = |_| HttpError::new(HttpErrorKind::Decode, TooLong(bytes_max));
        error.downcast::<HttpError>().map_or_else(too_long, |error| *error)
    });
    HttpResponseBody::new(body)
}

fn retries() -> RetryConfig {
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(10), ..Default::default() };
    RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_TIME_MAX }
}

/// Returns the error of the store in an error of reading or writing; another one is damage.
pub(super) fn of_io(error: io::Error) -> BackupError {
    match error.downcast::<BackupError>() {
        Ok(error) => error,
        Err(error) => BackupError::Damaged(error.to_string()),
    }
}

/// An object that is being written. A short one is written by one request at the end. Without an
/// end, no object appears.
pub(super) struct Upload {
    store: Arc<Store>,
    key: Key,
    piece: Vec<u8>,
    piece_bytes: usize,
    /// The upload of a long object in parts.
    parts: Option<Box<dyn MultipartUpload>>,
}

impl Upload {
    /// Writes the rest, and lets the object appear.
    pub(super) fn finish(mut self) -> Result<(), BackupError> {
        if self.parts.is_none() {
            let piece = std::mem::take(&mut self.piece);
            return self.store.wait(self.store.objects.put(&self.key, piece.into())).map(drop);
        }
        if !self.piece.is_empty() {
            self.send()?;
        }
        let Some(parts) = &mut self.parts else { return Ok(()) };
        self.store.wait(parts.complete())?;
        self.parts = None;
        Ok(())
    }

    /// Sends a piece as a part of a long object.
    fn send(&mut self) -> Result<(), BackupError> {
        let parts = if let Some(parts) = &mut self.parts {
            parts
        } else {
            let begun = self.store.objects.put_multipart(&self.key);
            self.parts.insert(self.store.wait(begun)?)
        };
        let piece = std::mem::take(&mut self.piece);
        self.store.wait(parts.put_part(piece.into()))
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Full pieces only: some stores want all parts but the last to have the same size.
        if self.piece.len() >= self.piece_bytes {
            self.send().map_err(io::Error::other)?;
        }
        let room = self.piece_bytes.saturating_sub(self.piece.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.piece.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(parts) = &mut self.parts
            && let Err(error) = self.store.wait_beyond_stop(parts.abort(), REMOVAL_GRACE)
        {
            tracing::debug!(%error, "the parts of an upload that failed could not be removed");
        }
    }
}

/// An object that is being read, one piece at a time.
pub(super) struct Download {
    store: Arc<Store>,
    key: Key,
    bytes: u64,
    at: u64,
    piece: Bytes,
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && self.at < self.bytes {
            let end = self.bytes.min(self.at + PIECE_BYTES as u64);
            let piece = self.store.piece(&self.key, self.at..end);
            (_, self.piece) = self.store.wait(piece).map_err(io::Error::other)?;
            self.at = end;
        }
        let count = buffer.len().min(self.piece.len());
        self.piece.split_to(count).as_ref().read(buffer)
    }
}

#[cfg(test)]
#[path = "s3_tests.rs"]
mod tests;
