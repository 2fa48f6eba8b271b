//! The data directory of a process that a test starts.

use std::{path::PathBuf, process::Output};

use serde_json::Value;

use super::{
    cluster,
    process::{Process, tollgate},
};

/// The data directory and the log of one test. Dropping it removes both.
pub struct DataDir {
    pub path: PathBuf,
    log: PathBuf,
}

impl DataDir {
    pub fn new(name: &str) -> Self {
        let log = format!("{name}.log");
        Self { path: cluster::directory(name), log: cluster::directory(&log) }
    }

    pub fn start(&self, arguments: &[&str]) -> Process {
        let mut command = tollgate(arguments);
        command.env("TOLLGATE_DATA_DIR", &self.path);
        Process::start(command, &self.log)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = tollgate(arguments);
        command.env("TOLLGATE_DATA_DIR", &self.path);
        command.output().expect("the program runs")
    }

    /// Runs a command that must succeed. Returns its stdout.
    #[track_caller]
    pub fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).expect("the text is UTF-8")
    }

    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.stdout(arguments)).expect("the output is one JSON value")
    }

    /// Runs a command that must fail. Returns its stderr.
    #[track_caller]
    pub fn error(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        String::from_utf8(output.stderr).expect("the text is UTF-8")
    }

    /// Returns the process id of the private Postgres, or `None` if it is not running.
    pub fn postmaster_pid(&self) -> Option<u32> {
        let file = self.path.join("data/postmaster.pid");
        std::fs::read_to_string(file).ok()?.lines().next()?.parse().ok()
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // If this fails, the files stay in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.path);
        let _ = std::fs::remove_file(&self.log);
    }
}
