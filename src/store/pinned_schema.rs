//! Finds the database schema that contains Tollgate's tables, and pins connections to it.
//!
//! A search path can change, because `CREATE SCHEMA` or `ALTER ROLE … SET search_path` can put
//! another schema first. Migrations would then create a second, empty set of tables there, and a
//! running node would use both. So the schema is determined once, at the start, and every
//! connection is pinned to it.

use sqlx::{PgConnection, Row as _};

/// The schemas of the database, as they were before this process changed anything.
#[derive(Clone, Debug)]
pub(super) struct Schemas {
    role: String,
    database: String,
    search_path: String,
    /// The schema for new tables: the first schema of the search path that exists and that the role
    /// may use.
    current: Option<String>,
    /// The schemas that contain all four main tables. If there are none, the schemas that contain
    /// `_sqlx_migrations` and `tenants`, because migrations commit one by one, and later migrations
    /// may have failed.
    with_tables: Vec<String>,
}

/// The schema that contains Tollgate's tables, or that will contain them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Schema(String);

/// The reason why no schema is usable, and what to do.
#[derive(PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum SchemaChoiceError {
    #[error(
        "the search path ({search_path}) of the role {role} contains no schema in which it may \
         create tables. Create a schema: CREATE SCHEMA AUTHORIZATION {role}. Alternatively, \
         allow the role to use the schema \"public\": GRANT CREATE, USAGE ON SCHEMA \"public\" TO \
         {role}"
    )]
    NoCurrentSchema { role: String, search_path: String },
    #[error(
        "Tollgate's tables are in the schema {tables}, but the search path ({search_path}) of \
         the role {role} selects {current}. Nothing was changed. Set the search path: ALTER ROLE \
         {role} IN DATABASE {database} SET search_path = {tables}. If the role may not use that \
         schema, allow it: GRANT CREATE, USAGE ON SCHEMA {tables} TO {role}. A second Tollgate \
         installation needs its own database"
    )]
    AnotherSchema {
        role: String,
        database: String,
        search_path: String,
        tables: String,
        current: String,
    },
    #[error(
        "Tollgate's tables are in more than one schema: {schemas}. Nothing was changed. Find the \
         one that is in use (SELECT count(*) FROM {example}.tenants), and remove the others from \
         this database"
    )]
    SeveralSchemas { schemas: String, example: String },
}

impl Schemas {
    /// Reads the schemas with one message of the simple query protocol, which also works through a
    /// pooler.
    pub async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let row = sqlx::raw_sql(
            "SELECT /* pinned_schema.read */
                    current_user::text AS role, current_database()::text AS database,
                    current_setting('search_path') AS search_path,
                    current_schema()::text AS current,
                    ARRAY(
                        WITH schemas AS (
                            SELECT n.nspname::text AS name, array_agg(c.relname::text) AS tables
                            FROM pg_catalog.pg_namespace n
                            JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
                            WHERE n.nspname NOT LIKE 'pg\\_%' AND c.relkind IN ('r', 'p')
                            GROUP BY n.nspname
                        ), complete AS (
                            SELECT name FROM schemas WHERE tables
                                @> ARRAY['tenants', 'accounts', 'api_keys', 'ledger_entries']
                        ), begun AS (
                            SELECT name FROM schemas
                            WHERE tables @> ARRAY['_sqlx_migrations', 'tenants']
                        )
                        SELECT name FROM complete
                        UNION
                        SELECT name FROM begun WHERE NOT EXISTS (SELECT FROM complete)
                        ORDER BY 1
                    ) AS with_tables",
        )
        .fetch_one(connection)
        .await?;
        Ok(Self {
            role: row.try_get("role")?,
            database: row.try_get("database")?,
            search_path: row.try_get("search_path")?,
            current: row.try_get("current")?,
            with_tables: row.try_get("with_tables")?,
        })
    }

    /// Chooses the schema. It is an error if more than one schema is possible.
    pub fn choose(self) -> Result<Schema, SchemaChoiceError> {
        let Self { role, database, search_path, current, mut with_tables } = self;
        let role = quote(&role);
        let current = current.filter(|schema| !is_system_schema(schema));
        if with_tables.len() > 1 {
            let quoted: Vec<String> = with_tables.iter().map(|schema| quote(schema)).collect();
            let example = quoted[0].clone();
            return Err(SchemaChoiceError::SeveralSchemas { schemas: quoted.join(", "), example });
        }
        match (with_tables.pop(), current) {
            (None, Some(current)) => Ok(Schema(current)),
            (None, None) => Err(SchemaChoiceError::NoCurrentSchema { role, search_path }),
            (Some(tables), Some(current)) if tables == current => Ok(Schema(tables)),
            (Some(tables), current) => Err(SchemaChoiceError::AnotherSchema {
                role,
                database: quote(&database),
                search_path,
                tables: quote(&tables),
                current: current.map_or("no schema".to_owned(), |schema| quote(&schema)),
            }),
        }
    }
}

impl Schema {
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Returns the statement that pins a connection to the schema. `pg_catalog` implicitly comes
    /// first, so that no object of this schema replaces a function of Postgres.
    pub fn pin(&self) -> String {
        format!("SET search_path = {}", quote(&self.0))
    }
}

/// Quotes an identifier for SQL.
pub(super) fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

fn is_system_schema(schema: &str) -> bool {
    schema.starts_with("pg_") || schema == "information_schema"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas(current: Option<&str>, with_tables: &[&str]) -> Schemas {
        Schemas {
            role: "app".to_owned(),
            database: "ledger".to_owned(),
            search_path: "\"$user\", public".to_owned(),
            current: current.map(str::to_owned),
            with_tables: with_tables.iter().map(|&schema| schema.to_owned()).collect(),
        }
    }

    #[test]
    fn current_schema_is_used_if_it_contains_the_tables_or_if_no_schema_does() {
        let public = Ok(Schema("public".to_owned()));
        assert_eq!(schemas(Some("public"), &[]).choose(), public);
        assert_eq!(schemas(Some("public"), &["public"]).choose(), public);
    }

    #[test]
    fn ambiguous_schema_is_an_error_that_says_what_to_do() {
        let message = |current, with_tables: &[&str]| {
            schemas(current, with_tables).choose().expect_err("an ambiguous schema").to_string()
        };
        let elsewhere = message(Some("app"), &["public"]);
        assert!(elsewhere.contains("tables are in the schema \"public\""), "{elsewhere}");
        assert!(elsewhere.contains("of the role \"app\" selects \"app\""), "{elsewhere}");
        let statement = "ALTER ROLE \"app\" IN DATABASE \"ledger\" SET search_path = \"public\"";
        assert!(elsewhere.contains(statement), "{elsewhere}");
        let nowhere = message(None, &["public"]);
        assert!(nowhere.contains("of the role \"app\" selects no schema"), "{nowhere}");
        let several = message(Some("app"), &["app", "public"]);
        assert!(several.contains("more than one schema: \"app\", \"public\"."), "{several}");
        for current in [None, Some("pg_catalog"), Some("information_schema")] {
            let none = message(current, &[]);
            assert!(none.contains("CREATE SCHEMA AUTHORIZATION \"app\""), "{none}");
        }
    }

    #[test]
    fn schema_with_any_name_can_be_pinned() {
        assert_eq!(Schema("a \"b".to_owned()).pin(), "SET search_path = \"a \"\"b\"");
    }
}
