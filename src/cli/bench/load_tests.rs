//! Tests of the load against a server that stalls at a given time.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::{LocalSet, spawn_local};

use super::super::connection::parse_request;
use super::super::tally::{max_ms, quantile_ms};
use super::*;

const STALL: Duration = Duration::from_millis(300);

/// Starts a server that answers at once. Requests during the stall are answered at its end.
async fn fake_server(stalls_at: Instant, stall: Duration) -> Shape {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            spawn_local(async move {
                let mut buffer = Vec::new();
                loop {
                    if let Some(length) =
                        parse_request(&buffer).unwrap().filter(|length| *length <= buffer.len())
                    {
                        buffer.drain(..length);
                        let now = Instant::now();
                        if (stalls_at..stalls_at + stall).contains(&now) {
                            tokio::time::sleep_until((stalls_at + stall).into()).await; // the fault
                        }
                        stream
                            .write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}")
                            .await
                            .unwrap();
                    } else if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
            });
        }
    });
    Shape { address, host: "fake".into(), key: "none".into(), payload_bytes: 64, batch: 1, run: 0 }
}

fn on_local_set<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(LocalSet::new().run_until(test))
}

#[test]
fn a_stall_shows_in_an_open_loop_and_hides_in_a_closed_one() {
    let window = Duration::from_secs(1);
    let stall_ms = STALL.as_secs_f64() * 1e3;
    let measure = async |is_open: bool| {
        let shape = fake_server(Instant::now() + window / 2, STALL).await;
        let load = Load::new(shape);
        if is_open {
            load.open(2, 500, window, Rest::Send).await
        } else {
            load.closed(2, window).await
        }
        .unwrap()
    };
    let open = on_local_set(measure(true));
    assert_eq!(
        (open.sent, open.unsent, open.broken),
        (500, 0, 0),
        "every request of the schedule was sent"
    );
    assert_eq!(open.statuses.get(&202), Some(&500));
    // 150 of the 500 requests were due during the stall, and waited for half of it on average.
    assert!(quantile_ms(&open.good, 0.85) > stall_ms * 0.3, "{}", quantile_ms(&open.good, 0.85));
    assert!(quantile_ms(&open.good, 0.99) > stall_ms * 0.8, "{}", quantile_ms(&open.good, 0.99));
    // Negative control: a closed loop has two requests in the stall, and all others outside.
    let closed = on_local_set(measure(false));
    assert!(max_ms(&closed.good) > stall_ms * 0.8, "the stall was there");
    assert!(
        quantile_ms(&closed.good, 0.85) < stall_ms * 0.3,
        "{}",
        quantile_ms(&closed.good, 0.85)
    );
}

#[test]
fn what_is_due_beyond_the_connections_is_left_when_nobody_wants_it() {
    let tally = on_local_set(async {
        // The stall is long, so that it ends after the run even on a busy machine.
        let load = Load::new(fake_server(Instant::now(), STALL * 10).await);
        load.open(3, 1_000, STALL / 2, Rest::Leave).await.unwrap()
    });
    // All three connections wait for the end of the stall, which is after the end of the run.
    assert_eq!((tally.sent, tally.unsent, tally.good_in_time), (3, 147, 0));
    assert_eq!(tally.good.len(), 3);
}

/// Loads a server that hangs up on every connection.
async fn hung_up(window: Duration) -> Tally {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move { while listener.accept().await.is_ok() {} });
    let shape = Shape {
        address,
        host: "fake".into(),
        key: "none".into(),
        payload_bytes: 64,
        batch: 1,
        run: 0,
    };
    Load::new(shape).closed(2, window).await.unwrap()
}

#[test]
fn a_server_that_hangs_up_is_counted_and_connected_to_again() {
    // A busy machine may not get as far as a second connection within a short time.
    let windows = [50, 1_000, 30_000].map(Duration::from_millis);
    let mut tallies = windows.into_iter().map(|window| on_local_set(hung_up(window)));
    let tally = tallies.find(|tally| tally.broken >= 2).expect("two connections are tried");
    assert_eq!(tally.broken, tally.sent);
    assert!(tally.statuses.is_empty());
}
