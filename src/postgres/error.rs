//! The errors of the private Postgres, in words for a person who did not know that a Postgres was
//! being started.

use std::{io, path::PathBuf, process::ExitStatus};

/// Why the private Postgres could not be started.
///
/// A message says what failed, where, and what to do; the cause that the operating system gave is
/// the error's [`source`](std::error::Error::source), and is not repeated in the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory is missing and cannot be made, or cannot be read.
    #[error(
        "the data directory {path} of the private Postgres cannot be used; set TOLLGATE_DATA_DIR \
         to a directory that this user may write to, or DATABASE_URL to a Postgres that runs \
         already"
    )]
    DataDirUnusable { path: PathBuf, source: io::Error },

    /// The data directory holds files that are not a private Postgres.
    #[error(
        "{path} is not empty and does not hold a private Postgres of tollgate; set \
         TOLLGATE_DATA_DIR to a new or an empty directory"
    )]
    DataDirTaken { path: PathBuf },

    /// The data directory belongs to another user than the one that runs the server.
    #[error(
        "the data directory {path} belongs to {owner}, and Postgres would run as {user}; give it \
         to that user (chown -R {user} {path}), or set TOLLGATE_DATA_DIR to another directory"
    )]
    DataDirOwner { path: PathBuf, owner: String, user: String },

    /// A directory above the data directory may not be entered by the server's user.
    #[error(
        "Postgres does not run as root, and {user}, as whom it would run, may not enter \
         {ancestor}, which is above the data directory {path}; set TOLLGATE_DATA_DIR to a \
         directory outside of it, such as /var/lib/tollgate"
    )]
    DataDirBlocked { ancestor: PathBuf, path: PathBuf, user: String },

    /// `data/` is there, and is no cluster.
    #[error(
        "{path} holds files, but no PG_VERSION, so it is not a Postgres cluster; move it away, or \
         set TOLLGATE_DATA_DIR to another directory"
    )]
    NotACluster { path: PathBuf },

    /// Root has no user to run the server as.
    #[error(
        "Postgres does not run as root, and /etc/passwd names neither `postgres` nor `nobody` to \
         run it as; create one (useradd --system postgres), or start tollgate as an ordinary user"
    )]
    NoServerUser,

    /// Postgres is not installed, or not where it was looked for.
    #[error(
        "Postgres was not found: no directory out of PATH, /usr/lib/postgresql/*/bin, \
         /usr/pgsql-*/bin and Homebrew's postgresql@*/bin holds both `initdb` and `postgres` as \
         {user} can run them; install it with `{install}`, or set PG_BINDIR to the directory that \
         holds them, or DATABASE_URL to a Postgres that runs already"
    )]
    NoBinaries { user: String, install: String },

    /// `PG_BINDIR` is set, and does not hold Postgres.
    #[error(
        "PG_BINDIR is {path}, which does not hold both `initdb` and `postgres` as {user} can run \
         them; set it to the directory that does, or unset it to have Postgres looked for"
    )]
    BadBinDir { path: PathBuf, user: String },

    /// Postgres is installed, in another major version than the cluster's.
    #[error(
        "the cluster in {path} was made by Postgres {needed}, and only Postgres {found} was \
         found; install the other with `{install}`, or set PG_BINDIR to the directory that holds \
         its `initdb` and `postgres`"
    )]
    WrongVersion { path: PathBuf, needed: String, found: String, install: String },

    /// The directory of the socket was made by someone else, or others can enter it.
    #[error(
        "{path}, the directory for the socket of the private Postgres, {fault}; remove it and \
         start again"
    )]
    UnsafeSocketDir { path: PathBuf, fault: &'static str },

    /// A program of Postgres could not be executed at all.
    #[error("{program} could not be started as {user}")]
    Spawn { program: PathBuf, user: String, source: io::Error },

    /// A step of the first start failed.
    #[error("{step} failed ({status}); its messages are in {log}{said}")]
    Step { step: &'static str, status: ExitStatus, log: PathBuf, said: String },

    /// A step of the first start did not come to an end.
    #[error("{step} did not end in time and was killed; its messages are in {log}{said}")]
    StepTimeout { step: &'static str, log: PathBuf, said: String },

    /// The server ended before it accepted connections.
    #[error("the private Postgres ended as soon as it was started ({status}); see {log}{said}")]
    ServerEnded { status: ExitStatus, log: PathBuf, said: String },

    /// The server runs, but did not accept connections in time.
    #[error("the private Postgres does not accept connections after {seconds} s; see {log}{said}")]
    ServerNotReady { seconds: u64, log: PathBuf, said: String },

    /// Another process holds the lock and its server did not become ready.
    #[error(
        "another tollgate process runs the private Postgres in {path}, and that did not accept \
         connections for {seconds} s; look at that process and at {path}/postgres.log"
    )]
    OwnerNotReady { path: PathBuf, seconds: u64 },

    /// The server of a process that has ended does not stop.
    #[error(
        "process {pid} is a Postgres that was left running on {path} and does not stop; end it \
         (kill -QUIT {pid}) and start again"
    )]
    Leftover { pid: i32, path: PathBuf },

    /// Anything else that the operating system refused.
    #[error("could not {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// Why the private Postgres could not be stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// The signal could not be sent.
    #[error("the private Postgres (process {pid}) could not be told to stop")]
    Signal { pid: i32, source: io::Error },

    /// The signals were sent and the server still runs.
    #[error(
        "the private Postgres still runs {seconds} s after it was told to stop; the next start \
         stops it first"
    )]
    StillRunning { seconds: u64 },
}

impl StartError {
    /// For `map_err`: the operating system refused `action` on `path`.
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
