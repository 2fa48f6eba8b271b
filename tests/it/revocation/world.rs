//! Three services on one Postgres, each behind a proxy that the test can interrupt. Clients send
//! requests to all services, while backends change keys.

use std::{
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    http::{Method, Request},
};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use sqlx::PgPool;
use tollgate::{
    domain::{
        audit::Origin,
        tenant::{Environment, Tenant, TenantStatus},
    },
    postgres::{DATABASE, PrivatePostgres},
    store::Store,
};

use super::record::{Record, Tally};
use crate::harness::{
    PATIENCE, cluster,
    node::{Node, all_hold_leases},
    process::create_named_tenant,
};

pub const NODES: usize = 3;
const TRONAGG: &str = "tronagg";
const SUSPENDABLE: &str = "suspendable";
const ACCOUNTS: usize = 40;
const KEYS_PER_ACCOUNT: usize = 5;
const CLIENTS: usize = 4;
const BACKENDS: usize = 8;

/// One of this many changes suspends a tenant.
const CHANGES_PER_SUSPENSION: usize = 10;

/// The rate limit of each key, which no test uses up: the number of calls and the length of the
/// window in seconds.
const LIMIT: (u32, u32) = (10_000_000, 2_678_400);

/// The number of revoked keys that the clients continue to use, in addition to live keys.
const DEAD_KEYS: usize = 100;

pub struct World {
    postgres: Mutex<Option<PrivatePostgres>>,
    pub pool: PgPool,
    http: Client<HttpConnector, Full<Bytes>>,
    pub nodes: Vec<Node>,
    /// The accounts of the tenant `tronagg`.
    accounts: Vec<tokio::sync::Mutex<Account>>,
    suspendable: tokio::sync::Mutex<Suspendable>,
    /// The keys with which clients send requests.
    keys: RwLock<Vec<Arc<Key>>>,
    /// Revoked keys that clients no longer use.
    retired: Mutex<Vec<Arc<Key>>>,
    seeds: AtomicUsize,
    finished: AtomicBool,
    /// The duration of each change.
    pub durations: Mutex<Vec<Duration>>,
}

/// A tenant that operators suspend and resume.
struct Suspendable {
    /// The store of the operators, as `tollgate tenant suspend` uses it.
    store: Store,
    tenant: Arc<Tenant>,
    account: Account,
}

struct Account {
    tenant: &'static str,
    admin_key: String,
    name: String,
    keys: Vec<Arc<Key>>,
}

pub struct Key {
    tenant: &'static str,
    id: String,
    text: String,
    record: Record,
    revoked: AtomicBool,
    /// Whether a call with the key has passed, so that its rate limit has counted a call.
    has_passed: AtomicBool,
}

/// A change that forbids a key.
#[derive(Clone, Copy)]
enum Change {
    Revoke,
    Disable,
    Reduce,
    Suspend,
    /// Lowers the rate limit of the key to one call per window, which is used up.
    Lower,
    /// Removes the clients' network from the networks of the key.
    RestrictKey,
    /// Removes the clients' network from the networks of the account.
    RestrictAccount,
}

impl World {
    pub async fn start() -> Arc<Self> {
        let postgres = tokio::task::spawn_blocking(|| {
            PrivatePostgres::start(&cluster::options("revocation")).expect("Postgres starts")
        });
        let postgres = postgres.await.expect("the task does not panic");
        let url = postgres.url(DATABASE);
        let create = |slug, prefix| create_named_tenant(&url, slug, prefix, &["--max-keys=1000"]);
        let admin_key = create(TRONAGG, "ta_");
        let suspendable = Suspendable::on(&url, create(SUSPENDABLE, "ts_")).await;

        let socket = postgres.socket_dir().join(".s.PGSQL.5432");
        let mut nodes = Vec::new();
        for number in 0..NODES {
            let name = format!("revocation-{number}");
            let node = Node::on(socket.clone(), DATABASE, &name).await;
            nodes.push(node);
        }
        let world = Arc::new(Self {
            postgres: Mutex::new(Some(postgres)),
            pool: PgPool::connect_lazy(&url).expect("the URL is valid"),
            http: Client::builder(TokioExecutor::new()).build_http(),
            nodes,
            accounts: (0..ACCOUNTS)
                .map(|number| Account::new(TRONAGG, &admin_key, number).into())
                .collect(),
            suspendable: suspendable.into(),
            keys: RwLock::default(),
            retired: Mutex::default(),
            seeds: AtomicUsize::new(0),
            finished: AtomicBool::new(false),
            durations: Mutex::default(),
        });
        for account in &world.accounts {
            world.open(&mut *account.lock().await).await;
        }
        world.open(&mut world.suspendable.lock().await.account).await;
        world.all_hold_leases().await;
        world
    }

