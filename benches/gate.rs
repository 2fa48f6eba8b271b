//! Measures the gate without a server: the time and the allocations of a verification from the
//! cache, what three rate limits and a list of 100 networks add to them, what it adds to a usage
//! count to record the client, and the memory per cached key.
//!
//! In addition to criterion's report, this program prints a line for each figure. `bench/pairs.py`
//! reads these lines.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    convert::Infallible,
    future::{Future, ready},
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    http::{Request, Response},
};
use criterion::{Criterion, criterion_group, criterion_main};
use tollgate::{
    auth::{
        ApiKeyLayer, KeyLimits, KeyLookup, KeyVerifier, LeasedVerifier, Presented, Principal,
        PrincipalParts, Verdict,
    },
    domain::{
        account::{AccountFormat, ExternalId},
        address_set::AddressSet,
        allowed_ips::AllowedIps,
        api_key::KeyText,
        id::{KeyId, TenantId},
        key_clients::Client,
        rate_limit::{Cost, LimitLevel, RateLimit},
        scope::ScopeSet,
        server::ServerId,
        tenant::{Environment, Slug},
        timestamp::Timestamp,
        usage::UsageOutcome,
    },
    limits::{CurrentShare, Limit, LimitList, Limits, Share, ShareSource},
    store::{LimitRow, ShareAnswer},
    usage::UsageBuffer,
};
use tower::{Layer as _, Service as _};
use uuid::Uuid;

const FEW_KEYS: u64 = 1_000;
const MANY_KEYS: u64 = 1_000_000;
const KEYS_PER_ACCOUNT: u64 = 5;

/// The address of the client that presents the keys.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 37, 1, 2));

/// Number of rounds that compare verifications with and without rate limits or networks, and of
/// verifications in a round.
const ROUNDS: usize = 51;
const VERIFICATIONS: usize = 100_000;

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
    rules: Rules,
}

/// The rules of each key that a verification compares in addition to the key itself.
#[derive(Default)]
struct Rules {
    shares: Option<Shares>,
    networks: Option<AddressSet>,
}

/// The shares of the rate limits that several keys have in common.
struct Shares {
    /// A limit of the key, of its account and of the tenant.
    limits: Arc<LimitList>,
    of_accounts: Vec<Arc<Share>>,
    of_tenant: Arc<Share>,
}

/// A source that is never needed, because no share runs out.
struct NoSource;

impl ShareSource for NoSource {
    fn now(&self) -> Duration {
        since_boot()
    }

    fn request(&self, _: Limit<'_>, _: Option<u32>) -> u64 {
        0
    }

    fn recall_from_others<'a>(
        &'a self,
        _: &'a Arc<Share>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(ready(()))
    }
}

impl Shares {
    fn new() -> Self {
        let of_accounts = (0..FEW_KEYS / KEYS_PER_ACCOUNT).map(|_| share()).collect();
        let levels = [LimitLevel::Key, LimitLevel::Account, LimitLevel::Tenant];
        let limits = levels.map(|level| (level, rate_limit())).into();
        let limits = Arc::new(LimitList::new(limits));
        Self { limits, of_accounts, of_tenant: share() }
    }

    /// Returns the limits of a key: its own, and the limits of its account and of the tenant.
    fn of_key(&self, number: u64) -> Arc<dyn KeyLimits> {
        let account = usize::try_from(number / KEYS_PER_ACCOUNT).expect("the number is small");
        let (of_account, of_tenant) = (&self.of_accounts[account], &self.of_tenant);
        let shares = [share(), Arc::clone(of_account), Arc::clone(of_tenant)];
        let shares = shares.map(|share| CurrentShare { generation: 0, share });
        Arc::new(Limits::new(Arc::new(NoSource), Arc::clone(&self.limits), shares))
    }
}

fn rate_limit() -> RateLimit {
    "default=10000000/1h".parse().expect("a rate limit")
}

/// Creates a share with more calls than this program makes, as if the database had given it.
fn share() -> Arc<Share> {
    let limit = rate_limit();
    let id = Uuid::nil();
    let share = Share::new(LimitRow {
        tenant: TenantId::from_uuid(id),
        account: id,
        holder: id,
        owner: id,
        name: limit.name.clone(),
    });
    share.request(&limit, 0, Some(1));
    let now = since_boot();
    let ask = share.ask(now).expect("calls were requested");
    let answer = ShareAnswer {
        account: id,
        holder: id,
        name: limit.name.to_string(),
        number: Some(1),
        share: u32::MAX,
        given: u32::MAX,
        spent: 0,
        ends_in: u64::from(limit.window.get()) * 1_000_000,
    };
    share.apply(&ask, &answer, now, now);
    Arc::new(share)
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
            .expiring(Timestamp::from_unix_micros(i64::MAX / 100_000))
            .allowed_from(self.rules.networks.clone())
            .limited(self.rules.shares.as_ref().map(|shares| shares.of_key(number))),
        )))
    }
}

/// Returns a list of 50 IPv4 and 50 IPv6 networks. One of them contains [`CLIENT`].
fn networks() -> AddressSet {
    let of = |number: usize| [format!("10.{number}.0.0/16"), format!("2001:db8:{number}::/48")];
    let networks = (0..50).flat_map(of).map(|network| network.parse().expect("a network"));
    AddressSet::of(&AllowedIps::new(networks.collect()).expect("a list"))
}

