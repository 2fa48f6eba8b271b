use std::{collections::BTreeSet, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _,
    error::DatabaseError,
    migrate::{Migrate as _, MigrateError, Migrator},
    postgres::PgRow,
};
use tracing::{info, warn};

use super::{
    SchemaError,
    functions::{FUNCTIONS_NUMBER, FUNCTIONS_SERVE_FROM, functions, functions_digest},
    waiting::warn_if_long,
};

/// The SHA-384 that sqlx recorded for the first migration of the unreleased versions.
const OLD_FIRST_CHECKSUM: &str = "fdfbbf54dba01c126d77fd21032f84564e3ab8905f74635f7c8b1264b33fb6e5\
                                  6263468f3aa249b5f3f8ce484a3ea446";

/// Settings of the session. A migration may take longer than a request, for example to build an
/// index over many rows.
const SESSION: &str =
    "SET statement_timeout = 0; SET lock_timeout = 0; SET client_min_messages = warning";

/// Time limit for each lock while the functions are loaded. Purchases also wait during this time.
/// The limit is longer than `deadlock_timeout`, so that Postgres can cancel an autovacuum that
/// holds the lock.
const LOAD_LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '2s'";

/// The first and the longest pause before the next attempt. Each pause is twice the previous one.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The table of the loaded functions. It has one row.
const TABLE: &str = "
    CREATE TABLE sql_functions (
        only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        number      integer NOT NULL,
        serves_from integer NOT NULL,
        digest      text NOT NULL,
        names       text[] NOT NULL,
        objects     text[]
    );
    COMMENT ON TABLE sql_functions IS 'The SQL functions that are loaded.';
    COMMENT ON COLUMN sql_functions.number IS 'Counts their versions.';
    COMMENT ON COLUMN sql_functions.serves_from IS
        'The oldest number whose binaries they still serve.';
    COMMENT ON COLUMN sql_functions.digest IS 'SHA-256 of their texts.';
    COMMENT ON COLUMN sql_functions.names IS
        'Their names: one that is gone from the next version is dropped.';
    COMMENT ON COLUMN sql_functions.objects IS
        'The functions with the types of their arguments, and their triggers.'";

/// Adds the column that earlier versions did not create.
const ADD_OBJECTS: &str = "
    ALTER TABLE sql_functions ADD COLUMN objects text[];
    COMMENT ON COLUMN sql_functions.objects IS
        'The functions with the types of their arguments, and their triggers.'";

/// The number of the functions, and the oldest number whose binaries they support.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Version {
    number: i32,
    serves_from: i32,
}

/// The row of the table.
struct Loaded {
    version: Version,
    digest: String,
    names: Vec<String>,
    /// The loaded objects. `None` if the build that loaded the functions did not record them.
    objects: Option<Vec<String>>,
}

impl Loaded {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            version: Version {
                number: row.try_get("number")?,
                serves_from: row.try_get("serves_from")?,
            },
            digest: row.try_get("digest")?,
            names: row.try_get("names")?,
            objects: row.try_get("objects")?,
        })
    }
}

/// Applies the missing migrations, then loads the SQL functions, unless the database already
/// contains these or newer functions. Several nodes may call this concurrently. One of them does
/// the work, and the others wait for it.
///
/// This changes the settings of the connection, so close the connection afterwards.
///
/// # Errors
///
/// [`SchemaError`] describes the cases.
pub async fn bring_up_to_date(connection: &mut PgConnection) -> Result<(), SchemaError> {
    bring_up_to_date_as(connection, FUNCTIONS_NUMBER, FUNCTIONS_SERVE_FROM).await
}

/// Does the work of [`bring_up_to_date`] for a binary whose functions have another number. Tests
/// use this to act as an older or a newer binary.
#[doc(hidden)]
pub async fn bring_up_to_date_as(
    connection: &mut PgConnection,
    number: i32,
    serves_from: i32,
) -> Result<(), SchemaError> {
    let mut migrator = sqlx::migrate!();
    // A newer binary may have applied more migrations. `serves_from` of its functions decides
    // whether this binary may still run.
    migrator.set_ignore_missing(true);
    // This session takes the lock itself, and holds it until the functions are loaded.
    migrator.set_locking(false);
    connection.execute(SESSION).await?;
    warn_if_long(
        "the migration lock, because another session holds it, such as a node that starts or a \
         tollgate command (pg_locks shows the lock with the locktype advisory)",
        connection.lock(),
    )
    .await?;
    let done = update_when_unlocked(connection, &migrator, Version { number, serves_from }).await;
    let unlocked = connection.unlock().await;
    done?;
    unlocked?;
    Ok(())
}

