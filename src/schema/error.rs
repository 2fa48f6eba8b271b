/// Why the schema of a database could not be brought up to date. Nothing is half done: migrations
/// that were applied stay, and the next attempt continues after them.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The database was made by an unreleased version. Its migrations are not in this binary.
    #[error(
        "the database has the schema of an unreleased version, which cannot be migrated. Start \
         afresh with an empty database: create one and set DATABASE_URL to it; for the private \
         Postgres, set TOLLGATE_DATA_DIR to a new directory, or move the old one away"
    )]
    OldChain,
    /// The database has newer functions, and they no longer serve this binary.
    #[error(
        "the database has the SQL functions number {database}, which serve binaries from number \
         {serves_from} on; this binary has number {binary}. Start a newer binary"
    )]
    FunctionsTooNew { database: i32, serves_from: i32, binary: i32 },
    /// The record of the loaded functions cannot be read.
    #[error(
        "the table sql_functions has a row that no version of Tollgate writes ({0}). Delete the \
         row (DELETE FROM sql_functions) and start again: the functions are then loaded anew"
    )]
    UnreadableRecord(#[source] sqlx::Error),
    /// A migration failed, or was changed after it had been applied.
    #[error(transparent)]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}
