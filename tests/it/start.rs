//! What the program does with its settings and its database before it serves: it starts, or it
//! refuses with a message that says what to do.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, migrate::Migrate as _};
use tollgate::postgres::{self, PrivatePostgres};

use crate::harness::{
    Call, PATIENCE, WALLET, cluster,
    data_dir::DataDir,
    eventually,
    process::{Process, tollgate},
    proxy::Proxy,
};

/// An empty database, and the ordinary role that owns it. The role has the name of the database.
struct OwnDatabase {
    name: String,
    url: String,
    /// A connection of the superuser to the database.
    admin: PgConnection,
}

impl OwnDatabase {
    /// `attributes` are those of the role, such as `NOINHERIT`.
    async fn of_role(attributes: &str) -> Self {
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
    async fn run(&mut self, statements: &str) {
        let statements = AssertSqlSafe(statements.to_owned());
        self.admin.execute(statements).await.expect("the statements run");
    }

    /// Waits until Postgres has closed the connections of earlier commands.
    async fn wait_until_unused(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let used = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
            let used = sqlx::query_scalar::<_, i64>(used).bind(&self.name);
            if used.fetch_one(&mut self.admin).await.expect("a count") == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "connections of {} stay open", self.name);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn tables_in(&mut self, schema: &str) -> i64 {
        let count = "SELECT count(*) FROM pg_tables WHERE schemaname = $1";
        let count = sqlx::query_scalar(count).bind(schema).fetch_one(&mut self.admin);
        count.await.expect("a count")
    }

    /// A command that uses the database.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = tollgate(arguments);
        command.env("DATABASE_URL", &self.url);
        command
    }

    /// A service with this many connections for requests, and thirteen others.
    fn service(&self, connections: &str) -> Command {
        let mut command = self.command(&["serve"]);
        command.env("TOLLGATE_DATABASE_CONNECTIONS", connections);
        command.env("TOLLGATE_LISTEN", "127.0.0.1:0").env("TOLLGATE_METRICS_LISTEN", "127.0.0.1:0");
        command
    }

    /// Starts such a service and stops it. Returns its log.
    fn start_and_stop(&self, connections: &str, settings: &[(&str, &str)]) -> String {
        let log = cluster::directory(&format!("{}.log", self.name));
        let mut command = self.service(connections);
        command.envs(settings.iter().copied());
        let (status, text) = Process::start(command, &log).stop();
        assert!(status.success(), "{status}: {text}");
        let _ = std::fs::remove_file(log);
        text
    }

    /// Creates the tables and a tenant. Returns an admin key.
    fn create_tenant(&self) -> String {
        let arguments = ["tenant", "create", "tronagg", "--prefix", "ta_", "--json"];
        let output = self.command(&arguments).output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tenant: Value = serde_json::from_slice(&output.stdout).expect("an object");
        tenant["admin_key"].as_str().expect("a key").to_owned()
    }
}

/// Runs a command that must succeed. Returns what it prints on stderr.
#[track_caller]
fn succeeds(mut command: Command) -> String {
    let output = command.output().expect("the program runs");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success(), "{command:?}: {stderr}");
    stderr
}

