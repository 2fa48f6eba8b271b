//! Checks that Postgres allows the connections that one node opens.
//!
//! The pools open connections only on demand. If the limits were too small, a node would look
//! healthy, but its purchases would fail under load. So a service checks the limits before it
//! starts.

use sqlx::{PgConnection, Row as _};

use super::{
    lookups,
    pinned_schema::quote,
    pool::{BATCH_CONNECTIONS, PoolSettings, SHARE_CONNECTIONS},
};

/// Number of connections that listen to the changes of other nodes.
const LISTENER: u32 = 1;

/// Number of connections that a node opens in addition to `TOLLGATE_DATABASE_CONNECTIONS`.
const BESIDE_THE_POOL: u32 =
    lookups::CONNECTIONS + SHARE_CONNECTIONS + BATCH_CONNECTIONS + LISTENER;

impl PoolSettings {
    /// Returns the maximum number of connections that one running service opens. A `listen_url`
    /// implies that there is a pooler. All connections except the listening one then go through the
    /// pooler.
    #[must_use]
    pub fn connections_per_node(&self) -> u32 {
        self.max_connections + BESIDE_THE_POOL
    }
}

/// The limits of Postgres for the connected role. Connections of other clients are not subtracted.
#[derive(Clone, Debug)]
pub(super) struct ConnectionLimits {
    role: String,
    /// Whether the role is a superuser. Limits of roles and databases do not apply to superusers,
    /// and reserved connections are available to them.
    is_superuser: bool,
    role_limit: Option<u32>,
    database: String,
    database_limit: Option<u32>,
    max_connections: u32,
    /// The number of these connections that are reserved for other roles.
    reserved: u32,
}

/// A limit, and the setting that determines it.
struct Limit {
    connections: u32,
    text: String,
}

