/// Why the schema of a database could not be brought up to date. Nothing is half done: a migration
/// that was applied stays, and the next attempt goes on after it.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The first migration is that of the chain of ten files that this one replaces.
    #[error(
        "the database has the schema of an unreleased version, which cannot be migrated. Start \
         afresh with an empty database: create one and set DATABASE_URL to it; for the private \
         Postgres, set TOLLGATE_DATA_DIR to a new directory, or move the old one away"
    )]
    OldChain,
    /// Newer functions are in place, and this binary is older than they serve.
    #[error(
        "the database has the SQL functions number {database}, which serve binaries from number \
         {serves_from} on; this binary has number {binary}. Start a newer binary"
    )]
    FunctionsTooNew { database: i32, serves_from: i32, binary: i32 },
    /// A migration failed, or was changed after it had been applied.
    #[error(transparent)]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}
