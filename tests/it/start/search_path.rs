//! The program finds the schema that contains its tables, and continues to use this schema.

use super::{
    own_database::OwnDatabase,
    run::{fails, succeeds},
};
use crate::harness::{Call, WALLET, cluster, eventually, process::Process};

#[tokio::test]
async fn commands_refuse_to_create_the_tables_again_in_another_schema() {
    let mut database = OwnDatabase::of_role("").await;
    let name = database.name.clone();
    database.create_tenant();
    let tables = database.tables_in("public").await;
    for (change, schema) in [
        // In Postgres's default search path, "$user" comes before public.
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
            assert!(
                error.contains(&format!("selects \"{schema}\". Nothing was changed")),
                "{error}"
            );
        }
        assert_eq!(database.tables_in(schema).await, 0);
    }
    // The statement that the error message suggests.
    let statement = format!("ALTER ROLE {name} IN DATABASE {name} SET search_path = \"public\"");
    database.run(&statement).await;
    let output = database.command(&["tenant", "list"]).output().expect("the program runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains("tronagg"), "{output:?}");
    assert_eq!(database.tables_in("public").await, tables);
}

#[tokio::test]
async fn migrate_after_a_partial_migration_refuses_to_start_again_in_another_schema() {
    let mut database = OwnDatabase::of_role("").await;
    for table in ["_sqlx_migrations", "tenants"] {
        database.run(&format!("CREATE TABLE public.{table} ()")).await;
    }
    let name = database.name.clone();
    database.run(&format!("CREATE SCHEMA AUTHORIZATION {name}")).await;
    let error = fails(database.command(&["migrate"]));
    assert!(error.contains("tables are in the schema \"public\""), "{error}");
    assert!(error.contains(&format!("selects \"{name}\". Nothing was changed")), "{error}");
    assert_eq!(database.tables_in(&name).await, 0);
}

#[tokio::test]
async fn tables_of_another_program_are_ignored_if_all_tables_of_tollgate_exist() {
    let mut database = OwnDatabase::of_role("").await;
    database.create_tenant();
    database.run("CREATE SCHEMA app").await;
    for table in ["_sqlx_migrations", "tenants"] {
        database.run(&format!("CREATE TABLE app.{table} ()")).await;
    }
    succeeds(database.command(&["tenant", "list"]));
}

#[tokio::test]
async fn error_about_tables_in_two_schemas_names_both_schemas() {
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
    // With NOINHERIT, the owner of the database has only the privileges of PUBLIC on the schema.
    let mut database = OwnDatabase::of_role("NOINHERIT").await;
    database.run("REVOKE USAGE ON SCHEMA public FROM PUBLIC").await;
    let error = fails(database.command(&["migrate"]));
    let to_do = format!("CREATE SCHEMA AUTHORIZATION \"{}\"", database.name);
    assert!(error.contains("contains no schema") && error.contains(&to_do), "{error}");
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
    // The service must reopen all connections, including the connection of the listener.
    database
        .run(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'"
        ))
        .await;
    eventually("the service responds again", async || {
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