async fn refuse_old_chain(connection: &mut PgConnection) -> Result<(), SchemaError> {
    if !has_table(connection, "_sqlx_migrations").await? {
        return Ok(());
    }
    let is_old: bool = sqlx::query_scalar(
        "SELECT /* schema.is_old_chain */ EXISTS (
             SELECT FROM _sqlx_migrations WHERE version = 1 AND encode(checksum, 'hex') = $1)",
    )
    .bind(OLD_FIRST_CHECKSUM)
    .fetch_one(&mut *connection)
    .await?;
    if is_old { Err(SchemaError::OldChain) } else { Ok(()) }
}

/// Whether the table of the functions has the column `objects`. The table must exist.
async fn has_objects(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT /* schema.has_objects */ EXISTS (
             SELECT FROM pg_attribute
             WHERE attrelid = to_regclass('sql_functions') AND attname = 'objects'
                 AND NOT attisdropped)",
    )
    .fetch_one(connection)
    .await
}

async fn has_table(connection: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT /* schema.has_table */ to_regclass($1) IS NOT NULL")
        .bind(name)
        .fetch_one(connection)
        .await
}

/// Applies the migrations and loads the functions. It retries while another session holds a
/// required lock, for example because of a `VACUUM`, a dump or a forgotten transaction. While this
/// session waits for a lock, it also blocks the nodes' access to the table. Between the attempts,
/// the nodes can continue to work.
async fn update_when_unlocked(
    connection: &mut PgConnection,
    migrator: &Migrator,
    binary: Version,
) -> Result<(), SchemaError> {
    let (mut pause, longest) = TRY_AGAIN;
    loop {
        let Err(error) = update(connection, migrator, binary).await else { return Ok(()) };
        let Some(what) = refused_for_a_lock(&error) else { return Err(error) };
        warn!(reason = %error, retry_in = ?pause, "{what}, because another session locks a table");
        tokio::time::sleep(pause).await;
        pause = longest.min(pause * 2);
    }
}

async fn update(
    connection: &mut PgConnection,
    migrator: &Migrator,
    binary: Version,
) -> Result<(), SchemaError> {
    warn_if_long(
        "the migrations, because they take a long time or another session locks a table",
        apply_migrations(connection, migrator),
    )
    .await?;
    load_functions(connection, binary).await
}

async fn apply_migrations(
    connection: &mut PgConnection,
    migrator: &Migrator,
) -> Result<(), SchemaError> {
    refuse_old_chain(connection).await?;
    match migrator.run(&mut *connection).await {
        Err(MigrateError::VersionMismatch(version)) => Err(SchemaError::ChangedMigration(version)),
        result => Ok(result?),
    }
}

/// Returns the step that failed because another session held a lock. `None` if the error has
/// another cause.
fn refused_for_a_lock(error: &SchemaError) -> Option<&'static str> {
    let (what, error) = match error {
        SchemaError::Database(error) => ("the SQL functions are not loaded yet", error),
        SchemaError::Migrate(MigrateError::ExecuteMigration(error, _)) => {
            ("a migration is not applied yet", error)
        }
        _ => return None,
    };
    is_locked(error.as_database_error()?).then_some(what)
}

/// Whether the lock timeout expired, or this session was the victim of a deadlock.
fn is_locked(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| ["55P03", "40P01"].contains(&&*code))
}

/// Replaces older functions. Also replaces functions with the same number and another digest, which
/// come from another build of the same unreleased version. Keeps newer functions if they support
/// this binary. Reloads the functions of this build if some were dropped or added by hand.
async fn load_functions(connection: &mut PgConnection, binary: Version) -> Result<(), SchemaError> {
    let mut tx = connection.begin().await?;
    let loaded = warn_if_long(
        "the table sql_functions, because another session locks it (pg_locks shows the session)",
        loaded_functions(&mut tx),
    )
    .await?;
    let digest = functions_digest();
    let mut old_names = Vec::new();
    if let Some(loaded) = loaded {
        let Loaded { version: database, digest: loaded_digest, names, objects } =
            Loaded::read(&loaded).map_err(SchemaError::UnreadableRecord)?;
        if database.number > binary.number {
            return stay(database, binary);
        }
        old_names = names;
        if database == binary && loaded_digest == digest {
            let present = present_objects(&mut tx, &old_names).await?;
            if objects.as_ref() == Some(&present) {
                return Ok(());
            }
            if let Some(recorded) = objects {
                warn_of_differences(&recorded, &present);
            }
        } else if database.number == binary.number {
            warn!(
                number = binary.number,
                loaded = loaded_digest,
                ours = digest,
                "replacing SQL functions of another build with the same number. Stop the nodes of \
                 that build"
            );
        }
    }
    tx.execute(LOAD_LOCK_TIMEOUT).await?;
    // A transaction that changes an account first locks its row, then writes to other tables. So
    // after this statement, no waiting transaction holds a lock on a table that gets triggers.
    tx.execute("LOCK TABLE accounts IN EXCLUSIVE MODE").await?;
    // CREATE TRIGGER takes the same lock. A stronger lock would block the checks of foreign keys,
    // which come last in such transactions.
    tx.execute("LOCK TABLE tenants, admin_keys IN SHARE ROW EXCLUSIVE MODE").await?;
    let functions = functions();
    // Functions call each other, so they are first created without a check of their bodies, and
    // then replaced with a check.
    for check in ["off", "on"] {
        tx.execute(AssertSqlSafe(format!("SET LOCAL check_function_bodies = {check}"))).await?;
        for function in &functions {
            tx.execute(AssertSqlSafe(function.sql.to_string())).await?;
        }
    }
    let names: Vec<String> = functions.into_iter().map(|function| function.name).collect();
    drop_what_is_gone(&mut tx, &old_names, &names).await?;
    let objects = present_objects(&mut tx, &names).await?;
    sqlx::query(
        "INSERT /* schema.record_functions */
                INTO sql_functions (number, serves_from, digest, names, objects)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (only_row) DO UPDATE
         SET number = excluded.number, serves_from = excluded.serves_from,
             digest = excluded.digest, names = excluded.names, objects = excluded.objects",
    )
    .bind(binary.number)
    .bind(binary.serves_from)
    .bind(digest)
    .bind(&names)
    .bind(&objects)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    info!(number = binary.number, "SQL functions loaded");
    Ok(())
}

