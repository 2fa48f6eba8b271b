//! Error messages for operators, about connections, migrations and statements that Postgres
//! refuses. A message says what happened and what to do. The messages of sqlx end with a line
//! number of Postgres's source code, and this module removes it.

use sqlx::{PgConnection, migrate::MigrateError, postgres::PgConnectOptions};

use super::pinned_schema::{Schema, quote};
use crate::schema::SchemaError;

/// Returns Postgres's message with its SQLSTATE. For other errors, returns the innermost cause,
/// because the outer errors add no information.
pub(super) fn message(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.code() {
            Some(code) => format!("{} (SQLSTATE {code})", error.message()),
            None => error.message().to_owned(),
        },
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Configuration(error) | sqlx::Error::Tls(error) => error.to_string(),
        sqlx::Error::PoolTimedOut => {
            "no connection was free within TOLLGATE_DATABASE_ACQUIRE_TIMEOUT. This process uses \
             all its connections, or Postgres allows no more (CONNECTION LIMIT of the role or of \
             the database, or max_connections)"
                .to_owned()
        }
        other => other.to_string(),
    }
}

/// Explains why Postgres refused a connection. `setting` is the setting that contains the URL.
pub(super) fn refused_connection(
    error: &sqlx::Error,
    setting: &str,
    options: &PgConnectOptions,
) -> String {
    let (role, database) = (quote(options.get_username()), quote(database(options)));
    let what_to_do = match sqlstate(error).as_deref() {
        Some("28P01") => format!(
            "Check the user and the password in {setting}. If it contains no password, check \
             PGPASSWORD and ~/.pgpass"
        ),
        Some("28000") if message(error).contains("no encryption") => format!(
            "pg_hba.conf of the server may require TLS for this user and this machine. Use \
             sslmode=verify-full in {setting}"
        ),
        Some("28000") => format!(
            "Check the user in {setting}, and whether pg_hba.conf of the server allows it to \
             connect from this machine"
        ),
        Some("3D000") => format!(
            "Check the database in {setting}, or create it: CREATE DATABASE {database} OWNER {role}"
        ),
        Some("42501") => {
            format!("Allow the role to connect: GRANT CONNECT ON DATABASE {database} TO {role}")
        }
        Some("53300") => {
            "Close other connections, or raise the limit: CONNECTION LIMIT of the role \
                          or of the database, or max_connections of the server"
                .to_owned()
        }
        _ if message(error).contains("unsupported startup parameter") => {
            "The pooler refuses this parameter. Add it to the pooler's \
             ignore_startup_parameters, or omit it (options in the URL, PGOPTIONS)"
                .to_owned()
        }
        _ => return message(error),
    };
    format!("{}. {what_to_do}", message(error))
}

/// Explains why the schema could not be updated. `connection` is the connection that the update
/// used.
pub(super) async fn failed_migration(
    error: &SchemaError,
    schema: &Schema,
    connection: &mut PgConnection,
) -> String {
    let (cause, said) = match error {
        SchemaError::Migrate(MigrateError::Execute(cause)) | SchemaError::Database(cause) => {
            (cause, message(cause))
        }
        SchemaError::Migrate(MigrateError::ExecuteMigration(cause, version)) => {
            (cause, format!("migration {version}: {}", message(cause)))
        }
        other => return other.to_string(),
    };
    match sqlstate(cause).as_deref() {
        Some("42501" | "3F000") => {}
        _ => return said,
    }
    match missing_privilege(schema, connection).await {
        Ok(what_to_do) => format!("{said}. {what_to_do}"),
        Err(_) => said,
    }
}

/// Returns the statement that allows this connection's role to change the schema, or other advice.
async fn missing_privilege(
    schema: &Schema,
    connection: &mut PgConnection,
) -> Result<String, sqlx::Error> {
    let (role, may_make_tables, owner) = sqlx::query_as::<_, (String, bool, Option<String>)>(
        "SELECT /* explain.missing_privilege */ current_user::text,
                has_schema_privilege(n.oid, 'CREATE') AND has_schema_privilege(n.oid, 'USAGE'),
                (SELECT pg_get_userbyid(c.relowner)::text FROM pg_catalog.pg_class c
                 WHERE c.relnamespace = n.oid AND c.relname = 'tenants')
         FROM pg_catalog.pg_namespace n WHERE n.nspname = $1",
    )
    .bind(schema.name())
    .fetch_one(connection)
    .await?;
    let (role, schema) = (quote(&role), quote(schema.name()));
    Ok(match owner {
        _ if !may_make_tables => format!(
            "The role {role} may not create tables in the schema {schema}. Run as a superuser: GRANT \
             CREATE, USAGE ON SCHEMA {schema} TO {role}"
        ),
        Some(owner) => format!(
            "The tables in the schema {schema} belong to the role {}, so {role} may not change \
             them. Use their owner in DATABASE_URL",
            quote(&owner)
        ),
        None => format!(
            "The role {role} lacks a privilege on the schema {schema}. Use a role that owns the \
             schema"
        ),
    })
}

/// Returns the database of a connection. If none is set, Postgres uses the user's name.
pub(super) fn database(options: &PgConnectOptions) -> &str {
    options.get_database().unwrap_or(options.get_username())
}

/// Whether Postgres refused a connection because a connection limit was reached.
pub(super) fn is_too_many_connections(error: &sqlx::Error) -> bool {
    sqlstate(error).as_deref() == Some("53300")
}

fn sqlstate(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}
