//! Reads the state of a server from its lock files and its process.
//!
//! A postmaster writes `postmaster.pid` into PGDATA, and a lock file next to its socket. Line 1 of
//! both files is the process id. Line 8 of `postmaster.pid` is the state of the server
//! (<https://github.com/postgres/postgres/blob/master/src/include/utils/pidfile.h>).

use std::{
    fs, io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{error::StartError, socket, timing::POLL_INTERVAL};

/// Time limit for the fast shutdown of a leftover server. After that, the server gets the signal
/// for an immediate shutdown.
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(20);

/// The contents of a lock file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LockFile {
    pid: Pid,
    ready: bool,
}

/// The kind of process whose id a lock file contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// The process does not exist.
    Gone,
    /// The process is a server on this PGDATA.
    Server,
    /// The process does not belong to this PGDATA, because its id was reused.
    Unrelated,
    /// The process is a Postgres, but its PGDATA cannot be determined.
    Unclear,
}

/// Whether a server accepts connections. If `pid` is given, only the server with this process id
/// counts.
pub(super) fn is_ready(data: &Path, socket_dir: &Path, pid: Option<Pid>) -> bool {
    // The lock file of a killed server may still say that it is ready, but no process listens on
    // its socket. A server in recovery already listens, but is not ready.
    LockFile::read(&pid_file(data))
        .is_some_and(|file| file.ready && pid.is_none_or(|pid| pid == file.pid))
        && UnixStream::connect(socket_dir.join(socket::FILE)).is_ok()
}