/// Reads the row of the table of the functions. Creates the table or its newest column if it is
/// missing.
async fn loaded_functions(connection: &mut PgConnection) -> Result<Option<PgRow>, sqlx::Error> {
    if !has_table(connection, "sql_functions").await? {
        connection.execute(TABLE).await?;
    } else if !has_objects(connection).await? {
        connection.execute(ADD_OBJECTS).await?;
    }
    sqlx::query(
        "SELECT /* schema.loaded_functions */
                number, serves_from, digest, names, objects FROM sql_functions",
    )
    .fetch_optional(connection)
    .await
}

fn stay(database: Version, binary: Version) -> Result<(), SchemaError> {
    if database.serves_from > binary.number {
        return Err(SchemaError::FunctionsTooNew {
            database: database.number,
            serves_from: database.serves_from,
            binary: binary.number,
        });
    }
    info!(
        database = database.number,
        binary = binary.number,
        "the database contains newer SQL functions, which serve this binary"
    );
    Ok(())
}

/// Drops functions and triggers with earlier or current names that this transaction did not create.
/// These are functions without a file, triggers that their file no longer contains, and functions
/// whose arguments have changed.
async fn drop_what_is_gone(
    connection: &mut PgConnection,
    old_names: &[String],
    names: &[String],
) -> Result<(), SchemaError> {
    let ours: Vec<&str> = old_names.iter().chain(names).map(String::as_str).collect();
    let statements: Vec<String> = sqlx::query_scalar(
        "WITH /* schema.gone_functions */ ours AS (
             SELECT oid, xmin FROM pg_proc
             WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
               AND proname = ANY ($1))
         SELECT format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass) AS statement, 1 AS turn
         FROM pg_trigger t JOIN ours ON ours.oid = t.tgfoid
         WHERE NOT t.tgisinternal AND t.xmin <> pg_current_xact_id()::xid
         UNION ALL
         SELECT format('DROP FUNCTION %s', oid::regprocedure), 2
         FROM ours WHERE xmin <> pg_current_xact_id()::xid
         ORDER BY turn",
    )
    .bind(&ours)
    .fetch_all(&mut *connection)
    .await?;
    for statement in statements {
        info!(statement, "dropping an obsolete SQL function or trigger");
        connection.execute(AssertSqlSafe(statement)).await?;
    }
    Ok(())
}

/// Lists the functions with these names, each with the types of its arguments, and the triggers
/// that execute them.
async fn present_objects(
    connection: &mut PgConnection,
    names: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "WITH /* schema.present_objects */ ours AS (
             SELECT oid FROM pg_proc
             WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
               AND proname = ANY ($1)),
         objects (object) AS (
             SELECT format('function %s', oid::regprocedure) FROM ours
             UNION ALL
             SELECT format('trigger %I on %s', t.tgname, t.tgrelid::regclass)
             FROM pg_trigger t JOIN ours ON ours.oid = t.tgfoid
             WHERE NOT t.tgisinternal)
         SELECT object FROM objects ORDER BY object COLLATE \"C\"",
    )
    .bind(names)
    .fetch_all(connection)
    .await
}

/// Logs the recorded objects that the database lacks, and the existing objects that were not
/// recorded.
fn warn_of_differences(recorded: &[String], present: &[String]) {
    let recorded: BTreeSet<&str> = recorded.iter().map(String::as_str).collect();
    let present: BTreeSet<&str> = present.iter().map(String::as_str).collect();
    let missing: Vec<&str> = recorded.difference(&present).copied().collect();
    let added: Vec<&str> = present.difference(&recorded).copied().collect();
    warn!(
        missing = missing.join("; "),
        added = added.join("; "),
        "SQL functions or triggers were dropped or added by hand. All of them are loaded again"
    );
}
