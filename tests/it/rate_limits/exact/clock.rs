//! A clock for a Postgres, which a test can set. The clock of the machine does not change.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use sqlx::PgPool;

use crate::harness::cluster;

/// A directory with Postgres's programs, for `PG_BINDIR`. The server runs with libfaketime, which
/// adds an offset to the time of day. Dropping the value removes the directory.
pub struct Clock {
    directory: PathBuf,
}

impl Clock {
    pub async fn new(name: &str) -> Self {
        let pool = PgPool::connect(&cluster::fresh_database().await).await;
        let programs: String =
            sqlx::query_scalar("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
                .fetch_one(&pool.expect("the cluster runs"))
                .await
                .expect("the query succeeds");
        let directory = cluster::directory(name);
        fs::create_dir(&directory).expect("the test owns the temporary directory");
        allow_all_users(&directory);
        let clock = Self { directory };
        clock.set(0);
        // This script is called `postgres`. It must end as the server, with the same process id.
        let script = format!(
            "#!/bin/sh\n\
             export LD_PRELOAD='{}' FAKETIME_TIMESTAMP_FILE='{}'\n\
             export FAKETIME_NO_CACHE=1 DONT_FAKE_MONOTONIC=1\n\
             exec '{programs}/postgres' \"$@\"\n",
            library(),
            clock.offset_file().display()
        );
        let server = clock.directory.join("postgres");
        fs::write(&server, script).expect("the test owns the directory");
        allow_all_users(&server);
        // initdb follows the link, and so finds the server without the script.
        symlink(format!("{programs}/initdb"), clock.directory.join("initdb"))
            .expect("the test owns the directory");
        clock
    }

    /// Returns the directory of the programs.
    pub fn bindir(&self) -> PathBuf {
        self.directory.clone()
    }

    /// Sets the clock to the time of the machine plus this offset.
    pub fn set(&self, offset_seconds: i64) {
        let new = self.directory.join("offset.new");
        fs::write(&new, format!("{offset_seconds:+}\n")).expect("the test owns the directory");
        allow_all_users(&new);
        // The rename replaces the file in one step. The server must never read an empty file.
        fs::rename(new, self.offset_file()).expect("the test owns the directory");
    }

    fn offset_file(&self) -> PathBuf {
        self.directory.join("offset")
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        // If this fails, the files stay in the temporary directory.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Lets the user that runs the server read and execute the file.
fn allow_all_users(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the test owns the file");
}

/// Returns the path of libfaketime.
fn library() -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/ensure-faketime.sh");
    let output = Command::new(script).arg("--path").output().expect("the script runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the path is UTF-8").trim_end().to_owned()
}
