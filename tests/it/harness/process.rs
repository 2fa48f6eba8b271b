//! Starts the real program, sends requests to it over the network, and stops it.

use std::{
    cell::RefCell,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;

use super::{Answer, Call, PATIENCE, cluster};

/// Builds a `tollgate` command. It does not inherit the environment of this process.
pub fn tollgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(arguments).env_clear().current_dir(std::env::temp_dir());
    for name in ["PATH", "PG_BINDIR"] {
        if let Some(value) = cluster::variable(name) {
            command.env(name, value);
        }
    }
    command
}

/// Creates the tenant `tronagg`, with the prefix `ta_` and these options. Returns its admin key.
pub fn create_tenant(url: &str, options: &[&str]) -> String {
    create_named_tenant(url, "tronagg", "ta_", options)
}

/// Creates a live tenant whose keys may write, with these options. Returns its admin key.
pub fn create_named_tenant(url: &str, slug: &str, prefix: &str, options: &[&str]) -> String {
    let tenant = tollgate(&["tenant", "create", slug, "--prefix", prefix, "--json"])
        .args(["--default-scopes", "write", "--database-url", url])
        .args(options)
        .output()
        .expect("the program runs");
    assert!(tenant.status.success(), "{}", String::from_utf8_lossy(&tenant.stderr));
    let tenant: Value = serde_json::from_slice(&tenant.stdout).expect("the text is JSON");
    tenant["admin_key"].as_str().expect("the key is a string").to_owned()
}

/// A service that runs as a separate process.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
    /// The address of the metrics endpoint.
    pub metrics: SocketAddr,
    lines: mpsc::Receiver<String>,
    printed: RefCell<String>,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command` and waits until it logs that it is serving.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let stderr = std::fs::File::create(log).expect("the log file can be created");
        let mut child = command
            .env("TOLLGATE_LISTEN", "127.0.0.1:0")
            .env("TOLLGATE_METRICS_LISTEN", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the program starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let (address, metrics) = wait_for_addresses(&mut child, log);
        Self { child, address, metrics, lines, printed: RefCell::default(), stderr: log.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.stderr).expect("the log can be read")
    }

    /// Returns the value that `tollgate demo` printed as `export NAME=…`.
    pub fn exported(&self, name: &str) -> String {
        self.printed_after(&format!("export {name}="))
    }

    /// Waits for a line on stdout that begins with `prefix`. Returns the rest of that line.
    pub fn printed_after(&self, prefix: &str) -> String {
        let mut printed = self.printed.borrow_mut();
        loop {
            if let Some(rest) = printed.lines().find_map(|line| line.strip_prefix(prefix)) {
                return rest.to_owned();
            }
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    printed.push_str(&line);
                    printed.push('\n');
                }
                Err(_) => panic!("no line of stdout begins with {prefix:?}:\n{printed}"),
            }
        }
    }

    /// Sends a request over the network.
    pub fn send(&self, call: Call) -> Answer {
        send(self.address, call)
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let raw = i32::try_from(self.child.id()).expect("the process id fits into an i32");
        let pid = rustix::process::Pid::from_raw(raw).expect("the process id is not zero");
        rustix::process::kill_process(pid, signal).expect("the process runs");
    }

    /// Waits until the process exits. Returns its status and its log.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("the process can be waited for");
        (status, self.log())
    }

    /// Sends SIGTERM and waits for the exit.
    pub fn stop(self) -> (ExitStatus, String) {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A failed test must not leave the process running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for_addresses(child: &mut Child, log: &Path) -> (SocketAddr, SocketAddr) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let mut lines = text.lines().filter(|line| line.contains("serving"));
        let found = (lines.next().and_then(address_in), lines.next().and_then(address_in));
        if let (Some(address), Some(metrics)) = found {
            return (address, metrics);
        }
        if let Some(status) = child.try_wait().expect("the status can be read") {
            panic!("the process exited with {status}:\n{text}");
        }
        assert!(std::time::Instant::now() < deadline, "the process is not ready:\n{text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Finds the address in a line of the log, in text or JSON format.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("address")?;
    let rest = rest.trim_start_matches(['=', '"', ':']);
    let end = rest.find(|c: char| c == '"' || c.is_whitespace()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Sends a request over the network.
pub fn send(address: SocketAddr, call: Call) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .allow_non_standard_methods(true)
        .build()
        .into();
    let (mut parts, body) = call.into_parts();
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    parts.uri = format!("http://{address}{path}").parse().expect("the URI is valid");
    let response =
        agent.run(axum::http::Request::from_parts(parts, body)).expect("the server responds");
    let (parts, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    body.as_reader().read_to_end(&mut bytes).expect("the response can be read");
    Answer::new(parts.status.as_u16(), parts.headers, bytes)
}
