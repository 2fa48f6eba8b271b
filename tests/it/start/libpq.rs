//! The environment variables of libpq, such as `PGHOST`, complete `DATABASE_URL`. They do not
//! affect the private Postgres.

use std::os::unix::fs::PermissionsExt as _;

use super::run::{fails, succeeds};
use crate::harness::{cluster, data_dir::DataDir, process::tollgate};

/// The libpq variables in the environment of a user who works with another server.
const FOREIGN_SERVER: [(&str, &str); 12] = [
    ("PGHOST", "db.invalid"),
    ("PGHOSTADDR", "192.0.2.1"),
    ("PGPORT", "5433"),
    ("PGUSER", "somebody"),
    ("PGPASSWORD", "hunter2"),
    ("PGDATABASE", "elsewhere"),
    ("PGSSLMODE", "verify-full"),
    ("PGSSLROOTCERT", "/nonexistent/root.crt"),
    ("PGOPTIONS", "-c no_such_parameter=1"),
    ("PGSERVICE", "elsewhere"),
    ("PGAPPNAME", "psql"),
    ("PGDATA", "/nonexistent"),
];

#[test]
fn private_postgres_ignores_libpq_variables() {
    let data_dir = DataDir::new("libpq");
    let home = cluster::directory("libpq-home");
    std::fs::create_dir_all(&home).expect("the directory can be created");
    // The permissions of this file are too open, so reading it would log a warning.
    let passwords = home.join(".pgpass");
    std::fs::write(&passwords, "not a line of such a file\n").expect("the file can be written");
    std::fs::set_permissions(&passwords, std::fs::Permissions::from_mode(0o644))
        .expect("the permissions can be changed");
    for arguments in [&["migrate"][..], &["tenant", "list"]] {
        let mut command = tollgate(arguments);
        command.envs(FOREIGN_SERVER).env("HOME", &home).env("PGPASSFILE", &passwords);
        command.env("TOLLGATE_DATA_DIR", &data_dir.path);
        let stderr = succeeds(command);
        assert!(!stderr.contains("WARN") && !stderr.contains("pgpass"), "{stderr}");
    }
    std::fs::remove_dir_all(home).expect("the test owns the directory");
}

#[tokio::test]
async fn libpq_variables_complete_a_partial_database_url() {
    let url = cluster::fresh_database().await;
    let socket = cluster::socket();
    let directory =
        socket.parent().expect("the path has a parent").to_str().expect("the path is UTF-8");
    let mut command = tollgate(&["tenant", "list"]);
    command.env("DATABASE_URL", format!("postgres:///?host={directory}"));
    command.env("PGUSER", "postgres").env("PGDATABASE", cluster::database_in(&url));
    succeeds(command);
}

#[test]
fn invalid_and_empty_libpq_variables_are_errors_that_name_the_allowed_values() {
    let ssl_modes = "it must be one of disable, allow, prefer, require, verify-ca, verify-full";
    let ports = "it must be a whole number from 1 to 65535";
    for (name, value, allowed) in [
        ("PGSSLMODE", "requier", ssl_modes),
        ("PGSSLMODE", "require ", ssl_modes),
        ("PGPORT", "x", ports),
        ("PGPORT", "0", ports),
        ("PGPORT", "99999", ports),
    ] {
        let mut command = tollgate(&["tenant", "list"]);
        command.env("DATABASE_URL", "postgres://app@127.0.0.1/x").env(name, value);
        let error = fails(command);
        let expected = format!("{name} is {value:?}: {allowed}");
        assert!(error.contains(&expected), "{expected} is not in: {error}");
    }
    let mut empty = tollgate(&["serve"]);
    empty.env("DATABASE_URL", "postgres://app@127.0.0.1:1/x");
    let names = ["PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE"];
    empty.envs(names.map(|name| (name, "")));
    let error = fails(empty);
    for name in names {
        assert!(error.contains(&format!("{name} is set but empty")), "{name}: {error}");
    }
    // A command that uses no database does not read the libpq variables.
    let mut command = tollgate(&["openapi"]);
    command.env("DATABASE_URL", "postgres://app@127.0.0.1:1/x").env("PGPORT", "x");
    succeeds(command);
}
