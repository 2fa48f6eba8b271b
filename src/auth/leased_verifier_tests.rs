use std::{
    cell::Cell,
    sync::{Arc, Mutex},
    time::Duration,
};

use uuid::Uuid;

use super::{
    CacheState, Denial, Denied, KeyLookup, KeyVerifier as _, LeasedVerifier, NoVerdict, Presented,
    Principal, PrincipalParts, Verdict,
};
use crate::domain::{
    account::{AccountFormat, ExternalId},
    api_key::KeyText,
    id::KeyId,
    scope::ScopeSet,
    server::ServerId,
    tenant::Environment,
    timestamp::Timestamp,
};

const LEASE: Duration = Duration::from_secs(2);

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::from_secs(1000)) };
}

fn advance(time: Duration) {
    NOW.set(NOW.get() + time);
}

/// Returns the database's clock, which runs at the same rate as the machine's clock.
fn database_clock() -> Timestamp {
    let micros = 1_800_000_000_000_000 + NOW.get().as_micros();
    Timestamp::from_unix_micros(i64::try_from(micros).expect("in range")).expect("in range")
}

const SERVER: ServerId = ServerId::started_at(1);
const OTHER_SERVER: ServerId = ServerId::started_at(2);

/// A stub that returns the verdict that the test has set, and counts the calls. [`SERVER`] is the
/// server that it reads.
#[derive(Clone)]
struct StubLookup(Arc<Mutex<(Verdict, u32)>>);

impl StubLookup {
    fn new(verdict: Verdict) -> Self {
        Self(Arc::new(Mutex::new((verdict, 0))))
    }

    fn set_verdict(&self, verdict: Verdict) {
        self.0.lock().expect("no panic").0 = verdict;
    }

    fn calls(&self) -> u32 {
        self.0.lock().expect("no panic").1
    }
}

impl KeyLookup for StubLookup {
    async fn look_up(&self, _: &Presented<'_>, server: ServerId) -> Option<Verdict> {
        let mut state = self.0.lock().expect("no panic");
        state.1 += 1;
        (server == SERVER).then(|| state.0.clone())
    }
}

fn principal(expires_at: Option<Timestamp>) -> Principal {
    Principal::new(
        PrincipalParts::new(
            "tronagg".parse().expect("a slug"),
            Environment::Live,
            ExternalId::parse("user-1", AccountFormat::Any).expect("an id"),
            KeyId::from_uuid(Uuid::from_u128(1)),
            ScopeSet::parse(["read"]).expect("a scope"),
        )
        .expiring(expires_at),
    )
}

fn key() -> KeyText {
    KeyText::parse(&format!("ta_{:043}", 1)).expect("well formed")
}

fn verifier_with_lease(verdict: Verdict) -> (LeasedVerifier<StubLookup>, StubLookup) {
    let inner = StubLookup::new(verdict);
    let verifier = LeasedVerifier::new(inner.clone(), 100, || NOW.get());
    verifier.grant_lease(NOW.get(), LEASE, database_clock(), SERVER);
    (verifier, inner)
}

#[tokio::test]
async fn key_is_looked_up_once_under_a_lease() {
    let (verifier, inner) = verifier_with_lease(Ok(principal(None)));
    assert_eq!(verifier.verify_at_once(&Presented::new(&key())), None);
    for _ in 0..3 {
        assert_eq!(verifier.verify(&Presented::new(&key())).await, Ok(principal(None)));
        assert_eq!(verifier.verify_at_once(&Presented::new(&key())), Some(Ok(principal(None))));
    }
    assert_eq!(inner.calls(), 1);
    let state = CacheState { keys: 1, hits: 5, misses: 1, without_lease: 0, holds_lease: true };
    assert_eq!(verifier.state(), state);
}

#[tokio::test]
async fn every_key_is_refused_without_a_lease() {
    let (verifier, inner) = verifier_with_lease(Ok(principal(None)));
    verifier.verify(&Presented::new(&key())).await.expect("an accepted key");
    advance(LEASE);
    assert_eq!(verifier.verify_at_once(&Presented::new(&key())), None);
    assert_eq!(verifier.ask(&Presented::new(&key())).await, Err(NoVerdict::NoLease));
    assert_eq!(verifier.verify(&Presented::new(&key())).await, Err(Denial::Unavailable.into()));
    assert_eq!((inner.calls(), verifier.state().without_lease), (1, 2));
    assert!(!verifier.state().holds_lease);
}

