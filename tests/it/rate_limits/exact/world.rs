//! Three services on one Postgres, each behind a proxy that the test can interrupt, and keys with
//! rate limits.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
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
use serde_json::{Value, json};
use sqlx::PgPool;
use tollgate::postgres::{DATABASE, Options, PrivatePostgres};

use super::tally::{Outcome, Tally};
use crate::harness::{
    PATIENCE, cluster, eventually,
    node::{Node, all_hold_leases},
    process::create_tenant,
    within_patience,
};

pub const NODES: usize = 3;

/// The length of a window that does not end during a test, in seconds.
pub const HOUR: u64 = 3600;

/// How long a client keeps an idle connection. The service closes idle connections after 30 s, so a
/// request that is sent at that moment could be lost.
const MAX_IDLE: Duration = Duration::from_secs(5);

pub struct World {
    /// The Postgres of this world and its directory. `None` if the world uses the Postgres that all
    /// tests share.
    postgres: Mutex<Option<(PrivatePostgres, PathBuf)>>,
    pub url: String,
    pub pool: PgPool,
    http: Client<HttpConnector, Full<Bytes>>,
    admin_key: String,
    pub nodes: Vec<Node>,
    accounts: AtomicUsize,
    /// The number of calls that are finished.
    calls: AtomicUsize,
}

pub struct Key {
    /// The path of the key: `/v1/accounts/{account}/keys/{key_id}`.
    pub path: String,
    text: String,
    tally: Mutex<Tally>,
}

/// Returns a list with one rate limit.
pub fn limits(calls: usize, window_seconds: u64) -> Value {
    json!([{"name": "default", "limit": calls, "window_seconds": window_seconds}])
}

impl World {
    /// Starts the services on a database in the Postgres that all tests share.
    pub async fn start(name: &str) -> Arc<Self> {
        let url = cluster::fresh_database().await;
        let database = cluster::database_in(&url).to_owned();
        Self::on(name, &url, cluster::socket(), &database, None).await
    }

    /// Starts a Postgres with these options, and the services on it.
    pub async fn start_alone(name: &str, options: Options) -> Arc<Self> {
        let directory = options.data_dir.clone();
        let started = tokio::task::spawn_blocking(move || PrivatePostgres::start(&options));
        let postgres = started.await.expect("the task does not panic").expect("Postgres starts");
        let url = postgres.url(DATABASE);
        let socket = postgres.socket_dir().join(".s.PGSQL.5432");
        Self::on(name, &url, socket, DATABASE, Some((postgres, directory))).await
    }

    async fn on(
        name: &str,
        url: &str,
        socket: PathBuf,
        database: &str,
        postgres: Option<(PrivatePostgres, PathBuf)>,
    ) -> Arc<Self> {
        let admin_key = create_tenant(url, &[]);
        let mut nodes = Vec::new();
        for number in 0..NODES {
            let name = format!("rate-limits-{name}-{number}");
            nodes.push(Node::on(socket.clone(), database, &name).await);
        }
        all_hold_leases(&nodes).await;
        Arc::new(Self {
            postgres: Mutex::new(postgres),
            url: url.to_owned(),
            pool: PgPool::connect_lazy(url).expect("the URL is valid"),
            http: Client::builder(TokioExecutor::new()).pool_idle_timeout(MAX_IDLE).build_http(),
            admin_key,
            nodes,
            accounts: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
        })
    }

    /// Creates a key with this limit, in an account of its own.
    pub async fn key(&self, calls: usize, window_seconds: u64) -> Arc<Key> {
        let account = self.account(json!({})).await;
        let body = json!({"name": "a key", "rate_limits": limits(calls, window_seconds)});
        self.key_of(&account, body).await
    }

    /// Creates an account. Returns its path.
    pub async fn account(&self, body: Value) -> String {
        let number = self.accounts.fetch_add(1, Ordering::Relaxed);
        let path = format!("/v1/accounts/user-{number}");
        self.change(0, Method::PUT, &path, body).await;
        path
    }

    /// Creates a key of the account with this path.
    pub async fn key_of(&self, account: &str, body: Value) -> Arc<Key> {
        let created = self.change(0, Method::POST, &format!("{account}/keys"), body).await;
        let member = |name: &str| created[name].as_str().expect("the member is a string");
        Arc::new(Key {
            path: format!("{account}/keys/{}", member("id")),
            text: member("key").to_owned(),
            tally: Mutex::default(),
        })
    }

    /// Sends a request with the admin key to a node until the node processes it. Returns the body
    /// of the response.
    pub async fn change(&self, node: usize, method: Method, path: &str, body: Value) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = Request::builder()
                .method(method.clone())
                .uri(format!("{}{path}", self.nodes[node].url()))
                .header("Authorization", format!("Bearer {}", self.admin_key))
                .header("Content-Type", "application/json")
                .body(Full::from(body.to_string()))
                .expect("the request is valid");
            match self.send(request).await {
                Some((200 | 201, body)) => {
                    return serde_json::from_slice(&body).expect("the text is JSON");
                }
                None | Some((503, _)) => {
                    assert!(Instant::now() < deadline, "{method} {path} did not return");
                }
                Some((status, body)) => {
                    panic!("{method} {path}: {status} {}", String::from_utf8_lossy(&body));
                }
            }
        }
    }

    /// Makes a call with the key to a node, and records the result.
    pub async fn call(&self, node: usize, key: &Key) -> Outcome {
        let uri = format!("{}/v1/authorize/tronagg/live", self.nodes[node].url());
        let request = Request::get(uri).header("X-API-Key", &key.text);
        let request = request.body(Full::default()).expect("the request is valid");
        lock(&key.tally).begin();
        let outcome = match self.send(request).await {
            Some((200, _)) => Outcome::Passed,
            Some((429, _)) => Outcome::Limited,
            Some((503, _)) => Outcome::Unavailable,
            None => Outcome::Lost,
            Some((status, body)) => {
                panic!("node {node} answered {status}: {}", String::from_utf8_lossy(&body))
            }
        };
        lock(&key.tally).record(node, outcome);
        self.calls.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    /// Waits until clients have finished `number` more calls.
    pub async fn wait_for_calls(&self, number: usize) {
        let target = self.calls.load(Ordering::Relaxed) + number;
        let finished = async || self.calls.load(Ordering::Relaxed) >= target;
        eventually("clients finish calls", finished).await;
    }

    /// Sends a request to a node. Returns the status and the body, or `None` if the connection
    /// ended before the response.
    async fn send(&self, request: Request<Full<Bytes>>) -> Option<(u16, Bytes)> {
        let answer = within_patience("the node responds", self.http.request(request)).await.ok()?;
        let status = answer.status().as_u16();
        // A node that was killed may have sent only the beginning of the body.
        let body = answer.into_body().collect().await;
        Some((status, body.map(|body| body.to_bytes()).unwrap_or_default()))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.nodes.iter().for_each(Node::end);
        if let Some((postgres, directory)) = lock(&self.postgres).take() {
            drop(postgres);
            // If this fails, the files stay in the temporary directory.
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

impl Key {
    pub fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
