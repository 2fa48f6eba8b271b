/// Advice for an operator whose database cannot be migrated.
const START_AFRESH: &str = "Start afresh with an empty database. On a server, create another \
                            database and set DATABASE_URL (--database-url) to it, or drop this \
                            database with all its data and create it again. For the private \
                            Postgres, set TOLLGATE_DATA_DIR (--data-dir) to a new directory, or \
                            move the old one away";

/// The reason why the schema of a database could not be updated. Applied migrations stay, and the
/// next attempt continues after them.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// An unreleased version created the database, and this binary does not contain its migrations.
    #[error(
        "the database has the schema of an unreleased version, which cannot be migrated. \
         {to_do}",
        to_do = START_AFRESH
    )]
    OldChain,
    /// An unreleased version with a different text of a migration created the database. The
    /// migrations of released versions never change.
    #[error(
        "migration {0} of this binary differs from the one that created the database. The database \
         has the schema of an unreleased version, which cannot be migrated. {to_do}",
        to_do = START_AFRESH
    )]
    ChangedMigration(i64),
    /// The database contains newer functions, and they no longer support this binary.
    #[error(
        "the database has the SQL functions number {database}, which serve binaries from number \
         {serves_from} on. This binary has number {binary}. Start a newer binary"
    )]
    FunctionsTooNew { database: i32, serves_from: i32, binary: i32 },
    /// The record of the loaded functions is invalid.
    #[error(
        "the table sql_functions contains a row that no version of Tollgate writes ({0}). Delete \
         the row (DELETE FROM sql_functions) and start again. Tollgate then reloads the functions"
    )]
    UnreadableRecord(#[source] sqlx::Error),
    /// A migration failed.
    #[error(transparent)]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}
