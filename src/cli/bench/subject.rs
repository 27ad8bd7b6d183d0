//! The server under measurement: started for the benchmark, or already running.

use std::io;
use std::net::ToSocketAddrs as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::load::Load;
use super::request::Shape;
use super::scrape::Scrape;
use super::server::{Server, TIER, Usage, own_cpu_time};
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::system_words;
use crate::base::random;
use crate::cli::Failure;
use crate::cli::client::{Client, Method};
use crate::cli::target::{Credential, Target};
use crate::config::Config;

/// A server, an organization's key, and the load for them.
pub(super) struct Subject {
    client: Client,
    pub(super) load: Load,
    /// Absent if the server ran already; then only `/metrics` describes it.
    pub(super) server: Option<Server>,
}

/// All measurable figures at one moment.
pub(super) struct Moment {
    pub(super) scrape: Scrape,
    pub(super) usage: Option<Usage>,
    pub(super) own_cpu: Option<Duration>,
}

impl Subject {
    /// Starts a server with these settings below `dir`, and creates an organization.
    pub(super) fn start(
        config: &Config,
        dir: &Path,
        payload_bytes: usize,
        batch: u32,
    ) -> Result<Self, Failure> {
        let server = Server::start(config.clone(), dir)?;
        let admin = Client::to(&server.url, &server.admin_token()?)?;
        let body = json!({ "organization": "Bench", "tier": TIER.name() }).to_string();
        let made = admin.call(Method::POST, "/api/keys/generate", Some(body), &["key"])?;
        let key = made.get("key").and_then(Value::as_str).unwrap_or_default().to_owned();
        let credential = Credential::key(key, "its own");
        let target = Target::parse(&server.url, "its own address")?;
        let subject = Self::reach(target, credential, payload_bytes, batch)?;
        Ok(Self { server: Some(server), ..subject })
    }

    /// Connects to a server that runs already.
    pub(super) fn reach(
        target: Target,
        credential: Credential,
        payload_bytes: usize,
        batch: u32,
    ) -> Result<Self, Failure> {
        let Target { url: parsed, origin } = &target;
        let usage = |error: &dyn std::fmt::Display| {
            Failure::new(ExitCode::Usage, format!("{origin}: {error}"))
        };
        let plain = parsed.scheme() == "http" && parsed.path() == "/";
        let (Some(host), true) = (parsed.host_str(), plain) else {
            return Err(usage(
                &"must be http://HOST:PORT, because bench measures the server without a proxy or \
                    TLS",
            ));
        };
        let port = parsed.port_or_known_default().unwrap_or(80);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found = (bare, port)
            .to_socket_addrs()
            .and_then(|mut found| found.next().ok_or(io::ErrorKind::NotFound.into()));
        let address = found.map_err(|error| {
            usage(&format_args!(
                "the name of the host cannot be resolved ({})",
                system_words(&error.to_string())
            ))
        })?;
        let host = format!("{host}:{port}");
        let run = u64::from_be_bytes(random::bytes());
        let key = credential.text.clone();
        let client = Client::new(target, credential)?;
        let load = Load::new(Shape { address, host, key, payload_bytes, batch, run });
        Ok(Self { client, load, server: None })
    }

    /// Posts one event, which checks the key and fills the server's key cache.
    pub(super) fn knock(&self) -> Result<(), Failure> {
        let body = json!({ "type": "bench.hello", "payload": {} }).to_string();
        self.client.call(Method::POST, "/api/events", Some(body), &["id"]).map(drop)
    }

    /// Creates an endpoint with this URL for the organization's events.
    pub(super) fn push_to(&self, url: &str) -> Result<(), Failure> {
        self.client
            .call(
                Method::POST,
                "/api/webhook/config",
                Some(json!({ "url": url }).to_string()),
                &["id"],
            )
            .map(drop)
    }

    /// Deletes the endpoint of [`Self::push_to`].
    pub(super) fn push_nowhere(&self) -> Result<(), Failure> {
        self.client.delete("/api/webhook/config")
    }

    pub(super) fn look(&self) -> Result<Moment, Failure> {
        let scrape = Scrape::read(&self.client.text("/metrics")?);
        let usage = self.server.as_ref().and_then(Server::usage);
        Ok(Moment { scrape, usage, own_cpu: own_cpu_time() })
    }
}
