//! Creates the cluster on disk, and runs the programs of Postgres on it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{
    binaries::Binaries, data_dir::DataDir, error::StartError, log::Log, options::Options, socket,
    timing::POLL_INTERVAL,
};

/// The database that every cluster contains after its first start.
pub const DATABASE: &str = "tollgate";

/// Settings for tests. They make tests several times as fast, but a crash of the machine can
/// corrupt the cluster.
const NOT_DURABLE: [&str; 3] = ["fsync=off", "synchronous_commit=off", "full_page_writes=off"];

/// A data directory and the programs for it. Only a process that holds the directory's lock creates
/// a `Cluster`.
#[derive(Debug)]
pub(super) struct Cluster {
    data_dir: DataDir,
    socket_dir: PathBuf,
    binaries: Binaries,
    log: Log,
    durable: bool,
    max_connections: u16,
}

impl Cluster {
    /// Finds the programs of Postgres. Creates the cluster if it does not exist.
    pub(super) fn open(
        options: &Options,
        data_dir: DataDir,
        socket_dir: PathBuf,
        deadline: Instant,
    ) -> Result<Self, StartError> {
        let data = data_dir.data();
        let version = read_version(&data)?;
        let existing = version.as_deref().map(|version| (data.as_path(), version));
        let binaries = Binaries::find(options, existing, data_dir.user())?;
        let log = Log::new(data_dir.log(), data_dir.user().clone());
        log.rotate().map_err(StartError::io("rename", log.path()))?;
        let &Options { durable, max_connections, .. } = options;
        let cluster = Self { data_dir, socket_dir, binaries, log, durable, max_connections };
        if version.is_none() {
            cluster.make(deadline)?;
        }
        Ok(cluster)
    }

    /// Returns the path of PGDATA.
    pub(super) fn data(&self) -> PathBuf {
        self.data_dir.data()
    }

    pub(super) fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// Starts the server. The kernel stops it when the calling *thread* ends.
    pub(super) fn spawn_server(&self) -> Result<Child, StartError> {
        let socket_dir = self.socket_dir.to_string_lossy();
        let mut command = self.command(&self.binaries.postgres)?;
        command.arg("-D").arg(self.data());
        // The option takes a list of names. The quotes allow a name to contain a comma.
        command.arg("-k").arg(format!("\"{}\"", socket_dir.replace('"', "\"\"")));
        command.arg("-p").arg(socket::PORT.to_string());
        for setting in [
            "listen_addresses=",
            // Other users cannot enter the directory.
            "unix_socket_permissions=0700",
            "logging_collector=off",
            "log_destination=stderr",
            "log_min_messages=warning",
            // Postgres logs these messages even at log level WARNING. They would fill a log that
            // nobody empties.
            "log_checkpoints=off",
        ] {
            command.arg("-c").arg(setting);
        }
        command.arg("-c").arg(format!("max_connections={}", self.max_connections));
        self.relax(&mut command);
        // SIGINT starts Postgres's fast shutdown, which ends the sessions and stops the cluster
        // cleanly.
        end_with_parent(&mut command, Signal::INT);
        self.spawn(&mut command)
    }

