//! Tests how a binary updates the schema of a database. It applies migrations first. Then it loads
//! its SQL functions, unless the functions in the database have a newer number.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool};
use tollgate::schema::{
    FUNCTIONS_NUMBER, FUNCTIONS_SERVE_FROM, SchemaError, bring_up_to_date, bring_up_to_date_as,
};

use crate::harness::{cluster, process::tollgate};

/// Replaces a function of the service. The tests check whether the loader restores the original
/// function.
const REPLACE_FUNCTION: &str = "CREATE OR REPLACE FUNCTION key_is_live(
         p_revoked_at timestamptz, p_expires_at timestamptz, p_now timestamptz) RETURNS boolean
     LANGUAGE sql IMMUTABLE AS 'SELECT false'";

async fn database() -> (String, PgConnection) {
    let url = cluster::fresh_database().await;
    let connection = PgConnection::connect(&url).await.expect("the connection opens");
    (url, connection)
}

async fn execute(connection: &mut PgConnection, statement: &str) {
    connection.execute(AssertSqlSafe(statement.to_owned())).await.expect(statement);
}

async fn is_true(connection: &mut PgConnection, expression: &str) -> bool {
    let query = format!("SELECT {expression}");
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(connection).await.expect(expression)
}

/// Whether the database contains the original function `key_is_live`.
async fn has_the_services_function(connection: &mut PgConnection) -> bool {
    is_true(connection, "key_is_live(NULL, NULL, now())").await
}

/// Records a wrong digest, so that the next start loads the functions again.
async fn forget_the_functions(connection: &mut PgConnection) {
    execute(connection, "UPDATE sql_functions SET number = 0, serves_from = 0").await;
}

/// Runs `tollgate migrate` and waits until it exits.
async fn migrate(url: String) -> std::process::Output {
    let mut command = tollgate(&["migrate"]);
    command.env("DATABASE_URL", url);
    tokio::task::spawn_blocking(move || command.output().expect("the program runs"))
        .await
        .expect("the task does not panic")
}

/// Runs `tollgate migrate`, which must fail. Returns its stderr.
async fn migrate_error(url: &str) -> String {
    let output = migrate(url.to_owned()).await;
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).expect("the text is UTF-8")
}

#[tokio::test]
async fn binary_replaces_older_sql_functions_and_keeps_current_ones() {
    let (_, mut connection) = database().await;
    execute(&mut connection, REPLACE_FUNCTION).await;
    bring_up_to_date(&mut connection).await.expect("the schema is up to date");
    assert!(
        !has_the_services_function(&mut connection).await,
        "functions of this version are not loaded again"
    );
    forget_the_functions(&mut connection).await;
    bring_up_to_date(&mut connection).await.expect("older functions are replaced");
    assert!(has_the_services_function(&mut connection).await);
    let recorded = format!(
        "(SELECT (number, serves_from) = ({FUNCTIONS_NUMBER}, {FUNCTIONS_SERVE_FROM}) FROM sql_functions)"
    );
    assert!(is_true(&mut connection, &recorded).await);
}

#[tokio::test]
async fn sql_functions_with_an_equal_number_and_another_digest_are_replaced() {
    let (_, mut connection) = database().await;
    execute(&mut connection, REPLACE_FUNCTION).await;
    execute(&mut connection, "UPDATE sql_functions SET digest = 'of a version under way'").await;
    bring_up_to_date(&mut connection).await.expect("the functions are replaced");
    assert!(has_the_services_function(&mut connection).await);
}

#[tokio::test]
async fn binary_starts_with_compatible_newer_sql_functions_and_keeps_them() {
    let (url, mut connection) = database().await;
    execute(&mut connection, REPLACE_FUNCTION).await;
    execute(&mut connection, "UPDATE sql_functions SET number = number + 5").await;
    // The newer binary has also applied a migration that this binary does not contain.
    let migration =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'later', true, 'sum', 1)";
    execute(&mut connection, migration).await;
    let mut command = tollgate(&["migrate"]);
    command.env("DATABASE_URL", &url);
    let status =
        tokio::task::spawn_blocking(move || command.status().expect("the program runs")).await;
    assert!(status.expect("the task does not panic").success());
    assert!(!has_the_services_function(&mut connection).await);
}

