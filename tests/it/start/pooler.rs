//! Tests with a real PgBouncer between Tollgate and Postgres. Tollgate accepts a pooler in session
//! mode with PgBouncer's default settings. It refuses the other modes.

use std::{
    os::unix::{
        fs::{MetadataExt as _, chown},
        net::UnixStream,
        process::CommandExt as _,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use super::run::{fails, succeeds};
use crate::harness::{
    Call, PATIENCE, cluster,
    process::{Process, tollgate},
};

/// A running PgBouncer in front of the cluster. It listens on a socket in its directory.
struct Pooler {
    child: Child,
    directory: PathBuf,
}

impl Pooler {
    /// Starts PgBouncer with these settings and defaults for all others. The cluster must be
    /// running.
    fn start(name: &str, settings: &str) -> Self {
        let directory = cluster::directory(name);
        std::fs::create_dir_all(&directory).expect("the directory can be created");
        // PgBouncer refuses to run as root, and only the owner of the cluster can use its socket.
        let data = cluster::directory("cluster").join("data");
        let owner = std::fs::metadata(data).expect("the cluster has a data directory");
        chown(&directory, Some(owner.uid()), Some(owner.gid())).expect("the owner can be changed");
        let postgres = cluster::socket();
        let postgres = postgres.parent().expect("the path has a parent").display();
        let text = format!(
            "[databases]\n* = host={postgres} port=5432 user=postgres\n\
             [pgbouncer]\nunix_socket_dir = {}\nauth_type = any\n{settings}\n",
            directory.display()
        );
        let configuration = directory.join("pgbouncer.ini");
        std::fs::write(&configuration, text).expect("the configuration is written");
        let log =
            std::fs::File::create(directory.join("stderr")).expect("the log file can be created");
        let program = cluster::variable("PGBOUNCER").unwrap_or_else(|| "pgbouncer".into());
        // On Debian, the PATH of an ordinary user does not contain these directories.
        let mut path = cluster::variable("PATH").unwrap_or_default();
        path.push(":/usr/local/sbin:/usr/sbin:/sbin");
        let child = Command::new(program)
            .env("PATH", path)
            .arg(&configuration)
            .uid(owner.uid())
            .gid(owner.gid())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("scripts/ensure-pgbouncer.sh has installed PgBouncer");
        let mut pooler = Self { child, directory };
        pooler.wait_until_it_listens();
        pooler
    }

    fn wait_until_it_listens(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(self.directory.join(".s.PGSQL.6432")).is_err() {
            let exited = self.child.try_wait().expect("the status can be read");
            let ready = exited.is_none() && Instant::now() < deadline;
            assert!(ready, "PgBouncer does not listen: {exited:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("stderr")).unwrap_or_default()
    }

    /// Returns a URL that connects to this database through the pooler.
    fn url(&self, database: &str) -> String {
        let directory = self.directory.to_str().expect("the path is UTF-8").replace('/', "%2F");
        format!("postgres://postgres@{directory}:6432/{database}?password=")
    }

    /// Builds a command that uses this database through the pooler.
    fn command(&self, database: &str, arguments: &[&str]) -> Command {
        let mut command = tollgate(arguments);
        command.env("DATABASE_URL", self.url(database));
        command.env("TOLLGATE_LISTEN", "127.0.0.1:0").env("TOLLGATE_METRICS_LISTEN", "127.0.0.1:0");
        command.env("TOLLGATE_DATABASE_CONNECTIONS", "2");
        command
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // If this fails, the files stay in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Counts the tables in the schema `public`.
async fn tables(url: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.expect("the cluster runs");
    sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        .fetch_one(&mut connection)
        .await
        .expect("the query returns a number")
}

#[tokio::test]
async fn service_and_commands_work_through_a_pooler_in_session_mode() {
    let url = cluster::empty_database().await;
    let database = cluster::database_in(&url);
    let pooler = Pooler::start("pooler-session", "");
    let create = ["tenant", "create", "tronagg", "--prefix", "ta_", "--json"];
    let output = pooler.command(database, &create).output().expect("the program runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}\n{}", pooler.log());
    let tenant: Value = serde_json::from_slice(&output.stdout).expect("the text is JSON");
    let admin_key = tenant["admin_key"].as_str().expect("the key is a string");

    let log = cluster::directory("pooler-session.log");
    let service = Process::start(pooler.command(database, &["serve"]), &log);
    let call = |method: &str, path: &str| Call::new(method, path).bearer(admin_key);
    service.send(call("PUT", "/v1/accounts/user-1")).expect(201);
    let credit = call("POST", "/v1/accounts/user-1/credits").header("Idempotency-Key", "opening");
    service.send(credit.json(json!({"amount": "5"}))).expect(201);
    let create = call("POST", "/v1/accounts/user-1/keys");
    let create = create.json(json!({"name": "a", "scopes": ["purchases:write"]}));
    let created = service.send(create).expect(201);
    let buy = Call::new("POST", "/v1/purchases").header("X-API-Key", created.text("/key"));
    service.send(buy.json(json!({"amount": "1"}))).expect(201);
    let revoke = format!("/v1/accounts/user-1/keys/{}/revoke", created.text("/id"));
    service.send(call("POST", &revoke)).expect(200);
    service.send(Call::new("GET", "/readyz")).expect(200);
    let (status, log) = service.stop();
    assert!(status.success(), "{status}: {log}\n{}", pooler.log());
    assert!(!log.contains("WARN"), "{log}");
    succeeds(pooler.command(database, &["ledger", "verify"]));
    let mut command = pooler.command(database, &["ledger", "verify"]);
    command.env("PGOPTIONS", "-c geqo=on");
    let error = fails(command);
    assert!(error.contains("unsupported startup parameter"), "{error}");
    assert!(error.contains("Add it to the pooler's ignore_startup_parameters"), "{error}");
    let _ = std::fs::remove_file(cluster::directory("pooler-session.log"));
}

#[tokio::test]
async fn pooler_in_transaction_or_statement_mode_is_refused_without_any_change() {
    let url = cluster::empty_database().await;
    let database = cluster::database_in(&url);
    for mode in ["transaction", "statement"] {
        let name = format!("pooler-{mode}");
        for settings in ["", "server_round_robin = 1\nmin_pool_size = 2"] {
            let pooler = Pooler::start(&name, &format!("pool_mode = {mode}\n{settings}"));
            let refuses = |command: Command| {
                let error = fails(command);
                for part in [
                    "behind a pooler in transaction or statement mode",
                    "session mode (PgBouncer: pool_mode = session)",
                ] {
                    assert!(error.contains(part), "{part} is not in: {error}\n{}", pooler.log());
                }
            };
            for arguments in [&["serve"][..], &["migrate"], &["tenant", "list"]] {
                refuses(pooler.command(database, arguments));
            }
            // Tollgate refuses the pooler even if the connection that listens is direct.
            let mut command = pooler.command(database, &["serve"]);
            command.env("TOLLGATE_LISTEN_DATABASE_URL", &url);
            refuses(command);
            // Tollgate refuses the pooler even if only the connection that listens uses it, because
            // such a pooler loses notifications.
            let mut command = pooler.command(database, &["serve"]);
            command.env("DATABASE_URL", &url);
            command.env("TOLLGATE_LISTEN_DATABASE_URL", pooler.url(database));
            refuses(command);
        }
    }
    assert_eq!(tables(&url).await, 0);
}

#[tokio::test]
async fn service_refuses_a_pooler_with_one_connection_but_a_command_accepts_it() {
    let url = cluster::empty_database().await;
    let database = cluster::database_in(&url);
    let pooler = Pooler::start("pooler-small", "default_pool_size = 1");
    let command = |arguments: &[&str]| {
        let mut command = pooler.command(database, arguments);
        command.env("TOLLGATE_DATABASE_ACQUIRE_TIMEOUT", "1s");
        command
    };
    let error = fails(command(&["serve"]));
    for part in [
        "allows fewer connections than this node may open",
        "PgBouncer: default_pool_size",
        "Raise its limit to 19 for each node",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}\n{}", pooler.log());
    }
    assert_eq!(tables(&url).await, 0);
    succeeds(command(&["migrate"]));
    assert!(tables(&url).await > 0);
}
