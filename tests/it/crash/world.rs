//! Two services on one Postgres, each behind a proxy that cuts connections, and accounts that
//! clients buy from at both.

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
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::{JoinHandle, spawn_blocking};
use tollgate::postgres::{DATABASE, PrivatePostgres};

use super::{
    judge::judge,
    record::{Order, Tally},
};
use crate::harness::{
    Answer, Call, cluster, eventually,
    process::{Process, tollgate},
    proxy::Proxy,
};

pub const NODES: usize = 2;
pub const ACCOUNTS: usize = 4;
const KEYS_PER_ACCOUNT: usize = 2;
const CLIENTS: usize = 16;

/// Minor units that an account begins with.
const OPENING: i64 = 1000;

/// A connection that was idle for longer is not used again: the service closes it after 30 s, and a
/// request could meet that.
const IDLE: Duration = Duration::from_secs(5);

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
    /// Orders of clients that came to an end.
    pub done: AtomicUsize,
    violations: Mutex<Vec<String>>,
    seeds: AtomicUsize,
    finished: AtomicBool,
}

pub struct Node {
    number: usize,
    pub proxy: Proxy,
    process: Mutex<Option<Process>>,
    address: Mutex<String>,
    /// It is one more with each start and each kill: odd while it serves.
    lives: AtomicUsize,
}

pub struct Account {
    pub name: String,
    /// The texts of its keys.
    pub keys: Vec<String>,
    /// Minor units that were asked for since it was last topped up.
    pub asked: AtomicI64,
}

impl World {
    pub async fn start() -> Arc<Self> {
        let postgres = spawn_blocking(|| {
            PrivatePostgres::start(&cluster::options("crash")).expect("Postgres starts")
        });
        let postgres = postgres.await.expect("no panic");
        let url = postgres.url(DATABASE);
        let tenant = tollgate(&["tenant", "create", "tronagg", "--prefix", "ta_", "--json"])
            .args(["--currency", "TRX", "--decimals", "6", "--default-scopes", "write"])
            .args(["--database-url", &url])
            .output()
            .expect("the program runs");
        assert!(tenant.status.success(), "{}", String::from_utf8_lossy(&tenant.stderr));
        let tenant: Value = serde_json::from_slice(&tenant.stdout).expect("an object");

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
            pool: PgPool::connect_lazy(&url).expect("a URL"),
            url,
            http: Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build_http(),
            admin_key: tenant["admin_key"].as_str().expect("a key").to_owned(),
            nodes,
            accounts: Vec::new(),
            orders_begun: AtomicUsize::new(0),
            orders: Mutex::default(),
            done: AtomicUsize::new(0),
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

    /// Clients begin to buy, and the tenant to top their accounts up.
    pub fn open(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        let mut tasks = vec![tokio::spawn(Arc::clone(self).top_up())];
        tasks.extend((0..CLIENTS).map(|_| tokio::spawn(Arc::clone(self).shop())));
        tasks
    }

    /// How many orders of clients have come to an end.
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until so many more have.
    pub async fn traffic(&self, number: usize) {
        let enough = self.done() + number;
        eventually("clients get on", async || self.done() >= enough).await;
    }

    /// Ends everything, and says what came of it.
    pub async fn finish(&self, tasks: Vec<JoinHandle<()>>) -> (Tally, Vec<String>) {
        self.finished.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.expect("no panic");
        }
        for node in &self.nodes {
            node.stop().await;
        }
        // Of what a client hung up on, and nobody waits for.
        eventually("nothing is under way", async || {
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
        let postgres = lock(&self.postgres).take().expect("it runs");
        spawn_blocking(|| postgres.stop().expect("it stops")).await.expect("no panic");
        std::fs::remove_dir_all(cluster::directory("crash")).expect("it is ours");
        (tally, violations)
    }

    pub fn signal_postmaster(&self, signal: Signal) {
        let file = cluster::directory("crash").join("data/postmaster.pid");
        let text = std::fs::read_to_string(file).expect("it runs");
        let pid = text.lines().next().expect("a line").parse().expect("a process id");
        kill_process(Pid::from_raw(pid).expect("not zero"), signal).expect("it runs");
    }

    pub fn random(&self) -> StdRng {
        StdRng::seed_from_u64(self.seeds.fetch_add(1, Ordering::Relaxed) as u64)
    }

    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    pub fn keep(&self, order: Order) {
        lock(&self.orders).push(order);
    }

    pub fn violation(&self, text: String) {
        lock(&self.violations).push(text);
    }

    /// A node at random, of those that serve: one is dead at the most.
    pub fn a_node(&self, random: &mut StdRng) -> usize {
        let node = random.random_range(0..NODES);
        if self.nodes[node].serves() { node } else { (node + 1) % NODES }
    }

    /// Sends a request; `None`: the node was killed meanwhile.
    pub async fn exchange(&self, node: usize, call: Call) -> Option<Answer> {
        let node = &self.nodes[node];
        let life = node.lives.load(Ordering::SeqCst);
        match self.request(&node.url(), call).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                let was_killed = node.lives.load(Ordering::SeqCst) != life || !is_alive(life);
                if !was_killed {
                    self.violation(format!("node {} broke off: {error:?}", node.number));
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
        self.administer(Call::new("PUT", &path)).await;
        let mut keys = Vec::new();
        for _ in 0..KEYS_PER_ACCOUNT {
            let call = Call::new("POST", &format!("{path}/keys")).json(json!({"name": "a key"}));
            keys.push(self.administer(call).await.text("/key").to_owned());
        }
        Account { name, keys, asked: AtomicI64::new(0) }
    }

    async fn administer(&self, call: Call) -> Answer {
        let answer = self.exchange(0, call.bearer(&self.admin_key)).await.expect("it serves");
        answer.expect(201)
    }

    /// What the program finds wrong with its own ledger.
    async fn verify(&self) -> Option<String> {
        let mut command = tollgate(&["ledger", "verify"]);
        command.env("DATABASE_URL", &self.url);
        let output = spawn_blocking(move || command.output().expect("the program runs")).await;
        let output = output.expect("no panic");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (!output.status.success())
            .then(|| format!("ledger verify: {}{}", text(&output.stdout), text(&output.stderr)))
    }
}

impl Node {
    /// Starts the service, and returns when it serves.
    pub async fn start(&self) {
        let mut command = tollgate(&["serve"]);
        command.env("DATABASE_URL", self.proxy.url(DATABASE));
        let log = cluster::directory(&format!("crash-{}.log", self.number));
        let process = spawn_blocking(move || Process::start(command, &log));
        let process = process.await.expect("it starts");
        *lock(&self.address) = format!("http://{}", process.address);
        *lock(&self.process) = Some(process);
        self.lives.fetch_add(1, Ordering::SeqCst);
    }

    pub fn kill(&self) {
        // Before it happens: whoever it breaks off for finds that it did.
        self.lives.fetch_add(1, Ordering::SeqCst);
        let process = lock(&self.process).take().expect("it runs");
        process.signal(Signal::KILL);
        process.wait();
    }

    async fn stop(&self) {
        let process = lock(&self.process).take().expect("it runs");
        let (status, log) = spawn_blocking(|| process.stop()).await.expect("no panic");
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
    mutex.lock().expect("no panic")
}
