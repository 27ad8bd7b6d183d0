use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use super::*;

const ACCEPTED: Option<u16> = Some(200);
const REST: &str = "Content-Length: 2\r\n\r\nok";

/// Lines allowed in the head of a 200.
const ODD_LINES: [&str; 17] = [
    "",
    "X-A: b\r\n  c\r\n",
    "X-A: b\r\n\tc\r\n d\r\n",
    "PHP Warning:  Undefined variable $x in /srv/hook.php on line 3\r\n",
    "<b>Notice</b>: only variables should be passed by reference\r\n",
    "X-Foo : bar\r\n",
    "X-Foo\t:bar\r\n",
    ": no name\r\n",
    "X\u{e4}: \u{e4}\r\n",
    "Set-Cookie: a=\u{1}\u{2}b\u{7f}\r\n",
    "X: a\rb\r\n",
    "X: y\r\r\n",
    "X: y\n",
    "Status: 500\r\n",
    "Content-Length: 2\r\n",
    "Content-Encoding: nonsense\r\n",
    "X: a\r\n\rfoo: b\r\n",
];

/// First lines of answers, with the parsed status of each.
const FIRST_LINES: [(&str, Option<u16>); 25] = [
    ("HTTP/1.1 200", ACCEPTED),
    ("HTTP/1.1 200 ", ACCEPTED),
    ("HTTP/1.1 200OK", ACCEPTED),
    ("HTTP/1.1 200: OK", ACCEPTED),
    ("HTTP/1.1  200  OK", ACCEPTED),
    ("HTTP/1.1 200 O\u{1}K", ACCEPTED),
    ("HTTP/1.0 200 OK", ACCEPTED),
    ("HTTP/2 200", ACCEPTED),
    ("HTTP/1.1 299 Fine", Some(299)),
    ("HTTP/1.1 404 Not Found", Some(404)),
    ("HTTP/1.1 999 Go away", Some(999)),
    ("HTTP/1.1 20 OK", None),
    ("HTTP/1.1 099 OK", None),
    ("HTTP/1.1 -20 OK", None),
    ("HTTP/1.1 OK", None),
    ("HTTP/1.1 ", None),
    ("HTTP/1.1", None),
    ("HTTP/9.9 200 OK", None),
    ("HTTP/11 200 OK", None),
    ("HTTP 200 OK", None),
    (" HTTP/1.1 200 OK", None),
    ("\r\nHTTP/1.1 200 OK", None),
    ("HTTX/1.1 200 OK", None),
    ("ICY 200 OK", None),
    ("\u{feff}HTTP/1.1 200 OK", None),
];

/// Whole answers, with the parsed status of each.
const WHOLE: [(&str, Option<u16>); 23] = [
    ("HTTP/1.1 200 OK\nX: y\n\nok", ACCEPTED),
    ("HTTP/1.1 204 No Content\r\n\r\n", Some(204)),
    ("HTTP/1.1 304 Not Modified\r\n\r\n", Some(304)),
    ("HTTP/1.1 302 Found\r\nLocation : /a\r\n\r\n", Some(302)),
    ("HTTP/1.1 500 X\r\nPHP Warning: y\r\n\r\n", Some(500)),
    ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", ACCEPTED),
    ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nok", ACCEPTED),
    ("HTTP/1.1 102 X\r\n\r\nHTTP/1.1 103 X\r\nLink: a\r\n\r\nHTTP/1.1 204 X\r\n\r\n", Some(204)),
    // The head is cut, but a receiver with a status has taken the request.
    ("HTTP/1.1 200 OK\r\n", ACCEPTED),
    ("HTTP/1.1 200 OK\r\nX: a\r\nCont", ACCEPTED),
    ("HTTP/1.1 200 OK\r\nX: a\r\n\r", ACCEPTED),
    ("HTTP/1.1 200 OK", None),
    ("HTTP/1.1 100 Continue\r\n\r\n", None),
    ("HTTP/1.1 100 Continue\r\n\r\nnonsense", None),
    ("HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", None),
    ("HTTP/1.1 200 O\0K\r\n\r\n", None),
    ("HTTP/1.1 200 OK\r\nno header\r\n\r\n", None),
    ("HTTP/1.1 200 OK\r\n folds nothing\r\n\r\n", None),
    ("HTTP/1.1 200 OK\rX: y\r\r", None),
    ("SSH-2.0-OpenSSH_9.2\r\n", None),
    ("<html>hello</html>", None),
    ("HT", None),
    ("", None),
];

/// Framings of a body at which curl fails. They do not change our verdict.
const FRAMINGS: [&str; 6] = [
    "Content-Length: 20",
    "Content-Length: 1\r\nContent-Length: 2",
    "Content-Length: nonsense",
    "Content-Length: -1",
    "Transfer-Encoding: nonsense",
    "Transfer-Encoding: chunked",
];