    /// Creates the cluster and its database in another directory, and then renames that directory.
    /// So an interrupted start never leaves an incomplete cluster in the data directory.
    fn make(&self, deadline: Instant) -> Result<(), StartError> {
        let (data, unfinished) = (self.data(), self.data_dir.unfinished_data());
        // The rename can replace an empty directory.
        if fs::read_dir(&data).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(StartError::NotACluster { path: data });
        }
        match fs::remove_dir_all(&unfinished) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StartError::Io { action: "remove", path: unfinished, source });
            }
            _ => {}
        }
        tracing::info!(path = %data.display(), "creating a private Postgres cluster");
        self.initdb(&unfinished, deadline)?;
        self.create_database(&unfinished, deadline)?;
        fs::rename(&unfinished, &data).map_err(StartError::io("create", &data))?;
        if self.durable {
            let root = self.data_dir.root();
            File::open(root)
                .and_then(|directory| directory.sync_all())
                .map_err(StartError::io("write to disk", root))?;
        }
        Ok(())
    }

    fn initdb(&self, data: &Path, deadline: Instant) -> Result<(), StartError> {
        let mut command = self.command(&self.binaries.initdb)?;
        // Every client of the socket is trusted, because no other user can enter its directory.
        command.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]);
        command.arg("--data-checksums").arg("-D").arg(data);
        if !self.durable {
            command.arg("--no-sync");
        }
        self.run("initdb", command, "", deadline)
    }

    /// Creates the database with a server in single-user mode, which needs no socket and no client.
    fn create_database(&self, data: &Path, deadline: Instant) -> Result<(), StartError> {
        let mut command = self.command(&self.binaries.postgres)?;
        // `--single` must be the first argument. Without `exit_on_error`, an error would exit with
        // 0.
        command.arg("--single").arg("-D").arg(data).args(["-c", "exit_on_error=on"]);
        command.args(["-c", "log_checkpoints=off"]);
        self.relax(&mut command);
        command.arg("postgres");
        let statement = format!("CREATE DATABASE {DATABASE}\n");
        self.run("creating the database", command, &statement, deadline)
    }

    fn relax(&self, command: &mut Command) {
        if !self.durable {
            for setting in NOT_DURABLE {
                command.arg("-c").arg(setting);
            }
        }
    }

    /// Builds a command that the server's user runs, with its output in the log. The command gets
    /// its own process group. Ctrl-C then signals only this process, which can finish its work
    /// before it stops the server.
    fn command(&self, program: &Path) -> Result<Command, StartError> {
        let log = self.log.open().map_err(StartError::io("open", self.log.path()))?;
        let mut command = self.data_dir.user().command(program);
        command.stderr(log).process_group(0);
        Ok(command)
    }

    fn spawn(&self, command: &mut Command) -> Result<Child, StartError> {
        command.spawn().map_err(|source| StartError::Spawn {
            program: command.get_program().into(),
            user: self.data_dir.user().name().to_owned(),
            source,
        })
    }

    /// Runs a step of the first start, and waits until its program exits.
    fn run(
        &self,
        step: &'static str,
        mut command: Command,
        input: &str,
        deadline: Instant,
    ) -> Result<(), StartError> {
        let mark = self.log.mark();
        let log = self.log.path().to_owned();
        command.stdin(Stdio::piped());
        // After SIGKILL, the program cannot clean up, so the next start removes the incomplete
        // cluster.
        end_with_parent(&mut command, Signal::KILL);
        let mut child = self.spawn(&mut command)?;
        if let Some(mut stdin) = child.stdin.take() {
            // If the program has already exited, its status and its messages say why.
            let _ = stdin.write_all(input.as_bytes());
        }
        let status = wait_until(&mut child, deadline)
            .map_err(StartError::io("wait for", command.get_program()))?;
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                Err(StartError::Step { step, status, log, said: self.log.said_since(mark) })
            }
            None => Err(StartError::StepTimeout { step, log, said: self.log.said_since(mark) }),
        }
    }
}

/// Reads the version of a cluster, if it exists.
fn read_version(data: &Path) -> Result<Option<String>, StartError> {
    let path = data.join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(version) => Ok(Some(version.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StartError::Io { action: "read", path, source }),
    }
}

/// Waits until a process exits. At the deadline, kills the process and all processes that it
/// started.
fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            // The process has not been waited for, so its id cannot have been reused.
            kill_process_group(Pid::from_child(child), Signal::KILL)?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Makes the kernel send the signal to the child when the thread that spawns it ends, even after
/// `kill -9`. On systems other than Linux, the child keeps running, and the next start stops it.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the request has to be made in the child, before it executes")]
fn end_with_parent(command: &mut Command, signal: Signal) {
    use rustix::{
        io::Errno,
        process::{getpid, getppid, set_parent_process_death_signal},
    };

    let parent = getpid();
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The closure makes
    // two system calls, which neither allocate nor lock, and an `Errno` becomes an `io::Error`
    // without an allocation. It runs after setuid, which would undo the request.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(signal))?;
            // If the parent has already ended, the kernel sends no signal.
            if getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent(_command: &mut Command, _signal: Signal) {}