/// Stops a server that an earlier Tollgate process left running, and removes lock files that would
/// block the next start. Only the holder of the data directory's lock may call this.
pub(super) fn clear(data: &Path, socket_dir: &Path, deadline: Instant) -> Result<(), StartError> {
    stop_leftover(data, deadline)?;
    // Postgres replaces the lock file of a process that has ended. But Postgres gives up if the
    // same user has another process with that id. This is common in a restarted container, where
    // process ids start from the beginning.
    for path in [pid_file(data), socket_dir.join(format!("{}.lock", socket::FILE))] {
        let Some(file) = LockFile::read(&path) else { continue };
        if holder(file.pid, data) == Holder::Unrelated {
            tracing::warn!(path = %path.display(), "removing a lock file that no server holds");
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(StartError::Io { action: "remove", path, source });
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn stop_leftover(data: &Path, deadline: Instant) -> Result<(), StartError> {
    let Some(LockFile { pid, .. }) = LockFile::read(&pid_file(data)) else { return Ok(()) };
    let began = Instant::now();
    let mut sent = None;
    while holder(pid, data) == Holder::Server {
        let signal = if began.elapsed() < LEFTOVER_PATIENCE { Signal::INT } else { Signal::QUIT };
        if sent != Some(signal) {
            tracing::info!(pid = pid.as_raw_pid(), "stopping a leftover private Postgres");
            // An error means that the process has just exited, or that this process may not signal
            // it. In the second case, the loop runs until the deadline.
            let _ = kill_process(pid, signal);
            sent = Some(signal);
        }
        if Instant::now() >= deadline {
            return Err(StartError::Leftover { pid: pid.as_raw_pid(), path: data.to_owned() });
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

fn pid_file(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}

impl LockFile {
    fn read(path: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(path).ok()?)
    }

    /// Parses the text of a lock file. Returns `None` if line 1 is not the id of a process. The
    /// file of `postgres --single` contains a negative number there. Postgres protects that file
    /// itself, and this module never has to stop that process.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid: i32 = lines.next()?.trim().parse().ok().filter(|pid| *pid > 0)?;
        let ready = lines.nth(6).is_some_and(|state| state.trim() == "ready");
        Some(Self { pid: Pid::from_raw(pid)?, ready })
    }
}

#[cfg(target_os = "linux")]
fn holder(pid: Pid, data: &Path) -> Holder {
    // Every user can read this file, unlike the process's directory and its executable.
    match fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(line) => holder_by_arguments(&line, data),
        Err(_) => Holder::Gone,
    }
}

#[cfg(not(target_os = "linux"))]
fn holder(pid: Pid, data: &Path) -> Holder {
    let ps = std::process::Command::new("/bin/ps")
        .args(["-ww", "-o", "args=", "-p", &pid.to_string()])
        .output();
    let Ok(ps) = ps else { return Holder::Unclear };
    let line = String::from_utf8_lossy(&ps.stdout);
    // This output does not separate the arguments, so it can only identify a command line that
    // Tollgate has built.
    if line.contains(&format!("postgres -D {} ", data.display())) {
        Holder::Server
    } else if line.trim().is_empty() {
        Holder::Gone
    } else if line.contains("postgres") {
        Holder::Unclear
    } else {
        Holder::Unrelated
    }
}

/// Identifies the process by its arguments, each of which ends with a zero byte.
#[cfg(any(target_os = "linux", test))]
fn holder_by_arguments(line: &[u8], data: &Path) -> Holder {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    let mut arguments = line.split(|byte| *byte == 0).map(OsStr::from_bytes);
    let program = arguments.next().unwrap_or_default();
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    // The children of a server have names such as `postgres: walwriter`, and hold no lock file. A
    // zombie process has no arguments.
    let is_child = program.as_bytes().starts_with(b"postgres: ");
    if is_child || !(name.contains("postgres") || name.contains("postmaster")) {
        return Holder::Unrelated;
    }
    let directory = arguments.find_map(|argument| {
        let attached = argument.as_bytes().strip_prefix(b"-D")?;
        Some(OsStr::from_bytes(attached).to_owned())
    });
    // The directory follows `-D` directly, or is the next argument.
    let directory = match directory {
        Some(attached) if attached.is_empty() => arguments.next().map(OsStr::to_owned),
        other => other,
    };
    let Some(directory) = directory.map(PathBuf::from) else { return Holder::Unclear };
    if fs::canonicalize(&directory).as_deref().unwrap_or(&directory) == data {
        Holder::Server
    } else if directory.is_absolute() {
        Holder::Unrelated
    } else {
        Holder::Unclear
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "8639\n/srv/data\n1795315993\n5432\n/srv/run\n\n 10035492        11\n";

    fn parse(text: &str) -> Option<(i32, bool)> {
        LockFile::parse(text).map(|file| (file.pid.as_raw_pid(), file.ready))
    }

    #[test]
    fn line_8_of_the_lock_file_says_whether_the_server_is_ready() {
        assert_eq!(parse(&format!("{FILE}ready   \n")), Some((8639, true)));
        assert_eq!(parse(&format!("{FILE}starting\n")), Some((8639, false)));
        assert_eq!(parse(&format!("{FILE}stopping\n")), Some((8639, false)));
    }

    #[test]
    fn incomplete_lock_file_is_not_ready() {
        assert_eq!(parse(FILE), Some((8639, false)));
        assert_eq!(parse("8639\n"), Some((8639, false)));
        assert_eq!(parse(""), None);
        assert_eq!(parse("ready\n"), None);
    }

    #[test]
    fn lock_file_of_a_single_user_postgres_is_ignored() {
        assert_eq!(parse(&format!("-{FILE}")), None);
        assert_eq!(parse("0\n"), None);
    }

    #[test]
    fn server_process_is_recognized_by_its_arguments() {
        let holder = |arguments: &str| {
            holder_by_arguments(arguments.replace('|', "\0").as_bytes(), Path::new("/no/data"))
        };
        assert_eq!(holder("/usr/lib/postgresql/15/bin/postgres|-D|/no/data|-p|1|"), Holder::Server);
        assert_eq!(holder("postmaster|-p|1|-D/no/data|"), Holder::Server);
        assert_eq!(holder("/usr/bin/postgres|-D|/no/other|"), Holder::Unrelated);
        assert_eq!(holder("/usr/bin/postgres|-D|data|"), Holder::Unclear);
        assert_eq!(holder("/usr/bin/postgres|-p|1|"), Holder::Unclear);
        assert_eq!(holder("postgres: walwriter |"), Holder::Unrelated);
        assert_eq!(holder("tollgate|serve|-D|/no/data|"), Holder::Unrelated);
        assert_eq!(holder(""), Holder::Unrelated);
    }
}
