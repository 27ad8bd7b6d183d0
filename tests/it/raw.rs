//! HTTP on a raw socket, for clients that misbehave, and the server's resources for them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use serde_json::Value;

use crate::harness::{PATIENCE, Process};

/// A connection of a client that may misbehave.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    pub(crate) read: Vec<u8>,
}

impl Raw {
    pub(crate) fn connect(server: &Process) -> Self {
        let stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn get(&mut self, path: &str, key: &str) {
        self.say(&get(path, key));
    }

    /// The next answer: its status and its body.
    pub(crate) fn answer(&mut self) -> (u16, Value) {
        self.try_answer().expect("there is an answer")
    }

    /// The next answer; none if the connection ended.
    pub(crate) fn try_answer(&mut self) -> Option<(u16, Value)> {
        let head_end = self.read_until(|read| find(read, b"\r\n\r\n").map(|at| at + 4))?;
        let head = String::from_utf8(self.read[..head_end].to_vec()).unwrap();
        let status = head[9..12].parse().unwrap();
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let end = head_end + length.unwrap_or(0_usize);
        self.read_until(|read| (read.len() >= end).then_some(end))?;
        let body = serde_json::from_slice(&self.read[head_end..end]).unwrap_or_default();
        self.read.drain(..end);
        Some((status, body))
    }

    pub(crate) fn read_until(&mut self, found: impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
        let mut piece = [0; 16 << 10];
        loop {
            if let Some(end) = found(&self.read) {
                return Some(end);
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(read) => self.read.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came and the connection did not end: {error}"),
            }
        }
    }

    /// Returns true if an answer has come or the connection has ended. Reads nothing.
    pub(crate) fn is_answered(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0; 1]);
        self.stream.set_nonblocking(false).unwrap();
        !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Reads to the end of the connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.read_until(|_| None).is_none()
    }

    /// Resets the connection: the server learns that the client has left.
    pub(crate) fn reset(self) {
        set_socket_linger(&self.stream, Some(Duration::ZERO)).unwrap();
    }
}

pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

pub(crate) fn get(path: &str, key: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n")
}

pub(crate) fn post(path: &str, key: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

/// A figure of the server's memory in KiB, such as `VmRSS`.
pub(crate) fn memory_kib(server: &Process, figure: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line =
        status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':')).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// Number of the server's open sockets.
pub(crate) fn sockets(server: &Process) -> usize {
    let fds = std::fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap();
    let is_socket = |fd: &std::fs::DirEntry| {
        std::fs::read_link(fd.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    fds.filter_map(Result::ok).filter(is_socket).count()
}

/// Processor time used by the server, in clock ticks.
pub(crate) fn processor(server: &Process) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
