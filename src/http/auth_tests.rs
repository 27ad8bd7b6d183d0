use actix_web::http::header::HeaderValue;

use super::*;
use crate::base::metrics::Metrics;
use crate::config::Config;
use crate::model::command::{Command, CreateOrg};
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
        let store = Store::open(dir.path(), 8 << 20, u64::MAX).unwrap();
        let settings = Config::from_toml("[keys]\nverify_threads = 1\nverify_queue = 4").unwrap().keys;
        let metrics = Arc::new(Metrics::new(&[]).unwrap());
        let auth = Authenticator::new(&settings, "admin-token-of-the-test", metrics).unwrap();
        let text = Arc::new(key_text(1));
        let hash = auth.hash(&text).await.unwrap();
        let (name, created_at) = ("Acme".to_owned(), Timestamp(1));
        let org = Org { id: OrgId(1), name: name.clone(), tier: Tier::Free, inbox_mode: InboxMode::Auto, created_at };
        let key = Key { id: KeyId(2), name, hash, scopes: Scopes::all(), created_at, expires_at, ended_at: None };
        let command = Command::CreateOrg(CreateOrg { org, key });
        store.apply(std::iter::once((1, &command)), 2, &mut Vec::new()).unwrap();
        Self { auth, store, text, _dir: dir }
    }

    async fn caller(&self, text: &str) -> Result<Caller, Problem> {
        self.auth.caller(&Credential { text, peer: None }, &self.store, NOW).await
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
    assert_eq!((fixture.judged(KeyVerification::Verified), fixture.judged(KeyVerification::Cached)), (1, 2));
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
async fn the_admin_token_is_the_admin() {
    let fixture = Fixture::new(None).await;
    assert!(matches!(fixture.caller("admin-token-of-the-test").await, Ok(Caller::Admin)));
    assert!(fixture.caller("admin-token-of-the-tesT").await.is_err());
}

#[tokio::test]
async fn guessing_at_one_key_is_slowed_down_and_one_that_is_known_is_not() {
    let fixture = Fixture::new(None).await;
    fixture.auth.remember(&fixture.text);
    let mut refused = 0;
    for seed in 0..40 {
        let guess = key_text(seed * 2 + 4);
        refused += u32::from(fixture.caller(guess.reveal()).await.unwrap_err().code() == Code::RateLimited);
    }
    assert!(refused > 0);
    fixture.caller(fixture.text.reveal()).await.unwrap();
}

#[test]
fn a_key_comes_in_one_of_two_headers() {
    let of = |pairs: &[(&'static str, &'static str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let found = Credential::of(&headers, None).map(|found| found.map(|found| found.text.to_owned()));
        found.map_err(|problem| problem.code())
    };
    assert_eq!(of(&[]), Ok(None));
    assert_eq!(of(&[("x-api-key", "a")]), Ok(Some("a".into())));
    assert_eq!(of(&[("authorization", "bearer  a")]), Ok(Some("a".into())));
    assert_eq!(of(&[("authorization", "Bearer a"), ("x-api-key", "a")]), Ok(Some("a".into())));
    for pairs in [[("authorization", "Bearer b"), ("x-api-key", "a")], [("x-api-key", "a"), ("x-api-key", "b")]] {
        assert_eq!(of(&pairs), Err(Code::InvalidRequest));
    }
    for odd in ["Basic YTpi", "Bearer", "a"] {
        assert_eq!(of(&[("authorization", odd)]), Err(Code::Unauthorized), "{odd}");
    }
}
