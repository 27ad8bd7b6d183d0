//! `triggerd demo`: sends, delivers and pulls events on a real server, in a directory that is
//! removed afterwards. Each step prints the equivalent curl line.

pub mod receiver;

use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

use receiver::Receiver;

use super::Failure;
use super::answer::Answer;
use super::client::{Client, Method};
use super::output::{eprint, print_text};
use crate::app::App;
use crate::base::clock::Clock;
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::{io_words, os_words};
use crate::base::random;
use crate::base::threads::Signal;
use crate::config::Config;

/// Time limit for a step.
const PATIENCE: Duration = Duration::from_secs(15);
/// Time between two looks. The free tier takes 50 requests a second, which looks without a pause
/// would use up.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) fn run() -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let dir =
        std::env::temp_dir().join(format!("triggerd-demo-{}", u32::from_be_bytes(random::bytes())));
    let shown = show(&dir);
    if let Err(error) = std::fs::remove_dir_all(&dir) {
        let (dir, words) = (dir.display(), io_words(&error));
        eprint(&format!("triggerd: the directory {dir} could not be deleted: {words}"));
    }
    shown?;
    print_text(&format!(
        "\nThe demo took {:.1} s; its directory is deleted. To run a server of your own:\n",
        began.elapsed().as_secs_f64()
    ))?;
    print_text(
        "  triggerd serve                              # keeps everything under ./data, listens on \
         127.0.0.1:8080",
    )?;
    print_text(
        "  triggerd key create --org \"My company\"      # in another terminal: an organization \
         and its key\n",
    )?;
    print_text(
        "To run a service: the unit is systemd/triggerd.service, `triggerd config init` prints the \
         configuration, and docs/operations.md explains both.",
    )?;
    Ok(ExitCode::Clean)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(ExitCode::Failed, error)
}

fn show(dir: &std::path::Path) -> Result<(), Failure> {
    let data_dir = Value::String(dir.display().to_string());
    let config = Config::from_toml(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[storage]\ndata_dir = \
         {data_dir}\nsegment_bytes = 1048576\n\
         reserve_bytes = 1\n[egress]\nallow_networks = [\"127.0.0.0/8\"]\n"
    ));
    let app = App::start(config.map_err(failed)?, Clock::system()).map_err(failed)?;
    let receiver = Receiver::start().map_err(|error| {
        failed(format_args!("the receiver of the demo cannot be started: {}", os_words(&error)))
    })?;
    let url = format!("http://{}", app.address());
    let begin = [
        "triggerd demo: an event on its way from producer to consumer.\n".to_owned(),
        format!("1. A server listens on {url}, with its data in {}", dir.display()),
        format!("   A receiver, such as a consumer runs, listens on {}", receiver.url()),
    ];
    let walk = Walk { url, admin_token: app.admin_token().to_owned(), receiver };
    let walked = begin.iter().try_for_each(|text| print_text(text)).and_then(|()| walk.all());
    walk.receiver.stop();
    app.stop();
    walked
}

struct Walk {
    url: String,
    admin_token: String,
    receiver: Receiver,
}

impl Walk {
    fn all(&self) -> Result<(), Failure> {
        let pushed = self.key(2, "Pushed Inc.")?;
        let secret = self.endpoint(&pushed)?;
        self.push(&pushed, &secret)?;
        let pulled = self.key(5, "Pulled Ltd.")?;
        self.pull(&pulled)
    }

    /// Prints the step and its curl line, sends the request, and prints the answer.
    fn step(
        &self,
        title: &str,
        key: &str,
        (method, path): (Method, &str),
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        print_text(&format!(
            "\n{title}\n   $ curl -s -X {method} {}{path} \\\n       -H 'X-API-Key: {key}'{}",
            self.url,
            match body {
                Some(body) =>
                    format!(" \\\n       -H 'Content-Type: application/json' -d '{body}'"),
                None => String::new(),
            }
        ))?;
        let answer =
            Client::to(&self.url, key)?.call(method, path, body.map(Value::to_string), &[])?;
        print_text(&format!("   {}", answer.as_text()))?;
        Ok(answer)
    }

