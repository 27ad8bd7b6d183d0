//! Output of the commands. Every command prints through this module: an output that cannot be
//! written is an error, and foreign text (payloads, types, names, a receiver's or server's answer)
//! is made visible, so that the terminal does not interpret it.

use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal as _, Write as _};

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};

use super::Failure;
use super::form::Form;
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::os_words;
use crate::config::allows_colours;

/// Major and minor device number of `/dev/null` on Linux.
const NULL_DEVICE: (u32, u32) = (1, 3);

/// The tone of a part of a line, which is a colour on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Heading,
    Good,
    Bad,
    Waiting,
}

impl Tone {
    /// The escape sequence that begins the tone on a terminal (ECMA-48, SGR).
    fn begin(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Heading => "\u{1b}[1m",
            Self::Good => "\u{1b}[32m",
            Self::Bad => "\u{1b}[31m",
            Self::Waiting => "\u{1b}[33m",
        }
    }
}

/// The escape sequence that ends every tone.
const TONE_END: &str = "\u{1b}[0m";

/// Prints one line. No character of it ends the line or controls the terminal.
///
/// # Errors
/// If the line cannot be written. If the reader has closed the pipe (`| head`), the command ends
/// silently with exit code 0.
pub(super) fn print(line: &str) -> Result<(), Failure> {
    write_line(line).map_err(|error| of_output(&error))
}

/// Prints a line of parts, each in its tone if standard output is a terminal with colours.
pub(super) fn print_parts<'a>(
    parts: impl Iterator<Item = (Cow<'a, str>, Tone)>,
) -> Result<(), Failure> {
    let is_coloured = std::io::stdout().is_terminal() && allows_colours();
    let mut line = String::new();
    for (text, tone) in parts {
        let text = visible(&text);
        if is_coloured && tone != Tone::Plain {
            line.extend([tone.begin(), text.as_ref(), TONE_END]);
        } else {
            line.push_str(&text);
        }
    }
    write_bytes(format!("{}\n", line.trim_end()).as_bytes()).map_err(|error| of_output(&error))
}

/// Prints a document of triggerd's own, such as a script for a shell, byte for byte.
pub(super) fn print_document(document: &[u8]) -> Result<(), Failure> {
    require_a_reader()?;
    write_bytes(document).map_err(|error| of_output(&error))
}

/// Returns the failure of a command whose output cannot be written.
fn of_output(error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::new(ExitCode::Clean, ""),
        _ => Failure::new(ExitCode::Failed, unwritten(error)),
    }
}

/// Prints triggerd's own text, which may have several lines.
pub(super) fn print_text(text: &str) -> Result<(), Failure> {
    text.split('\n').try_for_each(print)
}

/// Prints a JSON text as one line.
pub(super) fn print_json(text: &str) -> Result<(), Failure> {
    print(&one_line(text))
}

/// Prints the result of a change. The change remains if the line cannot be written: then the error
/// reports the change.
pub(super) fn print_done(line: &str, done: &str) -> Result<(), Failure> {
    print(line).map_err(|failure| match failure.code {
        ExitCode::Clean => failure,
        code => Failure::new(code, format!("{}. {done}", failure.message)),
    })
}

/// Prints the result of a change: its JSON for programs, or what is said to people, without a
/// period.
pub(super) fn print_change(form: Form, json: &str, said: &str) -> Result<ExitCode, Failure> {
    let line = if form.is_json() { one_line(json) } else { said.to_owned() };
    print_done(&line, &format!("{said}.")).map(|()| ExitCode::Clean)
}

/// Prints a secret that is shown only once.
///
/// # Errors
/// The error of the operating system, also if the reader has closed the pipe: then nobody has the
/// secret.
pub(super) fn print_secret(lines: &[String]) -> Result<(), String> {
    lines.iter().try_for_each(|line| write_line(line)).map_err(|error| unwritten(&error))
}

/// Refuses to show something if standard output is closed. A command that is asked for a change or
/// for a verdict does without a reader, because the change or the exit code is its result.
pub(super) fn require_a_reader() -> Result<(), Failure> {
    refuse_if_closed("so nothing can be shown; to discard the output, write > /dev/null")
}

/// Refuses to create a secret that nobody could see.
pub(super) fn require_a_reader_of_secrets() -> Result<(), Failure> {
    refuse_if_closed("so the secret cannot be shown; nothing was created")
}

