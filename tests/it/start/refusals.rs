//! Error messages for cases in which Postgres denies a privilege, a connection or a write. The
//! message says how to fix the problem.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tollgate::{
    postgres::{self, PrivatePostgres},
    store::{PoolSettings, Store},
};

use super::{
    own_database::OwnDatabase,
    run::{fails, succeeds},
};
use crate::harness::{
    cluster::{self, pool_settings},
    eventually,
    process::tollgate,
};

#[tokio::test]
async fn missing_privilege_error_contains_the_grant_that_fixes_it() {
    // Since Postgres 15 the role pg_database_owner may create tables in the schema public. The
    // owner of the database is a member of this role, but with NOINHERIT the owner lacks the
    // privilege.
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

    // From here on, the server requires a password for this role.
    database.run(&format!("ALTER ROLE {name} CONNECTION LIMIT -1")).await;
    let rules = cluster::directory("cluster").join("data/pg_hba.conf");
    let others = std::fs::read_to_string(&rules).expect("the rules can be read");
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
async fn too_many_connections_error_is_not_reported_as_a_pool_timeout() {
    let database = OwnDatabase::of_role("CONNECTION LIMIT 1").await;
    let settings =
        PoolSettings { acquire_timeout: Duration::from_secs(2), ..pool_settings(&database.url) };
    let store = Store::connect(&settings).await.expect("one connection is allowed");
    // The store's first connection counts toward the limit until Postgres has closed it.
    let other = tokio::sync::Mutex::new(None);
    eventually("another client has the connection", async || {
        let connected = PgConnection::connect(&database.url).await.ok();
        *other.lock().await = connected;
        other.lock().await.is_some()
    })
    .await;
    for error in [store.migrate().await, store.check_connection_limits().await] {
        let error = error.expect_err("no connection is left").to_string();
        assert!(error.contains("(SQLSTATE 53300). Close other connections"), "{error}");
    }
    store.close().await;
}

#[tokio::test]
async fn migrate_refuses_a_standby_with_a_message_that_names_the_cause() {
    let options = cluster::options("standby");
    let data_dir = options.data_dir.clone();
    let start = async || {
        let options = options.clone();
        let server = tokio::task::spawn_blocking(move || PrivatePostgres::start(&options));
        server.await.expect("the task does not panic").expect("Postgres starts")
    };
    let stop = async |server: PrivatePostgres| {
        let stopped = tokio::task::spawn_blocking(|| server.stop());
        stopped.await.expect("the task does not panic").expect("Postgres stops");
    };
    stop(start().await).await;
    // With this file, the server starts as a read-only standby. Its primary does not exist.
    std::fs::write(data_dir.join("data/standby.signal"), "").expect("the file can be written");
    let standby = start().await;
    let mut command = tollgate(&["migrate"]);
    command.env("DATABASE_URL", standby.url(postgres::DATABASE));
    let error = fails(command);
    for part in ["database tollgate is a standby, which is read-only", "to the primary"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    stop(standby).await;
    std::fs::remove_dir_all(data_dir).expect("the test owns the directory");
}
