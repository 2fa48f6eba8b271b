use std::collections::HashMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::{
    Denial, Denied, Principal, PrincipalParts, Verdict,
    key_cache::{Found, KeyCache},
};
use crate::domain::{
    account::{AccountFormat, ExternalId},
    api_key::KeyHash,
    id::KeyId,
    scope::ScopeSet,
    tenant::Environment,
};

fn principal(number: u64) -> Principal {
    Principal::new(PrincipalParts::new(
        "tronagg".parse().expect("a slug"),
        Environment::Live,
        ExternalId::parse("user-1", AccountFormat::Any).expect("an id"),
        KeyId::from_uuid(Uuid::from_u128(number.into())),
        ScopeSet::parse(["read"]).expect("a scope"),
    ))
}

/// A hash with this tag; `rest` tells those of one tag apart.
fn hash_with(tag: u64, rest: u8) -> KeyHash {
    let mut bytes = [rest; 32];
    bytes[..8].copy_from_slice(&tag.to_be_bytes());
    KeyHash::from_bytes(bytes)
}

/// The hash of a number: spread as a SHA-256 is.
fn hash(number: u64) -> KeyHash {
    hash_with(number.wrapping_mul(0x9E37_79B9_7F4A_7C15), 0)
}

fn found(cache: &KeyCache, hash: &KeyHash) -> Option<Verdict> {
    match cache.look_up(hash) {
        Found::Hit(verdict) => Some(verdict),
        Found::Miss(_) => None,
    }
}

fn keep(cache: &KeyCache, hash: &KeyHash, verdict: &Verdict) {
    cache.insert(hash, cache.ticket(hash), verdict);
}

#[test]
fn what_is_said_of_a_key_is_kept_whole() {
    let cache = KeyCache::new(100);
    let reasons =
        [Denial::Revoked, Denial::Expired, Denial::Disabled, Denial::AccountSuspended].map(Some);
    for (number, reason) in (0..).zip([None].into_iter().chain(reasons)) {
        let verdict = match reason {
            None => Ok(principal(number)),
            Some(reason) => Err(Denied::of(principal(number), reason)),
        };
        keep(&cache, &hash(number), &verdict);
        assert_eq!(found(&cache, &hash(number)), Some(verdict));
    }
    // Another verdict takes the place of the one before.
    keep(&cache, &hash(0), &Err(Denied::new(Denial::Revoked)));
    assert_eq!(found(&cache, &hash(0)), Some(Err(Denial::Revoked.into())));
    assert_eq!(cache.counts().0, 5);
}

#[test]
fn what_is_no_key_is_not_kept() {
    let cache = KeyCache::new(100);
    for reason in [Denial::NotFound, Denial::Malformed, Denial::Unavailable] {
        keep(&cache, &hash(1), &Err(reason.into()));
        assert_eq!(found(&cache, &hash(1)), None, "{reason:?}");
    }
    assert_eq!(cache.counts().0, 0);
}

#[test]
fn what_was_read_before_a_change_does_not_come_in_after_it() {
    let cache = KeyCache::new(100);
    let read_before = cache.ticket(&hash(1));
    cache.invalidate(hash(1).tag());
    cache.insert(&hash(1), read_before, &Ok(principal(1)));
    assert_eq!(found(&cache, &hash(1)), None);

    let read_before = cache.ticket(&hash(1));
    cache.clear();
    cache.insert(&hash(1), read_before, &Ok(principal(1)));
    assert_eq!(found(&cache, &hash(1)), None);

    keep(&cache, &hash(1), &Ok(principal(1)));
    assert_eq!(found(&cache, &hash(1)), Some(Ok(principal(1))));
}

#[test]
fn a_change_is_of_all_keys_with_its_tag_and_of_no_other() {
    let cache = KeyCache::new(1000);
    for rest in 0..20 {
        keep(&cache, &hash_with(7, rest), &Ok(principal(7)));
        keep(&cache, &hash_with(8, rest), &Ok(principal(8)));
    }
    cache.invalidate(hash_with(7, 0).tag());
    for rest in 0..20 {
        assert_eq!(found(&cache, &hash_with(7, rest)), None);
        assert_eq!(found(&cache, &hash_with(8, rest)), Some(Ok(principal(8))));
    }
}

