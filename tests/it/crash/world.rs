//! Two services on one Postgres, each behind a proxy that cuts connections. Clients send purchases
//! for the same accounts to both.

use std::{
    error::Error,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{body::Bytes, http::Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rustix::process::Signal;
use serde_json::json;
use sqlx::PgPool;
use tokio::task::{JoinHandle, spawn_blocking};
use tollgate::postgres::{DATABASE, PrivatePostgres};

use super::{
    judge::judge,
    record::{Order, Tally},
};
use crate::harness::{
    Answer, Call, cluster, eventually,
    process::{Process, create_tenant, tollgate},
    proxy::Proxy,
};

pub const NODES: usize = 2;
pub const ACCOUNTS: usize = 4;
const KEYS_PER_ACCOUNT: usize = 2;
const CLIENTS: usize = 16;

/// The opening balance of an account, in minor units.
const OPENING: i64 = 1000;

/// How long a client keeps an idle connection. The service closes idle connections after 30 s, so a
/// request that is sent at that moment could be lost.
const MAX_IDLE: Duration = Duration::from_secs(5);

pub struct World {
    postgres: Mutex<Option<PrivatePostgres>>,
    url: String,
    pub pool: PgPool,
    http: Client<HttpConnector, Full<Bytes>>,
    pub admin_key: String,
    pub nodes: Vec<Node>,
    pub accounts: Vec<Account>,
    pub orders_begun: AtomicUsize,
    orders: Mutex<Vec<Order>>,
    /// The number of orders that clients have finished.
    pub orders_done: AtomicUsize,
    violations: Mutex<Vec<String>>,
    seeds: AtomicUsize,
    finished: AtomicBool,
}

pub struct Node {
    number: usize,
    pub proxy: Proxy,
    process: Mutex<Option<Process>>,
    address: Mutex<String>,
    /// How many times the node was started or killed. The number is odd while the node serves
    /// requests.
    lives: AtomicUsize,
}

pub struct Account {
    pub name: String,
    pub keys: Vec<String>,
    /// The amount that clients requested since the last top-up, in minor units.
    pub requested: AtomicI64,
}

impl World {
    pub async fn start() -> Arc<Self> {
        let postgres = spawn_blocking(|| {
            PrivatePostgres::start(&cluster::options("crash")).expect("Postgres starts")
        });
        let postgres = postgres.await.expect("the task does not panic");
        let url = postgres.url(DATABASE);
        let admin_key = create_tenant(&url, &["--currency", "TRX", "--decimals", "6"]);

        let socket = postgres.socket_dir().join(".s.PGSQL.5432");
        let mut nodes = Vec::new();
        for number in 0..NODES {
            let node = Node {
                number,
                proxy: Proxy::start(socket.clone()).await,
                process: Mutex::default(),
                address: Mutex::default(),
                lives: AtomicUsize::new(0),
            };
            node.start().await;
            nodes.push(node);
        }
        let mut world = Self {
            postgres: Mutex::new(Some(postgres)),
            pool: PgPool::connect_lazy(&url).expect("the URL is valid"),
            url,
            http: Client::builder(TokioExecutor::new()).pool_idle_timeout(MAX_IDLE).build_http(),
            admin_key,
            nodes,
            accounts: Vec::new(),
            orders_begun: AtomicUsize::new(0),
            orders: Mutex::default(),
            orders_done: AtomicUsize::new(0),
            violations: Mutex::default(),
            seeds: AtomicUsize::new(0),
            finished: AtomicBool::new(false),
        };
        let mut random = world.random();
        for number in 0..ACCOUNTS {
            let account = world.make_account(number).await;
            world.accounts.push(account);
            world.credit(number, OPENING, &mut random).await;
        }
        Arc::new(world)
    }

    /// Starts the clients and the top-ups.
    pub fn start_clients(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        let mut tasks = vec![tokio::spawn(Arc::clone(self).run_top_ups())];
        tasks.extend((0..CLIENTS).map(|_| tokio::spawn(Arc::clone(self).run_client())));
        tasks
    }

    pub fn orders_done(&self) -> usize {
        self.orders_done.load(Ordering::Relaxed)
    }

    /// Waits until clients have finished `number` more orders.
    pub async fn wait_for_orders(&self, number: usize) {
        let target = self.orders_done() + number;
        eventually("clients finish orders", async || self.orders_done() >= target).await;
    }

    /// Stops the clients, the services and Postgres. Returns the counts and the violations.
    pub async fn finish(&self, tasks: Vec<JoinHandle<()>>) -> (Tally, Vec<String>) {
        self.finished.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.expect("the task does not panic");
        }
        for node in &self.nodes {
            node.stop().await;
        }
        // Operations of disconnected clients may still be running.
        eventually("no service is connected", async || {
            let services = "SELECT count(*) FROM pg_stat_activity
                            WHERE application_name LIKE 'tollgate%'";
            sqlx::query_scalar::<_, i64>(services).fetch_one(&self.pool).await.ok() == Some(0)
        })
        .await;

        let (mut tally, orders) = (Tally::default(), std::mem::take(&mut *lock(&self.orders)));
        orders.iter().for_each(|order| tally.count(order));
        let mut violations = std::mem::take(&mut *lock(&self.violations));
        for (number, account) in self.accounts.iter().enumerate() {
            let orders: Vec<_> = orders.iter().filter(|order| order.account == number).collect();
            violations.extend(judge(&self.pool, &account.name, &orders).await);
        }
        violations.extend(self.verify().await);

        self.pool.close().await;
        let postgres = lock(&self.postgres).take().expect("Postgres runs");
        spawn_blocking(|| postgres.stop().expect("Postgres stops"))
            .await
            .expect("the task does not panic");
        std::fs::remove_dir_all(cluster::directory("crash")).expect("the test owns the directory");
        (tally, violations)
    }

    pub fn random(&self) -> StdRng {
        StdRng::seed_from_u64(self.seeds.fetch_add(1, Ordering::Relaxed) as u64)
    }

    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    pub fn record(&self, order: Order) {
        lock(&self.orders).push(order);
    }

    pub fn report_violation(&self, text: String) {
        lock(&self.violations).push(text);
    }

    /// Returns a random node that serves requests. At most one node is down at a time.
    pub fn random_live_node(&self, random: &mut StdRng) -> usize {
        let node = random.random_range(0..NODES);
        if self.nodes[node].serves() { node } else { (node + 1) % NODES }
    }

    /// Sends a request. Returns `None` if the node was killed before it responded.
    pub async fn exchange(&self, node: usize, call: Call) -> Option<Answer> {
        let node = &self.nodes[node];
        let life = node.lives.load(Ordering::SeqCst);
        match self.request(&node.url(), call).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                let was_killed = node.lives.load(Ordering::SeqCst) != life || !is_alive(life);
                if !was_killed {
                    self.report_violation(format!(
                        "node {} closed the connection without a response: {error:?}",
                        node.number
                    ));
                }
                None
            }
        }
    }

    async fn request(&self, url: &str, call: Call) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let (mut parts, body) = call.into_parts();
        parts.uri = format!("{url}{}", parts.uri).parse()?;
        let request = Request::from_parts(parts, Full::from(body));
        let (parts, body) = self.http.request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer::new(parts.status.as_u16(), parts.headers, body.to_vec()))
    }

    async fn make_account(&self, number: usize) -> Account {
        let name = format!("user-{number}");
        let path = format!("/v1/accounts/{name}");
        self.send_as_admin(Call::new("PUT", &path)).await;
        let mut keys = Vec::new();
        for _ in 0..KEYS_PER_ACCOUNT {
            let call = Call::new("POST", &format!("{path}/keys")).json(json!({"name": "a key"}));
            keys.push(self.send_as_admin(call).await.text("/key").to_owned());
        }
        Account { name, keys, requested: AtomicI64::new(0) }
    }

    async fn send_as_admin(&self, call: Call) -> Answer {
        let answer = self.exchange(0, call.bearer(&self.admin_key)).await.expect("the node serves");
        answer.expect(201)
    }

    /// Runs `tollgate ledger verify`. Returns its output if it finds a fault.
    async fn verify(&self) -> Option<String> {
        let mut command = tollgate(&["ledger", "verify"]);
        command.env("DATABASE_URL", &self.url);
        let output = spawn_blocking(move || command.output().expect("the program runs")).await;
        let output = output.expect("the task does not panic");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (!output.status.success())
            .then(|| format!("ledger verify: {}{}", text(&output.stdout), text(&output.stderr)))
    }
}

