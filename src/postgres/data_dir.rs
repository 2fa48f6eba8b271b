//! Checks and creates the data directory.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use super::{
    error::StartError,
    owner::{Owner, ServerUser},
};

const LOCK: &str = "lock";
const DATA: &str = "data";

/// An existing data directory that belongs to the server's user.
#[derive(Clone, Debug)]
pub(super) struct DataDir {
    root: PathBuf,
    user: ServerUser,
}

/// The contents of a directory before its first use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    Nothing,
    /// The directory contains a lock file or a cluster.
    Ours,
    Others,
}

impl DataDir {
    /// Chooses the server's user, checks that this user can use the directory, and creates the
    /// directory if it does not exist. Two processes may call this concurrently.
    pub(super) fn prepare(configured: &Path) -> Result<Self, StartError> {
        let unusable = |source| StartError::DataDirUnusable { path: configured.to_owned(), source };
        if configured.as_os_str().as_bytes().contains(&b'\n') {
            // A line break in the path would corrupt postmaster.pid.
            return Err(unusable(io::Error::new(
                io::ErrorKind::InvalidInput,
                "its path contains a line break",
            )));
        }
        let wanted = std::path::absolute(configured).map_err(unusable)?;
        let (existing, missing) = split_existing(&wanted).map_err(unusable)?;
        let is_there = missing.as_os_str().is_empty();
        let root = if is_there { existing.clone() } else { existing.join(&missing) };
        let contents =
            if is_there { Contents::of(&root).map_err(unusable)? } else { Contents::Nothing };
        let owner = match contents {
            Contents::Ours => Some(Owner::of(&fs::metadata(&root).map_err(unusable)?)),
            Contents::Nothing | Contents::Others => None,
        };
        let user = ServerUser::choose(owner)?;

        // This checks only the directories above. The code below checks the owner of the directory
        // itself, or creates the directory for the user.
        let above = if is_there { root.parent() } else { Some(existing.as_path()) };
        if let Some(ancestor) = above.and_then(|above| blocking_ancestor(above, &user)) {
            let (path, user) = (root, user.name().to_owned());
            return Err(StartError::DataDirBlocked { ancestor, path, user });
        }
        match (contents, owner) {
            (Contents::Others, _) => return Err(StartError::DataDirTaken { path: root }),
            (_, Some(owner)) if owner.uid != user.uid() => {
                let (owner, user) = (owner.name(), user.name().to_owned());
                return Err(StartError::DataDirOwner { path: root, owner, user });
            }
            (Contents::Ours, _) => {}
            (Contents::Nothing, _) => create(&existing, &missing, &user).map_err(unusable)?,
        }
        Ok(Self { root, user })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn user(&self) -> &ServerUser {
        &self.user
    }

    /// Returns the file that the owner of the cluster keeps locked.
    pub(super) fn lock(&self) -> PathBuf {
        self.root.join(LOCK)
    }

    /// Returns the path of PGDATA.
    pub(super) fn data(&self) -> PathBuf {
        self.root.join(DATA)
    }

    /// Returns the path of PGDATA during its creation.
    pub(super) fn unfinished_data(&self) -> PathBuf {
        self.root.join("data.new")
    }

    /// Returns the preferred directory for the socket. It is not used if the socket's path would be
    /// too long.
    pub(super) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join("postgres.log")
    }
}

impl Contents {
    fn of(directory: &Path) -> io::Result<Self> {
        let mut contents = Self::Nothing;
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            if name == LOCK {
                return Ok(Self::Ours);
            }
            // A new file system that is mounted here counts as empty.
            if name != "lost+found" {
                contents = Self::Others;
            }
        }
        // A restored backup may lack the lock file.
        if directory.join(DATA).join("PG_VERSION").exists() {
            contents = Self::Ours;
        }
        Ok(contents)
    }
}

/// Splits a path after the part that exists. Resolves the symbolic links of this part.
fn split_existing(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    for ancestor in path.ancestors() {
        match fs::canonicalize(ancestor) {
            Ok(existing) => {
                let missing = path.strip_prefix(ancestor).map_err(io::Error::other)?;
                return Ok((existing, missing.to_owned()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Finds the topmost directory of `path`, itself included, that the user may not enter. If this
/// process does not run the server as another user, the kernel has already checked this.
fn blocking_ancestor(path: &Path, user: &ServerUser) -> Option<PathBuf> {
    if !user.is_dropped_to() {
        return None;
    }
    let blocks = |ancestor: &&Path| {
        fs::metadata(ancestor).is_ok_and(|metadata| {
            !user.may_enter(metadata.permissions().mode(), Owner::of(&metadata))
        })
    };
    path.ancestors().filter(blocks).last().map(Path::to_owned)
}

/// Creates the directories below `existing`. The last one gets the user as its owner and mode 0700.
fn create(existing: &Path, missing: &Path, user: &ServerUser) -> io::Result<()> {
    // The directories in between belong to root, and the user must be able to traverse them.
    let between = if user.is_dropped_to() { 0o711 } else { 0o700 };
    let mut path = existing.to_owned();
    let mut parts = missing.components().peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        let mode = if parts.peek().is_some() { between } else { 0o700 };
        match DirBuilder::new().mode(mode).create(&path) {
            // The mode is set again, because the umask may have removed bits.
            Ok(()) => fs::set_permissions(&path, Permissions::from_mode(mode))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    fs::set_permissions(&path, Permissions::from_mode(0o700))?;
    user.take_directory(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_split_after_its_existing_part() {
        let split = |path: &str| split_existing(Path::new(path)).expect("it is readable");
        let nowhere = "tollgate-does-not-exist/below";
        assert_eq!(split(&format!("/{nowhere}")), (PathBuf::from("/"), PathBuf::from(nowhere)));
        assert_eq!(split("/"), (PathBuf::from("/"), PathBuf::new()));
    }
}
