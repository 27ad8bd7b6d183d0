//! Parses a trace of `strace -f -y -xx` into system calls. Beginnings and ends are separate,
//! because threads run side by side.

use std::collections::HashMap;

/// The beginning or the end of a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A call begins; the number is its index.
    Begins(usize),
    /// A call ends; the number is its index.
    Ends(usize),
}

/// A system call with its arguments and result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Syscall {
    pub(crate) name: String,
    /// The arguments as strace prints them.
    pub(crate) arguments: String,
    /// The text after `=`; empty if the call never ended.
    pub(crate) result: String,
}

impl Syscall {
    fn new(name: &str, arguments: &str, result: &str) -> Self {
        Self { name: name.into(), arguments: arguments.into(), result: result.into() }
    }

    /// Returns the path of the file in the first argument.
    pub(crate) fn path(&self) -> String {
        path_in(self.arguments.split(',').next().unwrap_or_default())
    }

    /// Returns the path of the file opened by the call.
    pub(crate) fn opened(&self) -> String {
        path_in(&self.result)
    }

    /// Returns the last text in the arguments: the path made by `linkat`.
    pub(crate) fn last_text(&self) -> String {
        unescaped(self.arguments.rsplit('"').nth(1).unwrap_or_default())
    }

    /// Returns the first text in the arguments: the file that `linkat` names.
    pub(crate) fn first_text(&self) -> String {
        unescaped(self.arguments.split('"').nth(1).unwrap_or_default())
    }

    pub(crate) fn succeeded(&self) -> bool {
        !self.result.is_empty() && !self.result.starts_with('-') && !self.result.starts_with('?')
    }

    /// Returns the texts in the arguments, concatenated in hexadecimal.
    pub(crate) fn data(&self) -> String {
        let quoted: Vec<_> = self.arguments.split('"').skip(1).step_by(2).collect();
        quoted.concat().replace("\\x", "")
    }
}

/// Returns the path between `<` and `>`. strace prints paths in hexadecimal, too.
fn path_in(text: &str) -> String {
    let path = text
        .split_once('<')
        .and_then(|(_, rest)| rest.rsplit_once('>'))
        .map_or("", |(path, _)| path);
    unescaped(path)
}

fn unescaped(text: &str) -> String {
    if !text.contains("\\x") {
        return text.to_owned();
    }
    let bytes =
        text.split("\\x").skip(1).filter_map(|byte| u8::from_str_radix(byte.get(..2)?, 16).ok());
    bytes.map(char::from).collect()
}

/// Parses a whole trace. Returns the calls, and their beginnings and ends in order.
pub(crate) fn read(trace: &str) -> (Vec<Syscall>, Vec<Moment>) {
    let (mut calls, mut moments) = (Vec::<Syscall>::new(), Vec::new());
    let mut unfinished: HashMap<&str, usize> = HashMap::new();
    for line in trace.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some(number) = unfinished.remove(pid) else { continue };
            let tail = resumed.split_once("resumed>").map_or("", |(_, tail)| tail);
            let (arguments, result) = split_result(tail);
            calls[number].arguments.push_str(arguments);
            result.clone_into(&mut calls[number].result);
            moments.push(Moment::Ends(number));
            continue;
        }
        let Some((name, rest)) = rest
            .split_once('(')
            .filter(|(name, _)| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
        else {
            continue;
        };
        let number = calls.len();
        moments.push(Moment::Begins(number));
        if let Some(arguments) = rest.strip_suffix(" <unfinished ...>") {
            calls.push(Syscall::new(name, arguments, ""));
            unfinished.insert(pid, number);
        } else {
            let (arguments, result) = split_result(rest);
            calls.push(Syscall::new(name, arguments, result));
            moments.push(Moment::Ends(number));
        }
    }
    (calls, moments)
}

fn split_result(text: &str) -> (&str, &str) {
    text.rsplit_once(" = ").map_or((text, ""), |(arguments, result)| {
        (arguments.trim_end().trim_end_matches(')'), result)
    })
}