impl Node {
    /// Starts the service and waits until it accepts requests.
    pub async fn start(&self) {
        let mut command = tollgate(&["serve"]);
        command.env("DATABASE_URL", self.proxy.url(DATABASE));
        // All nodes have one public URL, because recorded responses contain it, and any node may
        // replay them.
        command.env("TOLLGATE_PUBLIC_URL", "http://localhost:8080");
        let log = cluster::directory(&format!("crash-{}.log", self.number));
        let process = spawn_blocking(move || Process::start(command, &log));
        let process = process.await.expect("the task does not panic");
        *lock(&self.address) = format!("http://{}", process.address);
        *lock(&self.process) = Some(process);
        self.lives.fetch_add(1, Ordering::SeqCst);
    }

    pub fn kill(&self) {
        // The state changes before the kill, so that a client whose request fails can see that the
        // node was killed.
        self.lives.fetch_add(1, Ordering::SeqCst);
        let process = lock(&self.process).take().expect("the service runs");
        process.signal(Signal::KILL);
        process.wait();
    }

    async fn stop(&self) {
        let process = lock(&self.process).take().expect("the service runs");
        let (status, log) =
            spawn_blocking(|| process.stop()).await.expect("the task does not panic");
        assert!(status.success(), "{log}");
    }

    fn serves(&self) -> bool {
        is_alive(self.lives.load(Ordering::SeqCst))
    }

    fn url(&self) -> String {
        lock(&self.address).clone()
    }
}

fn is_alive(life: usize) -> bool {
    life % 2 == 1
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("the lock is not poisoned")
}
