//! Tests of the objects of a bucket.

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{SyncSender, sync_channel};

use super::*;
use crate::base::threads::spawn_critical;
use crate::config::S3Keys;

/// Answers requests until the one that ends an upload. A part gets no answer: it sets the stop.
fn serve(listener: &TcpListener, stop: &Stop, aborted: &SyncSender<String>) {
    let mut unanswered = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let head = head_of(&mut stream);
        let answer = |status: &str, body: &str| {
            let bytes = body.len();
            let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
            format!("{head}Content-Length: {bytes}\r\n\r\n{body}")
        };
        if head.starts_with("POST") {
            let begun = "<InitiateMultipartUploadResult><UploadId>7</UploadId>\
                         </InitiateMultipartUploadResult>";
            stream.write_all(answer("200 OK", begun).as_bytes()).unwrap();
        } else if head.starts_with("DELETE") {
            stream.write_all(answer("204 No Content", "").as_bytes()).unwrap();
            return aborted.send(head).unwrap();
        } else {
            stop.set();
            unanswered.push(stream);
        }
    }
}

fn head_of(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

/// A store at this address.
fn store_at(listener: &TcpListener, stop: Stop) -> Arc<Store> {
    crate::delivery::sender::install_crypto();
    let endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    let token = Some("a-session-token".to_owned());
    let keys = S3Keys { id: "A".to_owned(), secret: "S".to_owned(), token };
    let access = S3Access { endpoint, region: "eu-central-1".to_owned(), keys };
    Arc::new(Store::new(&"s3://bucket/of".parse().unwrap(), access, stop).unwrap())
}

#[test]
fn an_answer_that_names_another_place_is_an_error_and_nothing_goes_there() {
    let [listener, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    other.set_nonblocking(true).unwrap();
    let elsewhere = format!("http://{}/x", other.local_addr().unwrap());
    let store = store_at(&listener, Stop::new());
    let server = spawn_critical("store", move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(head_of(&mut stream).contains("a-session-token"));
        let head = "HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0";
        write!(stream, "{head}\r\nLocation: {elsewhere}\r\n\r\n").unwrap();
    });
    assert!(store.list("backups").is_err());
    assert!(server.unwrap().join_until(std::time::Instant::now() + Duration::from_mins(1)));
    assert!(other.accept().is_err(), "the other place was asked");
}

/// Answers one request with this head and a body that begins with this text and has no end.
/// Returns the number of bytes that the connection took.
fn answer_without_end(listener: &TcpListener, head: &str, beginning: &str) -> usize {
    let (mut stream, _) = listener.accept().unwrap();
    // The client closes the connection only when its runtime runs again: with the next request.
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    head_of(&mut stream);
    let head = format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n{beginning}");
    stream.write_all(head.as_bytes()).unwrap();
    let (piece, mut sent) = (vec![b'x'; 64 << 10], 0);
    while sent < 64 << 20 && stream.write_all(&piece).is_ok() {
        sent += piece.len();
    }
    sent
}

/// The words about a request to a store that answers with this head and without an end, and the
/// number of bytes that were taken of the answer.
fn said_of<T>(
    (head, beginning): (&'static str, &'static str),
    ask: impl FnOnce(&Arc<Store>) -> Result<T, BackupError>,
) -> (String, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (store, (sender, sent)) = (store_at(&listener, Stop::new()), sync_channel(1));
    let server = spawn_critical("store", move || {
        sender.send(answer_without_end(&listener, head, beginning)).unwrap();
    });
    let said = ask(&store).err().unwrap().to_string();
    let sent = sent.recv_timeout(Duration::from_mins(1)).unwrap();
    assert!(server.unwrap().join_until(std::time::Instant::now() + Duration::from_mins(1)));
    (said, sent)
}

#[test]
fn an_answer_without_an_end_is_cut_off() {
    let xml = "<ListBucketResult><Name>b</Name><Prefix>";
    let (said, sent) = said_of(("200 OK", xml), |store| store.list("backups"));
    assert!(said.contains("longer than 16777216 bytes"), "{said}");
    assert!((PIECE_BYTES..PIECE_BYTES * 2).contains(&sent), "{sent}");
    let xml = "<Error><Code>AccessDenied</Code><Message>";
    let (said, sent) = said_of(("403 Forbidden", xml), |store| store.list("backups"));
    assert!(said.contains("longer than 1048576 bytes"), "{said}");
    assert!(sent < PIECE_BYTES, "{sent}");
    let head = "206 Partial Content\r\nContent-Length: 67108864\r\n\
                Content-Range: bytes 0-9/10";
    let (said, sent) = said_of((head, ""), |store| store.get("a", 1_000));
    assert!(said.contains("more bytes of an object than the 10 announced"), "{said}");
    assert!(sent < PIECE_BYTES, "{sent}");
}

#[test]
fn a_stop_during_an_upload_leaves_no_parts_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (stop, (sender, aborted)) = (Stop::new(), sync_channel(1));
    let sets = stop.clone();
    let store = store_at(&listener, stop);
    let server = spawn_critical("store", move || serve(&listener, &sets, &sender)).unwrap();
    let mut upload = store.upload("a", 0);
    let written = upload.write_all(&vec![1; PIECE_BYTES + 1]);
    assert!(written.unwrap_err().to_string().contains("the server stops"));
    assert!(upload.finish().is_err());
    let head = aborted.recv_timeout(Duration::from_mins(1)).unwrap();
    assert!(head.contains("uploadId=7"), "{head}");
    assert!(server.join_until(std::time::Instant::now() + Duration::from_mins(1)));
}
