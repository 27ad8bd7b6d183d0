//! Failures of requests without a valid answer of triggerd.

use serde_json::Value;

use super::{CONNECT_TIMEOUT, Client, Doubt, Head, cause};
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::{system_words, tls_fault};
use crate::cli::Failure;
use crate::cli::answer::lenient_text;
use crate::cli::output::visible;
use crate::model::time::IN_A_URL;

/// Number of characters shown of an answer that is not triggerd's.
const EXCERPT_CHARS: usize = 200;
/// The beginning of the detail of a server that does not know the route.
const NO_ROUTE: &str = "there is no route";
/// The options by which people give members and parameters of the API.
const OPTIONS: [(&str, &str); 10] = [
    ("action", "--action"),
    ("dedup_id", "--dedup-id"),
    ("endpoint_id", "--endpoint"),
    ("event_types", "--type"),
    ("expires_at", "--expires-at"),
    ("organization", "--org"),
    ("organization_id", "--org"),
    ("scopes", "--scope"),
    ("since", "--since"),
    ("until", "--until"),
];
/// Advice for an answer of another program.
const IS_IT_OURS: &str =
    "Check that this is the URL of triggerd, with the prefix if a proxy adds a prefix.";

/// Failures without a valid answer: each message says the fault, the place and the remedy.
impl Client {
    pub(super) fn no_answer(&self, error: &reqwest::Error, doubt: Doubt) -> Failure {
        let cause = cause(error);
        let (what, help) = self.words(error, &cause);
        let help = help.unwrap_or(match doubt {
            Doubt::None => "Try again.",
            Doubt::Event => {
                "So it is unknown whether the event was accepted. With --dedup-id it is safe to \
                 send the event again."
            }
            Doubt::Change => {
                "So it is unknown whether the change was made. Check before you \
                repeat the command."
            }
        });
        let Self { shown, url_origin, .. } = self;
        Failure::new(
            ExitCode::Failed,
            format!("no answer from {shown} ({url_origin}): {}. {help}", visible(&what)),
        )
    }

    /// The cause of a missing answer, and advice. Advice that depends on the request is left to the
    /// caller.
    pub(super) fn words(
        &self,
        error: &reqwest::Error,
        cause: &str,
    ) -> (String, Option<&'static str>) {
        let has = |word: &str| cause.contains(word);
        let said = system_words(cause).to_owned();
        if error.is_timeout() {
            let within = if error.is_connect() { CONNECT_TIMEOUT } else { self.patience }.as_secs();
            let what = if error.is_connect() { "no connection" } else { "no answer" };
            (
                format!("{what} within {within} s"),
                Some("Check the address and the health of the server."),
            )
        } else if has("onnection refused") {
            let help = "No server listens at this address. Start the server (`triggerd serve`), \
                or give its address with --url or TRIGGERD_URL.";
            (said, Some(help))
        } else if has("lookup") || has("not known") || has("resolve") {
            (
                format!("the name of the host cannot be resolved ({said})"),
                Some("Check its spelling."),
            )
        } else if let Some(fault) = tls_fault(cause) {
            let is_plain = fault.contains("does not speak");
            (
                fault.to_owned(),
                Some(if is_plain {
                    "Try http:// instead of https://."
                } else {
                    "Check the host in the URL."
                }),
            )
        } else if has("ertificate") {
            (
                format!("the server's certificate is not accepted ({said})"),
                Some("Check the host in the URL."),
            )
        } else {
            broken_off(error, cause)
        }
    }

    /// The message of a problem document, with all its faults.
    pub(super) fn refusal(&self, head: &Head, text: &str) -> Failure {
        let problem = lenient_text(text).unwrap_or_default();
        let member = |name: &str| problem.get(name).and_then(Value::as_str).map(visible);
        let Some(code) = member("code") else { return self.foreign(head, text) };
        let mut message = member("detail")
            .or(member("title"))
            .unwrap_or("the server refused".into())
            .into_owned();
        if code == "not_found" && message.starts_with(NO_ROUTE) {
            message = format!("{} ({}): {message}. {IS_IT_OURS}", self.shown, self.url_origin);
        }
        match problem.get("errors").and_then(Value::as_array).map_or(&[][..], Vec::as_slice) {
            // The detail of the problem has the only fault, and says so if it is none of a member.
            [only] if !fault_text(only, "pointer").is_empty() => message = fault_in_words(only),
            [] | [_] => {}
            faults => {
                let lines = faults.iter().map(|fault| format!("\n  {}", fault_in_words(fault)));
                message.extend(lines);
            }
        }
        if head.status == 401 {
            message = self.unauthorized();
        }
        let request = member("request_id").unwrap_or("unknown".into());
        Failure::new(
            ExitCode::Failed,
            format!("{message} ({} {code}, request {request})", head.status),
        )
    }

