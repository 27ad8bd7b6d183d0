//! Tests of the activity stream: listeners hear all of their own organization and nothing else, and
//! slow listeners delay nobody.

use super::*;
use crate::model::id::EventId;
use crate::model::time::Timestamp;

const ONE: OrgNo = OrgNo(1);
const TWO: OrgNo = OrgNo(2);

fn item(id: u128) -> Activity {
    let event_type = "a.b".parse().unwrap();
    Activity::Accepted { event: EventId(id), event_type, received_at: Timestamp(7) }
}

fn accepted(id: u128) -> Heard {
    Heard::Activity(Arc::new(item(id)))
}

fn tell_accepted(
    activity_stream: &ActivityStream,
    org: OrgNo,
    ids: std::ops::RangeInclusive<u128>,
) {
    activity_stream.publish(ids.map(|id| (org, item(id))).collect());
}

#[tokio::test]
async fn a_listener_hears_of_its_organization_alone_what_is_new() {
    let activity_stream = ActivityStream::default();
    assert!(!activity_stream.is_watched());
    tell_accepted(&activity_stream, ONE, 1..=1);
    let (mut one, mut two) =
        (activity_stream.listen(ONE).unwrap(), activity_stream.listen(TWO).unwrap());
    assert!(activity_stream.is_watched());
    tell_accepted(&activity_stream, ONE, 2..=3);
    assert_eq!(one.next().await, accepted(2), "what was before nobody listened is gone");
    assert_eq!(one.try_next(), Some(accepted(3)));
    assert_eq!((one.try_next(), two.try_next()), (None, None));
}

#[tokio::test]
async fn who_is_too_slow_hears_how_many_it_missed_and_goes_on_and_another_one_misses_nothing() {
    let activity_stream = ActivityStream::default();
    let (mut slow, mut quick) =
        (activity_stream.listen(ONE).unwrap(), activity_stream.listen(ONE).unwrap());
    let most = BEHIND_MAX as u128;
    tell_accepted(&activity_stream, ONE, 1..=most);
    for id in 1..=most {
        assert_eq!(quick.try_next(), Some(accepted(id)));
    }
    // Items of another organization do not count.
    let _other = activity_stream.listen(TWO).unwrap();
    tell_accepted(&activity_stream, TWO, 1..=most);
    tell_accepted(&activity_stream, ONE, most + 1..=most + 10);
    assert_eq!(slow.next().await, Heard::Missed(10));
    for id in 11..=most + 10 {
        assert_eq!(slow.try_next(), Some(accepted(id)));
    }
    assert_eq!(slow.try_next(), None);
    assert_eq!(quick.next().await, accepted(most + 1));
}

#[test]
fn listeners_are_bounded_and_what_nobody_listens_to_is_gone() {
    let activity_stream = ActivityStream::default();
    let mut all: Vec<_> =
        (0..LISTENERS_PER_ORG_MAX).map(|_| activity_stream.listen(ONE).unwrap()).collect();
    assert_eq!(activity_stream.listen(ONE).unwrap_err(), Exhausted::OfOne);
    drop(all.pop());
    all.push(activity_stream.listen(ONE).unwrap());
    // A few organizations with all their listeners leave room for many others.
    let mut listen_all = |org| {
        let before = all.len();
        all.extend(std::iter::from_fn(|| activity_stream.listen(OrgNo(org)).ok()));
        all.len() > before
    };
    let served = (2..1_000).take_while(|org| listen_all(*org)).count();
    assert!(served > 30, "{served}");
    assert_eq!(activity_stream.listen(OrgNo(10_000)).unwrap_err(), Exhausted::InAll);
    drop(all);
    assert_eq!(
        (
            activity_stream.0.channels.lock().unwrap().len(),
            activity_stream.0.listeners.load(Ordering::SeqCst)
        ),
        (0, 0)
    );
    assert!(!activity_stream.is_watched(), "so commands make no activity");
}
