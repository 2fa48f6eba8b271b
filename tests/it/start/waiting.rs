//! Startup of the program while another session holds a lock.

use std::{
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use sqlx::migrate::Migrate as _;

use super::own_database::OwnDatabase;
use crate::harness::{PATIENCE, cluster, eventually};

/// A process that may never become ready. Dropping it kills the process.
struct Starting {
    child: Child,
    log: PathBuf,
}

impl Starting {
    fn new(mut command: Command, log: &str) -> Self {
        let log = cluster::directory(log);
        let stderr = std::fs::File::create(&log).expect("the log file can be created");
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn();
        Self { child: child.expect("the program starts"), log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log can be read")
    }

    async fn logs(&self, text: &str) {
        eventually(text, async || self.log().contains(text)).await;
    }

    fn terminate(&self) {
        let raw = i32::try_from(self.child.id()).expect("the process id fits into an i32");
        let pid = rustix::process::Pid::from_raw(raw).expect("the process id is not zero");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .expect("the process runs");
    }

    /// Waits until the process exits.
    async fn ends(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the status can be read") {
                return status;
            }
            assert!(Instant::now() < deadline, "the process does not exit: {}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.log);
    }
}

#[tokio::test]
async fn startup_that_waits_for_a_lock_logs_the_reason_and_stops_on_a_signal() {
    let mut database = OwnDatabase::of_role("").await;
    database.create_tenant();
    for (awaited, locks_table) in [("migration lock", false), ("table sql_functions", true)] {
        let waiting = format!("the start is waiting for the {awaited}, because another session");
        if locks_table {
            database.run("BEGIN; LOCK TABLE sql_functions").await;
        } else {
            database.admin.lock().await.expect("the lock is free");
        }
        let mut service = Starting::new(database.service("4"), "waiting-service.log");
        service.logs(&waiting).await;
        service.terminate();
        let status = service.ends().await;
        let log = service.log();
        assert!(status.code().is_some_and(|code| code != 0), "{status}: {log}");
        assert!(log.contains("stopped by a signal before the schema was up to date"), "{log}");

        let mut command = Starting::new(database.command(&["migrate"]), "waiting-command.log");
        // The database session of the stopped service continues. It holds the migration lock until
        // it gets the lock on the table.
        command.logs("the start is waiting for the migration lock, because another session").await;
        if locks_table {
            database.run("ROLLBACK").await;
        } else {
            database.admin.unlock().await.expect("the lock is held");
        }
        let status = command.ends().await;
        assert!(status.success(), "{status}: {}", command.log());
    }
}