/// Runs a command that must fail. Returns what it prints on stderr. A service that starts instead
/// is killed.
#[track_caller]
fn fails(mut command: Command) -> String {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("the status can be read").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("the process runs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("the process has exited");
    let stderr = String::from_utf8(output.stderr).expect("text");
    let has_failed = output.status.code().is_some_and(|code| code != 0);
    assert!(has_failed, "{command:?} ended with {}: {stderr}", output.status);
    stderr
}

#[test]
fn every_setting_that_is_set_but_empty_is_an_error() {
    let data_dir = DataDir::new("empty");
    let example = include_str!("../../.env.example");
    let settings: Vec<&str> = example
        .lines()
        .filter_map(|line| line.strip_prefix("# ").unwrap_or(line).split_once('='))
        .map(|(name, _)| name)
        .filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    assert!(settings.len() > 20, "{settings:?}");
    for setting in &settings {
        for blank in ["", "  "] {
            let mut command = tollgate(&["serve"]);
            command.env("TOLLGATE_DATA_DIR", &data_dir.path).env(setting, blank);
            let error = fails(command);
            let expected = format!("{setting} is set but empty");
            assert!(error.contains(&expected), "{error}");
        }
    }
    // Empty flags and variables are reported together.
    let mut command = tollgate(&["serve", "--listen", "", "--data-dir="]);
    command.env("TOLLGATE_LOG", "").env("TOLLGATE_LEASE", "");
    let error = fails(command);
    for line in [
        "--listen (TOLLGATE_LISTEN) is given but empty",
        "--data-dir (TOLLGATE_DATA_DIR) is given but empty",
        "TOLLGATE_LOG is set but empty",
        "TOLLGATE_LEASE is set but empty",
    ] {
        assert!(error.contains(line), "{line} is not in:\n{error}");
    }
    assert!(!data_dir.path.exists(), "no data directory is created");
}

#[tokio::test]
async fn unknown_variable_is_logged_once_with_the_setting_that_it_may_be_meant_for() {
    let url = cluster::fresh_database().await;
    let home = cluster::directory("unknown-variables");
    std::fs::create_dir_all(&home).expect("a directory");
    std::fs::write(home.join(".env"), "TOLLGATE_LISTN=hunter2\n").expect("a file");
    let prepare = |arguments: &[&str]| {
        let mut command = tollgate(arguments);
        command.env("DATABASE_URL", &url).env("TOLLGATE_POOL_SIZE", "hunter2").current_dir(&home);
        // A setting, a variable of clients, and those of a Kubernetes service named tollgate.
        command.env("TOLLGATE_LOG", "info").env("TOLLGATE_URL", "http://127.0.0.1:8080");
        command.env("TOLLGATE_PORT", "tcp://10.0.0.7:80").env("TOLLGATE_SERVICE_HOST", "10.0.0.7");
        command
    };
    let log = home.join("serve.log");
    let (status, served) = Process::start(prepare(&["serve"]), &log).stop();
    assert!(status.success(), "{status}: {served}");
    for log in [served, succeeds(prepare(&["migrate"])), succeeds(prepare(&["tenant", "list"]))] {
        let is_about_a_variable = |line: &&str| line.contains("no setting has this variable");
        let warnings: Vec<&str> = log.lines().filter(is_about_a_variable).collect();
        let [misspelled, other] = warnings[..] else { panic!("two warnings, not {warnings:?}") };
        for (warning, parts) in [
            (misspelled, ["\"TOLLGATE_LISTN\"", "did you mean TOLLGATE_LISTEN?"]),
            (other, ["\"TOLLGATE_POOL_SIZE\"", "tollgate serve --help lists all"]),
        ] {
            for part in ["WARN"].into_iter().chain(parts) {
                assert!(warning.contains(part), "{part} is not in: {warning}");
            }
        }
        assert!(!log.contains("hunter2"), "{log}");
    }
    // A command that reads no settings says nothing.
    assert_eq!(succeeds(prepare(&["openapi"])), "");
    std::fs::remove_dir_all(home).expect("the test owns the directory");
}

#[test]
fn empty_database_url_is_an_error_and_creates_no_private_postgres() {
    let data_dir = DataDir::new("empty-url");
    let create = || {
        let mut command = tollgate(&["tenant", "create", "tronagg", "--prefix", "ta_"]);
        command.env("TOLLGATE_DATA_DIR", &data_dir.path);
        command
    };
    let mut command = create();
    command.env("DATABASE_URL", "");
    assert!(fails(command).contains("DATABASE_URL is set but empty"));

    // An empty variable is an error although .env has a URL, and so is an empty line in .env.
    let home = cluster::directory("empty-url-home");
    std::fs::create_dir_all(&home).expect("a directory");
    for (file, environment) in
        [("DATABASE_URL=postgres://127.0.0.1:1/x\n", Some("")), ("DATABASE_URL=\n", None)]
    {
        std::fs::write(home.join(".env"), file).expect("a file");
        let mut command = create();
        command.current_dir(&home).envs(environment.map(|value| ("DATABASE_URL", value)));
        assert!(fails(command).contains("DATABASE_URL is set but empty"));
    }
    assert!(!data_dir.path.exists(), "no data directory is created");
    std::fs::remove_dir_all(home).expect("the test owns the directory");
}

/// The libpq variables of a shell that is set up for another server.
const FOREIGN_SERVER: [(&str, &str); 12] = [
    ("PGHOST", "db.invalid"),
    ("PGHOSTADDR", "192.0.2.1"),
    ("PGPORT", "5433"),
    ("PGUSER", "somebody"),
    ("PGPASSWORD", "hunter2"),
    ("PGDATABASE", "elsewhere"),
    ("PGSSLMODE", "verify-full"),
    ("PGSSLROOTCERT", "/nonexistent/root.crt"),
    ("PGOPTIONS", "-c no_such_parameter=1"),
    ("PGSERVICE", "elsewhere"),
    ("PGAPPNAME", "psql"),
    ("PGDATA", "/nonexistent"),
];

#[test]
fn private_postgres_ignores_libpq_variables() {
    let data_dir = DataDir::new("libpq");
    let home = cluster::directory("libpq-home");
    std::fs::create_dir_all(&home).expect("a directory");
    // Reading this file would log a warning, because its mode is too open.
    let passwords = home.join(".pgpass");
    std::fs::write(&passwords, "not a line of such a file\n").expect("a file");
    std::fs::set_permissions(&passwords, std::fs::Permissions::from_mode(0o644)).expect("a mode");
    for arguments in [&["migrate"][..], &["tenant", "list"]] {
        let mut command = tollgate(arguments);
        command.envs(FOREIGN_SERVER).env("HOME", &home).env("PGPASSFILE", &passwords);
        command.env("TOLLGATE_DATA_DIR", &data_dir.path);
        let stderr = succeeds(command);
        assert!(!stderr.contains("WARN") && !stderr.contains("pgpass"), "{stderr}");
    }
    std::fs::remove_dir_all(home).expect("the test owns the directory");
}

#[tokio::test]
async fn libpq_variables_complete_a_partial_database_url() {
    let url = cluster::fresh_database().await;
    let socket = cluster::socket();
    let directory = socket.parent().expect("a directory").to_str().expect("text");
    let mut command = tollgate(&["tenant", "list"]);
    command.env("DATABASE_URL", format!("postgres:///?host={directory}"));
    command.env("PGUSER", "postgres").env("PGDATABASE", cluster::database_in(&url));
    succeeds(command);
}

#[test]
fn invalid_and_empty_libpq_variables_are_errors_that_name_the_allowed_values() {
    let ssl_modes = "it must be one of disable, allow, prefer, require, verify-ca, verify-full";
    let ports = "it must be a whole number from 1 to 65535";
    for (name, value, allowed) in [
        ("PGSSLMODE", "requier", ssl_modes),
        ("PGSSLMODE", "require ", ssl_modes),
        ("PGPORT", "x", ports),
        ("PGPORT", "0", ports),
        ("PGPORT", "99999", ports),
    ] {
        let mut command = tollgate(&["tenant", "list"]);
        command.env("DATABASE_URL", "postgres://app@127.0.0.1/x").env(name, value);
        let error = fails(command);
        let expected = format!("{name} is {value:?}: {allowed}");
        assert!(error.contains(&expected), "{expected} is not in: {error}");
    }
    let mut empty = tollgate(&["serve"]);
    empty.env("DATABASE_URL", "postgres://app@127.0.0.1:1/x");
    let names = ["PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE"];
    empty.envs(names.map(|name| (name, "")));
    let error = fails(empty);
    for name in names {
        assert!(error.contains(&format!("{name} is set but empty")), "{name}: {error}");
    }
    // A command that uses no database does not read them.
    let mut command = tollgate(&["openapi"]);
    command.env("DATABASE_URL", "postgres://app@127.0.0.1:1/x").env("PGPORT", "x");
    succeeds(command);
}

#[test]
fn invalid_number_of_threads_is_an_error_as_for_other_settings() {
    let command = |value: &str| {
        let mut command = tollgate(&["openapi"]);
        command.env("TOKIO_WORKER_THREADS", value);
        command
    };
    for value in ["0", "x", "-1", "1001"] {
        let error = fails(command(value));
        let expected = format!(
            "error: TOKIO_WORKER_THREADS is {value:?}: it must be a whole number from 1 to 1000\n"
        );
        assert_eq!(error, expected);
    }
    assert!(fails(command("")).starts_with("error: TOKIO_WORKER_THREADS is set but empty"));
    succeeds(command("2"));
}

#[test]
fn service_refuses_a_lease_that_is_not_shorter_than_the_request_timeout() {
    for (lease, timeout) in [("3s", "3s"), ("10s", "900ms")] {
        let mut command = tollgate(&["serve"]);
        command.env("DATABASE_URL", "postgres://app@127.0.0.1:1/x");
        command.env("TOLLGATE_LEASE", lease).env("TOLLGATE_REQUEST_TIMEOUT", timeout);
        let error = fails(command);
        let expected =
            format!("TOLLGATE_LEASE is {lease} and TOLLGATE_REQUEST_TIMEOUT is {timeout}: ");
        assert!(error.contains(&expected), "{expected} is not in: {error}");
    }
}

/// A port that answers each request for TLS with `N`: no TLS. Returns what each client sends after
/// that.
fn port_without_tls() -> (u16, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 8];
            stream.read_exact(&mut request).expect("a request");
            assert_eq!(request, *b"\0\0\0\x08\x04\xd2\x16\x2f", "an SSLRequest");
            stream.write_all(b"N").expect("the answer is sent");
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).expect("the client closes the connection");
            if sender.send(rest).is_err() {
                break;
            }
        }
    });
    (port, received)
}