#[tokio::test]
async fn binary_refuses_incompatible_newer_sql_functions_and_names_both_numbers() {
    let (url, mut connection) = database().await;
    let newer = FUNCTIONS_NUMBER + 5;
    bring_up_to_date_as(&mut connection, newer, newer).await.expect("a newer binary came first");
    let error = migrate_error(&url).await;
    assert!(error.contains(&format!("the SQL functions number {newer}")), "{error}");
    assert!(error.contains(&format!("This binary has number {FUNCTIONS_NUMBER}")), "{error}");
    let result = bring_up_to_date(&mut connection).await;
    assert!(matches!(result, Err(SchemaError::FunctionsTooNew { .. })), "{result:?}");
}

#[tokio::test]
async fn loader_drops_functions_and_triggers_of_earlier_versions_and_keeps_other_functions() {
    let (_, mut connection) = database().await;
    // An earlier version had a function and a trigger that this version lacks, and a function whose
    // arguments differ in this version.
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
    bring_up_to_date_as(&mut connection, newer, FUNCTIONS_SERVE_FROM)
        .await
        .expect("the functions are loaded");
    for removed in ["'gone()'", "'ledger_now(integer)'"] {
        let absent = format!("to_regprocedure({removed}) IS NULL");
        assert!(is_true(&mut connection, &absent).await, "{removed}");
    }
    let triggers =
        "NOT EXISTS (SELECT FROM pg_trigger WHERE tgname IN ('of_gone', 'gone_from_file'))";
    assert!(is_true(&mut connection, triggers).await);
    let kept = "to_regprocedure('an_operators_own()') IS NOT NULL";
    assert!(
        is_true(&mut connection, kept).await,
        "the loader keeps functions that do not belong to Tollgate"
    );
    assert!(is_true(&mut connection, "to_regprocedure('ledger_now()') IS NOT NULL").await);
}

/// Runs `tollgate migrate`, which must succeed. Returns its log.
async fn migration_log(url: &str) -> String {
    let output = migrate(url.to_owned()).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).expect("the text is UTF-8")
}

#[tokio::test]
async fn functions_and_triggers_that_were_changed_by_hand_are_loaded_again_with_a_warning() {
    let (url, mut connection) = database().await;
    assert!(!migration_log(&url).await.contains("WARN"), "nothing was changed");
    for statement in [
        "DROP FUNCTION ledger_now()",
        "DROP TRIGGER credits_append_only ON credits",
        "CREATE FUNCTION ledger_repeat(p_own integer) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    ] {
        execute(&mut connection, statement).await;
    }
    let log = migration_log(&url).await;
    assert!(log.contains("WARN") && log.contains("dropped or added by hand"), "{log}");
    for object in [
        "missing=\"function ledger_now(); trigger credits_append_only on credits\"",
        "added=\"function ledger_repeat(integer)\"",
    ] {
        assert!(log.contains(object), "{object} is not in: {log}");
    }
    for correct in [
        "to_regprocedure('ledger_now()') IS NOT NULL",
        "to_regprocedure('ledger_repeat(integer)') IS NULL",
        "EXISTS (SELECT FROM pg_trigger WHERE tgname = 'credits_append_only')",
    ] {
        assert!(is_true(&mut connection, correct).await, "{correct}");
    }
    assert!(
        !migration_log(&url).await.contains("WARN"),
        "the loader has restored all functions and triggers"
    );
}

