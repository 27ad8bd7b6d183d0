//! Limits on the bytes and the time of a hostile receiver.

use super::*;

#[tokio::test]
async fn an_endless_body_is_cut_and_the_connection_closed() {
    for status in ["200 OK", "500 Internal Server Error"] {
        let receiver = Receiver::start(move |stream| {
            write!(stream, "HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
            // Ends only when the sender has closed the connection.
            while stream.write_all(chunk.as_bytes()).is_ok() {}
        });
        let outcome = send(&sender(), &receiver.url).await;
        assert_eq!(outcome.error.is_none(), status.starts_with("200"));
        assert!(outcome.body.len() <= KEPT_BODY_BYTES_MAX);
        assert!(outcome.duration_ms < 15_000, "not held until the timeout");
        receiver.answer().await;
    }
}

#[tokio::test]
async fn no_more_than_the_limit_is_read_of_a_body() {
    // The receiver sends exactly the limit and then waits, so a sender that wants more would wait
    // too.
    let receiver = Receiver::start(|stream| {
        let body = "x".repeat(BODY_READ_BYTES_MAX);
        write!(stream, "HTTP/1.1 500 X\r\nContent-Length: 1000000\r\n\r\n{body}").unwrap();
        until_closed(stream);
    });
    let outcome = send(&sender(), &receiver.url).await;
    assert_eq!(outcome.body.len(), KEPT_BODY_BYTES_MAX);
    assert!(outcome.duration_ms < 120_000, "it did not wait for more than 16 KiB");
    receiver.answer().await;
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_a_timeout() {
    let receiver = Receiver::start(until_closed);
    let sender = sender_with(&["127.0.0.0/8"], Duration::from_millis(300));
    let outcome = send(&sender, &receiver.url).await;
    let sentence = format!("no answer from {} within 300 ms", receiver.place);
    assert_eq!(error(&outcome), (ErrorCode::Timeout, sentence.as_str()));
    assert!(outcome.duration_ms >= 300, "{}", outcome.duration_ms);
    receiver.answer().await;
}

#[tokio::test]
async fn a_head_that_trickles_is_a_timeout_and_a_refusals_body_that_trickles_is_kept_as_far_as_it_came()
 {
    let trickle = |head: &'static str| {
        Receiver::start(move |stream| {
            stream.write_all(head.as_bytes()).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            // Sends byte after byte until the sender closes the connection.
            while stream.write_all(b"x").is_ok() {
                if matches!(stream.read(&mut [0; 16]), Ok(0)) {
                    break;
                }
            }
        })
    };
    let sender = sender_with(&["127.0.0.0/8"], Duration::from_millis(1_500));
    let receiver = trickle("HTTP/1.1 200 OK\r\nX-Slow: ");
    assert_eq!(error(&send(&sender, &receiver.url).await).0, ErrorCode::Timeout);
    receiver.answer().await;

    let receiver = trickle("HTTP/1.1 500 X\r\nContent-Length: 16000\r\n\r\n");
    let outcome = send(&sender, &receiver.url).await;
    assert_eq!((error(&outcome).0, outcome.status), (ErrorCode::HttpStatus, Some(500)));
    assert!(
        u128::from(outcome.duration_ms) >= REFUSAL_WITHIN.as_millis(),
        "{}",
        outcome.duration_ms
    );
    assert!(outcome.body.starts_with(b"xx"), "what came until then is kept");
    receiver.answer().await;
}

#[tokio::test]
async fn the_head_of_an_answer_may_have_16_kib_and_no_more() {
    let head_of = async |bytes: usize| {
        let fixed = "HTTP/1.1 500 X\r\nContent-Length: 0\r\nX-Long: \r\n\r\n".len();
        let long = "x".repeat(bytes - fixed);
        let receiver =
            answering(format!("HTTP/1.1 500 X\r\nContent-Length: 0\r\nX-Long: {long}\r\n\r\n"));
        let outcome = send(&sender(), &receiver.url).await;
        receiver.answer().await;
        error(&outcome).0
    };
    assert_eq!(head_of(16 << 10).await, ErrorCode::HttpStatus);
    assert_eq!(head_of((16 << 10) + 1).await, ErrorCode::HttpStatus);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_given_up_at_16_kib() {
    for endless in ["X-Many: 1\r\n", "x", "\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]
    {
        let receiver = Receiver::start(move |stream| {
            if !endless.starts_with("HTTP") && endless != "\r\n" {
                stream.write_all(b"HTTP/1.1 200 OK\r\nX-Long: ").unwrap();
            }
            let chunk = endless.repeat(4096 / endless.len());
            let mut written = 0;
            while let Ok(count) = stream.write(chunk.as_bytes()) {
                written += count;
            }
            written
        });
        let outcome = send(&sender(), &receiver.url).await;
        let place = &receiver.place;
        let sentence = match endless {
            "\r\n" => format!(
                "no valid HTTP answer from {place}: the answer does not begin with an HTTP status"
            ),
            _ if endless.starts_with("HTTP") => {
                format!(
                    "{place} sent no final answer, only more than 64 KiB of interim answers (1xx)"
                )
            }
            _ => String::new(),
        };
        assert!(outcome.duration_ms < 15_000, "not held until the timeout");
        if sentence.is_empty() {
            assert_eq!((outcome.status, outcome.error.as_ref()), (Some(200), None), "{endless:?}");
        } else {
            assert_eq!(error(&outcome), (ErrorCode::Protocol, sentence.as_str()), "{endless:?}");
        }
        receiver.answer().await;
    }
}
