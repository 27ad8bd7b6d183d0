use actix_web::http::header::HeaderValue;

use super::*;
use crate::base::metrics::Metrics;
use crate::commands::{Command, CreateOrg};
use crate::config::Config;
use crate::journal::Position;
use crate::model::id::OrgId;
use crate::model::key::{Key, Scopes};
use crate::model::org::{InboxMode, Org, Tier};

struct Fixture {
    auth: Authenticator,
    store: Store,
    text: Arc<KeyText>,
    _dir: tempfile::TempDir,
}

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn key_text(seed: u8) -> KeyText {
    let mut next = seed;
    KeyText::generate(KeyId(2), || {
        next = next.wrapping_add(37);
        next
    })
}

impl Fixture {
    async fn new(expires_at: Option<Timestamp>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), 8 << 20, Position::MAX).unwrap();
        let settings =
            Config::from_toml("[keys]\nverify_threads = 1\nverify_queue = 4").unwrap().keys;
        let metrics = Arc::new(Metrics::new(&[]).unwrap());
        let auth =
            Authenticator::new(&settings, "admin-token-of-the-test", Intake::unheard(), metrics)
                .unwrap();
        let text = Arc::new(key_text(1));
        let Hashed { hash, check } = auth.hash(&text, None).await.unwrap();
        let (name, created_at) = ("Acme".to_owned(), Timestamp(1));
        let org = Org {
            id: OrgId(1),
            name: name.clone(),
            tier: Tier::Free,
            inbox_mode: InboxMode::Auto,
            created_at,
        };
        let (scopes, ended_at) = (Scopes::all(), None);
        let key = Key { id: KeyId(2), name, hash, check, scopes, created_at, expires_at, ended_at };
        let command = Command::CreateOrg(CreateOrg { number: OrgNo(0), org, key: Some(key) });
        crate::commands::apply(
            &store,
            std::iter::once((Position(1), &command)),
            Position(2),
            &mut crate::commands::Results::default(),
        )
        .unwrap();
        Self { auth, store, text, _dir: dir }
    }

    async fn caller(&self, text: &str) -> Result<Caller, Problem> {
        self.auth.caller(&headers(&[("x-api-key", text)]), &self.store, || NOW.into()).await
    }

    fn judged(&self, how: KeyVerification) -> u64 {
        self.auth.metrics.key_verifications.of(how).get()
    }
}

#[tokio::test]
async fn a_key_is_checked_once_and_then_known_and_its_use_is_noted() {
    let fixture = Fixture::new(None).await;
    for _ in 0..3 {
        let caller = fixture.caller(fixture.text.reveal()).await.unwrap();
        assert!(matches!(&caller, Caller::Key(key) if key.org().id == OrgId(1)), "{caller:?}");
    }
    assert_eq!(
        (fixture.judged(KeyVerification::Verified), fixture.judged(KeyVerification::Cached)),
        (1, 2)
    );
    assert_eq!(fixture.auth.take_used(), [(KeyId(2), NOW)]);
    assert_eq!(fixture.auth.take_used(), []);
}

#[tokio::test]
async fn unknown_wrong_and_malformed_keys_are_told_the_same() {
    let fixture = Fixture::new(None).await;
    fixture.caller(fixture.text.reveal()).await.unwrap();
    let wrong_secret = key_text(2);
    let unknown = KeyText::generate(KeyId(3), || 7);
    let told = async |text: &str| {
        let problem = fixture.caller(text).await.unwrap_err();
        serde_json::to_string(&problem.document(None)).unwrap()
    };
    let malformed = told("nonsense").await;
    assert!(malformed.contains("\"unauthorized\""), "{malformed}");
    for text in [wrong_secret.reveal(), unknown.reveal(), "", "trg_live_"] {
        assert_eq!(told(text).await, malformed);
    }
    assert_eq!(fixture.judged(KeyVerification::Refused), 5);
    assert_eq!(fixture.auth.take_used().len(), 1);
}

#[tokio::test]
async fn an_expired_key_opens_nothing_although_it_is_remembered() {
    let fixture = Fixture::new(Some(NOW)).await;
    fixture.auth.remember(&fixture.text);
    assert_eq!(fixture.caller(fixture.text.reveal()).await.unwrap_err().code(), Code::Unauthorized);
}

#[tokio::test]
async fn a_key_that_ends_while_it_is_checked_opens_nothing() {
    let fixture = Fixture::new(Some(Timestamp(NOW.0 + 1))).await;
    let asked = std::cell::Cell::new(NOW.0);
    let time = || Timestamp(asked.replace(asked.get() + 1)).into();
    let shown = headers(&[("x-api-key", fixture.text.reveal())]);
    let refused = fixture.auth.caller(&shown, &fixture.store, time).await.unwrap_err();
    assert_eq!(
        (refused.code(), fixture.judged(KeyVerification::Verified)),
        (Code::Unauthorized, 1)
    );
    assert_eq!(fixture.auth.take_used(), [], "it was of no use");
}