#[tokio::test]
async fn functions_whose_objects_were_never_recorded_are_loaded_again_without_a_warning() {
    let (url, mut connection) = database().await;
    execute(&mut connection, "ALTER TABLE sql_functions DROP COLUMN objects").await;
    assert!(!migration_log(&url).await.contains("WARN"));
    let recorded = "(SELECT 'function ledger_now()' = ANY (objects) FROM sql_functions)";
    assert!(is_true(&mut connection, recorded).await);
}

#[tokio::test]
async fn unreadable_record_of_sql_functions_causes_an_error_that_says_what_to_do() {
    let (url, mut connection) = database().await;
    execute(&mut connection, "UPDATE sql_functions SET names = '{NULL}'").await;
    let error = migrate_error(&url).await;
    assert!(error.contains("the table sql_functions contains a row"), "{error}");
    assert!(error.contains("DELETE FROM sql_functions"), "{error}");
    execute(&mut connection, "DELETE FROM sql_functions").await;
    assert!(!migration_log(&url).await.contains("WARN"));
}

#[tokio::test]
async fn database_with_migrations_of_an_unreleased_version_is_refused_with_instructions() {
    let (url, mut connection) = database().await;
    execute(
        &mut connection,
        "UPDATE _sqlx_migrations SET checksum = decode('fdfbbf54dba01c126d77fd21032f84564e3ab8905f74\
             635f7c8b1264b33fb6e56263468f3aa249b5f3f8ce484a3ea446', 'hex') WHERE version = 1",
    )
    .await;
    let error = migrate_error(&url).await;
    assert!(error.contains("Start afresh with an empty database"), "{error}");
}

