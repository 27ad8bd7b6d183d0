//! A trace by `strace -f -y -xx` as a list of system calls: begun and finished apart, since threads run side by side.

use std::collections::HashMap;

/// What happens at one point of the trace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A call begins, with its number.
    Begins(usize),
    /// A call has ended; negative results are errors.
    Ends(usize),
}

/// A system call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Syscall {
    pub(crate) name: String,
    /// Its arguments as strace shows them.
    pub(crate) arguments: String,
    /// What stands behind `=`, empty if it never ended.
    pub(crate) result: String,
}

impl Syscall {
    /// The path of the file behind its first argument.
    pub(crate) fn path(&self) -> String {
        path_in(self.arguments.split(',').next().unwrap_or_default())
    }

    /// The path of the file that it opened.
    pub(crate) fn opened(&self) -> String {
        path_in(&self.result)
    }

    /// The last text among its arguments: the path that `linkat` makes.
    pub(crate) fn last_text(&self) -> String {
        unescaped(self.arguments.rsplit('"').nth(1).unwrap_or_default())
    }

    pub(crate) fn succeeded(&self) -> bool {
        !self.result.is_empty() && !self.result.starts_with('-') && !self.result.starts_with('?')
    }

    /// Its texts, in hexadecimal without anything between.
    pub(crate) fn data(&self) -> String {
        let quoted: Vec<_> = self.arguments.split('"').skip(1).step_by(2).collect();
        quoted.concat().replace("\\x", "")
    }
}

/// The path between `<` and `>`; strace writes it in hexadecimal as well.
fn path_in(text: &str) -> String {
    let path = text.split_once('<').and_then(|(_, rest)| rest.rsplit_once('>')).map_or("", |(path, _)| path);
    unescaped(path)
}

fn unescaped(text: &str) -> String {
    if !text.contains("\\x") {
        return text.to_owned();
    }
    let bytes = text.split("\\x").skip(1).filter_map(|byte| u8::from_str_radix(byte.get(..2)?, 16).ok());
    bytes.map(char::from).collect()
}

/// Reads a whole trace.
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
        let Some((name, rest)) =
            rest.split_once('(').filter(|(name, _)| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
        else {
            continue;
        };
        let number = calls.len();
        moments.push(Moment::Begins(number));
        if let Some(arguments) = rest.strip_suffix(" <unfinished ...>") {
            calls.push(Syscall { name: name.into(), arguments: arguments.into(), result: String::new() });
            unfinished.insert(pid, number);
        } else {
            let (arguments, result) = split_result(rest);
            calls.push(Syscall { name: name.into(), arguments: arguments.into(), result: result.into() });
            moments.push(Moment::Ends(number));
        }
    }
    (calls, moments)
}

fn split_result(text: &str) -> (&str, &str) {
    text.rsplit_once(" = ")
        .map_or((text, ""), |(arguments, result)| (arguments.trim_end().trim_end_matches(')'), result))
}