#[tokio::test]
async fn the_admin_token_is_the_admin() {
    let fixture = Fixture::new(None).await;
    assert!(matches!(fixture.caller("admin-token-of-the-test").await, Ok(Caller::Admin)));
    assert!(fixture.caller("admin-token-of-the-tesT").await.is_err());
}

#[tokio::test]
async fn wrong_keys_are_refused_without_the_slow_hash_however_many_come_and_the_right_one_is_let_in()
 {
    let fixture = Fixture::new(None).await;
    let hashes = || fixture.auth.metrics.key_hashes.get();
    assert_eq!(hashes(), 1, "the key was made");
    for seed in 0..200 {
        let guess = key_text(seed + 2);
        assert_eq!(fixture.caller(guess.reveal()).await.unwrap_err().code(), Code::Unauthorized);
    }
    assert_eq!(hashes(), 1);
    fixture.caller(fixture.text.reveal()).await.unwrap();
    for seed in 0..200 {
        fixture.caller(key_text(seed + 2).reveal()).await.unwrap_err();
    }
    fixture.caller(fixture.text.reveal()).await.unwrap();
    assert_eq!(hashes(), 2, "once for the one who has the key");
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    headers
}

impl Fixture {
    /// Returns true if these headers have a key, false if they have the admin token, `None` if they
    /// have nothing of ours.
    fn is_key(&self, pairs: &[(&'static str, &str)]) -> Result<Option<bool>, Code> {
        let found = self.auth.credential(&headers(pairs)).map_err(|problem| problem.code())?;
        Ok(found.map(|found| matches!(found, Credential::Key(_))))
    }
}

#[tokio::test]
async fn a_key_of_ours_counts_wherever_it_stands_and_what_is_not_ours_counts_for_nothing() {
    let fixture = Fixture::new(None).await;
    let of = |pairs: &[(&'static str, &str)]| fixture.is_key(pairs);
    let key = fixture.text.reveal();
    let (bearer, odd) = (format!("bearer\t {key} "), format!("Bearer {}", &key[1..]));
    assert_eq!(of(&[]), Ok(None));
    assert_eq!(of(&[("x-api-key", key)]), Ok(Some(true)));
    assert_eq!(of(&[("authorization", &bearer)]), Ok(Some(true)));
    assert_eq!(of(&[("authorization", &bearer), ("x-api-key", key)]), Ok(Some(true)));
    assert_eq!(of(&[("x-api-key", "admin-token-of-the-test")]), Ok(Some(false)));
    for others in [
        "",
        " ",
        "Basic YTpi",
        "Basic",
        "Digest a=\"b\"",
        "Negotiate abc",
        "Bearer",
        "Bearer e.y.J",
        "\u{e4}",
        "a",
        &odd,
    ] {
        assert_eq!(of(&[("authorization", others)]), Ok(None), "{others}");
        let first = of(&[("authorization", others), ("x-api-key", key)]);
        assert_eq!(first, Ok(Some(true)), "{others}");
        let second = of(&[("x-api-key", others), ("authorization", &bearer)]);
        assert_eq!(second, Ok(Some(true)), "{others}");
    }
    let caller = fixture
        .auth
        .caller(&headers(&[("authorization", "Basic YTpi")]), &fixture.store, || NOW.into())
        .await;
    assert_eq!(caller.unwrap_err().code(), Code::Unauthorized);
}

#[tokio::test]
async fn two_keys_of_ours_in_one_request_are_refused() {
    let fixture = Fixture::new(None).await;
    let key = fixture.text.reveal();
    let bearer = format!("Bearer {key}");
    let other = key_text(2);
    let other_bearer = format!("Bearer {}", other.reveal());
    let different: [[(&str, &str); 2]; 3] = [
        [("x-api-key", key), ("authorization", &other_bearer)],
        [("x-api-key", key), ("x-api-key", other.reveal())],
        [("authorization", &bearer), ("x-api-key", "admin-token-of-the-test")],
    ];
    for pairs in &different {
        assert_eq!(fixture.is_key(pairs), Err(Code::InvalidRequest));
    }
}

#[tokio::test]
async fn two_different_keys_are_refused_with_the_names_of_their_headers() {
    let fixture = Fixture::new(None).await;
    let (key, other) = (fixture.text.reveal(), key_text(2));
    let (bearer, other_bearer) = (format!("Bearer {key}"), format!("Bearer {}", other.reveal()));
    let (plain, other) = (("x-api-key", key), ("x-api-key", other.reveal()));
    for (pairs, expected) in [
        ([plain, other], "several headers X-API-Key of the request have"),
        ([plain, ("authorization", &other_bearer)], "the headers X-API-Key and Authorization have"),
        (
            [("authorization", &bearer), ("authorization", &other_bearer)],
            "several headers Authorization of the request have",
        ),
    ] {
        let refused = fixture.auth.credential(&headers(&pairs)).map(|_| ()).unwrap_err();
        let text = serde_json::to_string(&refused.document(None)).unwrap();
        assert!(text.contains(expected), "{text}");
    }
}
