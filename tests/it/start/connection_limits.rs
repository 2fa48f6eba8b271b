//! Limits on the number of connections to Postgres. A service needs all of its connections; a
//! command can run with one.

use sqlx::{Connection as _, Executor as _, PgConnection};
use tollgate::postgres::{self, PrivatePostgres};

use super::{
    own_database::OwnDatabase,
    run::{fails, succeeds},
};
use crate::harness::{cluster, process::tollgate};

#[tokio::test]
async fn service_refuses_to_start_if_connection_limits_are_too_low() {
    let mut database = OwnDatabase::of_role("CONNECTION LIMIT 4").await;
    let name = database.name.clone();
    let error = fails(database.service("4"));
    for part in [
        "opens up to 21: 4 (TOLLGATE_DATABASE_CONNECTIONS), 5 for lookups, 3 for rate limits, 8 for \
         purchases and 1 ",
        &format!("The role \"{name}\" may have 4 (its CONNECTION LIMIT)"),
        "Raise the limit to 21",
        "With TOLLGATE_DATABASE_CONNECTIONS=1 it still opens 18",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert_eq!(database.tables_in("public").await, 0, "the service did not change the database");
    // A command opens fewer connections than a service, so it starts.
    database.create_tenant();

    database.run(&format!("ALTER ROLE {name} CONNECTION LIMIT 19")).await;
    let error = fails(database.service("4"));
    assert!(error.contains("or set TOLLGATE_DATABASE_CONNECTIONS to 2 or less"), "{error}");
    database.start_and_stop("2", &[]);

    let limit =
        format!("ALTER ROLE {name} CONNECTION LIMIT -1; ALTER DATABASE {name} CONNECTION LIMIT 20");
    database.run(&limit).await;
    let error = fails(database.service("4"));
    assert!(error.contains(&format!("The database \"{name}\" may have 20")), "{error}");
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
        // This command tries to open a second connection in order to receive acknowledgements. It
        // works without this connection.
        &["dashboard", "end-sessions", "tronagg"],
    ] {
        database.wait_until_unused().await;
        succeeds(database.command(arguments));
    }
}

#[tokio::test]
async fn low_connection_limit_behind_a_pooler_causes_a_warning_and_no_error() {
    let database = OwnDatabase::of_role("CONNECTION LIMIT 8").await;
    let url = database.url.clone();
    let log = database.start_and_stop("2", &[("TOLLGATE_LISTEN_DATABASE_URL", url.as_str())]);
    assert!(log.contains("WARN") && log.contains("may have 8 (its CONNECTION LIMIT)"), "{log}");
    assert!(
        log.contains("opens up to 18"),
        "the listener does not count, because it uses the other URL: {log}"
    );
}

#[tokio::test]
async fn service_refuses_a_database_server_with_too_few_connections() {
    let options = postgres::Options { max_connections: 13, ..cluster::options("few-connections") };
    let data_dir = options.data_dir.clone();
    let server = tokio::task::spawn_blocking(move || PrivatePostgres::start(&options));
    let server = server.await.expect("the task does not panic").expect("Postgres starts");
    let url = server.url(postgres::DATABASE);
    let mut admin = PgConnection::connect(&url).await.expect("the server runs");
    let owner = "CREATE ROLE app LOGIN; ALTER DATABASE tollgate OWNER TO app";
    admin.execute(owner).await.expect("the statement succeeds");
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
    tokio::task::spawn_blocking(|| server.stop().expect("Postgres stops"))
        .await
        .expect("the task does not panic");
    std::fs::remove_dir_all(data_dir).expect("the test owns the directory");
}