    fn key(&self, number: u8, organization: &str) -> Result<String, Failure> {
        let title = format!(
            "{number}. An organization, {organization:?}, and its first key (with the admin token \
             of the data directory)"
        );
        let body = json!({ "organization": organization, "tier": "free" });
        let made = self.step(
            &title,
            &self.admin_token,
            (Method::POST, "/api/keys/generate"),
            Some(&body),
        )?;
        text(&made, "key")
    }

    fn endpoint(&self, key: &str) -> Result<String, Failure> {
        let body = json!({ "url": self.receiver.url() });
        let title = "3. An endpoint: the URL that events of the organization are pushed to";
        let made = self.step(title, key, (Method::POST, "/api/webhook/config"), Some(&body))?;
        text(&made, "secret")
    }

    fn push(&self, key: &str, secret: &str) -> Result<(), Failure> {
        let body = json!({ "type": "order.created", "payload": { "order": 1017, "total": "45.47" },
        "dedup_id": "order-1017" });
        let title = "4. An event: on stable storage before the answer, then pushed";
        let sent = self.step(title, key, (Method::POST, "/api/events"), Some(&body))?;
        let id = text(&sent, "id")?;
        let received = self.receiver.wait_for(1, PATIENCE);
        let request =
            received.first().ok_or_else(|| failed("no request arrived at the receiver"))?;
        let bytes = secret
            .strip_prefix("whsec_")
            .map(|text| base64::engine::general_purpose::STANDARD.decode(text));
        let bytes = bytes
            .and_then(Result::ok)
            .ok_or_else(|| failed("the secret is not whsec_ and base64"))?;
        request
            .verify(&bytes, Clock::system().now_ms() / 1_000)
            .map_err(|error| failed(format!("{error:?}")))?;
        if request.id != id {
            return Err(failed("the webhook-id names another event"));
        }
        print_text(&format!("   The receiver got the event, attempt {}:", request.attempt))?;
        print_text(&format!(
            "     webhook-id: {}\n     webhook-timestamp: {}",
            request.id, request.timestamp
        ))?;
        print_text(&format!("     webhook-signature: {}   (verified)", request.signature))?;
        print_text(&format!("     {}", String::from_utf8_lossy(&request.body)))?;
        self.empty_inbox(key)
    }

    /// Waits until the delivered event has left the inbox, which happens when its delivery is
    /// settled.
    fn empty_inbox(&self, key: &str) -> Result<(), Failure> {
        let client = Client::to(&self.url, key)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let inbox = client.call(Method::GET, "/api/inbox", None, &["data"])?;
            if inbox.get("data").and_then(Value::as_array).is_some_and(Vec::is_empty) {
                print_text(
                    "   Every endpoint that matched accepted the event, so it has left the inbox:",
                )?;
                print_text(&format!(
                    "   $ curl -s {}/api/inbox -H 'X-API-Key: {key}'\n   {}",
                    self.url,
                    inbox.as_text()
                ))?;
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(failed("the delivered event is still in the inbox"));
            }
            Signal::new().wait(LOOK_EVERY);
        }
    }

    fn pull(&self, key: &str) -> Result<(), Failure> {
        let body = json!({ "type": "invoice.paid", "payload": { "invoice": 7 } });
        let sent = self.step(
            "6. An event of an organization without an endpoint waits in the inbox",
            key,
            (Method::POST, "/api/events"),
            Some(&body),
        )?;
        let id = text(&sent, "id")?;
        let inbox =
            self.step("7. The consumer pulls the event", key, (Method::GET, "/api/inbox"), None)?;
        let first = inbox
            .get("data")
            .and_then(|data| data.get(0))
            .ok_or_else(|| failed("the inbox is empty"))?;
        if text(first, "id")? != id {
            return Err(failed("the inbox shows another event"));
        }
        self.step(
            "8. … and acknowledges the event",
            key,
            (Method::POST, &format!("/api/ack/{id}")),
            None,
        )?;
        self.step("9. The inbox is empty again", key, (Method::GET, "/api/inbox"), None)?;
        Ok(())
    }
}

fn text(value: &Value, name: &str) -> Result<String, Failure> {
    let text = value.get(name).and_then(Value::as_str).map(str::to_owned);
    text.ok_or_else(|| failed(format!("the answer has no {name}: {value}")))
}
