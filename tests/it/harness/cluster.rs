//! One Postgres for all tests, and a fresh database for each.

use std::{
    path::PathBuf,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool};
use tollgate::{
    postgres::{self, PrivatePostgres},
    store::{PoolSettings, Store},
};

use super::eventually;

const TEMPLATE: &str = "template_tollgate";

static CLUSTER: OnceLock<tokio::sync::OnceCell<()>> = OnceLock::new();
/// When the process exits, [`stop`] takes and stops the server, because Rust never drops a static.
static RUNNING: Mutex<Option<PrivatePostgres>> = Mutex::new(None);
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Returns the options for a test cluster. The path of its directory contains the id of this
/// process, and fsync is off.
pub fn options(name: &str) -> postgres::Options {
    postgres::Options {
        data_dir: directory(name),
        durable: false,
        max_connections: 400,
        pg_bindir: variable("PG_BINDIR").map(PathBuf::from),
        path: variable("PATH"),
    }
}

/// Returns a path in the temporary directory. It contains the id of this process.
pub fn directory(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tollgate-test-{}-{name}", std::process::id()))
}

/// Sends a signal to the server of a test cluster that was started with [`options`].
pub fn signal_postmaster(name: &str, signal: Signal) {
    let file = directory(name).join("data/postmaster.pid");
    let text = std::fs::read_to_string(file).expect("Postgres runs");
    let line = text.lines().next().expect("the line exists");
    let pid = line.parse().expect("the process id is a number");
    kill_process(Pid::from_raw(pid).expect("the process id is not zero"), signal)
        .expect("Postgres runs");
}

pub fn variable(name: &str) -> Option<std::ffi::OsString> {
    #[expect(clippy::disallowed_methods, reason = "the tests find programs as a shell does")]
    std::env::var_os(name)
}

/// Creates a database that contains the schema and no rows. Returns its URL.
pub async fn fresh_database() -> String {
    CLUSTER.get_or_init(tokio::sync::OnceCell::new).get_or_init(start).await;
    let name = format!("test_{}", COUNTER.fetch_add(1, Ordering::Relaxed));
    let mut connection = PgConnection::connect(&url("postgres")).await.expect("the cluster runs");
    let create = format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy");
    connection.execute(AssertSqlSafe(create)).await.expect("a database is created");
    url(&name)
}

/// Creates a database without the schema. Returns its URL.
pub async fn empty_database() -> String {
    CLUSTER.get_or_init(tokio::sync::OnceCell::new).get_or_init(start).await;
    let name = format!("empty_{}", COUNTER.fetch_add(1, Ordering::Relaxed));
    let mut connection = PgConnection::connect(&url("postgres")).await.expect("the cluster runs");
    let create = format!("CREATE DATABASE {name} STRATEGY file_copy");
    connection.execute(AssertSqlSafe(create)).await.expect("a database is created");
    url(&name)
}

/// Returns the name of the database in a URL of this cluster.
pub fn database_in(url: &str) -> &str {
    let (_, name) = url.rsplit_once('/').expect("the URL is valid");
    name.split_once('?').map_or(name, |(name, _)| name)
}

pub fn socket() -> PathBuf {
    let running = RUNNING.lock().expect("no test panics while it holds the lock");
    running.as_ref().expect("the cluster was started").socket_dir().join(".s.PGSQL.5432")
}

pub fn log() -> String {
    let file = directory("cluster").join("postgres.log");
    let log = std::fs::read(file).expect("the cluster has a log");
    String::from_utf8_lossy(&log).into_owned()
}

/// Returns pool settings for tests. Their timeouts are long, so that no test fails on a slow
/// machine.
pub fn pool_settings(url: &str) -> PoolSettings {
    PoolSettings {
        url: url.to_owned(),
        listen_url: None,
        // Large enough for three concurrent requests of one tenant that wait for a lock.
        max_connections: 6,
        acquire_timeout: Duration::from_secs(60),
        statement_timeout: Duration::from_secs(60),
        lock_timeout: Duration::from_secs(60),
        answer_timeout: Duration::from_secs(60),
        standby_allowed: false,
    }
}

async fn start() {
    let postgres = tokio::task::spawn_blocking(|| PrivatePostgres::start(&options("cluster")))
        .await
        .expect("starting does not panic")
        .expect("Postgres starts");
    *RUNNING.lock().expect("no test panics while it holds the lock") = Some(postgres);
    // SAFETY: `stop` has the signature that atexit requires. A panic in it aborts the process
    // instead of unwinding.
    #[expect(unsafe_code, reason = "a static has no destructor that runs at exit")]
    let registered = unsafe { libc::atexit(stop) };
    assert_eq!(registered, 0, "atexit registers the function");
    let mut connection = PgConnection::connect(&url("postgres")).await.expect("the cluster runs");
    let create = format!("CREATE DATABASE {TEMPLATE}");
    connection.execute(AssertSqlSafe(create)).await.expect("the template is created");
    let store =
        Store::connect(&pool_settings(&url(TEMPLATE))).await.expect("the database is reachable");
    store.migrate().await.expect("the migrations apply");
    store.close().await;
}

extern "C" fn stop() {
    let running = RUNNING.lock().map(|mut running| running.take());
    if let Ok(Some(postgres)) = running {
        drop(postgres);
        // If this fails, the files stay in the temporary directory.
        let _ = std::fs::remove_dir_all(directory("cluster"));
    }
}

/// Returns the superuser's URL of a database of this cluster.
pub fn url(database: &str) -> String {
    let running = RUNNING.lock().expect("no test panics while it holds the lock");
    running.as_ref().expect("the cluster was started").url(database)
}

/// Waits until exactly `number` sessions of the database are blocked by a lock.
pub async fn wait_until_blocked(pool: &PgPool, number: i64) {
    let all_blocked = async || {
        let blocked: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_one(pool)
        .await
        .expect("the query returns a number");
        blocked == number
    };
    eventually("the transactions are blocked by the lock", all_blocked).await;
}
