//! Starts a private Postgres or attaches to a running one, provides its URL, and stops it.

use std::{
    fmt::Write as _,
    fs::File,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{
    cluster::Cluster,
    data_dir::DataDir,
    error::{StartError, StopError},
    options::Options,
    postmaster, socket,
    supervisor::Server,
    timing::{POLL_INTERVAL, START_TIMEOUT},
};

/// A private Postgres that this process either runs or is attached to.
///
/// If this process runs the server, dropping this value stops the server.
#[derive(Debug)]
pub struct PrivatePostgres {
    socket_dir: PathBuf,
    /// The server. `None` if this process is attached to another process's server.
    server: Option<Server>,
}

impl PrivatePostgres {
    /// Starts the cluster in `options.data_dir`, or attaches to a server that another process
    /// already runs there. The first start creates the cluster. Blocks until the server accepts
    /// connections, for at most 60 s. The database [`DATABASE`](super::DATABASE) exists afterwards.
    ///
    /// # Errors
    ///
    /// [`StartError`] if Postgres is not installed or has another version than the cluster, if the
    /// data directory is not usable, or if a program of Postgres fails. The error of a failed
    /// program quotes the end of its log.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        let deadline = Instant::now() + START_TIMEOUT;
        let data_dir = DataDir::prepare(&options.data_dir)?;
        // The lock is the first file, because it marks the directory as a data directory of
        // Tollgate.
        let lock_path = data_dir.lock();
        let lock = data_dir
            .user()
            .open_file(&lock_path)
            .map_err(StartError::io("open", lock_path.as_path()))?;
        let socket_dir = socket::directory(&data_dir)?;
        let data = data_dir.data();
        loop {
            // The loop tries the lock first. If the owner exits while this process waits, this
            // process becomes the owner.
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

    /// Returns the URL of a database,
    /// `postgres://postgres@%2Fsocket%2Fdirectory:5432/{database}?sslmode=disable&password=`.
    ///
    /// Postgres trusts every client of the socket, so there is no password. The URL contains the
    /// port, the TLS mode and an empty password nevertheless. Otherwise a client would read these
    /// values from libpq's variables and from `~/.pgpass`, which describe other servers.
    pub fn url(&self, database: &str) -> String {
        let host = percent_encode(self.socket_dir.as_os_str().as_bytes());
        let (port, database) = (socket::PORT, percent_encode(database.as_bytes()));
        format!("postgres://postgres@{host}:{port}/{database}?sslmode=disable&password=")
    }

    /// Whether this process runs the server. `false` if it is attached to another process's server.
    pub fn is_owner(&self) -> bool {
        self.server.is_some()
    }

    /// Returns the directory that contains the socket, `.s.PGSQL.5432`.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Shuts the server down. This starts a fast shutdown, and after 20 s an immediate shutdown,
    /// which takes at most another 10 s. Close connections first, because a shutdown aborts open
    /// connections. Does nothing if this process is attached.
    ///
    /// # Errors
    ///
    /// [`StopError`] if the server cannot be signalled or does not stop.
    pub fn stop(mut self) -> Result<(), StopError> {
        self.server.as_mut().map_or(Ok(()), Server::stop)
    }

    /// Starts the server. Only the holder of the lock calls this.
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

/// Percent-encodes all bytes except the unreserved characters of RFC 3986 §2.3.
fn percent_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("writing to a String never fails");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_of_the_url_is_the_socket_directory() {
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
}