/// If standard output is closed, a Rust program opens `/dev/null` for reading and writing in its
/// place at the start, and a write succeeds.
fn refuse_if_closed(consequence: &str) -> Result<(), Failure> {
    let stdout = std::io::stdout();
    let is_null = fstat(&stdout).is_ok_and(|facts| {
        FileType::from_raw_mode(facts.st_mode) == FileType::CharacterDevice
            && (rustix::fs::major(facts.st_rdev), rustix::fs::minor(facts.st_rdev)) == NULL_DEVICE
    });
    let access = fcntl_getfl(&stdout).map(|flags| flags & OFlags::RWMODE);
    if is_null && access == Ok(OFlags::RDWR) {
        let message = format!("standard output is closed, {consequence}");
        return Err(Failure::new(ExitCode::Failed, message));
    }
    Ok(())
}

/// Prints each line of a message on standard error. A write error is ignored, because it could not
/// be reported.
pub(super) fn eprint(message: &str) {
    for line in message.lines() {
        drop(writeln!(std::io::stderr().lock(), "{}", visible(line)));
    }
}

/// Prints a remark about the output on standard error, if a person reads it there.
pub(super) fn remark(message: &str) {
    if std::io::stderr().is_terminal() {
        eprint(message);
    }
}

/// Asks a question on standard error and reads the answer from standard input. Returns no answer if
/// nobody is there to be asked: one of the two is no terminal.
///
/// # Errors
/// The question cannot be written, or the answer cannot be read.
pub(super) fn ask(question: &str) -> std::io::Result<Option<String>> {
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        return Ok(None);
    }
    write!(stderr, "{}", visible(question))?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.read_line(&mut answer)?;
    Ok(Some(answer))
}

fn write_line(line: &str) -> std::io::Result<()> {
    write_bytes(format!("{}\n", visible(line)).as_bytes())
}

fn write_bytes(bytes: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Describes an error of standard output.
pub(super) fn unwritten(error: &std::io::Error) -> String {
    format!("standard output cannot be written: {}", os_words(error))
}

/// Returns a number with its noun, such as "1 event" and "2 events".
pub(super) fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Returns a duration such as "0.012 s".
pub(super) fn seconds(took_ms: u128) -> String {
    format!("{}.{:03} s", took_ms / 1_000, took_ms % 1_000)
}

/// Returns a JSON text without line breaks. Raw line breaks can only be between tokens.
pub(super) fn one_line(json: &str) -> String {
    json.trim().replace(['\n', '\r', '\t'], " ")
}

/// Returns the text with every control or invisible character in the form `\u001b`. In a JSON text
/// such characters are only in strings (except line breaks, see [`one_line`]), so the result is the
/// same JSON.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            _ if is_hidden(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    shown.push_str("\\u");
                    let digits = [12, 8, 4, 0].map(|shift| u32::from(*unit >> shift) & 15);
                    shown
                        .extend(digits.into_iter().filter_map(|digit| char::from_digit(digit, 16)));
                }
            }
            _ => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// True for control characters (C0, DEL, C1), line and paragraph separators, and Unicode's format
/// and default-ignorable characters: bidirectional overrides and isolates, joiners, zero-width
/// spaces, fillers, variation selectors, tags.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' |
            '\u{890}'..='\u{891}'
            | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' |
            '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' |
            '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' |
            '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1345f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_moves_no_cursor_and_hides_nothing() {
        assert_eq!(
            visible("a\u{1b}[2J\u{9b}1m\u{7f}b\r\n\tc é — 漢字 😀"),
            "a\\u001b[2J\\u009b1m\\u007fb\\r\\n\\tc é — 漢字 😀"
        );
        for hidden in [
            "\u{202e}", "\u{2066}", "\u{200b}", "\u{200d}", "\u{feff}", "\u{2028}", "\u{ad}",
            "\u{fe0f}", "\u{3164}",
        ] {
            let shown = visible(hidden);
            assert!(shown.starts_with("\\u") && shown.is_ascii(), "{shown}");
        }
        assert_eq!(visible("\u{e0041}"), "\\udb40\\udc41");
        assert!(matches!(visible("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn a_json_text_stays_the_same_json() {
        let text = "{\r\n\t\"a\": \"x\u{202e}\u{e0041}\u{85}\u{7f}\",\n \"b\":1e400}\n";
        let shown = visible(&one_line(text)).into_owned();
        assert!(shown.is_ascii() && !shown.chars().any(char::is_control), "{shown}");
        let string = |json: &str| {
            serde_json::from_str::<serde_json::Value>(&json.replace("1e400", "1")).unwrap()
        };
        assert_eq!(string(&shown), string(text));
    }
}
