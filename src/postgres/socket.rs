//! The directory of the server's socket.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{data_dir::DataDir, error::StartError, owner::ServerUser};

/// The port in the socket's name. The server does not listen on this port.
pub(super) const PORT: u16 = 5432;
pub(super) const FILE: &str = ".s.PGSQL.5432";

/// Maximum length of a path in `sockaddr_un`, without the final zero byte.
const MAX_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Chooses the directory of the socket. Creates it if it does not exist, and checks that other
/// users cannot enter it.
///
/// The directory is `run/` in the data directory. If the socket's path would be too long for the
/// kernel, it is a directory in `/tmp` whose name is derived from the data directory, so that every
/// process finds it.
pub(super) fn directory(data_dir: &DataDir) -> Result<PathBuf, StartError> {
    let run = data_dir.run();
    let path = if fits(&run) { run } else { short(data_dir.root(), data_dir.user().uid()) };
    create(&path, data_dir.user())?;
    Ok(path)
}

/// Whether the directory can contain the socket. A path that is not UTF-8 cannot be part of a URL,
/// so it is as unusable as a path that is too long.
fn fits(directory: &Path) -> bool {
    directory.to_str().is_some_and(|path| path.len() + "/".len() + FILE.len() <= MAX_SOCKET_PATH)
}

fn short(data_dir: &Path, uid: u32) -> PathBuf {
    let hash = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
    let name: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    PathBuf::from(format!("/tmp/tollgate-{uid}-{name}"))
}

/// Creates the directory and checks it. Anyone who can enter it can connect as the database's
/// superuser, and anyone who could replace the socket would receive all data that clients send. So
/// the directory must belong to the server's user, and nobody else may enter it.
fn create(path: &Path, user: &ServerUser) -> Result<(), StartError> {
    let failed = |source| StartError::Io { action: "create", path: path.to_owned(), source };
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let mut metadata = fs::symlink_metadata(path).map_err(failed)?;
    if user.is_dropped_to() && metadata.is_dir() && metadata.uid() == 0 {
        // This process, or another process of root, has just created the directory and has not
        // changed the owner yet.
        user.take_directory(path).map_err(failed)?;
        metadata = fs::symlink_metadata(path).map_err(failed)?;
    }
    let fault = if !metadata.is_dir() {
        "is not a directory"
    } else if metadata.uid() != user.uid() {
        "does not belong to the user that runs Postgres"
    } else if metadata.mode() & 0o077 != 0 {
        "can be entered by other users"
    } else {
        return Ok(());
    };
    Err(StartError::UnsafeSocketDir { path: path.to_owned(), fault })
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    use super::*;

    #[test]
    fn socket_name_contains_the_port() {
        assert_eq!(FILE, format!(".s.PGSQL.{PORT}"));
    }

    #[test]
    fn socket_path_may_be_as_long_as_the_kernel_allows() {
        let longest = format!("/{}", "x".repeat(MAX_SOCKET_PATH - FILE.len() - 2));
        assert_eq!(Path::new(&longest).join(FILE).as_os_str().len(), MAX_SOCKET_PATH);
        assert!(fits(Path::new(&longest)));
        assert!(!fits(Path::new(&format!("{longest}x"))));
        assert!(!fits(Path::new(OsStr::from_bytes(b"/\xff"))));
    }

    #[test]
    fn name_of_the_short_directory_depends_on_the_data_directory() {
        let short_of = |path| short(Path::new(path), 101);
        assert_eq!(short_of("/a"), short_of("/a"));
        assert_ne!(short_of("/a"), short_of("/b"));
        assert!(fits(&short(Path::new("/a"), u32::MAX)));
        // The first 8 bytes of sha256("/a").
        let expected = "/tmp/tollgate-101-6a50dc8584134c7d";
        assert_eq!(short_of("/a"), Path::new(expected));
    }
}
