use std::{ffi::OsString, path::PathBuf};

/// The options of a private Postgres.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory for all files of the private Postgres. It is created if it does not exist. See
    /// [`default_data_dir`].
    pub data_dir: PathBuf,
    /// Whether the cluster survives a crash of the machine. Tests set this to false, which selects
    /// `--no-sync` for initdb, and turns `fsync`, `synchronous_commit` and `full_page_writes` off.
    pub durable: bool,
    /// `max_connections` of the server. Postgres needs at least 4.
    pub max_connections: u16,
    /// The directory that contains `initdb` and `postgres`, from `PG_BINDIR`. If it is set, no
    /// other directory is searched.
    pub pg_bindir: Option<PathBuf>,
    /// The search path, from `PATH`. It is searched before the directories where packages install
    /// programs.
    pub path: Option<OsString>,
}

/// Returns the data directory to use if none is set. For root, it is `/var/lib/tollgate`. For other
/// users, it is `tollgate` in `$XDG_DATA_HOME` or in `~/.local/share`. `None` if the user has
/// neither.
pub fn default_data_dir(
    is_root: bool,
    xdg_data_home: Option<PathBuf>,
    home: Option<PathBuf>,
) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from("/var/lib/tollgate"));
    }
    // The XDG Base Directory Specification says to ignore a relative path.
    let share = xdg_data_home.filter(|path| path.is_absolute()).or_else(|| {
        home.filter(|path| path.is_absolute()).map(|path| path.join(".local").join("share"))
    })?;
    Some(share.join("tollgate"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_data_directory_depends_on_the_user() {
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
