//! Finds `initdb` and `postgres`. Debian does not put them on PATH, and can have several versions
//! installed.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use super::{error::StartError, options::Options, owner::ServerUser};

/// The directories where packages install the programs. Each entry consists of a parent directory,
/// the prefix of a version's directory in it, and the path of the programs below that.
const INSTALLATIONS: [(&str, &str, &str); 4] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
];

/// The version in the proposed install command if the package's name must contain one.
const PROPOSED_VERSION: &str = "17";

/// The programs of one installation, which the server's user can run.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    pub(super) initdb: PathBuf,
    pub(super) postgres: PathBuf,
    /// The major version as in `PG_VERSION`, such as `15` or `9.6`.
    version: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PackageManager {
    Apt,
    Dnf,
    Brew,
}

impl Binaries {
    /// Finds the first installation. If there is a cluster, finds the first installation of its
    /// version. `cluster` is the cluster's PGDATA and version.
    pub(super) fn find(
        options: &Options,
        cluster: Option<(&Path, &str)>,
        user: &ServerUser,
    ) -> Result<Self, StartError> {
        let mut found: Vec<String> = Vec::new();
        for directory in candidates(options) {
            let Some(binaries) = Self::inspect(&directory, user) else { continue };
            if cluster.is_none_or(|(_, version)| version == binaries.version) {
                return Ok(binaries);
            }
            if !found.contains(&binaries.version) {
                found.push(binaries.version);
            }
        }
        let user = user.name().to_owned();
        Err(match (cluster, &options.pg_bindir) {
            (Some((path, needed)), _) if !found.is_empty() => StartError::WrongVersion {
                path: path.to_owned(),
                needed: needed.to_owned(),
                found: found.join(", "),
                install: install_command(Some(needed)),
            },
            // If PG_BINDIR is set but does not work, the start must fail.
            (_, Some(path)) => StartError::BadBinDir { path: path.clone(), user },
            (_, None) => {
                let needed = cluster.map(|(_, version)| version);
                StartError::NoBinaries { user, install: install_command(needed) }
            }
        })
    }

    fn inspect(directory: &Path, user: &ServerUser) -> Option<Self> {
        let initdb = directory.join("initdb");
        let postgres = directory.join("postgres");
        if !is_program(&initdb) || !is_program(&postgres) {
            return None;
        }
        // The server's user runs this command, because an installation that this user cannot
        // execute does not count.
        let mut command = user.command(&postgres);
        command.arg("--version").stdout(Stdio::piped());
        let output = command.output().ok().filter(|output| output.status.success())?;
        let version = major_version(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { initdb, postgres, version })
    }
}

/// Lists the directories to search, in order. If `PG_BINDIR` is set, the list contains only this
/// directory.
fn candidates(options: &Options) -> Vec<PathBuf> {
    if let Some(directory) = &options.pg_bindir {
        // If the path cannot be made absolute, the search finds no program there, and the error
        // shows the path.
        let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
        return vec![absolute];
    }
    let path = options.path.as_deref().unwrap_or_default();
    // Relative entries are skipped, because their meaning depends on the working directory.
    let mut directories: Vec<PathBuf> =
        std::env::split_paths(path).filter(|directory| directory.is_absolute()).collect();
    for (parent, prefix, programs) in INSTALLATIONS {
        let names = fs::read_dir(parent).into_iter().flatten();
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        for name in newest_first(names, prefix) {
            directories.push(Path::new(parent).join(name).join(programs));
        }
    }
    directories
}

/// Selects the names that consist of the prefix and a version, newest version first.
fn newest_first(names: impl Iterator<Item = String>, prefix: &str) -> Vec<String> {
    let mut versions: Vec<(Vec<u32>, String)> = names
        .filter_map(|name| {
            let parts = name.strip_prefix(prefix)?.split('.');
            let version = parts.map(|part| part.parse::<u32>().ok()).collect::<Option<Vec<_>>>()?;
            Some((version, name))
        })
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, name)| name).collect()
}

/// Parses output such as `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`. Before version 10,
/// the major version has two numbers.
fn major_version(output: &str) -> Option<String> {
    let (_, version) = output.split_once(')')?;
    let version = version.split_whitespace().next()?;
    let mut parts = version.split('.');
    let first = leading_digits(parts.next()?);
    match first.parse::<u32>().ok()? {
        0..10 => Some(format!("{first}.{}", leading_digits(parts.next()?))),
        _ => Some(first.to_owned()),
    }
}

