//! The errors of the private Postgres. The messages are for a reader who does not know that
//! Tollgate can start a Postgres.

use std::{io, path::PathBuf, process::ExitStatus};

/// The reason why the private Postgres could not be started.
///
/// A message says what failed, where, and what to do. The operating system's error is the
/// [`source`](std::error::Error::source), so the message does not contain it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory cannot be created or read.
    #[error(
        "the data directory {path} of the private Postgres cannot be used. Set TOLLGATE_DATA_DIR \
         to a directory that this user may write to, or DATABASE_URL to the URL of a Postgres that \
         is already running"
    )]
    DataDirUnusable { path: PathBuf, source: io::Error },

    /// The data directory contains files that do not belong to a private Postgres.
    #[error(
        "{path} is not empty and does not contain a private Postgres of Tollgate. Set \
         TOLLGATE_DATA_DIR to a new or an empty directory"
    )]
    DataDirTaken { path: PathBuf },

    /// The data directory belongs to a user other than the server's user.
    #[error(
        "the data directory {path} belongs to {owner}, and Postgres would run as {user}. Give \
         the directory to that user (chown -R {user} {path}), or set TOLLGATE_DATA_DIR to another \
         directory"
    )]
    DataDirOwner { path: PathBuf, owner: String, user: String },

    /// The server's user may not enter a directory above the data directory.
    #[error(
        "Postgres cannot run as root, so it would run as {user}. This user may not enter \
         {ancestor}, which is above the data directory {path}. Set TOLLGATE_DATA_DIR to a \
         directory outside of {ancestor}, such as /var/lib/tollgate"
    )]
    DataDirBlocked { ancestor: PathBuf, path: PathBuf, user: String },

    /// `data/` exists, but is not a cluster.
    #[error(
        "{path} contains files, but no PG_VERSION, so it is not a Postgres cluster. Move it away, \
         or set TOLLGATE_DATA_DIR to another directory"
    )]
    NotACluster { path: PathBuf },

    /// Root has no user that could run the server.
    #[error(
        "Postgres cannot run as root, and /etc/passwd has neither `postgres` nor `nobody` to run \
         it. Create a user (useradd --system postgres), or start tollgate as an ordinary user"
    )]
    NoServerUser,

    /// Postgres is not installed, or is in a directory that was not searched.
    #[error(
        "Postgres was not found. No directory of PATH, /usr/lib/postgresql/*/bin, \
         /usr/pgsql-*/bin and Homebrew's postgresql@*/bin contains both `initdb` and `postgres` as \
         programs that {user} can run. Install Postgres with `{install}`, set PG_BINDIR to the \
         directory that contains these programs, or set DATABASE_URL to a running Postgres"
    )]
    NoBinaries { user: String, install: String },

    /// `PG_BINDIR` is set, but does not contain Postgres.
    #[error(
        "PG_BINDIR is {path}, which does not contain both `initdb` and `postgres` as programs that \
         {user} can run. Set PG_BINDIR to the directory that contains them, or unset it to search \
         the usual directories"
    )]
    BadBinDir { path: PathBuf, user: String },

    /// The installed Postgres has a different major version than the cluster.
    #[error(
        "the cluster in {path} was created by Postgres {needed}, but only Postgres {found} was \
         found. Install Postgres {needed} with `{install}`, or set PG_BINDIR to the directory that \
         contains its `initdb` and `postgres`"
    )]
    WrongVersion { path: PathBuf, needed: String, found: String, install: String },

    /// Another user created the directory of the socket, or others can enter it.
    #[error(
        "{path}, the directory for the socket of the private Postgres, {fault}. Remove it and \
         start again"
    )]
    UnsafeSocketDir { path: PathBuf, fault: &'static str },

    /// A program of Postgres could not be executed.
    #[error("{program} could not be started as {user}")]
    Spawn { program: PathBuf, user: String, source: io::Error },

    /// A step of the first start failed.
    #[error("{step} failed ({status}). Its messages are in {log}{said}")]
    Step { step: &'static str, status: ExitStatus, log: PathBuf, said: String },

    /// A step of the first start did not finish in time.
    #[error("{step} did not finish in time and was killed. Its messages are in {log}{said}")]
    StepTimeout { step: &'static str, log: PathBuf, said: String },

    /// The server exited before it accepted connections.
    #[error("the private Postgres exited immediately after its start ({status}). See {log}{said}")]
    ServerEnded { status: ExitStatus, log: PathBuf, said: String },

    /// The server is running, but did not accept connections in time.
    #[error("the private Postgres does not accept connections after {seconds} s. See {log}{said}")]
    ServerNotReady { seconds: u64, log: PathBuf, said: String },

    /// Another process holds the lock, and its server did not become ready.
    #[error(
        "another tollgate process runs the private Postgres in {path}, which did not accept \
         connections for {seconds} s. Check that process and {path}/postgres.log"
    )]
    OwnerNotReady { path: PathBuf, seconds: u64 },

    /// The process that owned a server has exited, and the server does not stop.
    #[error(
        "process {pid} is a Postgres that is still running on {path} and does not stop. End it \
         (kill -QUIT {pid}) and start again"
    )]
    Leftover { pid: i32, path: PathBuf },

    /// Any other operation that the operating system refused.
    #[error("could not {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// The reason why the private Postgres could not be stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// The signal could not be sent.
    #[error("the private Postgres (process {pid}) could not be signalled")]
    Signal { pid: i32, source: io::Error },

    /// The server is still running after the signals.
    #[error(
        "the private Postgres is still running {seconds} s after the signal to stop. The next \
         start stops it first"
    )]
    StillRunning { seconds: u64 },
}

impl StartError {
    /// Returns an error constructor for `map_err`. The error says that the operating system refused
    /// `action` on `path`.
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