    fn unauthorized(&self) -> String {
        let Self { shown, key_origin, key_noun: noun, url_origin, .. } = self;
        format!(
            "{shown} ({url_origin}) does not accept the {noun} from {key_origin}: this server has \
             another {noun}, or the {noun} has expired or was revoked. Check the {noun} and the URL"
        )
    }

    /// The failure for an answer that is longer than any of triggerd's.
    pub(super) fn too_long(&self, bytes: usize) -> Failure {
        let Self { shown, url_origin, .. } = self;
        let message = format!(
            "the answer of {shown} ({url_origin}) has more than {bytes} bytes, which is more than \
             triggerd answers. {IS_IT_OURS}"
        );
        Failure::new(ExitCode::Failed, message)
    }

    /// The failure for an answer of another program.
    pub(super) fn foreign(&self, head: &Head, text: &str) -> Failure {
        let Self { shown, url_origin, .. } = self;
        let Head { status, content_type, .. } = head;
        let said = visible(text.trim()).chars().take(EXCERPT_CHARS).collect::<String>();
        let said = if said.is_empty() { String::new() } else { format!(", saying: {said}") };
        let what = if content_type.is_empty() {
            String::new()
        } else {
            format!(" with {}", visible(content_type))
        };
        let help = advice(head);
        let message = format!(
            "{shown} ({url_origin}) answers {status}{what}, which is not an answer of \
             triggerd{said}\n{help}"
        );
        Failure::new(ExitCode::Failed, message)
    }
}

/// Names a fault of a request by the option that a person typed, if there is one.
fn fault_in_words(fault: &Value) -> String {
    let (pointer, detail) = (fault_text(fault, "pointer"), fault_text(fault, "detail"));
    let name = pointer.trim_start_matches(['/', '?']).split('/').next();
    let option = OPTIONS.iter().find(|(member, _)| Some(*member) == name);
    let named = option.map_or(pointer, |(_, option)| option);
    format!("{}: {}", visible(named), visible(&detail.replace(IN_A_URL, "")))
}

fn fault_text<'a>(fault: &'a Value, name: &str) -> &'a str {
    fault.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Advice by the status and the headers of another program's answer.
fn advice(head: &Head) -> String {
    let Head { status, location, challenge, .. } = head;
    if (300..400).contains(status) && !location.is_empty() {
        format!(
            "The server redirects to {}. A redirect is not followed, because the key would go with \
             it; give the right URL.",
            visible(location)
        )
    } else if challenge.to_ascii_lowercase().starts_with("basic") {
        "A proxy asks for a password; put the password into the URL: \
         https://user:password@host."
            .to_owned()
    } else if *status >= 500 {
        "A proxy in front of triggerd may be unable to reach the server.".to_owned()
    } else {
        match status {
            413 => "A proxy in front of triggerd may limit the size of a body.",
            429 => "A proxy in front of triggerd may limit the rate; try again later.",
            401 | 403 => {
                "A proxy in front of triggerd may refuse the request, or the URL belongs to \
                 another program."
            }
            _ => IS_IT_OURS,
        }
        .to_owned()
    }
}

/// The cause of a connection that cannot be established or was lost for any other reason, and
/// advice.
fn broken_off(error: &reqwest::Error, cause: &str) -> (String, Option<&'static str>) {
    let has = |word: &str| cause.contains(word);
    let said = system_words(cause);
    if error.is_connect() {
        (format!("the connection could not be established ({said})"), Some("Check the address."))
    } else if has("invalid HTTP") {
        (
            "the server does not speak HTTP at this address".to_owned(),
            Some("If it speaks TLS, try https://."),
        )
    } else if ["message completed", "unexpected end", "end of file", "onnection reset"]
        .iter()
        .any(|word| has(word))
    {
        (
            "the server, or a proxy before it, closed the connection before the whole answer came"
                .to_owned(),
            None,
        )
    } else {
        (format!("the connection was lost ({said})"), None)
    }
}
