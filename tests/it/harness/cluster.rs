//! One Postgres for all tests, and a fresh database for each.

use std::{
    path::PathBuf,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tollgate::{
    postgres::{self, PrivatePostgres},
    store::{PoolSettings, Store},
};

const TEMPLATE: &str = "template_tollgate";

static CLUSTER: OnceLock<tokio::sync::OnceCell<()>> = OnceLock::new();
/// Taken and stopped when the process ends: a static is never dropped.
static RUNNING: Mutex<Option<PrivatePostgres>> = Mutex::new(None);
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The options of a cluster that tests use: in a directory of this process, without fsync.
pub fn options(name: &str) -> postgres::Options {
    postgres::Options {
        data_dir: directory(name),
        durable: false,
        max_connections: 400,
        pg_bindir: variable("PG_BINDIR").map(PathBuf::from),
        path: variable("PATH"),
    }
}

/// A directory of this process below the temporary one.
pub fn directory(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tollgate-test-{}-{name}", std::process::id()))
}

pub fn variable(name: &str) -> Option<std::ffi::OsString> {
    #[expect(clippy::disallowed_methods, reason = "the tests find the programs as the shell would")]
    std::env::var_os(name)
}

/// The URL of a database that nobody else uses, with the schema in it and nothing else.
pub async fn fresh_database() -> String {
    CLUSTER.get_or_init(tokio::sync::OnceCell::new).get_or_init(start).await;
    let name = format!("test_{}", COUNTER.fetch_add(1, Ordering::Relaxed));
    let mut connection = PgConnection::connect(&url("postgres")).await.expect("the cluster runs");
    let create = format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy");
    connection.execute(AssertSqlSafe(create)).await.expect("a database is created");
    url(&name)
}

/// The URL of an empty database that nobody else uses.
pub async fn empty_database() -> String {
    CLUSTER.get_or_init(tokio::sync::OnceCell::new).get_or_init(start).await;
    let name = format!("empty_{}", COUNTER.fetch_add(1, Ordering::Relaxed));
    let mut connection = PgConnection::connect(&url("postgres")).await.expect("the cluster runs");
    let create = format!("CREATE DATABASE {name} STRATEGY file_copy");
    connection.execute(AssertSqlSafe(create)).await.expect("a database is created");
    url(&name)
}

/// The name of the database in a URL of this cluster.
pub fn database_in(url: &str) -> &str {
    let (_, name) = url.rsplit_once('/').expect("a URL");
    name.split_once('?').map_or(name, |(name, _)| name)
}

/// The socket of this cluster's server.
pub fn socket() -> PathBuf {
    let running = RUNNING.lock().expect("no test panics with it");
    running.as_ref().expect("the cluster was started").socket_dir().join(".s.PGSQL.5432")
}

/// What the cluster has logged so far.
pub fn log() -> String {
    let file = directory("cluster").join("postgres.log");
    let log = std::fs::read(file).expect("the cluster has a log");
    String::from_utf8_lossy(&log).into_owned()
}

/// How the tests' stores use their databases: patient, so that a slow machine is no failure.
pub fn pool_settings(url: &str) -> PoolSettings {
    PoolSettings {
        url: url.to_owned(),
        listen_url: None,
        max_connections: 4,
        acquire_timeout: Duration::from_secs(60),
        statement_timeout: Duration::from_secs(60),
        lock_timeout: Duration::from_secs(60),
    }
}

async fn start() {
    let postgres = tokio::task::spawn_blocking(|| PrivatePostgres::start(&options("cluster")))
        .await
        .expect("starting does not panic")
        .expect("Postgres starts");
    *RUNNING.lock().expect("no test panics with it") = Some(postgres);
    // SAFETY: `stop` takes no argument, returns, and does not unwind past a failed stop.
    #[expect(unsafe_code, reason = "a process that ends runs no destructor of a static")]
    let registered = unsafe { libc::atexit(stop) };
    assert_eq!(registered, 0, "the cluster will be stopped");
    let mut connection = PgConnection::connect(&url("postgres")).await.expect("the cluster runs");
    let create = format!("CREATE DATABASE {TEMPLATE}");
    connection.execute(AssertSqlSafe(create)).await.expect("the template is created");
    let store = Store::connect(&pool_settings(&url(TEMPLATE))).await.expect("it can be reached");
    store.migrate().await.expect("the migrations apply");
    store.close().await;
}

extern "C" fn stop() {
    let running = RUNNING.lock().map(|mut running| running.take());
    if let Ok(Some(postgres)) = running {
        drop(postgres);
        // What is left is in the temporary directory.
        let _ = std::fs::remove_dir_all(directory("cluster"));
    }
}

/// The URL of a database of this cluster, as its superuser.
pub fn url(database: &str) -> String {
    let running = RUNNING.lock().expect("no test panics with it");
    running.as_ref().expect("the cluster was started").url(database)
}
