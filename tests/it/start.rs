//! What the program does with its settings and its database before it serves: start, or refuse with
//! a message that says what to do.

use std::{os::unix::fs::PermissionsExt as _, process::Command};

use crate::harness::{cluster, place::Place, process::tollgate};

/// What a command that succeeds prints on stderr.
#[track_caller]
fn succeeds(mut command: Command) -> String {
    let output = command.output().expect("the program runs");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success(), "{command:?}: {stderr}");
    stderr
}

/// libpq's variables, as a shell has them that works with another server.
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
fn the_private_postgres_does_not_depend_on_libpq_variables() {
    let place = Place::new("libpq");
    let home = cluster::directory("libpq-home");
    std::fs::create_dir_all(&home).expect("a directory");
    // Reading it would log a warning: others may read it.
    let passwords = home.join(".pgpass");
    std::fs::write(&passwords, "not a line of such a file\n").expect("a file");
    std::fs::set_permissions(&passwords, std::fs::Permissions::from_mode(0o644)).expect("a mode");
    for arguments in [&["migrate"][..], &["tenant", "list"]] {
        let mut command = tollgate(arguments);
        command.envs(FOREIGN_SERVER).env("HOME", &home).env("PGPASSFILE", &passwords);
        command.env("TOLLGATE_DATA_DIR", &place.directory);
        let stderr = succeeds(command);
        assert!(!stderr.contains("WARN") && !stderr.contains("pgpass"), "{stderr}");
    }
    std::fs::remove_dir_all(home).expect("it is ours");
}

#[tokio::test]
async fn libpq_variables_fill_in_what_the_url_leaves_out() {
    let url = cluster::fresh_database().await;
    let socket = cluster::socket();
    let directory = socket.parent().expect("a directory").to_str().expect("text");
    let mut command = tollgate(&["tenant", "list"]);
    command.env("DATABASE_URL", format!("postgres:///?host={directory}"));
    command.env("PGUSER", "postgres").env("PGDATABASE", cluster::database_in(&url));
    succeeds(command);
}