#[tokio::test]
async fn database_with_a_changed_migration_is_refused_with_instructions() {
    let (url, mut connection) = database().await;
    let change = "UPDATE _sqlx_migrations SET checksum = decode('00', 'hex') WHERE version = 4";
    execute(&mut connection, change).await;
    let error = migrate_error(&url).await;
    for part in [
        "migration 4 of this binary differs from the one that created the database",
        "an unreleased version, which cannot be migrated. Start afresh with an empty database",
        "set DATABASE_URL (--database-url) to it, or drop this database",
        "set TOLLGATE_DATA_DIR (--data-dir) to a new directory",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    let result = bring_up_to_date(&mut connection).await;
    assert!(matches!(result, Err(SchemaError::ChangedMigration(4))), "{result:?}");
}

#[tokio::test]
async fn concurrent_migrate_commands_all_succeed_and_load_the_sql_functions() {
    let (url, mut connection) = database().await;
    execute(&mut connection, REPLACE_FUNCTION).await;
    forget_the_functions(&mut connection).await;
    let start = || {
        let mut command = tollgate(&["migrate"]);
        command.env("DATABASE_URL", &url).spawn().expect("the program starts")
    };
    for mut binary in std::array::from_fn::<_, 4, _>(|_| start()) {
        let status =
            tokio::task::spawn_blocking(move || binary.wait().expect("the program exits")).await;
        assert!(status.expect("the task does not panic").success());
    }
    assert!(has_the_services_function(&mut connection).await);
}

#[tokio::test]
async fn loading_functions_during_a_change_to_an_account_causes_no_deadlock() {
    let (url, mut connection) = database().await;
    let tenant = "INSERT INTO tenants (tenant_id, slug, environment, prefix, max_keys, currency, decimals,
                                       account_format, default_scopes, created_at)
                  VALUES (gen_random_uuid(), 'one', 'live', 'one_', 5, 'TRX', 6, 'any', '{orders:read}', now())";
    execute(&mut connection, tenant).await;
    let account =
        "INSERT INTO accounts (account_id, tenant_id, external_id, status, balance, last_seq,
                                         created_at)
                   SELECT gen_random_uuid(), tenant_id, 'a', 'active', 0, 0, now() FROM tenants";
    execute(&mut connection, account).await;
    forget_the_functions(&mut connection).await;

    // A change to an account first locks the account's row. Its last statement writes the audit
    // event, which refers to the tenant.
    let mut change = PgConnection::connect(&url).await.expect("the database is reachable");
    // The change must not wait for the loader. With this timeout, a wait would make it fail.
    execute(&mut change, "SET lock_timeout = '100ms'").await;
    execute(&mut change, "BEGIN").await;
    execute(&mut change, "SELECT FROM accounts FOR UPDATE").await;
    let pool = PgPool::connect(&url).await.expect("the database is reachable");
    let loading = tokio::spawn(migrate(url));
    cluster::wait_until_blocked(&pool, 1).await;
    let event = "INSERT INTO audit_events (account_id, event_id, tenant_id, actor, action, detail,
                                           created_at)
                 SELECT account_id, gen_random_uuid(), tenant_id, 'cli', 'account.create', '{}', now()
                 FROM accounts";
    execute(&mut change, event).await;
    execute(&mut change, "COMMIT").await;
    let output = loading.await.expect("the task does not panic");
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn purchases_continue_while_another_session_blocks_the_loading_of_functions() {
    let (url, mut connection) = database().await;
    forget_the_functions(&mut connection).await;
    // VACUUM, CREATE INDEX CONCURRENTLY or a forgotten transaction holds such a lock.
    let mut other = PgConnection::connect(&url).await.expect("the database is reachable");
    execute(&mut other, "BEGIN").await;
    execute(&mut other, "LOCK TABLE ledger_entries IN SHARE UPDATE EXCLUSIVE MODE").await;
    let pool = PgPool::connect(&url).await.expect("the database is reachable");
    let loading = tokio::spawn(migrate(url));
    cluster::wait_until_blocked(&pool, 1).await;
    // A purchase begins with this lock. It waits until the loader gives up and rolls back.
    execute(&mut connection, "SET lock_timeout = '1min'").await;
    execute(&mut connection, "BEGIN").await;
    execute(&mut connection, "SELECT FROM accounts FOR UPDATE").await;
    execute(&mut connection, "COMMIT").await;
    assert!(!loading.is_finished(), "the functions cannot be loaded yet");
    execute(&mut other, "COMMIT").await;
    let output = loading.await.expect("the task does not panic");
    assert!(output.status.success(), "{output:?}");
    let log = String::from_utf8(output.stderr).expect("the text is UTF-8");
    let attempts = log.matches("not loaded yet").count();
    assert!(attempts > 0, "{log}");
    assert_eq!(
        log.matches("canceling statement").count(),
        attempts,
        "each failed attempt has one reason: {log}"
    );
}

#[tokio::test]
async fn leases_are_renewed_while_another_session_blocks_a_migration() {
    let (url, mut connection) = database().await;
    // These statements restore the schema from before the migration.
    for statement in [
        "ALTER TABLE nodes DROP COLUMN lease_ends_at CASCADE",
        "DELETE FROM _sqlx_migrations WHERE version = 9",
    ] {
        execute(&mut connection, statement).await;
    }
    forget_the_functions(&mut connection).await;
    // A dump of the database takes this lock.
    let mut other = PgConnection::connect(&url).await.expect("the database is reachable");
    execute(&mut other, "BEGIN").await;
    execute(&mut other, "LOCK TABLE nodes IN ACCESS SHARE MODE").await;
    let pool = PgPool::connect(&url).await.expect("the database is reachable");
    let loading = tokio::spawn(migrate(url));
    cluster::wait_until_blocked(&pool, 1).await;
    // This renewal waits until the migration gives up and rolls back.
    execute(&mut connection, "SET lock_timeout = '1min'").await;
    let renew = "INSERT INTO nodes (node_id, renewal, lease_ms, lease_expires_at)
                 VALUES (gen_random_uuid(), 1, 2000, now())";
    execute(&mut connection, renew).await;
    assert!(!loading.is_finished(), "the migration cannot be applied yet");
    execute(&mut other, "COMMIT").await;
    let output = loading.await.expect("the task does not panic");
    assert!(output.status.success(), "{output:?}");
    let log = String::from_utf8(output.stderr).expect("the text is UTF-8");
    assert!(log.contains("a migration is not applied yet"), "{log}");
    assert!(lease_end(&mut connection).await.is_some(), "both columns of the lease are equal");
}

