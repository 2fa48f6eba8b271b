//! Programs and services whose standard output or standard error is closed.

use std::{
    io::{BufRead as _, BufReader, pipe},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::own_database::OwnDatabase;
use crate::harness::{Call, PATIENCE, process::send};

/// Returns a pipe that nobody reads, like standard output after `head` has exited.
fn closed_pipe() -> Stdio {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

/// A demo whose standard error is closed. Dropping it kills the process.
struct DemoWithoutLog(Child);

impl DemoWithoutLog {
    fn start(database: &OwnDatabase) -> Self {
        let mut command = database.command(&["demo"]);
        for name in ["TOLLGATE_LISTEN", "TOLLGATE_METRICS_LISTEN"] {
            command.env(name, "127.0.0.1:0");
        }
        command.env("TOLLGATE_DATABASE_CONNECTIONS", "2");
        let child = command.stdout(Stdio::piped()).stderr(closed_pipe()).spawn();
        Self(child.expect("the program starts"))
    }

    /// Waits until the service is ready. Returns the address that it prints on standard output.
    fn wait_until_ready(&mut self) -> SocketAddr {
        let stdout = self.0.stdout.take().expect("stdout is piped");
        let (sender, addresses) = mpsc::channel();
        std::thread::spawn(move || {
            // Reads all lines, so that the service can write them.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("Tollgate is ready: http://") {
                    let _ = sender.send(address.to_owned());
                }
            }
        });
        let address = addresses.recv_timeout(PATIENCE).expect("the service prints its address");
        address.parse().expect("the text is an address")
    }

    fn terminate(&self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).expect("the service runs");
    }

    /// Waits until the process exits.
    async fn ends(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().expect("the status can be read") {
                return status;
            }
            assert!(Instant::now() < deadline, "the service does not exit");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for DemoWithoutLog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the command with a closed standard output.
fn run_with_closed_output(mut command: Command) -> Output {
    command.stdout(closed_pipe()).stderr(Stdio::piped()).stdin(Stdio::null());
    let child = command.spawn().expect("the program starts");
    child.wait_with_output().expect("the program ends")
}

#[tokio::test]
async fn command_whose_output_is_closed_fails_without_a_panic_or_a_message() {
    let database = OwnDatabase::of_role("").await;
    database.create_tenant();
    for arguments in [&["tenant", "list"][..], &["tenant", "show", "tronagg"], &["openapi"]] {
        let output = run_with_closed_output(database.command(arguments));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*stderr), (Some(1), ""), "{arguments:?}");
    }
}

#[tokio::test]
async fn command_that_cannot_print_a_new_admin_key_says_what_to_do() {
    let database = OwnDatabase::of_role("").await;
    let tenant = ["tenant", "create", "tronagg", "--prefix", "ta_"];
    let admin_key = ["admin-key", "create", "tronagg"];
    for (arguments, advice) in [
        (&tenant[..], "Create another one with tollgate admin-key create tronagg"),
        (&admin_key, "Revoke it with tollgate admin-key revoke tronagg adm_"),
    ] {
        let output = run_with_closed_output(database.command(arguments));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(advice), "{stderr}");
    }
}

#[tokio::test]
async fn command_that_fails_with_a_closed_standard_error_does_not_panic() {
    let database = OwnDatabase::of_role("").await;
    let mut command = database.command(&["tenant", "show", "nobody"]);
    command.stderr(closed_pipe());
    let status = command.status().expect("the program runs");
    // A panic exits with 101.
    assert_eq!(status.code(), Some(1));
}

#[tokio::test]
async fn service_that_cannot_write_its_log_responds_to_requests_and_stops_gracefully() {
    let database = OwnDatabase::of_role("").await;
    let mut service = DemoWithoutLog::start(&database);
    let address = service.wait_until_ready();
    // Each of these requests causes a log line.
    for _ in 0..20 {
        send(address, Call::new("GET", "/nope")).expect(404);
        send(address, Call::new("GET", "/v1/me")).expect(401);
    }
    service.terminate();
    let status = service.ends().await;
    assert!(status.success(), "{status}");
}
