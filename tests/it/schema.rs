//! How the schema gets into a database: migrations, then SQL functions by their number.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tollgate::schema::{
    FUNCTIONS_NUMBER, FUNCTIONS_SERVE_FROM, SchemaError, bring_up_to_date, bring_up_to_date_as,
};

use crate::harness::{cluster, process::tollgate};

/// A function of the service that the tests put another one in the place of.
const CHANGED: &str = "CREATE OR REPLACE FUNCTION key_is_live(
         p_revoked_at timestamptz, p_expires_at timestamptz, p_now timestamptz) RETURNS boolean
     LANGUAGE sql IMMUTABLE AS 'SELECT false'";

async fn database() -> (String, PgConnection) {
    let url = cluster::fresh_database().await;
    let connection = PgConnection::connect(&url).await.expect("the database is there");
    (url, connection)
}

async fn execute(connection: &mut PgConnection, statement: &str) {
    connection.execute(AssertSqlSafe(statement.to_owned())).await.expect(statement);
}

async fn is_true(connection: &mut PgConnection, expression: &str) -> bool {
    let query = format!("SELECT {expression}");
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(connection).await.expect(expression)
}

/// Whether `key_is_live` is that of the service.
async fn has_the_services_function(connection: &mut PgConnection) -> bool {
    is_true(connection, "key_is_live(NULL, NULL, now())").await
}

/// What `tollgate migrate` says when it fails.
async fn refusal(url: &str) -> String {
    let mut command = tollgate(&["migrate"]);
    command.env("DATABASE_URL", url);
    let output = tokio::task::spawn_blocking(move || command.output().expect("it runs"));
    let output = output.await.expect("no panic");
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[tokio::test]
async fn a_binary_replaces_older_functions_and_loads_the_same_ones_once() {
    let (_, mut connection) = database().await;
    execute(&mut connection, CHANGED).await;
    bring_up_to_date(&mut connection).await.expect("nothing to do");
    assert!(!has_the_services_function(&mut connection).await, "the same version stays in place");
    execute(&mut connection, "UPDATE sql_functions SET number = 0, serves_from = 0").await;
    bring_up_to_date(&mut connection).await.expect("older functions are replaced");
    assert!(has_the_services_function(&mut connection).await);
    let recorded = format!(
        "(SELECT (number, serves_from) = ({FUNCTIONS_NUMBER}, {FUNCTIONS_SERVE_FROM}) FROM sql_functions)"
    );
    assert!(is_true(&mut connection, &recorded).await);
}

#[tokio::test]
async fn functions_of_the_same_number_with_another_digest_are_replaced() {
    let (_, mut connection) = database().await;
    execute(&mut connection, CHANGED).await;
    execute(&mut connection, "UPDATE sql_functions SET digest = 'of a version under way'").await;
    bring_up_to_date(&mut connection).await.expect("they are replaced");
    assert!(has_the_services_function(&mut connection).await);
}

#[tokio::test]
async fn newer_functions_that_serve_this_binary_stay_and_it_starts() {
    let (url, mut connection) = database().await;
    execute(&mut connection, CHANGED).await;
    execute(&mut connection, "UPDATE sql_functions SET number = number + 5").await;
    // With them came a migration that this binary does not have.
    let migration =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'later', true, 'sum', 1)";
    execute(&mut connection, migration).await;
    let mut command = tollgate(&["migrate"]);
    command.env("DATABASE_URL", &url);
    let status = tokio::task::spawn_blocking(move || command.status().expect("it runs")).await;
    assert!(status.expect("no panic").success());
    assert!(!has_the_services_function(&mut connection).await);
}

#[tokio::test]
async fn a_binary_that_newer_functions_no_longer_serve_refuses_to_start_and_names_both_numbers() {
    let (url, mut connection) = database().await;
    let newer = FUNCTIONS_NUMBER + 5;
    bring_up_to_date_as(&mut connection, newer, newer).await.expect("a newer binary came first");
    let refusal = refusal(&url).await;
    assert!(refusal.contains(&format!("the SQL functions number {newer}")), "{refusal}");
    assert!(refusal.contains(&format!("this binary has number {FUNCTIONS_NUMBER}")), "{refusal}");
    let again = bring_up_to_date(&mut connection).await;
    assert!(matches!(again, Err(SchemaError::FunctionsTooNew { .. })), "{again:?}");
}

#[tokio::test]
async fn a_function_and_a_trigger_whose_files_are_gone_are_dropped() {
    let (_, mut connection) = database().await;
    // What the version before would have left: a function of its own with a trigger, a further
    // trigger of a function that is still there, and a function that took other arguments.
    for statement in [
        "CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER of_gone BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION gone()",
        "CREATE TRIGGER gone_from_file BEFORE DELETE ON nodes FOR EACH ROW
             EXECUTE FUNCTION refuse_change()",
        "CREATE FUNCTION ledger_now(p_old integer) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION an_operators_own() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "UPDATE sql_functions SET names = names || '{gone}'",
    ] {
        execute(&mut connection, statement).await;
    }
    let newer = FUNCTIONS_NUMBER + 1;
    bring_up_to_date_as(&mut connection, newer, FUNCTIONS_SERVE_FROM).await.expect("it loads");
    for gone in ["'gone()'", "'ledger_now(integer)'"] {
        let absent = format!("to_regprocedure({gone}) IS NULL");
        assert!(is_true(&mut connection, &absent).await, "{gone}");
    }
    let triggers =
        "NOT EXISTS (SELECT FROM pg_trigger WHERE tgname IN ('of_gone', 'gone_from_file'))";
    assert!(is_true(&mut connection, triggers).await);
    let kept = "to_regprocedure('an_operators_own()') IS NOT NULL";
    assert!(is_true(&mut connection, kept).await, "what is not ours stays");
    assert!(is_true(&mut connection, "to_regprocedure('ledger_now()') IS NOT NULL").await);
}

#[tokio::test]
async fn a_database_of_the_chain_before_the_squash_is_refused_with_the_way_out() {
    let (url, mut connection) = database().await;
    execute(
        &mut connection,
        "UPDATE _sqlx_migrations SET checksum = decode('fdfbbf54dba01c126d77fd21032f84564e3ab8905f74\
             635f7c8b1264b33fb6e56263468f3aa249b5f3f8ce484a3ea446', 'hex') WHERE version = 1",
    )
    .await;
    let refusal = refusal(&url).await;
    assert!(refusal.contains("Start afresh with an empty database"), "{refusal}");
}

#[tokio::test]
async fn binaries_that_start_together_load_the_schema_once_each_waiting_for_the_other() {
    let (url, mut connection) = database().await;
    execute(&mut connection, CHANGED).await;
    execute(&mut connection, "UPDATE sql_functions SET number = 0, serves_from = 0").await;
    let start = || {
        let mut command = tollgate(&["migrate"]);
        command.env("DATABASE_URL", &url).spawn().expect("it runs")
    };
    for mut binary in std::array::from_fn::<_, 4, _>(|_| start()) {
        let status = tokio::task::spawn_blocking(move || binary.wait().expect("it ends")).await;
        assert!(status.expect("no panic").success());
    }
    assert!(has_the_services_function(&mut connection).await);
}
