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
    /// most 60 s. The database [`DATABASE`](super::DATABASE) is there then.
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
}