#[tokio::test]
async fn postgres_inlines_the_sql_functions_that_are_designed_for_inlining() {
    let (_, mut connection) = database().await;
    let queries = [
        "SELECT key_denial(a, a, true, 'active', a) FROM (VALUES (now()), (NULL)) AS t (a)",
        "SELECT key_is_live(a, a, a) FROM (VALUES (now()), (NULL)) AS t (a)",
        "SELECT (ledger_outcome(place => a)).place FROM (VALUES (1::bigint), (2)) AS t (a)",
        "SELECT ledger_decline_record(o, r, now(), 1, 1)
         FROM unnest(NULL::ledger_operation[]) AS o, unnest(NULL::ledger_outcome[]) AS r",
        "SELECT rate_limit_grant(a - b, a, b) FROM (VALUES (1, 1), (2, 2)) AS t (a, b)",
        "SELECT after.* FROM (VALUES (1, now()), (2, now())) AS t (a, b),
                rate_limit_window_after(a, b, a, a, a, a, b, b, a, a, a, a, a) AS after",
    ];
    for query in queries {
        let explain = format!("EXPLAIN (VERBOSE) {query}");
        let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain))
            .fetch_all(&mut connection)
            .await
            .expect(query);
        let plan = plan.join("\n");
        let names = [
            "key_denial(",
            "key_is_live(",
            "ledger_outcome(",
            "ledger_decline_record(",
            "rate_limit_grant(",
            "rate_limit_window_after(",
        ];
        assert!(names.iter().all(|name| !plan.contains(name)), "{query}\n{plan}");
    }
}

/// Returns the end of the lease if both columns have the same value.
async fn lease_end(connection: &mut PgConnection) -> Option<String> {
    let end = "SELECT lease_ends_at::text FROM nodes WHERE lease_ends_at = lease_expires_at";
    sqlx::query_scalar(end).fetch_optional(connection).await.expect("nodes can be read")
}

#[tokio::test]
async fn renewals_of_this_and_of_the_previous_version_write_both_columns_of_the_lease() {
    for columns in [["lease_expires_at", "lease_ends_at"], ["lease_ends_at", "lease_expires_at"]] {
        let (_, mut connection) = database().await;
        let mut ends = Vec::new();
        for column in columns.into_iter().cycle().take(4) {
            let renew = format!(
                "INSERT INTO nodes (node_id, renewal, lease_ms, {column})
                 VALUES ('00000000-0000-7000-8000-000000000000', 1, 2000, clock_timestamp())
                 ON CONFLICT (node_id) DO UPDATE SET {column} = EXCLUDED.{column}"
            );
            execute(&mut connection, &renew).await;
            ends.push(lease_end(&mut connection).await.expect("both columns are equal"));
        }
        assert!(
            ends.is_sorted_by(|one, other| one < other),
            "each renewal extends the lease: {ends:?}"
        );
    }
}

/// The newest migration that a maintainer has checked for binaries of the previous version. If they
/// do not work after a migration, the maintainer raises `FUNCTIONS_NUMBER` and
/// `FUNCTIONS_SERVE_FROM`.
const DECIDED_AT_MIGRATION: i64 = 14;

#[test]
fn every_migration_was_checked_for_older_binaries() {
    let last = sqlx::migrate!().iter().map(|migration| migration.version).max();
    assert_eq!(
        last,
        Some(DECIDED_AT_MIGRATION),
        "there is a new migration: if binaries of the previous version do not work after it, raise \
         FUNCTIONS_NUMBER and FUNCTIONS_SERVE_FROM in src/schema/functions.rs; then write its \
         version into DECIDED_AT_MIGRATION"
    );
}
