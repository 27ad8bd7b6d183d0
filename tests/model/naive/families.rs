//! Families of keys: the keys that come from one key by rotation.

use triggerd::commands::RotateKey;
use triggerd::model::key::Key;
use triggerd::store::GRACE_KEYS_PER_FAMILY;

use super::{NaiveOrg, made, valid};

/// Records the family of the new key, and ends keys of the family that are too many in their
/// grace: first those that the rotated key, as it `was`, may end, then itself.
pub(super) fn bound(org: &mut NaiveOrg, rotate: &RotateKey, was: &Key) {
    let family = org.families.get(&rotate.old).copied().unwrap_or(rotate.old);
    org.families.insert(rotate.new.id, family);
    loop {
        let of_family = |key: &&Key| org.families.get(&key.id).copied().unwrap_or(key.id) == family;
        let leaving: Vec<_> =
            org.keys.iter().filter(of_family).filter(|key| key.ended_at.is_some()).collect();
        let valid = leaving.iter().filter(|key| valid(key, made(&rotate.new)));
        if valid.clone().count() <= GRACE_KEYS_PER_FAMILY {
            return;
        }
        let others = valid.filter(|key| ![rotate.old, rotate.new.id].contains(&key.id));
        let may_end = others.filter(|key| may_end(was, key));
        let first = may_end.map(|key| (key.ended_at, key.id)).min();
        let first = first.map_or(rotate.old, |(_, id)| id);
        org.keys.retain(|key| key.id != first);
        org.used.remove(&first);
    }
}

/// Says whether a key may end another one: a key in its grace period ends no other, and no key ends
/// one with more scopes or a later end.
fn may_end(by: &Key, other: &Key) -> bool {
    let ends = |key: &Key| [key.expires_at, key.ended_at].into_iter().flatten().min();
    let is_earlier = ends(by).is_none_or(|end| ends(other).is_some_and(|other| other <= end));
    by.ended_at.is_none() && by.scopes.covers(other.scopes) && is_earlier
}
