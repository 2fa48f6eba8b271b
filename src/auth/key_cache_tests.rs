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
    id::{KeyId, TenantId},
    key_group::KeyGroup,
    scope::ScopeSet,
    tenant::Environment,
};

fn parts(number: u64) -> PrincipalParts {
    PrincipalParts::new(
        "tronagg".parse().expect("a slug"),
        Environment::Live,
        ExternalId::parse("user-1", AccountFormat::Any).expect("an id"),
        KeyId::from_uuid(Uuid::from_u128(number.into())),
        ScopeSet::parse(["read"]).expect("a scope"),
    )
}

fn principal(number: u64) -> Principal {
    Principal::new(parts(number))
}

fn group(tenant: u8) -> KeyGroup {
    KeyGroup::of_tenant(TenantId::from_uuid(Uuid::from_u128(tenant.into())))
}

/// Returns a principal of this tenant.
fn principal_of(tenant: u8, number: u64) -> Principal {
    Principal::new(parts(number).in_group(group(tenant)))
}

/// Returns a hash with this tag. `rest` distinguishes the hashes of one tag.
fn hash_with(tag: u64, rest: u8) -> KeyHash {
    let mut bytes = [rest; 32];
    bytes[..8].copy_from_slice(&tag.to_be_bytes());
    KeyHash::from_bytes(bytes)
}

/// Returns the hash of a number. The hashes are spread as evenly as SHA-256 digests.
fn hash(number: u64) -> KeyHash {
    hash_with(number.wrapping_mul(0x9E37_79B9_7F4A_7C15), 0)
}

fn cached(cache: &KeyCache, hash: &KeyHash) -> Option<Verdict> {
    match cache.look_up(hash) {
        Found::Hit(verdict) => Some(verdict),
        Found::Miss(_) => None,
    }
}

fn store(cache: &KeyCache, hash: &KeyHash, verdict: &Verdict) {
    cache.insert(hash, cache.ticket(hash), verdict);
}

#[test]
fn verdict_is_cached_completely_and_replaced_by_a_newer_one() {
    let cache = KeyCache::new(100);
    let reasons = [
        Denial::Revoked,
        Denial::Expired,
        Denial::Disabled,
        Denial::TenantSuspended,
        Denial::AccountSuspended,
    ];
    let reasons = reasons.map(Some);
    for (number, reason) in (0..).zip([None].into_iter().chain(reasons)) {
        let verdict = match reason {
            None => Ok(principal(number)),
            Some(reason) => Err(Denied::of(principal(number), reason)),
        };
        store(&cache, &hash(number), &verdict);
        assert_eq!(cached(&cache, &hash(number)), Some(verdict));
    }
    store(&cache, &hash(0), &Err(Denied::new(Denial::Revoked)));
    assert_eq!(cached(&cache, &hash(0)), Some(Err(Denial::Revoked.into())));
    assert_eq!(cache.counts().0, 6);
}

#[test]
fn verdicts_about_unknown_keys_and_outages_are_not_cached() {
    let cache = KeyCache::new(100);
    for reason in [Denial::NotFound, Denial::Malformed, Denial::Unavailable] {
        store(&cache, &hash(1), &Err(reason.into()));
        assert_eq!(cached(&cache, &hash(1)), None, "{reason:?}");
    }
    assert_eq!(cache.counts().0, 0);
}

#[test]
fn verdict_read_before_an_invalidation_is_not_cached_after_it() {
    let cache = KeyCache::new(100);
    let read_before = cache.ticket(&hash(1));
    cache.invalidate(hash(1).tag());
    cache.insert(&hash(1), read_before, &Ok(principal(1)));
    assert_eq!(cached(&cache, &hash(1)), None);

    let read_before = cache.ticket(&hash(1));
    cache.clear();
    cache.insert(&hash(1), read_before, &Ok(principal(1)));
    assert_eq!(cached(&cache, &hash(1)), None);

    store(&cache, &hash(1), &Ok(principal(1)));
    assert_eq!(cached(&cache, &hash(1)), Some(Ok(principal(1))));
}

#[test]
fn invalidation_removes_all_keys_with_the_tag_and_no_others() {
    let cache = KeyCache::new(1000);
    for rest in 0..20 {
        store(&cache, &hash_with(7, rest), &Ok(principal(7)));
        store(&cache, &hash_with(8, rest), &Ok(principal(8)));
    }
    cache.invalidate(hash_with(7, 0).tag());
    for rest in 0..20 {
        assert_eq!(cached(&cache, &hash_with(7, rest)), None);
        assert_eq!(cached(&cache, &hash_with(8, rest)), Some(Ok(principal(8))));
    }
}

