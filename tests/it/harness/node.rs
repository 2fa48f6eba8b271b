//! A service that a test kills, stops and restarts, behind a proxy that the test can interrupt.

use std::{
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::process::Signal;

use super::{
    cluster, eventually,
    process::{Process, tollgate},
    proxy::Proxy,
};

pub struct Node {
    log: PathBuf,
    database: String,
    pub proxy: Proxy,
    process: Mutex<Option<Process>>,
    address: Mutex<String>,
    /// Whether clients send requests to this node and expect a response from it.
    pub is_available: AtomicBool,
}

impl Node {
    /// Starts a proxy to the socket of a Postgres, and a service that uses this database. `name` is
    /// a part of the name of the log.
    pub async fn on(socket: PathBuf, database: &str, name: &str) -> Self {
        let node = Self {
            log: cluster::directory(&format!("{name}.log")),
            database: database.to_owned(),
            proxy: Proxy::start(socket).await,
            process: Mutex::default(),
            address: Mutex::default(),
            is_available: AtomicBool::new(true),
        };
        node.start().await;
        node
    }

    /// Starts the service and waits until it accepts requests.
    pub async fn start(&self) {
        let mut command = tollgate(&["serve"]);
        command.env("DATABASE_URL", self.proxy.url(&self.database));
        let log = self.log.clone();
        let process = tokio::task::spawn_blocking(move || Process::start(command, &log));
        let process = process.await.expect("the task does not panic");
        *lock(&self.address) = format!("http://{}", process.address);
        *lock(&self.process) = Some(process);
        self.is_available.store(true, Ordering::Relaxed);
    }

    /// Kills the service, which must run, and waits until it has exited.
    pub fn kill(&self) {
        self.is_available.store(false, Ordering::Relaxed);
        self.signal(Signal::KILL);
        let process = lock(&self.process).take().expect("the service runs");
        process.wait();
    }

    /// Kills the service if it runs.
    pub fn end(&self) {
        drop(lock(&self.process).take());
    }

    pub fn signal(&self, signal: Signal) {
        lock(&self.process).as_ref().expect("the service runs").signal(signal);
    }

    /// Returns the URL of the service. After the service was killed, nothing listens at the URL
    /// until the next start.
    pub fn url(&self) -> String {
        lock(&self.address).clone()
    }

    /// Returns the value of a metric, or `None` if the node does not respond.
    pub async fn metric(&self, name: &str) -> Option<u64> {
        let address = lock(&self.process).as_ref()?.metrics;
        let name = format!("{name} ");
        tokio::task::spawn_blocking(move || {
            let answer = ureq::get(format!("http://{address}/metrics")).call().ok()?;
            let text = answer.into_body().read_to_string().ok()?;
            text.lines().find_map(|line| line.strip_prefix(&name))?.parse().ok()
        })
        .await
        .expect("the task does not panic")
    }
}

/// Waits until every node holds its lease, so that nodes accept keys.
pub async fn all_hold_leases(nodes: &[Node]) {
    eventually("every node has its lease", async || {
        for node in nodes {
            if node.metric("tollgate_lease_held").await != Some(1) {
                return false;
            }
        }
        true
    })
    .await;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