#[tokio::test]
async fn answer_of_another_server_is_neither_used_nor_cached() {
    let (verifier, inner) = verifier_with_lease(Ok(principal(None)));
    verifier.grant_lease(NOW.get(), LEASE, database_clock(), OTHER_SERVER);
    for calls in 1..=2 {
        assert_eq!(verifier.ask(&Presented::new(&key())).await, Err(NoVerdict::OtherServer));
        assert_eq!((inner.calls(), verifier.state().keys), (calls, 0));
    }
    verifier.grant_lease(NOW.get(), LEASE, database_clock(), SERVER);
    assert_eq!(verifier.ask(&Presented::new(&key())).await, Ok(Ok(principal(None))));
}

#[tokio::test]
async fn invalidated_or_cleared_key_is_looked_up_again() {
    let (verifier, inner) = verifier_with_lease(Ok(principal(None)));
    verifier.verify(&Presented::new(&key())).await.expect("an accepted key");
    let denied = Denied::of(principal(None), Denial::Disabled);
    inner.set_verdict(Err(denied.clone()));
    verifier.invalidate(key().hash().tag());
    assert_eq!(verifier.verify(&Presented::new(&key())).await, Err(denied.clone()));
    assert_eq!(verifier.verify_at_once(&Presented::new(&key())), Some(Err(denied)));
    inner.set_verdict(Ok(principal(None)));
    verifier.clear();
    assert_eq!(verifier.verify(&Presented::new(&key())).await, Ok(principal(None)));
}

#[tokio::test]
async fn key_near_its_expiry_is_looked_up_until_it_has_expired() {
    let expires_at = database_clock().plus_seconds(1);
    let (verifier, inner) = verifier_with_lease(Ok(principal(expires_at)));
    verifier.verify(&Presented::new(&key())).await.expect("an accepted key");
    // Shortly before its expiry, the key may already have expired. Only the database can decide.
    advance(Duration::from_millis(990));
    assert_eq!(verifier.verify_at_once(&Presented::new(&key())), None);
    assert_eq!(verifier.verify(&Presented::new(&key())).await, Ok(principal(expires_at)));
    advance(Duration::from_millis(10));
    let expired = Err(Denied::of(principal(expires_at), Denial::Expired));
    inner.set_verdict(expired.clone());
    assert_eq!(verifier.verify(&Presented::new(&key())).await, expired);
    assert_eq!(inner.calls(), 3);
    assert_eq!(verifier.verify_at_once(&Presented::new(&key())), Some(expired));
    let state = verifier.state();
    assert_eq!((state.hits, state.misses), (1, 3));
}

#[tokio::test]
async fn cached_disabled_key_is_looked_up_again_at_its_expiry() {
    let principal = principal(database_clock().plus_seconds(1));
    let denied = |reason| Err(Denied::of(principal.clone(), reason));
    let (verifier, inner) = verifier_with_lease(denied(Denial::Disabled));
    for _ in 0..2 {
        assert_eq!(verifier.verify(&Presented::new(&key())).await, denied(Denial::Disabled));
    }
    advance(Duration::from_secs(1));
    inner.set_verdict(denied(Denial::Expired));
    for _ in 0..2 {
        assert_eq!(verifier.verify(&Presented::new(&key())).await, denied(Denial::Expired));
    }
    assert_eq!(inner.calls(), 2);
}

#[tokio::test]
async fn outage_is_not_cached() {
    let (verifier, inner) = verifier_with_lease(Err(Denial::Unavailable.into()));
    assert_eq!(verifier.verify(&Presented::new(&key())).await, Err(Denial::Unavailable.into()));
    inner.set_verdict(Ok(principal(None)));
    assert_eq!(verifier.verify(&Presented::new(&key())).await, Ok(principal(None)));
}
