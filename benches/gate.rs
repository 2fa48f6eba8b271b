//! Measures the gate without a server: the time and the allocations of a verification from the
//! cache, and the memory per cached key.
//!
//! In addition to criterion's report, this program prints a line for each figure. `bench/pairs.py`
//! reads these lines.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    convert::Infallible,
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    http::{Request, Response},
};
use criterion::{Criterion, criterion_group, criterion_main};
use tollgate::{
    auth::{
        ApiKeyLayer, KeyLookup, KeyVerifier, LeasedVerifier, Presented, Principal, PrincipalParts,
        Verdict,
    },
    domain::{
        account::{AccountFormat, ExternalId},
        api_key::KeyText,
        id::KeyId,
        scope::ScopeSet,
        server::ServerId,
        tenant::{Environment, Slug},
        timestamp::Timestamp,
    },
};
use tower::{Layer as _, Service as _};
use uuid::Uuid;

const FEW_KEYS: u64 = 1_000;
const MANY_KEYS: u64 = 1_000_000;

#[global_allocator]
static COUNTING: Counting = Counting;

/// Counts allocations and their bytes.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

// SAFETY: each function calls the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(size(layout), Ordering::Relaxed);
        // SAFETY: the caller upholds the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        BYTES.fetch_sub(size(layout), Ordering::Relaxed);
        // SAFETY: the caller upholds the same contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Estimates the memory that glibc's allocator uses for an allocation: the size plus a header of
/// one word, rounded up to 16 bytes, and at least 32 bytes.
fn size(layout: Layout) -> u64 {
    (layout.size() as u64 + 8).next_multiple_of(16).max(32)
}

/// Simulates a database that contains a key for each number.
struct EveryKey {
    tenant: Slug,
    scopes: ScopeSet,
}

impl KeyLookup for EveryKey {
    async fn look_up(&self, presented: &Presented<'_>, _: ServerId) -> Option<Verdict> {
        let number: u64 = presented.key.expose()["ta_".len()..].parse().expect("a number");
        Some(Ok(Principal::new(
            PrincipalParts::new(
                self.tenant.clone(),
                Environment::Live,
                // The id has the length of a wallet address.
                ExternalId::parse(&format!("T{number:033}"), AccountFormat::Any).expect("an id"),
                KeyId::from_uuid(Uuid::from_u128(number.into())),
                self.scopes.clone(),
            )
            .expiring(Timestamp::from_unix_micros(i64::MAX / 100_000)),
        )))
    }
}

/// Creates a verifier that holds a lease and whose cache contains the keys 0 to `keys` - 1.
fn cache_of(keys: u64) -> LeasedVerifier<EveryKey> {
    let inner = EveryKey {
        tenant: "tronagg".parse().expect("a slug"),
        scopes: ScopeSet::parse(["write"]).expect("a scope"),
    };
    // The capacity is larger than `keys`, because keys are not distributed evenly over the shards.
    let room = usize::try_from(keys + keys / 50 + 20_000).expect("the number fits into usize");
    let verifier = LeasedVerifier::new(inner, room, since_boot);
    let beginning = Timestamp::from_unix_micros(0).expect("in range");
    let server = ServerId::started_at(0);
    verifier.grant_lease(since_boot(), Duration::from_secs(3600), beginning, server);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for number in 0..keys {
        let key = key(number);
        runtime.block_on(verifier.verify(&Presented::new(&key))).expect("the key is valid");
    }
    verifier
}

/// Reads the clock since boot, as a node does.
fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn text(number: u64) -> String {
    format!("ta_{number:043}")
}

fn key(number: u64) -> KeyText {
    KeyText::parse(&text(number)).expect("well formed")
}

/// Parses and verifies a key. Panics if the verifier refuses it.
fn verify(verifier: &LeasedVerifier<EveryKey>, text: &str) -> Principal {
    let key = KeyText::parse(text).expect("well formed");
    verifier
        .verify_at_once(&Presented::new(&key))
        .expect("the key is cached")
        .expect("the key is accepted")
}

fn gate(criterion: &mut Criterion) {
    let verifier = cache_of(FEW_KEYS);
    let texts: Vec<String> = (0..FEW_KEYS).map(text).collect();
    let mut turn = texts.iter().cycle();

    let mut nanos = Vec::new();
    criterion.bench_function("gate: parse, SHA-256, cache hit", |bencher| {
        bencher.iter_custom(|rounds| {
            let began = Instant::now();
            for _ in 0..rounds {
                black_box(verify(&verifier, black_box(turn.next().expect("a cycle"))));
            }
            let took = began.elapsed();
            nanos.push(took.as_nanos() as f64 / rounds as f64);
            took
        });
    });
    nanos.sort_by(f64::total_cmp);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for text in &texts {
        black_box(verify(&verifier, text));
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    println!("gate: {:.1} ns", nanos[nanos.len() / 2]);
    println!("gate: {:.2} allocations", allocations as f64 / texts.len() as f64);

    let tenant = "tronagg".parse().expect("a slug");
    let inner = tower::service_fn(async |_: Request<Body>| {
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let mut service = ApiKeyLayer::new(verifier, tenant, Environment::Live).layer(inner);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    criterion.bench_function("the whole layer around a service that does nothing", |bencher| {
        let request = || {
            let request = Request::builder().header("X-API-Key", &texts[7]);
            request.body(Body::empty()).expect("a request")
        };
        bencher.iter_batched(
            request,
            |request| runtime.block_on(service.call(request)),
            criterion::BatchSize::SmallInput,
        );
    });
}

fn memory(_: &mut Criterion) {
    let before = BYTES.load(Ordering::Relaxed);
    let verifier = cache_of(MANY_KEYS);
    let bytes = BYTES.load(Ordering::Relaxed) - before;
    assert_eq!(verifier.state().keys as u64, MANY_KEYS, "all keys are cached");
    println!("cache: {:.1} bytes per key", bytes as f64 / MANY_KEYS as f64);
}

criterion_group!(benches, gate, memory);
criterion_main!(benches);
