//! The private Postgres, which serves when no `DATABASE_URL` is set.
//!
//! A machine on which the Postgres packages are installed needs no setup: [`PrivatePostgres`]
//! makes a cluster in a data directory, runs the server as a child, and reaches it by a Unix
//! socket that no other user can enter. It listens on no port.
//!
//! ```text
//! <data directory>/          0700, of the user that runs the server
//!     lock                   held locked (flock) by the process that owns the server
//!     data/                  PGDATA
//!     data.new/              PGDATA while it is being made; removed if found
//!     run/                   the directory of the socket, 0700
//!     postgres.log           what initdb and the server say
//!     postgres.log.1         the log before, once that was long
//! ```
//!
//! The first process on a data directory *owns* the server; one that comes later, such as the
//! command line beside a running service, *attaches* to it. When the owner ends, the server ends,
//! and who is attached loses it.
//!
//! How it ends: [`PrivatePostgres::stop`] and its drop shut it down. On Linux the kernel does the
//! same when the owner is killed; elsewhere the server stays until the next owner stops it. A
//! server that crashes is started again.
//!
//! A service manager that signals every process of the service at once (systemd's
//! `KillMode=control-group`, its default) takes the server away from requests that are still being
//! answered: `KillMode=mixed` signals this process alone.
//!
//! Architecture invariant: nothing here reads the environment, names a tenant or speaks SQL beyond
//! creating the database; what is set arrives in [`Options`]. Everything blocks, so asynchronous
//! code calls it from `spawn_blocking`.

mod binaries;
mod cluster;
mod data_dir;
mod error;
mod log;
mod owner;
mod postmaster;
mod socket;
mod supervisor;

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs::File,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use cluster::Cluster;
use data_dir::DataDir;
use supervisor::Server;

pub use error::{StartError, StopError};

/// The database that every cluster has from its first start.
pub const DATABASE: &str = "tollgate";

/// What a whole start may take: making the cluster, waiting for another process, recovery.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Between two looks at something that gives no notice.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How to run a private Postgres.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is kept; see [`default_data_dir`]. Created if it is not there.
    pub data_dir: PathBuf,
    /// False only in tests: initdb `--no-sync`, and `fsync`, `synchronous_commit` and
    /// `full_page_writes` off. A crash of the machine then destroys the cluster.
    pub durable: bool,
    /// `max_connections` of the server. Postgres needs at least 4.
    pub max_connections: u16,
    /// `PG_BINDIR`: the directory that holds `initdb` and `postgres`. The only one looked in.
    pub pg_bindir: Option<PathBuf>,
    /// `PATH`: looked in first, before the places where packages put the programs.
    pub path: Option<OsString>,
}

/// A Postgres that this process runs, or that another process of ours runs and this one uses.
///
/// Dropping it stops the server, if this process runs it.
#[derive(Debug)]
pub struct PrivatePostgres {
    socket_dir: PathBuf,
    /// `None` when attached.
    server: Option<Server>,
}

