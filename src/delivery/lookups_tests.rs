use crossbeam_channel::{Receiver, Sender, bounded};

use super::*;

/// Longer than any wait of a correct pool.
const LONG: Duration = Duration::from_mins(2);

impl Lookups {
    /// Lookups by the system, in a pool of their own.
    pub(in crate::delivery) fn for_tests() -> Arc<Self> {
        Self::new(metrics())
    }
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(&[]).unwrap())
}

/// A pool whose lookups of names that begin with `hang` last until the sender is dropped. Returns
/// the names in the order in which their lookups began.
fn pool() -> (Arc<Lookups>, Sender<()>, Receiver<String>) {
    let (hold, end) = bounded::<()>(1);
    let (begins, begun) = bounded(1_000);
    let lookups = Lookups::by(metrics(), move |name| {
        begins.send(name.to_owned()).unwrap();
        if name.starts_with("hang") {
            end.recv().unwrap_err();
        }
        if name == "nowhere" { Err("unknown".to_owned()) } else { Ok(vec![[192, 0, 2, 1].into()]) }
    });
    (lookups, hold, begun)
}

/// True if the lookup begins. One that has no turn never does, so a short wait is enough.
async fn begins(asked: &mut Asked, within: Duration) -> bool {
    tokio::time::timeout(within, asked.begun()).await.is_ok()
}

async fn hang(lookups: &Arc<Lookups>, org: u32, names: std::ops::Range<u32>) -> Vec<Asked> {
    let mut hanging = Vec::new();
    for name in names {
        let mut asked = lookups.ask(OrgNo(org), &format!("hang-{name}"));
        assert!(begins(&mut asked, LONG).await, "{org} {name}");
        hanging.push(asked);
    }
    hanging
}

#[tokio::test]
async fn an_organization_whose_lookups_hang_waits_alone_until_a_thread_is_free_again() {
    let (lookups, hold, _begun) = pool();
    let hanging = hang(&lookups, 1, 0..4).await;
    // A caller that leaves does not free the thread.
    drop(hanging);
    let mut own = lookups.ask(OrgNo(1), "own");
    assert!(!begins(&mut own, Duration::from_millis(50)).await);
    assert_eq!(lookups.exhausted(OrgNo(1)), Exhausted::OfOne);
    assert_eq!(lookups.metrics.lookups_running.get(), 4);
    assert_eq!(lookups.metrics.lookups_waiting.get(), 1);
    // Another organization has its own share.
    assert_eq!(lookups.ask(OrgNo(2), "other").found().await.unwrap().len(), 1);
    assert_eq!(lookups.ask(OrgNo(2), "nowhere").found().await, Err("unknown".to_owned()));
    drop(hold);
    assert!(begins(&mut own, LONG).await, "a thread is free again");
    assert!(own.found().await.is_ok());
}

#[tokio::test]
async fn sixteen_organizations_whose_lookups_hang_leave_room_for_others() {
    let (lookups, hold, _begun) = pool();
    let mut hanging = Vec::new();
    for org in 1..=15 {
        hanging.push(hang(&lookups, org, 0..4).await);
    }
    hanging.push(hang(&lookups, 16, 0..2).await);
    let mut more = lookups.ask(OrgNo(16), "hang-2");
    assert!(!begins(&mut more, Duration::from_millis(50)).await);
    assert_eq!(lookups.exhausted(OrgNo(16)), Exhausted::InAll);
    for org in 17..100 {
        assert!(lookups.ask(OrgNo(org), "other").found().await.is_ok());
    }
    drop(hold);
    assert!(more.found().await.is_ok());
}

#[tokio::test]
async fn equal_names_of_an_organization_share_one_lookup() {
    let (lookups, hold, names) = pool();
    let mut all: Vec<_> = (0..100).map(|_| lookups.ask(OrgNo(1), "hang")).collect();
    all.push(lookups.ask(OrgNo(2), "hang"));
    for asked in &mut all {
        assert!(begins(asked, LONG).await);
    }
    drop(hold);
    for asked in all {
        assert_eq!(asked.found().await.unwrap().len(), 1);
    }
    assert_eq!(names.try_iter().count(), 2, "one for each organization");
    assert!(lookups.ask(OrgNo(1), "hang").found().await.is_ok());
    assert_eq!(names.try_iter().count(), 1, "a lookup that is over is not kept");
}

#[tokio::test]
async fn a_lookup_that_nobody_waits_for_never_begins_and_is_forgotten() {
    let (lookups, hold, names) = pool();
    let hanging = hang(&lookups, 1, 0..4).await;
    for name in 0..1_000 {
        drop(lookups.ask(OrgNo(1), &format!("left-{name}")));
    }
    let last = lookups.ask(OrgNo(1), "last");
    {
        let queue = lookups.lock();
        assert_eq!((queue.waiting.len(), queue.by_key.len()), (1, 5));
    }
    drop(hold);
    for asked in hanging.into_iter().chain([last]) {
        assert!(asked.found().await.is_ok());
    }
    let names: Vec<_> = names.try_iter().collect();
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(lookups.lock().by_key.is_empty());
}

#[tokio::test]
async fn the_system_looks_names_up() {
    let lookups = Lookups::for_tests();
    let found = lookups.ask(OrgNo(1), "localhost").found().await.unwrap();
    assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
    // Names below .invalid never exist (RFC 6761, 6.4).
    assert!(lookups.ask(OrgNo(1), "hooks.invalid").found().await.is_err());
}
