//! Options of a private Postgres.

use std::{ffi::OsString, path::PathBuf};

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

#[cfg(test)]
mod tests {
    use super::*;

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