#[test]
fn it_is_bounded() {
    for capacity in [0, 1, 2, 15, 16, 17, 1000, 17_000] {
        let cache = KeyCache::new(capacity);
        let keys = 3 * capacity as u64 + 10;
        for number in 0..keys {
            keep(&cache, &hash(number), &Ok(principal(number)));
            assert!(cache.counts().0 <= capacity);
        }
        // Every part of it is full by now.
        assert_eq!(cache.counts().0, capacity);
        let kept = (0..keys).filter(|number| found(&cache, &hash(*number)).is_some());
        assert_eq!(kept.count(), capacity);
    }
}

#[test]
fn a_scan_goes_by_what_is_in_use() {
    let cache = KeyCache::new(4_000);
    let in_use = 0..2_000;
    for number in in_use.clone() {
        keep(&cache, &hash(number), &Ok(principal(number)));
    }
    let mut missed = 0;
    let mut scanned = 1_000_000..;
    for round in 0..50 {
        for number in in_use.clone() {
            if found(&cache, &hash(number)).is_none() {
                missed += 1;
                keep(&cache, &hash(number), &Ok(principal(number)));
            }
            // As many keys again that are asked for once and never more.
            let once = scanned.next().expect("there is no end");
            assert_eq!(found(&cache, &hash(once)), None, "in round {round}");
            keep(&cache, &hash(once), &Ok(principal(once)));
        }
    }
    let share = f64::from(missed) / (50.0 * 2_000.0);
    assert!(share < 0.01, "{share} of those in use were pushed out");
}

/// What can be done to a cache, with a key out of few, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Ask(u8),
    Read(u8),
    Insert(u8),
    Change(u8),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..12_u8;
    prop_oneof![
        4 => key.clone().prop_map(Step::Ask),
        6 => key.clone().prop_map(Step::Read),
        6 => key.clone().prop_map(Step::Insert),
        2 => key.prop_map(Step::Change),
        1 => Just(Step::Clear),
    ]
}

/// Three keys share a tag.
fn key(number: u8) -> KeyHash {
    hash_with(tag(number).wrapping_mul(0x9E37_79B9_7F4A_7C15), number)
}

fn tag(number: u8) -> u64 {
    u64::from(number / 3)
}

proptest! {
    /// It may have forgotten a key, and never says of one what was so before its last change.
    #[test]
    fn what_is_found_is_so(
        capacity in 0..12_usize, steps in prop::collection::vec(step(), 1..300)
    ) {
        let cache = KeyCache::new(capacity);
        // By tag, how often it was changed: that is what is said of its keys.
        let mut changes = [0; 4];
        let mut reading = HashMap::new();
        for step in steps {
            match step {
                Step::Ask(number) => {
                    if let Some(verdict) = found(&cache, &key(number)) {
                        prop_assert_eq!(verdict, Ok(principal(changes[tag(number) as usize])));
                    }
                }
                Step::Read(number) => {
                    let read = principal(changes[tag(number) as usize]);
                    reading.insert(number, (cache.ticket(&key(number)), read));
                }
                Step::Insert(number) => {
                    if let Some((ticket, read)) = reading.remove(&number) {
                        cache.insert(&key(number), ticket, &Ok(read));
                    }
                }
                Step::Change(number) => {
                    changes[tag(number) as usize] += 1;
                    cache.invalidate(key(number).tag());
                }
                Step::Clear => {
                    // As after a time in which anything may have changed.
                    changes.iter_mut().for_each(|changes| *changes += 1);
                    cache.clear();
                    prop_assert_eq!(cache.counts().0, 0);
                }
            }
            prop_assert!(cache.counts().0 <= capacity);
        }
    }
}