#[test]
fn change_to_a_group_makes_exactly_its_earlier_verdicts_stale() {
    let cache = KeyCache::new(1000);
    for number in 0..40 {
        store(&cache, &hash(number), &Ok(principal_of(u8::from(number >= 20), number)));
    }
    let read_before = cache.ticket(&hash(50));
    cache.invalidate_group(group(1));
    cache.insert(&hash(50), read_before, &Ok(principal_of(1, 50)));
    for number in (0..40).chain([50]) {
        let is_kept = number < 20;
        assert_eq!(cached(&cache, &hash(number)).is_some(), is_kept, "{number}");
    }
    store(&cache, &hash(20), &Ok(principal_of(1, 20)));
    assert_eq!(cached(&cache, &hash(20)), Some(Ok(principal_of(1, 20))));
    // A change to one group does not make a later verdict on a key of another group stale.
    cache.invalidate_group(group(0));
    assert_eq!(cached(&cache, &hash(20)), Some(Ok(principal_of(1, 20))));
    assert_eq!(cached(&cache, &hash(0)), None);
}

#[test]
fn cache_never_exceeds_its_capacity() {
    for capacity in [0, 1, 2, 15, 16, 17, 1000, 17_000] {
        let cache = KeyCache::new(capacity);
        let keys = 3 * capacity as u64 + 10;
        for number in 0..keys {
            store(&cache, &hash(number), &Ok(principal(number)));
            assert!(cache.counts().0 <= capacity);
        }
        assert_eq!(cache.counts().0, capacity);
        let kept = (0..keys).filter(|number| cached(&cache, &hash(*number)).is_some());
        assert_eq!(kept.count(), capacity);
    }
}

#[test]
fn scan_evicts_almost_no_keys_in_use() {
    let cache = KeyCache::new(4_000);
    let in_use = 0..2_000;
    for number in in_use.clone() {
        store(&cache, &hash(number), &Ok(principal(number)));
    }
    let mut missed = 0;
    let mut scanned = 1_000_000..;
    for round in 0..50 {
        for number in in_use.clone() {
            if cached(&cache, &hash(number)).is_none() {
                missed += 1;
                store(&cache, &hash(number), &Ok(principal(number)));
            }
            // The round also looks up an equal number of other keys, each only once.
            let once = scanned.next().expect("endless");
            assert_eq!(cached(&cache, &hash(once)), None, "in round {round}");
            store(&cache, &hash(once), &Ok(principal(once)));
        }
    }
    let share = f64::from(missed) / (50.0 * 2_000.0);
    assert!(share < 0.01, "{share} of the keys in use were evicted");
}

/// An operation on a cache. The operations use only a few keys, so that many of them concern the
/// same key.
#[derive(Clone, Debug)]
enum Step {
    Ask(u8),
    Read(u8),
    Insert(u8),
    Change(u8),
    ChangeGroup(u8),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..12_u8;
    prop_oneof![
        4 => key.clone().prop_map(Step::Ask),
        6 => key.clone().prop_map(Step::Read),
        6 => key.clone().prop_map(Step::Insert),
        2 => key.clone().prop_map(Step::Change),
        1 => key.prop_map(Step::ChangeGroup),
        1 => Just(Step::Clear),
    ]
}

/// Returns the hash of a key. Three keys share a tag.
fn key(number: u8) -> KeyHash {
    hash_with(tag(number).wrapping_mul(0x9E37_79B9_7F4A_7C15), number)
}

fn tag(number: u8) -> u64 {
    u64::from(number / 3)
}

/// Returns the tenant of a key. Keys with one tag can belong to two tenants.
fn tenant(number: u8) -> u8 {
    number % 2
}

proptest! {
    /// The cache may forget a key, but never returns a verdict from before the key's last change.
    #[test]
    fn cached_verdict_is_never_older_than_the_last_change(
        capacity in 0..12_usize, steps in prop::collection::vec(step(), 1..300)
    ) {
        let cache = KeyCache::new(capacity);
        // The number of changes to each key. Verdicts about a key carry this number.
        let mut changes = [0; 12];
        let change = |changes: &mut [u64; 12], is_changed: &dyn Fn(u8) -> bool| {
            let keys = (0_u8..).zip(changes);
            keys.filter(|(key, _)| is_changed(*key)).for_each(|(_, changes)| *changes += 1);
        };
        let mut reading = HashMap::new();
        for step in steps {
            match step {
                Step::Ask(number) => {
                    if let Some(verdict) = cached(&cache, &key(number)) {
                        let newest = changes[usize::from(number)];
                        prop_assert_eq!(verdict, Ok(principal_of(tenant(number), newest)));
                    }
                }
                Step::Read(number) => {
                    let read = principal_of(tenant(number), changes[usize::from(number)]);
                    reading.insert(number, (cache.ticket(&key(number)), read));
                }
                Step::Insert(number) => {
                    if let Some((ticket, read)) = reading.remove(&number) {
                        cache.insert(&key(number), ticket, &Ok(read));
                    }
                }
                Step::Change(number) => {
                    change(&mut changes, &|key| tag(key) == tag(number));
                    cache.invalidate(key(number).tag());
                }
                Step::ChangeGroup(number) => {
                    change(&mut changes, &|key| tenant(key) == tenant(number));
                    cache.invalidate_group(group(tenant(number)));
                }
                Step::Clear => {
                    // Any key may have changed before the cache was cleared.
                    change(&mut changes, &|_| true);
                    cache.clear();
                    prop_assert_eq!(cache.counts().0, 0);
                }
            }
            prop_assert!(cache.counts().0 <= capacity);
        }
    }
}