/// Whole answers, each followed by the end of the connection, with the parsed status; `None` for an
/// invalid answer. curl agrees with all of them.
fn answers() -> Vec<(Vec<u8>, Option<u16>)> {
    let odd =
        ODD_LINES.map(|line| (format!("HTTP/1.1 200 OK\r\n{line}{REST}").into_bytes(), ACCEPTED));
    let first =
        FIRST_LINES.map(|(line, status)| (format!("{line}\r\n{REST}").into_bytes(), status));
    let whole = WHOLE.map(|(answer, status)| (answer.into(), status));
    let latin =
        [b"HTTP/1.1 200 \xe9\xff\r\nX: \xe9\r\n\xe9: y\r\n".as_slice(), REST.as_bytes()].concat();
    odd.into_iter().chain(first).chain(whole).chain([(latin, ACCEPTED)]).collect()
}

/// Answers on which curl disagrees.
fn others() -> Vec<(Vec<u8>, Option<u16>)> {
    let framings = FRAMINGS
        .map(|framing| (format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\nok").into_bytes(), ACCEPTED));
    // The request did not ask for another protocol, so 101 is a refusal. curl waits for an answer
    // in the other protocol.
    let switching = (b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(), Some(101));
    framings.into_iter().chain([switching]).collect()
}

/// Parses an answer fed in chunks of this size.
fn read(answer: &[u8], portion: usize) -> Option<u16> {
    let mut reader = HeadReader::new(HEAD_BYTES_MAX);
    for bytes in answer.chunks(portion) {
        match reader.feed(bytes) {
            Ok(Some(head)) => return Some(head.status),
            Ok(None) => {}
            Err(_) => return None,
        }
    }
    reader.end().ok().map(|head| head.status)
}

/// Feeds the answer to curl; returns its exit code and the status.
fn ask_curl(answer: &[u8]) -> (Option<i32>, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let arguments =
        ["-s", "-m", "60", "-o", "/dev/null", "-w", "%{http_code}", "-d", "BODY", "--noproxy", "*"];
    let curl = Command::new("curl")
        .args(arguments)
        .arg(url)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let (mut request, mut chunk) = (Vec::new(), [0; 1024]);
    while !request.ends_with(b"BODY") {
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "curl sends its request");
        request.extend_from_slice(&chunk[..count]);
    }
    // curl may close the connection before the end of the answer.
    drop(stream.write_all(answer));
    drop(stream);
    let said = curl.wait_with_output().unwrap();
    (said.status.code(), String::from_utf8(said.stdout).unwrap().parse().unwrap())
}

#[test]
fn answers_are_read_as_curl_reads_them_however_they_are_cut_into_pieces() {
    for (answer, status) in answers().into_iter().chain(others()) {
        let shown = String::from_utf8_lossy(&answer);
        for portion in [1, 2, 3, 7, answer.len().max(1)] {
            assert_eq!(read(&answer, portion), status, "in portions of {portion}: {shown:?}");
        }
    }
}

#[test]
fn curl_itself_says_the_same() {
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "there is no curl");
        return eprintln!("skipped: there is no curl");
    }
    for (answer, status) in answers() {
        let (code, said) = ask_curl(&answer);
        assert_eq!(
            (code == Some(0)).then_some(said),
            status,
            "{code:?} {:?}",
            String::from_utf8_lossy(&answer)
        );
    }
}

#[test]
fn a_header_is_found_whatever_its_spelling_and_a_folded_one_is_whole() {
    let mut reader = HeadReader::new(HEAD_BYTES_MAX);
    let head = b"HTTP/1.1 503 X\r\nRETRY-AFTER : 7\r\nVia:a\r\n\tb\r\n  c \r\nX: y\r\n z\r\nVia: \
        d\r\n\r\nrest";
    let read = reader.feed(head).unwrap().unwrap();
    assert_eq!(read.header("retry-after"), Some(b"7".as_slice()));
    assert_eq!(read.header("via"), Some(b"a b c".as_slice()), "the first of them");
    assert_eq!(read.header("server"), None);
    assert_eq!(reader.into_rest(), b"rest");
}

#[test]
fn a_head_is_bounded_and_so_are_those_that_announce_one() {
    let long = |beginning: &str| {
        let mut reader = HeadReader::new(64);
        reader.feed(&[beginning.as_bytes(), &[b'x'; 64]].concat())
    };
    assert!(matches!(long("HTTP/1.1 200 "), Err(Broken::TooLong)), "not one whole line");
    assert!(matches!(long("HTTP/1.1 103 Early Hints\r\n"), Err(Broken::OnlyInterim)));
    let mut reader = HeadReader::new(HEAD_BYTES_MAX);
    let hint = b"HTTP/1.1 103 Early Hints\r\n\r\n";
    let fed = (0..).find_map(|count| reader.feed(hint).err().map(|error| (count, error)));
    let (count, error) = fed.unwrap();
    assert!(matches!(error, Broken::OnlyInterim), "{error:?}");
    assert_eq!(count, INTERIM_BYTES_MAX / hint.len());
}