#[tokio::test]
async fn postgres_on_another_host_must_have_tls() {
    let (port, after_refusal) = port_without_tls();
    // Connects to this machine, but is not a loopback address: it stands for any other host.
    let other_host = format!("postgres://postgres:hunter2@0.0.0.0:{port}/x");
    let refuses = |mut command: Command, setting: &str| {
        command.env("TOLLGATE_LISTEN", "127.0.0.1:0").env("TOLLGATE_METRICS_LISTEN", "off");
        let error = fails(command);
        let to_do = format!("add ?sslmode=disable to {setting}");
        for part in ["0.0.0.0:", "server does not support TLS", "(ssl = on)", to_do.as_str()] {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
        assert!(!error.contains("hunter2"), "{error}");
        let rest = after_refusal.recv_timeout(PATIENCE).expect("a connection");
        assert!(rest.is_empty(), "the client goes on without TLS: {rest:?}");
    };
    for arguments in
        [&["serve"][..], &["demo"], &["migrate"], &["tenant", "list"], &["ledger", "verify"]]
    {
        let mut command = tollgate(arguments);
        command.env("DATABASE_URL", &other_host);
        refuses(command, "DATABASE_URL");
    }
    // The connection that listens to changes.
    let mut command = tollgate(&["serve"]);
    command.env("DATABASE_URL", cluster::fresh_database().await);
    command.env("TOLLGATE_LISTEN_DATABASE_URL", &other_host);
    refuses(command, "TOLLGATE_LISTEN_DATABASE_URL");
    // Other ways to name the host, and PGSSLMODE=prefer, which protects from nothing.
    let host_address = format!("postgres://postgres@localhost:{port}/x?hostaddr=0.0.0.0");
    let mut command = tollgate(&["migrate"]);
    command.env("DATABASE_URL", host_address).env("PGSSLMODE", "prefer");
    refuses(command, "DATABASE_URL");
    let mut command = tollgate(&["migrate"]);
    command.env("DATABASE_URL", "postgres:///x");
    command.env("PGHOST", "0.0.0.0").env("PGPORT", port.to_string()).env("PGUSER", "postgres");
    refuses(command, "DATABASE_URL");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_without_tls_is_used_on_this_machine_or_if_the_sslmode_allows_it() {
    let url = cluster::fresh_database().await;
    // Postgres has no TLS on its socket, where the proxy connects to it.
    let proxy = Proxy::start(cluster::socket()).await;
    let url = proxy.url(cluster::database_in(&url)).replace("?sslmode=disable", "");
    let elsewhere = url.replace("127.0.0.1", "0.0.0.0");
    let run = |url: &str, mode: Option<&str>| {
        let mut command = tollgate(&["tenant", "list"]);
        command.env("DATABASE_URL", url).envs(mode.map(|mode| ("PGSSLMODE", mode)));
        succeeds(command)
    };
    for (url, mode) in [
        (url.clone(), None),
        (url.replace("127.0.0.1", "localhost"), None),
        (format!("{elsewhere}?sslmode=disable"), None),
        (format!("{elsewhere}?sslmode=disable"), Some("verify-full")),
        (elsewhere.clone(), Some("disable")),
    ] {
        let log = run(&url, mode);
        assert!(!log.contains("WARN"), "{url}: {log}");
    }
    let log = run(&format!("{elsewhere}?sslmode=prefer"), None);
    assert!(log.contains("WARN") && log.contains("use sslmode=verify-full"), "{log}");
    assert!(log.contains("a proxy on the network between can strip TLS"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_warns_once_if_its_connections_to_another_host_are_not_encrypted() {
    let url = cluster::fresh_database().await;
    let proxy = Proxy::start(cluster::socket()).await;
    let here = proxy.url(cluster::database_in(&url));
    assert!(here.ends_with("?sslmode=disable"), "{here}");
    let elsewhere = here.replace("127.0.0.1", "0.0.0.0");
    let without_mode = elsewhere.replace("?sslmode=disable", "");
    let both = "\"DATABASE_URL, TOLLGATE_LISTEN_DATABASE_URL\"";
    let log = cluster::directory("not-encrypted.log");
    for (variables, expected) in [
        (vec![("DATABASE_URL", &*here)], None),
        (vec![("DATABASE_URL", &*elsewhere)], Some("\"DATABASE_URL\"")),
        (
            vec![("DATABASE_URL", &*without_mode), ("PGSSLMODE", "disable")],
            Some("\"DATABASE_URL\""),
        ),
        (
            vec![("DATABASE_URL", &*here), ("TOLLGATE_LISTEN_DATABASE_URL", &*elsewhere)],
            Some("\"TOLLGATE_LISTEN_DATABASE_URL\""),
        ),
        (
            vec![("DATABASE_URL", &*elsewhere), ("TOLLGATE_LISTEN_DATABASE_URL", &*elsewhere)],
            Some(both),
        ),
    ] {
        let mut command = tollgate(&["serve"]);
        command.envs(variables.iter().copied());
        let (status, text) = Process::start(command, &log).stop();
        assert!(status.success(), "{status}: {text}");
        let warnings: Vec<&str> =
            text.lines().filter(|line| line.contains("are not encrypted")).collect();
        assert_eq!(warnings.len(), usize::from(expected.is_some()), "{variables:?}: {text}");
        for (warning, settings) in warnings.into_iter().zip(expected) {
            for part in ["WARN", "passwords and data", "use sslmode=verify-full", settings] {
                assert!(warning.contains(part), "{part} is not in: {warning}");
            }
        }
    }
    let _ = std::fs::remove_file(log);
}

#[tokio::test]
async fn api_documentation_can_be_turned_off() {
    let database = OwnDatabase::of_role("").await;
    let log = cluster::directory("docs.log");
    for (setting, status) in [("on", 200), ("off", 404)] {
        let mut command = database.command(&["serve"]);
        command.env("TOLLGATE_DOCS", setting);
        let service = Process::start(command, &log);
        for path in ["/docs", "/docs/", "/docs/swagger-ui.css", "/openapi.json"] {
            service.send(Call::new("GET", path)).expect(status);
        }
        service.send(Call::new("GET", "/livez")).expect(200);
        let (status, log) = service.stop();
        assert!(status.success(), "{status}: {log}");
    }
    let _ = std::fs::remove_file(log);
}

#[tokio::test]
async fn commands_refuse_to_create_the_tables_again_in_another_schema() {
    let mut database = OwnDatabase::of_role("").await;
    let name = database.name.clone();
    database.create_tenant();
    let tables = database.tables_in("public").await;
    for (change, schema) in [
        // "$user" comes before public in Postgres's own search path.
        (format!("CREATE SCHEMA AUTHORIZATION {name}"), name.as_str()),
        (
            format!(
                "CREATE SCHEMA app AUTHORIZATION {name};
                 ALTER ROLE {name} IN DATABASE {name} SET search_path = app, public"
            ),
            "app",
        ),
    ] {
        database.run(&change).await;
        for arguments in [&["serve"][..], &["migrate"], &["tenant", "list"], &["ledger", "verify"]]
        {
            let mut command = database.command(arguments);
            command.env("TOLLGATE_LISTEN", "127.0.0.1:0");
            command.env("TOLLGATE_METRICS_LISTEN", "off");
            let error = fails(command);
            assert!(error.contains("tables are in the schema \"public\""), "{error}");
            assert!(error.contains(&format!("to \"{schema}\". Nothing was changed")), "{error}");
        }
        assert_eq!(database.tables_in(schema).await, 0);
    }
    // The fix that the message suggests.
    let statement = format!("ALTER ROLE {name} IN DATABASE {name} SET search_path = \"public\"");
    database.run(&statement).await;
    let output = database.command(&["tenant", "list"]).output().expect("the program runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains("tronagg"), "{output:?}");
    assert_eq!(database.tables_in("public").await, tables);
}

#[tokio::test]
async fn migrations_that_failed_halfway_are_not_begun_again_in_another_schema() {
    let mut database = OwnDatabase::of_role("").await;
    for table in ["_sqlx_migrations", "tenants"] {
        database.run(&format!("CREATE TABLE public.{table} ()")).await;
    }
    let name = database.name.clone();
    database.run(&format!("CREATE SCHEMA AUTHORIZATION {name}")).await;
    let error = fails(database.command(&["migrate"]));
    assert!(error.contains("tables are in the schema \"public\""), "{error}");
    assert!(error.contains(&format!("to \"{name}\". Nothing was changed")), "{error}");
    assert_eq!(database.tables_in(&name).await, 0);
}

#[tokio::test]
async fn tables_of_another_program_beside_all_of_tollgates_are_ignored() {
    let mut database = OwnDatabase::of_role("").await;
    database.create_tenant();
    database.run("CREATE SCHEMA app").await;
    for table in ["_sqlx_migrations", "tenants"] {
        database.run(&format!("CREATE TABLE app.{table} ()")).await;
    }
    succeeds(database.command(&["tenant", "list"]));
}

#[tokio::test]
async fn tables_in_two_schemas_are_refused_and_both_schemas_are_named() {
    let mut database = OwnDatabase::of_role("").await;
    database.create_tenant();
    database.run("CREATE SCHEMA app").await;
    for table in ["tenants", "accounts", "api_keys", "ledger_entries"] {
        database.run(&format!("CREATE TABLE app.{table} ()")).await;
    }
    let error = fails(database.command(&["tenant", "list"]));
    assert!(error.contains("more than one schema: \"app\", \"public\""), "{error}");
}

#[tokio::test]
async fn search_path_without_a_usable_schema_is_refused() {
    // With NOINHERIT the owner of the database has only the privileges of PUBLIC in it.
    let mut database = OwnDatabase::of_role("NOINHERIT").await;
    database.run("REVOKE USAGE ON SCHEMA public FROM PUBLIC").await;
    let error = fails(database.command(&["migrate"]));
    let to_do = format!("CREATE SCHEMA AUTHORIZATION \"{}\"", database.name);
    assert!(error.contains("to no schema") && error.contains(&to_do), "{error}");
}

#[tokio::test]
async fn tables_are_created_in_a_schema_whose_name_needs_quotes() {
    let mut database = OwnDatabase::of_role("").await;
    let name = database.name.clone();
    let schema = "Key's \"gate\"";
    let quoted = schema.replace('"', "\"\"");
    let statements = format!(
        "CREATE SCHEMA \"{quoted}\" AUTHORIZATION {name};
         ALTER ROLE {name} SET search_path = \"{quoted}\""
    );
    database.run(&statements).await;
    database.create_tenant();
    assert_eq!(database.tables_in("public").await, 0);
    assert!(database.tables_in(schema).await > 10);
    succeeds(database.command(&["ledger", "verify"]));
}

#[tokio::test]
async fn running_node_keeps_its_schema_when_the_search_path_changes() {
    let mut database = OwnDatabase::of_role("").await;
    let name = database.name.clone();
    let admin_key = database.create_tenant();
    let log = cluster::directory("pinned.log");
    let service = Process::start(database.command(&["serve"]), &log);
    let statements = format!(
        "CREATE SCHEMA AUTHORIZATION {name};
         CREATE SCHEMA app AUTHORIZATION {name};
         ALTER ROLE {name} SET search_path = app, public"
    );
    database.run(&statements).await;
    let put = || Call::new("PUT", &format!("/v1/accounts/{WALLET}")).bearer(&admin_key);
    service.send(put()).expect(201);
    // The service has to open all connections again, including that of the listener.
    database
        .run(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'"
        ))
        .await;
    eventually("the service answers again", async || {
        let answer = service.send(put());
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        answer.status == 200
    })
    .await;
    let create = Call::new("POST", &format!("/v1/accounts/{WALLET}/keys")).bearer(&admin_key);
    let create = create.json(serde_json::json!({"name": "a"}));
    let key = service.send(create).expect(201).text("/key").to_owned();
    service.send(Call::new("GET", "/v1/me").header("X-API-Key", &key)).expect(200);
    for schema in [name.as_str(), "app"] {
        assert_eq!(database.tables_in(schema).await, 0);
    }
    let (status, log_text) = service.stop();
    assert!(status.success(), "{status}: {log_text}");
    let _ = std::fs::remove_file(log);
}

/// A process that may never serve. It is killed when the test fails.
struct Starting {
    child: Child,
    log: PathBuf,
}

impl Starting {
    fn new(mut command: Command, log: &str) -> Self {
        let log = cluster::directory(log);
        let stderr = std::fs::File::create(&log).expect("a log file");
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn();
        Self { child: child.expect("the program starts"), log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log can be read")
    }

    async fn logs(&self, text: &str) {
        eventually(text, async || self.log().contains(text)).await;
    }

    fn terminate(&self) {
        let raw = i32::try_from(self.child.id()).expect("a process id");
        let pid = rustix::process::Pid::from_raw(raw).expect("not zero");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    }

    /// Waits for the exit.
    async fn ends(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the status can be read") {
                return status;
            }
            assert!(Instant::now() < deadline, "the process does not end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.log);
    }
}

#[tokio::test]
async fn start_that_waits_for_another_session_logs_that_and_ends_at_a_signal() {
    let mut database = OwnDatabase::of_role("").await;
    database.create_tenant();
    for (awaited, locks_table) in [("migration lock", false), ("table sql_functions", true)] {
        let waiting = format!("the start is waiting for the {awaited}: another session");
        if locks_table {
            database.run("BEGIN; LOCK TABLE sql_functions").await;
        } else {
            database.admin.lock().await.expect("the lock is free");
        }
        let mut service = Starting::new(database.service("4"), "waiting-service.log");
        service.logs(&waiting).await;
        service.terminate();
        let status = service.ends().await;
        let log = service.log();
        assert!(status.code().is_some_and(|code| code != 0), "{status}: {log}");
        assert!(log.contains("stopped by a signal before the schema was up to date"), "{log}");

        let mut command = Starting::new(database.command(&["migrate"]), "waiting-command.log");
        // The session of the service that was stopped waits for the table until it is unlocked, and
        // so long it has the migration lock.
        command.logs("the start is waiting for the migration lock: another session").await;
        if locks_table {
            database.run("ROLLBACK").await;
        } else {
            database.admin.unlock().await.expect("the lock is held");
        }
        let status = command.ends().await;
        assert!(status.success(), "{status}: {}", command.log());
    }
}

#[tokio::test]
async fn missing_privilege_error_contains_the_grant_that_fixes_it() {
    // Since Postgres 15 the role pg_database_owner may create tables in the schema public. The
    // owner of the database is a member of it, but with NOINHERIT does not get the privilege.
    let mut database = OwnDatabase::of_role("NOINHERIT").await;
    let name = database.name.clone();
    let grant = format!("GRANT CREATE, USAGE ON SCHEMA \"public\" TO \"{name}\"");
    for arguments in [&["migrate"][..], &["tenant", "list"]] {
        let error = fails(database.command(arguments));
        assert!(error.contains("permission denied for schema public (SQLSTATE 42501)"), "{error}");
        assert!(error.contains(&grant) && !error.contains("at line"), "{error}");
    }
    database.run(&grant).await;
    succeeds(database.command(&["migrate"]));
}

#[tokio::test]
async fn error_about_tables_of_another_role_names_the_owner() {
    let database = OwnDatabase::of_role("").await;
    let mut command = tollgate(&["migrate"]);
    command.env("DATABASE_URL", cluster::url(&database.name));
    succeeds(command);
    let error = fails(database.command(&["migrate"]));
    assert!(error.contains("belong to the role \"postgres\""), "{error}");
    assert!(error.contains("42501") && !error.contains("at line"), "{error}");
}

#[tokio::test]
async fn refused_connection_error_says_how_to_fix_it() {
    let mut database = OwnDatabase::of_role("PASSWORD 'right'").await;
    let name = database.name.clone();
    let refusal = |url: &str| {
        let mut command = tollgate(&["tenant", "list"]);
        command.env("DATABASE_URL", url);
        let error = fails(command);
        assert!(error.contains("refused the connection") && !error.contains("at line"), "{error}");
        error
    };
    let user = database.url.replace(&format!("//{name}@"), "//nobody_of_this_name@");
    let error = refusal(&user);
    assert!(error.contains("(SQLSTATE 28000). Check the user in DATABASE_URL"), "{error}");
    let absent = database.url.replace(&format!("/{name}?"), "/absent?");
    let error = refusal(&absent);
    let create = format!("CREATE DATABASE \"absent\" OWNER \"{name}\"");
    assert!(error.contains("(SQLSTATE 3D000)") && error.contains(&create), "{error}");

    let guest =
        format!("CREATE ROLE {name}_guest LOGIN; REVOKE CONNECT ON DATABASE {name} FROM PUBLIC");
    database.run(&guest).await;
    let error = refusal(&database.url.replace(&format!("//{name}@"), &format!("//{name}_guest@")));
    let grant = format!("GRANT CONNECT ON DATABASE \"{name}\" TO \"{name}_guest\"");
    assert!(error.contains("(SQLSTATE 42501)") && error.contains(&grant), "{error}");

    database.run(&format!("ALTER ROLE {name} CONNECTION LIMIT 0")).await;
    let error = refusal(&database.url);
    assert!(error.contains("(SQLSTATE 53300). Close other connections"), "{error}");

    // From here on the server requires the password of this role.
    database.run(&format!("ALTER ROLE {name} CONNECTION LIMIT -1")).await;
    let rules = cluster::directory("cluster").join("data/pg_hba.conf");
    let others = std::fs::read_to_string(&rules).expect("the rules of the cluster");
    let password = format!("local all {name} scram-sha-256\n{others}");
    std::fs::write(&rules, password).expect("the rules can be changed");
    database.run("SELECT pg_reload_conf()").await;
    let wrong = database.url.replace("&password=", "&password=hunter2");
    eventually("the server asks for a password", async || {
        PgConnection::connect(&wrong).await.is_err()
    })
    .await;
    let error = refusal(&wrong);
    assert!(error.contains("(SQLSTATE 28P01). Check the user and the password"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    let mut command = tollgate(&["migrate"]);
    command.env("DATABASE_URL", database.url.replace("&password=", "&password=right"));
    succeeds(command);
}

#[tokio::test]
async fn service_refuses_to_start_when_connection_limits_are_too_low() {
    let mut database = OwnDatabase::of_role("CONNECTION LIMIT 4").await;
    let name = database.name.clone();
    let error = fails(database.service("4"));
    for part in [
        "opens up to 17: 4 (TOLLGATE_DATABASE_CONNECTIONS), 4 for look-ups, 8 for purchases and 1 ",
        &format!("The role \"{name}\" may have 4 (its CONNECTION LIMIT)"),
        "Raise the limit to 17",
        "With TOLLGATE_DATABASE_CONNECTIONS=1 it still opens 14",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert_eq!(database.tables_in("public").await, 0, "the service changed nothing");
    // A command opens fewer connections than a service.
    database.create_tenant();

    database.run(&format!("ALTER ROLE {name} CONNECTION LIMIT 15")).await;
    let error = fails(database.service("4"));
    assert!(error.contains("or set TOLLGATE_DATABASE_CONNECTIONS to 2 or less"), "{error}");
    database.start_and_stop("2", &[]);

    let limit =
        format!("ALTER ROLE {name} CONNECTION LIMIT -1; ALTER DATABASE {name} CONNECTION LIMIT 16");
    database.run(&limit).await;
    let error = fails(database.service("4"));
    assert!(error.contains(&format!("The database \"{name}\" may have 16")), "{error}");
    database.start_and_stop("3", &[]);
}

#[tokio::test]
async fn commands_need_only_one_connection() {
    let mut database = OwnDatabase::of_role("CONNECTION LIMIT 1").await;
    database.create_tenant();
    for arguments in [
        &["ledger", "verify"][..],
        &["tenant", "list"],
        &["admin-key", "create", "tronagg", "--name", "second"],
        &["admin-key", "list", "tronagg"],
        &["migrate"],
    ] {
        database.wait_until_unused().await;
        succeeds(database.command(arguments));
    }
}

#[tokio::test]
async fn low_connection_limit_behind_a_pooler_is_only_a_warning() {
    let database = OwnDatabase::of_role("CONNECTION LIMIT 8").await;
    let url = database.url.clone();
    let log = database.start_and_stop("2", &[("TOLLGATE_LISTEN_DATABASE_URL", url.as_str())]);
    assert!(log.contains("WARN") && log.contains("may have 8 (its CONNECTION LIMIT)"), "{log}");
    assert!(log.contains("opens up to 14"), "the listener connects to the other URL: {log}");
}

#[tokio::test]
async fn service_refuses_a_database_server_with_too_few_connections() {
    let options = postgres::Options { max_connections: 13, ..cluster::options("few-connections") };
    let data_dir = options.data_dir.clone();
    let server = tokio::task::spawn_blocking(move || PrivatePostgres::start(&options));
    let server = server.await.expect("no panic").expect("Postgres starts");
    let url = server.url(postgres::DATABASE);
    let mut admin = PgConnection::connect(&url).await.expect("the server runs");
    let owner = "CREATE ROLE app LOGIN; ALTER DATABASE tollgate OWNER TO app";
    admin.execute(owner).await.expect("a role");
    admin.close().await.expect("the connection is closed");
    let refusal = |url: &str| {
        let mut command = tollgate(&["serve", "--listen", "127.0.0.1:0"]);
        command.env("DATABASE_URL", url).env("TOLLGATE_DATABASE_CONNECTIONS", "4");
        command.env("TOLLGATE_METRICS_LISTEN", "off");
        fails(command)
    };
    // Postgres keeps three connections for superusers.
    let error = refusal(&url.replace("//postgres@", "//app@"));
    assert!(error.contains("room for 10 (max_connections is 13, 3 of them reserved)"), "{error}");
    let error = refusal(&url);
    assert!(error.contains("room for 13 (max_connections is 13, 0 of them reserved)"), "{error}");
    tokio::task::spawn_blocking(|| server.stop().expect("Postgres stops")).await.expect("no panic");
    std::fs::remove_dir_all(data_dir).expect("the test owns the directory");
}

#[tokio::test]
async fn standby_is_refused_with_a_message_that_says_so() {
    let options = cluster::options("standby");
    let data_dir = options.data_dir.clone();
    let start = async || {
        let options = options.clone();
        let server = tokio::task::spawn_blocking(move || PrivatePostgres::start(&options));
        server.await.expect("no panic").expect("Postgres starts")
    };
    let stop = async |server: PrivatePostgres| {
        let stopped = tokio::task::spawn_blocking(|| server.stop());
        stopped.await.expect("no panic").expect("Postgres stops");
    };
    stop(start().await).await;
    // With this file the server replays the log of a primary, here an absent one, and is read-only.
    std::fs::write(data_dir.join("data/standby.signal"), "").expect("a file");
    let standby = start().await;
    let mut command = tollgate(&["migrate"]);
    command.env("DATABASE_URL", standby.url(postgres::DATABASE));
    let error = fails(command);
    for part in ["(SQLSTATE 25006)", "The server is read-only, as a standby is", "to the primary"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    stop(standby).await;
    std::fs::remove_dir_all(data_dir).expect("the test owns the directory");
}
