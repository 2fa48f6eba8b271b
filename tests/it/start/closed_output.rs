//! Programs and services whose standard output or standard error is closed.

use std::{
    io::pipe,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::own_database::OwnDatabase;
use crate::harness::{Call, eventually, process::send};

/// A pipe that nobody reads, as standard output is after `head` has exited.
fn closed_pipe() -> Stdio {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    writer.into()
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
        (&tenant[..], "Create another one: tollgate admin-key create tronagg"),
        (&admin_key, "Revoke it: tollgate admin-key revoke tronagg adm_"),
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
async fn service_whose_log_cannot_be_written_answers_and_stops_in_order() {
    let database = OwnDatabase::of_role("").await;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address: SocketAddr = listener.local_addr().expect("the listener has an address");
    drop(listener);
    let mut command = database.service("2");
    command.env("TOLLGATE_LISTEN", address.to_string()).stderr(closed_pipe());
    let mut service = command.spawn().expect("the program starts");
    eventually("the service accepts connections", async || TcpStream::connect(address).is_ok())
        .await;
    // Each of these is a line of the log.
    for _ in 0..20 {
        send(address, Call::new("GET", "/nope")).expect(404);
        send(address, Call::new("GET", "/v1/me")).expect(401);
    }
    let pid = Pid::from_child(&service);
    kill_process(pid, Signal::TERM).expect("the service runs");
    let status = service.wait().expect("the service ends");
    assert!(status.success(), "{status}");
}