impl ConnectionLimits {
    /// Reads the limits with one message of the simple query protocol, which also works through a
    /// pooler.
    pub async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        // Postgres has `reserved_connections`, and a role that may use them, since version 16.
        let row = sqlx::raw_sql(
            "SELECT /* connection_limits.read */
                    r.rolname::text AS role, r.rolsuper AS is_superuser,
                    r.rolconnlimit AS role_limit, d.datname::text AS database,
                    d.datconnlimit AS database_limit,
                    current_setting('max_connections')::integer AS max_connections,
                    CASE WHEN r.rolsuper THEN 0
                    ELSE current_setting('superuser_reserved_connections')::integer END
                    + CASE WHEN r.rolsuper OR EXISTS (
                        SELECT FROM pg_catalog.pg_roles g
                        WHERE g.rolname = 'pg_use_reserved_connections'
                            AND pg_has_role(r.oid, g.oid, 'USAGE')
                    ) THEN 0
                    ELSE coalesce(current_setting('reserved_connections', true), '0')::integer END
                    AS reserved
             FROM pg_catalog.pg_roles r, pg_catalog.pg_database d
             WHERE r.rolname = session_user AND d.datname = current_database()",
        )
        .fetch_one(connection)
        .await?;
        let number = |column: &str| row.try_get::<i32, _>(column);
        // -1 means no limit.
        let limit = |column: &str| number(column).map(|limit| u32::try_from(limit).ok());
        Ok(Self {
            role: row.try_get("role")?,
            is_superuser: row.try_get("is_superuser")?,
            role_limit: limit("role_limit")?,
            database: row.try_get("database")?,
            database_limit: limit("database_limit")?,
            max_connections: limit("max_connections")?.unwrap_or(0),
            reserved: limit("reserved")?.unwrap_or(0),
        })
    }

    /// Explains why these limits are too small for a node with these settings, and what to do.
    /// Returns `None` if they are large enough. Other nodes and clients share the limits, but this
    /// check does not count their connections.
    pub fn shortage(&self, settings: &PoolSettings) -> Option<String> {
        let behind_pooler = settings.listen_url.is_some();
        let elsewhere = if behind_pooler { LISTENER } else { 0 };
        let needed = settings.connections_per_node() - elsewhere;
        let beside = needed - settings.max_connections;
        let mut exceeded = self.all();
        exceeded.retain(|limit| limit.connections < needed);
        let smallest = exceeded.iter().map(|limit| limit.connections).min()?;
        let limits: Vec<String> = exceeded.into_iter().map(|limit| limit.text).collect();
        let lower = match smallest.saturating_sub(beside) {
            0 => format!(". With TOLLGATE_DATABASE_CONNECTIONS=1 it still opens {}", beside + 1),
            most => format!(", or set TOLLGATE_DATABASE_CONNECTIONS to {most} or less"),
        };
        Some(format!(
            "This node opens up to {needed}: {} (TOLLGATE_DATABASE_CONNECTIONS), {} for lookups, \
             {} for rate limits, {} for purchases{}. {}. Raise the limit to {needed} for each \
             node{lower}",
            settings.max_connections,
            lookups::CONNECTIONS,
            SHARE_CONNECTIONS,
            BATCH_CONNECTIONS,
            if behind_pooler { "" } else { " and 1 that listens" },
            limits.join(". "),
        ))
    }

    fn all(&self) -> Vec<Limit> {
        let mut limits = Vec::new();
        let of_role = self.role_limit.filter(|_| !self.is_superuser);
        if let Some(connections) = of_role {
            let role = quote(&self.role);
            let text = format!("The role {role} may have {connections} (its CONNECTION LIMIT)");
            limits.push(Limit { connections, text });
        }
        let of_database = self.database_limit.filter(|_| !self.is_superuser);
        if let Some(connections) = of_database {
            let database = quote(&self.database);
            let text =
                format!("The database {database} may have {connections} (its CONNECTION LIMIT)");
            limits.push(Limit { connections, text });
        }
        let connections = self.max_connections.saturating_sub(self.reserved);
        let text = format!(
            "The server has room for {connections} (max_connections is {}, {} of them reserved)",
            self.max_connections, self.reserved
        );
        limits.push(Limit { connections, text });
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(role: Option<u32>, database: Option<u32>, server: u32) -> ConnectionLimits {
        ConnectionLimits {
            role: "app".to_owned(),
            is_superuser: false,
            role_limit: role,
            database: "ledger".to_owned(),
            database_limit: database,
            max_connections: server,
            reserved: 3,
        }
    }

    fn settings(max_connections: u32) -> PoolSettings {
        PoolSettings { max_connections, ..PoolSettings::for_url("") }
    }

    #[test]
    fn limits_that_are_exactly_as_large_as_needed_are_sufficient() {
        let needed = settings(4).connections_per_node();
        let exact = limits(Some(needed), Some(needed), needed + 3);
        assert_eq!(exact.shortage(&settings(4)), None);
        for short in [
            limits(Some(needed - 1), None, 100),
            limits(None, Some(needed - 1), 100),
            limits(None, None, needed + 2),
        ] {
            assert!(short.shortage(&settings(4)).is_some(), "{short:?}");
        }
    }

    #[test]
    fn shortage_message_contains_every_number_and_every_setting() {
        let shortage = limits(Some(4), Some(13), 10).shortage(&settings(4)).expect("too few");
        for part in [
            "up to 21: 4 (TOLLGATE_DATABASE_CONNECTIONS), 5 for lookups, 3 for rate limits, 8 for \
             purchases and 1",
            "The role \"app\" may have 4 (its CONNECTION LIMIT)",
            "The database \"ledger\" may have 13 (its CONNECTION LIMIT)",
            "The server has room for 7 (max_connections is 10, 3 of them reserved)",
            "Raise the limit to 21 for each node.",
            "With TOLLGATE_DATABASE_CONNECTIONS=1 it still opens 18",
        ] {
            assert!(shortage.contains(part), "{part} is not in: {shortage}");
        }
        let lower = limits(Some(19), None, 100).shortage(&settings(4)).expect("too few");
        assert!(
            lower.contains("for each node, or set TOLLGATE_DATABASE_CONNECTIONS to 2 or less"),
            "{lower}"
        );
    }

    #[test]
    fn limits_of_roles_and_databases_do_not_apply_to_superusers() {
        let superuser = ConnectionLimits { is_superuser: true, ..limits(Some(1), Some(1), 100) };
        assert_eq!(superuser.shortage(&settings(4)), None);
    }
}
