//! Runs commands and waits until they exit.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::harness::PATIENCE;

/// Runs a command that must succeed. Returns its stderr.
#[track_caller]
pub fn succeeds(mut command: Command) -> String {
    let output = command.output().expect("the program runs");
    let stderr = String::from_utf8(output.stderr).expect("the text is UTF-8");
    assert!(output.status.success(), "{command:?}: {stderr}");
    stderr
}

/// Runs a command that must fail. Returns its stderr. Kills a service that starts instead.
#[track_caller]
pub fn fails(mut command: Command) -> String {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("the status can be read").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("the process runs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("the process has exited");
    let stderr = String::from_utf8(output.stderr).expect("the text is UTF-8");
    let has_failed = output.status.code().is_some_and(|code| code != 0);
    assert!(has_failed, "{command:?} ended with {}: {stderr}", output.status);
    stderr
}