    /// Creates the account and its keys.
    async fn open(&self, account: &mut Account) {
        self.send_as_admin(0, account, Method::PUT, &account.path(), json!({}))
            .await
            .expect("the account is created");
        for _ in 0..KEYS_PER_ACCOUNT {
            let key = self.create(account).await;
            account.keys.push(key);
        }
    }

    pub fn start_clients(self: &Arc<Self>) -> Vec<tokio::task::JoinHandle<()>> {
        let client = |_| {
            let world = Arc::clone(self);
            tokio::spawn(async move {
                let mut random = world.random();
                while !world.finished.load(Ordering::Relaxed) {
                    let key = {
                        let keys = world.keys.read().expect("the lock is not poisoned");
                        Arc::clone(&keys[random.random_range(0..keys.len())])
                    };
                    world.send_request(random.random_range(0..NODES), &key).await;
                }
            })
        };
        (0..CLIENTS).map(client).collect()
    }

    /// Makes `number` changes through available nodes. Several backends work concurrently.
    pub async fn make_changes(self: &Arc<Self>, number: usize) {
        let remaining = Arc::new(AtomicUsize::new(number));
        let backend = |index: usize| {
            let (world, remaining) = (Arc::clone(self), Arc::clone(&remaining));
            tokio::spawn(async move {
                let mut random = world.random();
                let decrement = |remaining: usize| remaining.checked_sub(1);
                let order = Ordering::Relaxed;
                while remaining.fetch_update(order, order, decrement).is_ok() {
                    if random.random_range(0..CHANGES_PER_SUSPENSION) == 0 {
                        world.suspend_and_resume(&mut random).await;
                        continue;
                    }
                    // Backends do not share accounts.
                    let account = random.random_range(0..ACCOUNTS / BACKENDS) * BACKENDS + index;
                    let mut account = world.accounts[account].lock().await;
                    world.make_one_change(&mut account, &mut random).await;
                }
            })
        };
        let backends: Vec<_> = (0..BACKENDS).map(backend).collect();
        for backend in backends {
            backend.await.expect("every change returns");
        }
    }

    /// Waits until every node holds its lease, so that nodes accept keys.
    pub async fn all_hold_leases(&self) {
        all_hold_leases(&self.nodes).await;
    }

    /// Stops the clients, the services and Postgres. Returns the counts and the violations.
    pub async fn finish(&self, clients: Vec<tokio::task::JoinHandle<()>>) -> (Tally, Vec<String>) {
        self.finished.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.expect("the task does not panic");
        }
        let mut hits = 0;
        for node in &self.nodes {
            hits += node
                .metric("tollgate_cache_lookups_total{result=\"hit\"}")
                .await
                .expect("the query returns a number");
            node.end();
        }
        self.pool.close().await;
        let postgres =
            self.postgres.lock().expect("the lock is not poisoned").take().expect("Postgres runs");
        tokio::task::spawn_blocking(|| postgres.stop().expect("Postgres stops"))
            .await
            .expect("the task does not panic");
        std::fs::remove_dir_all(cluster::directory("revocation"))
            .expect("the test owns the directory");

