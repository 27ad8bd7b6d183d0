//! Receivers with TLS, and receivers that fail at TLS.

use super::*;

#[tokio::test]
async fn a_receiver_that_speaks_no_tls_is_a_tls_failure() {
    for greeting in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap();
        let thread = std::thread::Builder::new().spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let read = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(greeting.as_bytes()).unwrap();
            read
        });
        let outcome = send(&sender(), &format!("https://{place}/")).await;
        let (code, detail) = error(&outcome);
        assert_eq!(code, ErrorCode::Tls, "{detail}");
        assert!(
            detail.starts_with(&format!("the TLS handshake with {place} failed: ")),
            "{detail}"
        );
        assert!(thread.unwrap().join().unwrap() > 0);
    }
}

const CERTIFICATE: &[u8] = include_bytes!("../../tests/shared/tls/localhost.cert.der");
const KEY: &[u8] = include_bytes!("../../tests/shared/tls/localhost.key.der");

/// A receiver that offers TLS with HTTP/2 inside. Accepts one connection and returns the number of
/// requests.
async fn secure_receiver() -> (SocketAddr, tokio::task::JoinHandle<usize>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    install_crypto();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(KEY).into();
    let tls = rustls::ServerConfig::builder().with_no_client_auth();
    let mut tls = tls.with_single_cert(vec![CERTIFICATE.into()], key).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = tokio_rustls::TlsAcceptor::from(Arc::new(tls)).accept(tcp).await
        else {
            return 0;
        };
        let (mut count, mut heard) = (0, Vec::new());
        // Each request ends with the body of the tests.
        while let Ok(1..) = stream.read_buf(&mut heard).await {
            if heard.ends_with(BODY) {
                assert!(
                    heard.starts_with(b"POST / HTTP/1.1\r\n"),
                    "{}",
                    String::from_utf8_lossy(&heard)
                );
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                (count, heard) = (count + 1, Vec::new());
            }
        }
        count
    });
    (place, served)
}

#[tokio::test]
async fn a_receiver_that_speaks_tls_is_spoken_to_in_http_1_over_one_connection() {
    let (place, served) = secure_receiver().await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CERTIFICATE.into()).unwrap();
    let mut tls =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = connector::tls().unwrap().alpn_protocols;
    let egress = Arc::new(EgressRules { allow: vec!["127.0.0.0/8".parse().unwrap()] });
    let sender = Sender::with_tls(SenderConfig::for_tests(egress), tls).unwrap();
    for is_new in [true, false] {
        let outcome = send(&sender, &format!("https://localhost:{}/", place.port())).await;
        assert_eq!(
            (&outcome.error, outcome.status, outcome.address),
            (&None, Some(200), Some(place))
        );
        assert_eq!(outcome.timing.tls_ms.is_some(), is_new, "{:?}", outcome.timing);
    }
    drop(sender);
    assert_eq!(served.await.unwrap(), 2);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_a_tls_failure() {
    let (place, served) = secure_receiver().await;
    let outcome = send(&sender(), &format!("https://{place}/")).await;
    let (code, detail) = error(&outcome);
    assert_eq!(code, ErrorCode::Tls, "{detail}");
    assert!(detail.contains("server's certificate"), "{detail}");
    assert_eq!(outcome.address, Some(place));
    assert_eq!(served.await.unwrap(), 0, "nothing was sent");
}
