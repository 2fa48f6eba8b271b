use std::{
    cell::Cell,
    sync::{Arc, Mutex},
    time::Duration,
};

use uuid::Uuid;

use super::{
    CacheState, Denial, Denied, KeyVerifier, LeasedVerifier, Presented, Principal, PrincipalParts,
    Verdict,
};
use crate::domain::{
    account::{AccountFormat, ExternalId},
    api_key::KeyText,
    id::KeyId,
    scope::ScopeSet,
    tenant::Environment,
    timestamp::Timestamp,
};

const LEASE: Duration = Duration::from_secs(2);

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::from_secs(1000)) };
}

fn pass(time: Duration) {
    NOW.set(NOW.get() + time);
}

/// The database's clock, which runs as the machine's does.
fn database_clock() -> Timestamp {
    let micros = 1_800_000_000_000_000 + NOW.get().as_micros();
    Timestamp::from_unix_micros(i64::try_from(micros).expect("in range")).expect("in range")
}

/// Says what it is told to, and counts how often it was asked.
#[derive(Clone)]
struct Told(Arc<Mutex<(Verdict, u32)>>);

impl Told {
    fn new(verdict: Verdict) -> Self {
        Self(Arc::new(Mutex::new((verdict, 0))))
    }

    fn say(&self, verdict: Verdict) {
        self.0.lock().expect("no panic").0 = verdict;
    }

    fn asked(&self) -> u32 {
        self.0.lock().expect("no panic").1
    }
}

impl KeyVerifier for Told {
    async fn verify(&self, _: &Presented<'_>) -> Verdict {
        let mut told = self.0.lock().expect("no panic");
        told.1 += 1;
        told.0.clone()
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

fn leased(verdict: Verdict) -> (LeasedVerifier<Told>, Told) {
    let inner = Told::new(verdict);
    let verifier = LeasedVerifier::new(inner.clone(), 100, || NOW.get());
    verifier.grant_lease(NOW.get(), LEASE, database_clock());
    (verifier, inner)
}

#[tokio::test]
async fn by_a_lease_the_key_is_asked_about_once() {
    let (verifier, inner) = leased(Ok(principal(None)));
    assert_eq!(verifier.verify_at_once(&Presented::new(&key())), None);
    for _ in 0..3 {
        assert_eq!(verifier.verify(&Presented::new(&key())).await, Ok(principal(None)));
        assert_eq!(verifier.verify_at_once(&Presented::new(&key())), Some(Ok(principal(None))));
    }
    assert_eq!(inner.asked(), 1);
    let state = CacheState { keys: 1, hits: 5, misses: 1, without_lease: 0, holds_lease: true };
    assert_eq!(verifier.state(), state);
}

#[tokio::test]
async fn without_a_lease_it_is_asked_about_every_time() {
    let (verifier, inner) = leased(Ok(principal(None)));
    verifier.verify(&Presented::new(&key())).await.expect("it passes");
    pass(LEASE);
    inner.say(Err(Denial::Unavailable.into()));
    assert_eq!(verifier.verify_at_once(&Presented::new(&key())), None);
    assert_eq!(verifier.verify(&Presented::new(&key())).await, Err(Denial::Unavailable.into()));
    inner.say(Err(Denial::Revoked.into()));
    assert_eq!(verifier.verify(&Presented::new(&key())).await, Err(Denial::Revoked.into()));
    assert_eq!((inner.asked(), verifier.state().without_lease), (3, 2));
    assert!(!verifier.state().holds_lease);
}

#[tokio::test]
async fn a_change_is_seen_at_once() {
    let (verifier, inner) = leased(Ok(principal(None)));
    verifier.verify(&Presented::new(&key())).await.expect("it passes");
    let denied = Denied::of(principal(None), Denial::Disabled);
    inner.say(Err(denied.clone()));
    verifier.invalidate(key().hash().tag());
    assert_eq!(verifier.verify(&Presented::new(&key())).await, Err(denied.clone()));
    assert_eq!(verifier.verify_at_once(&Presented::new(&key())), Some(Err(denied)));
    inner.say(Ok(principal(None)));
    verifier.clear();
    assert_eq!(verifier.verify(&Presented::new(&key())).await, Ok(principal(None)));
}

#[tokio::test]
async fn a_key_that_may_have_expired_is_asked_about_and_then_dead_for_good() {
    let expires_at = database_clock().plus_seconds(1);
    let (verifier, inner) = leased(Ok(principal(expires_at)));
    verifier.verify(&Presented::new(&key())).await.expect("it passes");
    // A little before its time it may have come; the database knows.
    pass(Duration::from_millis(990));
    assert_eq!(verifier.verify_at_once(&Presented::new(&key())), None);
    assert_eq!(verifier.verify(&Presented::new(&key())).await, Ok(principal(expires_at)));
    pass(Duration::from_millis(10));
    let expired = Err(Denied::of(principal(expires_at), Denial::Expired));
    inner.say(expired.clone());
    assert_eq!(verifier.verify(&Presented::new(&key())).await, expired);
    assert_eq!(inner.asked(), 3);
    assert_eq!(verifier.verify_at_once(&Presented::new(&key())), Some(expired));
    let state = verifier.state();
    assert_eq!((state.hits, state.misses), (1, 3));
}

#[tokio::test]
async fn a_key_that_is_disabled_expires_all_the_same() {
    let principal = principal(database_clock().plus_seconds(1));
    let denied = |reason| Err(Denied::of(principal.clone(), reason));
    let (verifier, inner) = leased(denied(Denial::Disabled));
    for _ in 0..2 {
        assert_eq!(verifier.verify(&Presented::new(&key())).await, denied(Denial::Disabled));
    }
    pass(Duration::from_secs(1));
    inner.say(denied(Denial::Expired));
    for _ in 0..2 {
        assert_eq!(verifier.verify(&Presented::new(&key())).await, denied(Denial::Expired));
    }
    assert_eq!(inner.asked(), 2);
}

#[tokio::test]
async fn an_outage_is_not_remembered() {
    let (verifier, inner) = leased(Err(Denial::Unavailable.into()));
    assert_eq!(verifier.verify(&Presented::new(&key())).await, Err(Denial::Unavailable.into()));
    inner.say(Ok(principal(None)));
    assert_eq!(verifier.verify(&Presented::new(&key())).await, Ok(principal(None)));
}