/// Returns the digits at the beginning. The name of a development version contains letters, such as
/// `19devel` or `18beta1`.
fn leading_digits(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())]
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Returns the install command for each package manager of this machine. If the machine has none of
/// them, returns the commands for all.
fn install_command(version: Option<&str>) -> String {
    let known = [
        (PackageManager::Apt, "/usr/bin/apt-get"),
        (PackageManager::Dnf, "/usr/bin/dnf"),
        (PackageManager::Brew, "/opt/homebrew/bin/brew"),
        (PackageManager::Brew, "/usr/local/bin/brew"),
    ];
    let present = known.iter().find(|(_, path)| Path::new(path).exists());
    match present {
        Some((manager, _)) => manager.install(version),
        None => [PackageManager::Apt, PackageManager::Dnf, PackageManager::Brew]
            .map(|manager| manager.install(version))
            .join("` or `"),
    }
}

impl PackageManager {
    fn install(self, version: Option<&str>) -> String {
        match (self, version) {
            (Self::Apt, version) => {
                let suffix = version.map(|version| format!("-{version}")).unwrap_or_default();
                format!(
                    "apt-get update && apt-get install -y --no-install-recommends \
                     postgresql{suffix}"
                )
            }
            (Self::Dnf, None) => "dnf install -y postgresql-server".to_owned(),
            // These are the package names of postgresql.org. Fedora itself offers only one version.
            (Self::Dnf, Some(version)) => format!("dnf install -y postgresql{version}-server"),
            (Self::Brew, version) => {
                format!("brew install postgresql@{}", version.unwrap_or(PROPOSED_VERSION))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_version_is_read_from_the_output_of_the_program() {
        let is = |version: &str| Some(version.to_owned());
        assert_eq!(
            major_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            is("15")
        );
        assert_eq!(major_version("postgres (PostgreSQL) 17.2\n"), is("17"));
        assert_eq!(major_version("postgres (PostgreSQL) 9.6.24\n"), is("9.6"));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta1\n"), is("18"));
        assert_eq!(major_version("postgres (PostgreSQL) 19devel\n"), is("19"));
        assert_eq!(major_version("postgres (EnterpriseDB) 16.1.0\n"), is("16"));
        assert_eq!(major_version("postgres: not found\n"), None);
        assert_eq!(major_version("postgres (PostgreSQL) \n"), None);
        assert_eq!(major_version("postgres (PostgreSQL) devel\n"), None);
    }

    #[test]
    fn newest_installation_comes_first() {
        let sorted = |names: &[&str], prefix| {
            newest_first(names.iter().map(|&name| name.to_owned()), prefix)
        };
        assert_eq!(sorted(&["9.6", "15", "10", "bin", "17"], ""), ["17", "15", "10", "9.6"]);
        assert_eq!(sorted(&["pgsql-9", "lib", "pgsql-16"], "pgsql-"), ["pgsql-16", "pgsql-9"]);
        let brew = ["postgresql@9", "postgresql", "postgresql@17"];
        assert_eq!(sorted(&brew, "postgresql@"), ["postgresql@17", "postgresql@9"]);
    }

    #[test]
    fn explicit_directory_is_the_only_candidate() {
        let mut options = Options {
            data_dir: PathBuf::from("/unused"),
            durable: true,
            max_connections: 20,
            pg_bindir: Some(PathBuf::from("/opt/pg/bin")),
            path: Some("/usr/bin:relative::/bin".into()),
        };
        assert_eq!(candidates(&options), [PathBuf::from("/opt/pg/bin")]);

        options.pg_bindir = None;
        let searched = candidates(&options);
        assert_eq!(searched[..2], [PathBuf::from("/usr/bin"), PathBuf::from("/bin")]);
        assert!(searched[2..].iter().all(|directory| directory.is_absolute()));
    }

    #[test]
    fn install_command_contains_the_version() {
        let apt = "apt-get update && apt-get install -y --no-install-recommends postgresql";
        assert_eq!(PackageManager::Apt.install(None), apt);
        assert_eq!(PackageManager::Apt.install(Some("14")), format!("{apt}-14"));
        let dnf = PackageManager::Dnf.install(Some("14"));
        assert_eq!(dnf, "dnf install -y postgresql14-server");
        assert_eq!(PackageManager::Brew.install(Some("14")), "brew install postgresql@14");
    }
}