        let (mut tally, mut violations) = (Tally::default(), Vec::new());
        let keys = self.keys.read().expect("the lock is not poisoned");
        for key in keys.iter().chain(self.retired.lock().expect("the lock is not poisoned").iter())
        {
            key.record.judge(&key.id, &mut tally, &mut violations);
        }
        assert!(
            hits > tally.passed as u64 / 4,
            "only {hits} of {} responses came from caches",
            tally.passed
        );
        (tally, violations)
    }

    fn random(&self) -> StdRng {
        StdRng::seed_from_u64(self.seeds.fetch_add(1, Ordering::Relaxed) as u64)
    }

    async fn send_request(&self, node: usize, key: &Key) {
        let path = format!("/v1/authorize/{}/live?scope=orders:write", key.tenant);
        let uri = format!("{}{path}", self.nodes[node].url());
        let request = Request::get(uri).header("X-API-Key", &key.text);
        let request = request.body(Full::default()).expect("the request is valid");
        let begun = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, self.http.request(request)).await;
        // A killed node closes its connections.
        let Ok(answer) = answer.expect("an available node responds") else {
            tokio::task::yield_now().await;
            return;
        };
        let status = answer.status().as_u16();
        // The connection can be reused only after the body has been read.
        let _ = answer.into_body().collect().await;
        match status {
            200 => {
                key.has_passed.store(true, Ordering::Relaxed);
                key.record.answered(begun, node, true);
            }
            401 | 403 | 429 => key.record.answered(begun, node, false),
            503 => {}
            other => panic!("node {node} answered {other}"),
        }
    }

    /// Makes a change, waits until it has returned, sends requests to every node, and then undoes
    /// the change.
    async fn make_one_change(&self, account: &mut Account, random: &mut StdRng) {
        let index = random.random_range(0..account.keys.len());
        let key = Arc::clone(&account.keys[index]);
        let change = Change::ALL[random.random_range(0..Change::ALL.len())];
        let keys = match change {
            Change::Suspend | Change::RestrictAccount => account.keys.clone(),
            _ => vec![Arc::clone(&key)],
        };
        let (method, path, body, undo) = change.request(account, &key);
        // These requests put the key into the caches of the nodes.
        self.send_to_all_nodes(&key).await;
        if matches!(change, Change::Lower) {
            self.send_until_one_has_passed(&key).await;
        }
        keys.iter().for_each(|key| key.record.ban_sent());
        self.send_until_it_returns(random, account, &method, &path, &body).await;
        keys.iter().for_each(|key| key.record.ban_returned());
        self.send_to_all_nodes(&key).await;
        match undo {
            Some(undo) => {
                keys.iter().for_each(|key| key.record.undo_sent());
                self.send_until_it_returns(random, account, &method, &path, &undo).await;
                keys.iter().for_each(|key| key.record.undo_returned());
                self.send_to_all_nodes(&key).await;
            }
            None => {
                key.revoked.store(true, Ordering::Relaxed);
                account.keys[index] = self.create(account).await;
            }
        }
    }

    /// Suspends a tenant, waits until the change has returned, sends requests to every node, and
    /// then resumes the tenant.
    async fn suspend_and_resume(&self, random: &mut StdRng) {
        let suspendable = self.suspendable.lock().await;
        let keys = &suspendable.account.keys;
        let key = &keys[random.random_range(0..keys.len())];
        self.send_to_all_nodes(key).await;
        keys.iter().for_each(|key| key.record.ban_sent());
        self.set_until_it_returns(&suspendable, TenantStatus::Suspended).await;
        keys.iter().for_each(|key| key.record.ban_returned());
        self.send_to_all_nodes(key).await;
        keys.iter().for_each(|key| key.record.undo_sent());
        self.set_until_it_returns(&suspendable, TenantStatus::Active).await;
        keys.iter().for_each(|key| key.record.undo_returned());
        self.send_to_all_nodes(key).await;
    }

    async fn set_until_it_returns(&self, suspendable: &Suspendable, status: TenantStatus) {
        let Suspendable { store, tenant, .. } = suspendable;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let sent = Instant::now();
            let hearing = store.hear_acknowledgements().await;
            let set = store.set_tenant_status(tenant, status, &Origin::cli()).await;
            drop(hearing);
            match set {
                Ok(()) => {
                    self.durations.lock().expect("the lock is not poisoned").push(sent.elapsed());
                    return;
                }
                Err(error) => assert!(Instant::now() < deadline, "{status:?}: {error}"),
            }
            tokio::task::yield_now().await;
        }
    }

    async fn send_until_one_has_passed(&self, key: &Key) {
        let deadline = Instant::now() + PATIENCE;
        while !key.has_passed.load(Ordering::Relaxed) {
            assert!(Instant::now() < deadline, "no call with {} has passed", key.id);
            self.send_to_all_nodes(key).await;
        }
    }

    async fn send_to_all_nodes(&self, key: &Key) {
        let nodes =
            (0..NODES).filter(|node| self.nodes[*node].is_available.load(Ordering::Relaxed));
        let mut requests =
            nodes.map(|node| self.send_request(node, key)).collect::<Vec<_>>().into_iter();
        // The requests are concurrent. Otherwise the last node would have more time to apply the
        // change.
        match (requests.next(), requests.next(), requests.next()) {
            (Some(first), Some(second), Some(third)) => drop(tokio::join!(first, second, third)),
            (Some(first), Some(second), None) => drop(tokio::join!(first, second)),
            (Some(first), None, _) => first.await,
            _ => {}
        }
    }

    /// Sends a change until it returns, each time to a random node.
    async fn send_until_it_returns(
        &self,
        random: &mut StdRng,
        account: &Account,
        method: &Method,
        path: &str,
        body: &Value,
    ) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let node = random.random_range(0..NODES);
            if !self.nodes[node].is_available.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
                continue;
            }
            let sent = Instant::now();
            let sending = self.send_as_admin(node, account, method.clone(), path, body.clone());
            if sending.await.is_some() {
                self.durations.lock().expect("the lock is not poisoned").push(sent.elapsed());
                return;
            }
            assert!(Instant::now() < deadline, "{method} {path} did not return");
        }
    }

    async fn create(&self, account: &Account) -> Arc<Key> {
        let path = format!("{}/keys", account.path());
        let body = json!({"name": "a", "rate_limits": limits(LIMIT.0)});
        let deadline = Instant::now() + PATIENCE;
        let mut random = self.random();
        let created = loop {
            let node = random.random_range(0..NODES);
            if self.nodes[node].is_available.load(Ordering::Relaxed)
                && let Some(created) =
                    self.send_as_admin(node, account, Method::POST, &path, body.clone()).await
            {
                break created;
            }
            assert!(Instant::now() < deadline, "no key could be created");
        };
        let text =
            |member: &str| created[member].as_str().expect("the member is a string").to_owned();
        let key = Arc::new(Key {
            tenant: account.tenant,
            id: text("id"),
            text: text("key"),
            record: Record::default(),
            revoked: AtomicBool::new(false),
            has_passed: AtomicBool::new(false),
        });
        let mut keys = self.keys.write().expect("the lock is not poisoned");
        keys.push(Arc::clone(&key));
        if keys.len() > (ACCOUNTS + 1) * KEYS_PER_ACCOUNT + DEAD_KEYS {
            let revoked = |key: &Arc<Key>| key.revoked.load(Ordering::Relaxed);
            let oldest = keys.iter().position(revoked).expect("a key is revoked");
            self.retired.lock().expect("the lock is not poisoned").push(keys.remove(oldest));
        }
        key
    }

    /// Sends a request with the admin key of the account's tenant. Returns `None` if the node could not process it.
    async fn send_as_admin(
        &self,
        node: usize,
        account: &Account,
        method: Method,
        path: &str,
        body: Value,
    ) -> Option<Value> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.nodes[node].url()))
            .header("Authorization", format!("Bearer {}", account.admin_key))
            .header("Content-Type", "application/json")
            .body(Full::from(body.to_string()))
            .expect("the request is valid");
        let answer = tokio::time::timeout(PATIENCE, self.http.request(request)).await;
        let answer = answer.expect("an available node responds").ok()?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        match status {
            200 | 201 => Some(serde_json::from_slice(&body).expect("the text is JSON")),
            503 => None,
            other => panic!("node {node} answered {other}: {}", String::from_utf8_lossy(&body)),
        }
    }
}