/// Creates a verifier that holds a lease and whose cache contains the keys 0 to `keys` - 1, which
/// have these rules.
fn cache_of(keys: u64, rules: Rules) -> LeasedVerifier<EveryKey> {
    let inner = EveryKey {
        tenant: "tronagg".parse().expect("a slug"),
        scopes: ScopeSet::parse(["write"]).expect("a scope"),
        rules,
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
        let presented = Presented::new(&key).from_client(Some(CLIENT));
        runtime.block_on(verifier.verify(&presented)).expect("the key is valid");
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

/// Parses and verifies a key, and charges the call to rate limits, if there are any. Panics if the
/// verifier refuses the key.
fn verify(verifier: &LeasedVerifier<EveryKey>, text: &str) -> Principal {
    let key = KeyText::parse(text).expect("well formed");
    verifier
        .verify_at_once(&Presented::new(&key).costing(Some(Cost::ONE)).from_client(Some(CLIENT)))
        .expect("the key is cached")
        .expect("the key is accepted")
}

fn gate(criterion: &mut Criterion) {
    let verifier = cache_of(FEW_KEYS, Rules::default());
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
    let allocations = allocations_with_each(&verifier, &texts);
    println!("gate: {:.1} ns", nanos[nanos.len() / 2]);
    println!("gate: {allocations:.2} allocations");

    let (shares, networks) = (|| Some(Shares::new()), || Some(networks()));
    for (name, rules) in [
        ("limits", Rules { shares: shares(), networks: None }),
        ("networks", Rules { shares: None, networks: networks() }),
        ("rules", Rules { shares: shares(), networks: networks() }),
    ] {
        compare(name, rules, &verifier, &texts, allocations);
    }

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

/// Measures what these rules add to a verification. The rounds alternate, so that a slowdown of the
/// machine affects both sides.
fn compare(
    name: &str,
    rules: Rules,
    without: &LeasedVerifier<EveryKey>,
    texts: &[String],
    allocations: f64,
) {
    let with = cache_of(FEW_KEYS, rules);
    let mut added: Vec<f64> =
        (0..ROUNDS).map(|_| nanos_of_one(&with, texts) - nanos_of_one(without, texts)).collect();
    added.sort_by(f64::total_cmp);
    println!("{name}: {:.1} ns", added[ROUNDS / 2]);
    println!("{name}: {:.2} allocations", allocations_with_each(&with, texts) - allocations);
}

fn nanos_of_one(verifier: &LeasedVerifier<EveryKey>, texts: &[String]) -> f64 {
    let began = Instant::now();
    for text in texts.iter().cycle().take(VERIFICATIONS) {
        black_box(verify(verifier, black_box(text)));
    }
    began.elapsed().as_nanos() as f64 / VERIFICATIONS as f64
}

/// Verifies each key once. Returns the number of allocations per verification.
fn allocations_with_each(verifier: &LeasedVerifier<EveryKey>, texts: &[String]) -> f64 {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for text in texts {
        black_box(verify(verifier, text));
    }
    (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / texts.len() as f64
}

/// Returns the principal of a key whose id has as many different bits as the ids of real keys.
fn principal_with_random_id(number: u64) -> Principal {
    let bits = u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    Principal::new(PrincipalParts::new(
        "tronagg".parse().expect("a slug"),
        Environment::Live,
        ExternalId::parse(&format!("T{number:033}"), AccountFormat::Any).expect("an id"),
        KeyId::from_uuid(Uuid::from_u128(bits)),
        ScopeSet::parse(["write"]).expect("a scope"),
    ))
}

/// Measures what it adds to a usage count to record the client, if it is the same for each request.
fn clients(_: &mut Criterion) {
    let principals: Vec<Principal> = (0..FEW_KEYS).map(principal_with_random_id).collect();
    let unknown = Client { address: None, user_agent: b"", route: "" };
    let known = Client {
        address: Some(CLIENT),
        user_agent: b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        route: "/v1/authorize/{tenant}/{environment}",
    };
    let (with, without) = (UsageBuffer::new(since_boot), UsageBuffer::new(since_boot));
    let nanos_of_one = |buffer: &UsageBuffer, client: &Client<'_>| {
        let began = Instant::now();
        for principal in principals.iter().cycle().take(VERIFICATIONS) {
            buffer.record(black_box(principal), UsageOutcome::Valid, black_box(client));
        }
        began.elapsed().as_nanos() as f64 / VERIFICATIONS as f64
    };
    nanos_of_one(&with, &known);
    nanos_of_one(&without, &unknown);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    let mut added: Vec<f64> = (0..ROUNDS)
        .map(|_| nanos_of_one(&with, &known) - nanos_of_one(&without, &unknown))
        .collect();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    added.sort_by(f64::total_cmp);
    println!("clients: {:.1} ns", added[ROUNDS / 2]);
    // The list of rounds is one allocation.
    println!("clients: {} allocations", allocations.saturating_sub(1));
}

fn memory(_: &mut Criterion) {
    let before = BYTES.load(Ordering::Relaxed);
    let verifier = cache_of(MANY_KEYS, Rules::default());
    let bytes = BYTES.load(Ordering::Relaxed) - before;
    assert_eq!(verifier.state().keys as u64, MANY_KEYS, "all keys are cached");
    println!("cache: {:.1} bytes per key", bytes as f64 / MANY_KEYS as f64);
}

criterion_group!(benches, gate, clients, memory);
criterion_main!(benches);