#[test]
fn of_a_head_that_is_too_long_the_status_counts_and_what_is_whole_of_it() {
    for status in [200, 204, 503] {
        let mut reader = HeadReader::new(128);
        let head = format!(
            "HTTP/1.1 {status} X\r\nRetry-After: 7\r\nContent-Length: 0\r\nSet-Cookie: {}\0",
            "x".repeat(128)
        );
        let read = reader.feed(head.as_bytes()).unwrap().unwrap();
        assert_eq!((read.status, read.header("retry-after")), (status, Some(b"7".as_slice())));
        let body = Body::of(&read, 1_000, 8);
        assert!(body.is_read() && !body.frees_connection(), "nobody knows what follows");
        assert_eq!(reader.into_rest(), b"");
    }
    let mut reader = HeadReader::new(64);
    let fed = reader.feed(&[b"HTTP/1.1 200 OK\r\nno colon\r\n".as_slice(), &[b'x'; 64]].concat());
    assert!(
        matches!(fed, Err(Broken::Malformed(_))),
        "what is no HTTP does not become some by its length"
    );
}

/// Reads a body after this head, fed in chunks of this size; returns the kept part, and true if the
/// connection is reusable.
fn body(head: &str, bytes: &[u8], portion: usize) -> (Vec<u8>, bool) {
    let head = HeadReader::new(HEAD_BYTES_MAX).feed(head.as_bytes()).unwrap().unwrap();
    let mut body = Body::of(&head, 1_000, 8);
    for bytes in bytes.chunks(portion) {
        body.feed(bytes);
    }
    (body.take_kept(), body.frees_connection())
}

/// Reads a body after this head in chunks of several sizes; checks the kept part, and if the
/// connection is reusable.
fn assert_ends(head: &str, bytes: &str, kept: &str, is_free: bool) {
    for portion in [1, 2, 5, 100] {
        let (found, free) = body(head, bytes.as_bytes(), portion);
        let expected = (kept.as_bytes(), is_free);
        assert_eq!((found.as_slice(), free), expected, "{head:?} {bytes:?} by {portion}");
    }
}

#[test]
fn chunked_bodies_end_where_they_say_and_only_clear_ones_free_their_connection() {
    for (bytes, kept, is_free) in [
        ("4\r\nbody\r\n0\r\n\r\n", "body", true),
        ("2;x=\"y\"\r\nbo\r\n02 \r\ndy\r\n000\r\nA: b\r\nC: d\r\n\r\n", "body", true),
        ("00000000000000000000000004\nbody\n0\n\n", "body", true),
        ("0\r\n\r\n", "", true),
        ("A\r\n0123456789\r\n0\r\n\r\n", "01234567", true),
        ("4\r\nbody\r\n0\r\n\r\nHTTP/1.1", "body", false),
        ("4\r\nbody\r\n0\r\nA: b\r\n", "body", false),
        ("4\r\nbody!\r\n0\r\n\r\n", "body", false),
        ("4\r\nbo", "bo", false),
        ("g\r\nbody", "", false),
        ("\r\nbody", "", false),
        ("-4\r\nbody", "", false),
        ("ffffffffffffffffff\r\nbody", "", false),
    ] {
        assert_ends("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", bytes, kept, is_free);
    }
}

#[test]
fn bodies_with_a_length_end_where_they_say_and_only_clear_ones_free_their_connection() {
    let sized = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
    let open = "HTTP/1.1 200 OK\r\n\r\n";
    for (head, bytes, kept, is_free) in [
        (sized, "body", "body", true),
        (sized, "bod", "bod", false),
        (sized, "body!", "body", false),
        (open, "body", "body", false),
        ("HTTP/1.1 204 X\r\nContent-Length: 4\r\n\r\n", "", "", true),
        ("HTTP/1.1 200 X\r\nContent-Length: 4, 4\r\n\r\n", "body", "body", false),
        ("HTTP/1.1 200 X\r\nContent-Length: +4\r\n\r\n", "body", "body", false),
        ("HTTP/1.1 200 X\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n", "body", "body", true),
        ("HTTP/1.1 200 X\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "body", "body", false),
        (
            "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
            "body",
            "body",
            false,
        ),
    ] {
        assert_ends(head, bytes, kept, is_free);
    }
}