impl Suspendable {
    async fn on(url: &str, admin_key: String) -> Self {
        let store = Store::connect(&cluster::pool_settings(url)).await;
        let store = store.expect("the database is reachable");
        let slug = SUSPENDABLE.parse().expect("the slug is valid");
        let tenant = store.find_tenant(&slug, Environment::Live).await.expect("the tenant exists");
        let account = Account::new(SUSPENDABLE, &admin_key, 0);
        Self { store, tenant, account }
    }
}

impl Account {
    fn new(tenant: &'static str, admin_key: &str, number: usize) -> Self {
        let (admin_key, name) = (admin_key.to_owned(), format!("user-{number}"));
        Self { tenant, admin_key, name, keys: Vec::new() }
    }

    fn path(&self) -> String {
        format!("/v1/accounts/{}", self.name)
    }
}

impl Change {
    const ALL: [Self; 7] = [
        Self::Revoke,
        Self::Disable,
        Self::Reduce,
        Self::Suspend,
        Self::Lower,
        Self::RestrictKey,
        Self::RestrictAccount,
    ];

    /// Returns the request for the change, and the body of the request that undoes it. A permanent
    /// change has no such body.
    fn request(self, account: &Account, key: &Key) -> (Method, String, Value, Option<Value>) {
        let of_account = account.path();
        let of_key = format!("{of_account}/keys/{}", key.id);
        // The clients connect from 127.0.0.1.
        let elsewhere = json!({"allowed_ips": ["198.51.100.0/24"]});
        let everywhere = json!({"allowed_ips": ["127.0.0.0/8", "198.51.100.0/24"]});
        match self {
            Self::Revoke => (Method::POST, format!("{of_key}/revoke"), json!({}), None),
            Self::Disable => {
                let undo = Some(json!({"enabled": true}));
                (Method::PATCH, of_key, json!({"enabled": false}), undo)
            }
            Self::Reduce => {
                let undo = Some(json!({"scopes": ["write"]}));
                (Method::PATCH, of_key, json!({"scopes": ["read"]}), undo)
            }
            Self::Suspend => {
                let undo = Some(json!({"status": "active"}));
                (Method::PATCH, of_account, json!({"status": "suspended"}), undo)
            }
            Self::RestrictKey => (Method::PATCH, of_key, elsewhere, Some(everywhere)),
            Self::RestrictAccount => (Method::PATCH, of_account, elsewhere, Some(everywhere)),
            Self::Lower => {
                let undo = Some(json!({"rate_limits": limits(LIMIT.0)}));
                (Method::PATCH, of_key, json!({"rate_limits": limits(1)}), undo)
            }
        }
    }
}

/// Returns a list with a rate limit of this number of calls.
fn limits(calls: u32) -> Value {
    json!([{"name": "default", "limit": calls, "window_seconds": LIMIT.1}])
}
