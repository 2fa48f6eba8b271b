//! Where a process of a test keeps what it has.

use std::{path::PathBuf, process::Output};

use serde_json::Value;

use super::{
    cluster,
    process::{Process, tollgate},
};

/// A data directory and a log of one test, removed in the end.
pub struct Place {
    pub directory: PathBuf,
    log: PathBuf,
}

impl Place {
    pub fn new(name: &str) -> Self {
        let log = format!("{name}.log");
        Self { directory: cluster::directory(name), log: cluster::directory(&log) }
    }

    pub fn start(&self, arguments: &[&str]) -> Process {
        let mut command = tollgate(arguments);
        command.env("TOLLGATE_DATA_DIR", &self.directory);
        Process::start(command, &self.log)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = tollgate(arguments);
        command.env("TOLLGATE_DATA_DIR", &self.directory);
        command.output().expect("the program runs")
    }

    /// What a command that succeeds prints.
    #[track_caller]
    pub fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).expect("text")
    }

    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.stdout(arguments)).expect("one JSON value")
    }

    /// What a command that fails says.
    #[track_caller]
    pub fn error(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        String::from_utf8(output.stderr).expect("text")
    }

    pub fn postmaster(&self) -> Option<u32> {
        let file = self.directory.join("data/postmaster.pid");
        std::fs::read_to_string(file).ok()?.lines().next()?.parse().ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left is in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.directory);
        let _ = std::fs::remove_file(&self.log);
    }
}