impl PrivatePostgres {
    /// Starts the cluster in `options.data_dir`, making it on the first start, or attaches to the
    /// one that another process already runs there. Blocks until it accepts connections, for at
    /// most 60 s. The database [`DATABASE`] is there then.
    ///
    /// # Errors
    ///
    /// If Postgres is not installed or in another version than the cluster's, if the data
    /// directory cannot be used, or if a program of Postgres fails; the message then quotes the
    /// end of its log.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        let deadline = Instant::now() + START_TIMEOUT;
        let data_dir = DataDir::prepare(&options.data_dir)?;
        // The lock comes first of all files: by it a data directory is known to be ours.
        let lock_path = data_dir.lock();
        let lock = data_dir
            .user()
            .open_file(&lock_path)
            .map_err(StartError::io("open", lock_path.as_path()))?;
        let socket_dir = socket::directory(&data_dir)?;
        let data = data_dir.data();
        loop {
            // First the lock: an owner that ends while this process waits is succeeded.
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Self::own(options, data_dir, socket_dir, lock, deadline),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => {
                    return Err(StartError::io("lock", lock_path)(error.into()));
                }
            }
            if postmaster::is_ready(&data, &socket_dir, None) {
                return Ok(Self { socket_dir, server: None });
            }
            if Instant::now() >= deadline {
                let (path, seconds) = (data_dir.root().to_owned(), START_TIMEOUT.as_secs());
                return Err(StartError::OwnerNotReady { path, seconds });
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// `postgres://postgres@%2Fsocket%2Fdirectory:5432/{database}?sslmode=disable&password=`.
    ///
    /// Everybody who can reach the socket is trusted, so there is no password. The URL names the
    /// port, the TLS mode and the empty password nevertheless: a client takes what a URL leaves
    /// out from libpq's variables and from `~/.pgpass`, which describe other servers.
    pub fn url(&self, database: &str) -> String {
        let host = percent_encode(self.socket_dir.as_os_str().as_bytes());
        let (port, database) = (socket::PORT, percent_encode(database.as_bytes()));
        format!("postgres://postgres@{host}:{port}/{database}?sslmode=disable&password=")
    }

    /// Whether this process runs the server; false when it is attached to another process's.
    pub fn is_owner(&self) -> bool {
        self.server.is_some()
    }

    /// The directory that holds the socket, `.s.PGSQL.5432`.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Shuts the server down: a fast shutdown first, after 20 s an immediate one, for at most 10 s
    /// more. Close the connections before: those that are open are cut. Does nothing when attached.
    ///
    /// # Errors
    ///
    /// If the server cannot be signalled or does not end.
    pub fn stop(mut self) -> Result<(), StopError> {
        self.server.as_mut().map_or(Ok(()), Server::stop)
    }

    /// The rest of the start, for the holder of the lock.
    fn own(
        options: &Options,
        data_dir: DataDir,
        socket_dir: PathBuf,
        lock: File,
        deadline: Instant,
    ) -> Result<Self, StartError> {
        let data = data_dir.data();
        postmaster::clear(&data, &socket_dir, deadline)?;
        let cluster = Cluster::open(options, data_dir, socket_dir.clone(), deadline)?;
        let server = Server::start(cluster, lock, deadline)?;
        Ok(Self { socket_dir, server: Some(server) })
    }
}

/// Where the data directory is if none is set: `/var/lib/tollgate` for root, else `tollgate` in
/// `$XDG_DATA_HOME` or in `~/.local/share`. `None` if a user has neither.
pub fn default_data_dir(
    is_root: bool,
    xdg_data_home: Option<PathBuf>,
    home: Option<PathBuf>,
) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from("/var/lib/tollgate"));
    }
    // The XDG Base Directory Specification has a relative path ignored.
    let share = xdg_data_home.filter(|path| path.is_absolute()).or_else(|| {
        home.filter(|path| path.is_absolute()).map(|path| path.join(".local").join("share"))
    })?;
    Some(share.join("tollgate"))
}

/// Everything but the unreserved characters of RFC 3986 §2.3.
fn percent_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("a String takes all that is written to it");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_holds_the_socket_directory_as_its_host() {
        let attached =
            PrivatePostgres { socket_dir: PathBuf::from("/srv/a b/ü,run"), server: None };
        assert_eq!(
            attached.url("tollgate"),
            "postgres://postgres@%2Fsrv%2Fa%20b%2F%C3%BC%2Crun:5432/tollgate\
             ?sslmode=disable&password="
        );
        assert!(attached.url("a/b?c").contains("/a%2Fb%3Fc?"));
        assert!(!attached.is_owner());
        assert!(attached.stop().is_ok());
    }

    #[test]
    fn the_default_data_directory_depends_on_the_user() {
        let path = |text: &str| Some(PathBuf::from(text));
        let home = || path("/home/joe");
        assert_eq!(default_data_dir(true, path("/xdg"), home()), path("/var/lib/tollgate"));
        assert_eq!(default_data_dir(false, path("/xdg"), home()), path("/xdg/tollgate"));
        let in_home = path("/home/joe/.local/share/tollgate");
        assert_eq!(default_data_dir(false, None, home()), in_home);
        assert_eq!(default_data_dir(false, path("relative"), home()), in_home);
        assert_eq!(default_data_dir(false, path(""), None), None);
    }
}
