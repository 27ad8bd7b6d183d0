use proptest::prelude::*;

use super::*;

/// The example of the Standard Webhooks libraries' own tests. The signature was computed with PyPI
/// `standardwebhooks` and with Python's `hmac`.
const EXAMPLE_KEY: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const EXAMPLE_ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const EXAMPLE_TIME_S: u64 = 1_614_265_330;
const EXAMPLE_BODY: &[u8] = br#"{"test": 2432232314}"#;
const EXAMPLE_SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn example_key() -> Vec<u8> {
    STANDARD.decode(EXAMPLE_KEY).unwrap()
}

fn example() -> Signed<'static> {
    Signed {
        id: EXAMPLE_ID,
        timestamp: "1614265330",
        signature: EXAMPLE_SIGNATURE,
        body: EXAMPLE_BODY,
    }
}

fn judge(signed: &Signed<'_>) -> Result<(), Untrusted> {
    verify(&example_key(), signed, EXAMPLE_TIME_S, TOLERANCE_S)
}

#[test]
fn the_signature_is_the_one_other_libraries_make() {
    assert_eq!(
        sign(&[&example_key()], EXAMPLE_ID, EXAMPLE_TIME_S, EXAMPLE_BODY),
        EXAMPLE_SIGNATURE
    );
    assert_eq!(judge(&example()), Ok(()));
    // The signature for a key of 32 bytes, computed with PyPI `standardwebhooks`.
    let key: Vec<u8> = (0..32).collect();
    let id = "evt_01h2xcejqtf2nbrexx3vqjhp41";
    assert_eq!(
        sign(&[&key], id, 1_767_225_600, br#"{"id":"evt_01h2xcejqtf2nbrexx3vqjhp41"}"#),
        "v1,JU2prc7x371MJDIl3RSXxZ6inpgtP8KcgMgDxrOnJWo="
    );
}

#[test]
fn every_truncation_is_refused() {
    for end in 0..EXAMPLE_SIGNATURE.len() {
        let cut = Signed { signature: &EXAMPLE_SIGNATURE[..end], ..example() };
        assert_eq!(judge(&cut), Err(Untrusted::NoMatch), "signature cut at {end}");
    }
    for end in 0..EXAMPLE_BODY.len() {
        assert!(
            judge(&Signed { body: &EXAMPLE_BODY[..end], ..example() }).is_err(),
            "body cut at {end}"
        );
    }
    for end in 0..EXAMPLE_ID.len() {
        assert!(judge(&Signed { id: &EXAMPLE_ID[..end], ..example() }).is_err(), "id cut at {end}");
    }
    for end in 0..10 {
        let cut = Signed { timestamp: &"1614265330"[..end], ..example() };
        assert!(
            verify(&example_key(), &cut, EXAMPLE_TIME_S, u64::MAX).is_err(),
            "timestamp cut at {end}"
        );
    }
    let key = example_key();
    for end in 0..key.len() {
        assert!(
            verify(&key[..end], &example(), EXAMPLE_TIME_S, TOLERANCE_S).is_err(),
            "key cut at {end}"
        );
    }
}

/// Replaces the byte at `place`; `None` if nothing changes or the result is not text.
fn changed(text: &str, place: usize, byte: u8) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    if bytes[place] == byte {
        return None;
    }
    bytes[place] = byte;
    String::from_utf8(bytes).ok()
}

#[test]
fn every_change_of_one_byte_is_refused() {
    for byte in 0..=255 {
        for text in
            (0..EXAMPLE_SIGNATURE.len()).filter_map(|place| changed(EXAMPLE_SIGNATURE, place, byte))
        {
            assert_eq!(
                judge(&Signed { signature: &text, ..example() }),
                Err(Untrusted::NoMatch),
                "{text}"
            );
        }
        for text in (0..EXAMPLE_ID.len()).filter_map(|place| changed(EXAMPLE_ID, place, byte)) {
            assert!(judge(&Signed { id: &text, ..example() }).is_err(), "{text}");
        }
        for text in (0..10).filter_map(|place| changed("1614265330", place, byte)) {
            let other = Signed { timestamp: &text, ..example() };
            assert!(verify(&example_key(), &other, EXAMPLE_TIME_S, u64::MAX).is_err(), "{text}");
        }
        for place in 0..EXAMPLE_BODY.len() {
            let mut body = EXAMPLE_BODY.to_vec();
            if body[place] != byte {
                body[place] = byte;
                assert!(
                    judge(&Signed { body: &body, ..example() }).is_err(),
                    "body byte {place} = {byte}"
                );
            }
        }
    }
}

#[test]
fn either_of_two_keys_is_accepted_while_a_secret_is_rotated() {
    let (old, new) = ([1u8; 32], [2u8; 32]);
    let signature = sign(&[&new, &old], "evt_1", 1_000, b"{}");
    assert_eq!(signature.split(' ').count(), 2);
    let signed = Signed { id: "evt_1", timestamp: "1000", signature: &signature, body: b"{}" };
    assert_eq!(verify(&old, &signed, 1_000, TOLERANCE_S), Ok(()));
    assert_eq!(verify(&new, &signed, 1_000, TOLERANCE_S), Ok(()));
    assert_eq!(verify(&[3; 32], &signed, 1_000, TOLERANCE_S), Err(Untrusted::NoMatch));
}

#[test]
fn only_fresh_requests_are_accepted() {
    let at = |now_s| verify(&example_key(), &example(), now_s, 300);
    assert_eq!(at(EXAMPLE_TIME_S + 300), Ok(()));
    assert_eq!(at(EXAMPLE_TIME_S + 301), Err(Untrusted::TooOld));
    assert_eq!(at(EXAMPLE_TIME_S - 300), Ok(()));
    assert_eq!(at(EXAMPLE_TIME_S - 301), Err(Untrusted::TooNew));
    for odd in ["", "now", "+1614265330", "-1", "1614265330 ", "99999999999999999999999"] {
        assert_eq!(
            judge(&Signed { timestamp: odd, ..example() }),
            Err(Untrusted::BadTimestamp),
            "{odd}"
        );
    }
}

proptest! {
    #[test]
    fn what_is_signed_is_accepted(
        key: [u8; 32],
        id in "[a-z0-9_]{1,40}",
        timestamp in 0u64..10_000_000_000,
        body in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let signature = sign(&[&key], &id, timestamp, &body);
        let text = timestamp.to_string();
        let signed = Signed { id: &id, timestamp: &text, signature: &signature, body: &body };
        prop_assert_eq!(verify(&key, &signed, timestamp, 0), Ok(()));
    }
}
