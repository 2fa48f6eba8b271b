//! A database whose owner is an ordinary role. The role has only the privileges that a test grants.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::harness::{
    PATIENCE, cluster,
    process::{Process, tollgate},
};

/// An empty database, and the ordinary role that owns it. The database and the role share a name.
pub struct OwnDatabase {
    pub name: String,
    pub url: String,
    /// A connection to the database as the superuser.
    pub admin: PgConnection,
}

impl OwnDatabase {
    /// Creates the database and its role. The role gets these attributes, such as `NOINHERIT`.
    pub async fn of_role(attributes: &str) -> Self {
        let url = cluster::empty_database().await;
        let name = cluster::database_in(&url).to_owned();
        let admin = PgConnection::connect(&url).await.expect("the cluster runs");
        let url = url.replacen("//postgres@", &format!("//{name}@"), 1);
        let mut database = Self { name, url, admin };
        let name = &database.name;
        let statements =
            format!("CREATE ROLE {name} LOGIN {attributes}; ALTER DATABASE {name} OWNER TO {name}");
        database.run(&statements).await;
        database
    }

    /// Runs statements as the superuser.
    pub async fn run(&mut self, statements: &str) {
        let statements = AssertSqlSafe(statements.to_owned());
        self.admin.execute(statements).await.expect("the statements run");
    }

    /// Waits until Postgres has closed the connections of earlier commands.
    pub async fn wait_until_unused(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let used = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
            let used = sqlx::query_scalar::<_, i64>(used).bind(&self.name);
            if used.fetch_one(&mut self.admin).await.expect("the query returns a number") == 0 {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "connections of the role {} are still open",
                self.name
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn tables_in(&mut self, schema: &str) -> i64 {
        let count = "SELECT count(*) FROM pg_tables WHERE schemaname = $1";
        let count = sqlx::query_scalar(count).bind(schema).fetch_one(&mut self.admin);
        count.await.expect("the query returns a number")
    }

    /// Builds a command that uses the database.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = tollgate(arguments);
        command.env("DATABASE_URL", &self.url);
        command
    }

    /// Builds a command for a service that opens this many connections for requests, and 17
    /// other connections.
    pub fn service(&self, connections: &str) -> Command {
        let mut command = self.command(&["serve"]);
        command.env("TOLLGATE_DATABASE_CONNECTIONS", connections);
        command.env("TOLLGATE_LISTEN", "127.0.0.1:0").env("TOLLGATE_METRICS_LISTEN", "127.0.0.1:0");
        command
    }

    /// Starts a service with this many connections for requests, and stops it. Returns its log.
    pub fn start_and_stop(&self, connections: &str, settings: &[(&str, &str)]) -> String {
        let log = cluster::directory(&format!("{}.log", self.name));
        let mut command = self.service(connections);
        command.envs(settings.iter().copied());
        let (status, text) = Process::start(command, &log).stop();
        assert!(status.success(), "{status}: {text}");
        let _ = std::fs::remove_file(log);
        text
    }

    /// Creates the tables and a tenant. Returns the tenant's admin key.
    pub fn create_tenant(&self) -> String {
        let arguments = ["tenant", "create", "tronagg", "--prefix", "ta_", "--json"];
        let output = self.command(&arguments).output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tenant: Value = serde_json::from_slice(&output.stdout).expect("the text is JSON");
        tenant["admin_key"].as_str().expect("the key is a string").to_owned()
    }
}
