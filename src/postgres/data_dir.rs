//! The data directory: its contents, and whether it may be used.

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

/// A data directory that is there and belongs to the user that runs the server.
#[derive(Clone, Debug)]
pub(super) struct DataDir {
    root: PathBuf,
    user: ServerUser,
}

/// What a directory is before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    Nothing,
    /// A lock or a cluster.
    Ours,
    Others,
}

impl DataDir {
    /// Chooses the server's user, checks that it can use the directory, and creates that if it is
    /// not there. Two processes may do this at the same time.
    pub(super) fn prepare(configured: &Path) -> Result<Self, StartError> {
        let unusable = |source| StartError::DataDirUnusable { path: configured.to_owned(), source };
        if configured.as_os_str().as_bytes().contains(&b'\n') {
            // It would break up the lines of postmaster.pid.
            return Err(unusable(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a line break in it",
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

        // The directory itself is checked by its owner, or is about to be given to the user.
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

    /// The file that the owner of the cluster holds locked.
    pub(super) fn lock(&self) -> PathBuf {
        self.root.join(LOCK)
    }

    /// PGDATA.
    pub(super) fn data(&self) -> PathBuf {
        self.root.join(DATA)
    }

    /// PGDATA while it is being made.
    pub(super) fn unfinished_data(&self) -> PathBuf {
        self.root.join("data.new")
    }

    /// The directory of the socket, unless its path is too long.
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
            // A file system that was just made and mounted here counts as empty.
            if name != "lost+found" {
                contents = Self::Others;
            }
        }
        // A backup that was copied back may lack the lock.
        if directory.join(DATA).join("PG_VERSION").exists() {
            contents = Self::Ours;
        }
        Ok(contents)
    }
}

/// The part of the path that exists, without symbolic links, and the rest.
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

/// The topmost directory on the way to and including `path` that the user may not enter. Without
/// a change of user the kernel has decided this already.
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

/// Creates the directories below `existing`, and gives the last one to the user, 0700.
fn create(existing: &Path, missing: &Path, user: &ServerUser) -> io::Result<()> {
    // Those in between stay root's, and the user has to pass through them.
    let between = if user.is_dropped_to() { 0o711 } else { 0o700 };
    let mut path = existing.to_owned();
    let mut parts = missing.components().peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        let mode = if parts.peek().is_some() { between } else { 0o700 };
        match DirBuilder::new().mode(mode).create(&path) {
            // Once more, since the umask may have taken bits away.
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
        let split = |path: &str| split_existing(Path::new(path)).expect("the root can be read");
        let nowhere = "tollgate-does-not-exist/below";
        assert_eq!(split(&format!("/{nowhere}")), (PathBuf::from("/"), PathBuf::from(nowhere)));
        assert_eq!(split("/"), (PathBuf::from("/"), PathBuf::new()));
    }
}
