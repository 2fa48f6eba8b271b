//! The user that runs the server, and operations that root performs in that user's directory.
//!
//! Postgres refuses to run as root. If this process is root, the server runs as another user, and
//! that user owns every file of the data directory. Root then works in a directory that another
//! user controls. So this module follows no symbolic link there, and changes the owner only of
//! files that it has just created.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::{
        fs::{MetadataExt as _, OpenOptionsExt as _, fchown, lchown},
        process::CommandExt as _,
    },
    path::Path,
    process::{Command, Stdio},
};

use rustix::{
    fs::OFlags,
    process::{getegid, geteuid},
};

use super::error::StartError;

/// The user that runs initdb and the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerUser {
    name: String,
    uid: u32,
    gid: u32,
    /// Whether this process is root, so that its children switch to the user.
    dropped_to: bool,
}

/// The user and the group that own a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl ServerUser {
    /// Chooses the user of this process. If that is root, chooses the owner of an existing cluster,
    /// otherwise `postgres`, otherwise `nobody`.
    pub(super) fn choose(cluster: Option<Owner>) -> Result<Self, StartError> {
        let process = Owner { uid: geteuid().as_raw(), gid: getegid().as_raw() };
        Self::pick(process, cluster, &read_passwd()).ok_or(StartError::NoServerUser)
    }

    fn pick(process: Owner, cluster: Option<Owner>, passwd: &str) -> Option<Self> {
        let dropped_to = process.uid == 0;
        let cluster = cluster.filter(|owner| owner.uid != 0);
        let owner = match (dropped_to, cluster) {
            (false, _) => process,
            (true, Some(owner)) => {
                // If the user is in /etc/passwd, the server runs with the user's own group, which
                // may differ from the group of the files.
                accounts(passwd)
                    .find(|account| account.owner.uid == owner.uid)
                    .map_or(owner, |account| account.owner)
            }
            (true, None) => {
                let named = |name: &str| accounts(passwd).find(|account| account.name == name);
                named("postgres").or_else(|| named("nobody"))?.owner
            }
        };
        let name = user_name(owner.uid, passwd);
        Some(Self { name, uid: owner.uid, gid: owner.gid, dropped_to })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// Whether this process is root and the server runs as another user.
    pub(super) fn is_dropped_to(&self) -> bool {
        self.dropped_to
    }

    /// Whether the user may enter a directory. Only the permission bits count. Access control lists
    /// are ignored.
    pub(super) fn may_enter(&self, mode: u32, directory: Owner) -> bool {
        let bit = if self.uid == directory.uid {
            0o100
        } else if self.gid == directory.gid {
            0o010
        } else {
            0o001
        };
        mode & bit != 0
    }

    /// Makes the user the owner of a directory that this process has just created or found empty.
    pub(super) fn take_directory(&self, path: &Path) -> io::Result<()> {
        if self.dropped_to { lchown(path, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }

    /// Opens a file of the user for reading and appending. Creates it if it does not exist.
    pub(super) fn open_file(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
        options.read(true).append(true).mode(0o600).custom_flags(no_follow);
        match options.clone().create_new(true).open(path) {
            Ok(file) => {
                if self.dropped_to {
                    fchown(&file, Some(self.uid), Some(self.gid))?;
                }
                Ok(file)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
            Err(error) => Err(error),
        }
    }

    /// Builds a command that runs as the user. The command inherits no environment variables,
    /// because they may contain secrets, and because some, such as `PGPORT`, would change the
    /// server's behaviour.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // The user may be unable to enter the current directory of this process.
        command.current_dir("/").env_clear().env("LC_ALL", "C").env("TZ", "UTC");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if self.dropped_to {
            // If the process is root, `uid` also clears the supplementary groups.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }
}

impl Owner {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self { uid: metadata.uid(), gid: metadata.gid() }
    }

    /// Returns the name of the owner, for messages.
    pub(super) fn name(self) -> String {
        user_name(self.uid, &read_passwd())
    }
}

/// A line of `/etc/passwd`.
struct Account<'a> {
    name: &'a str,
    owner: Owner,
}

fn read_passwd() -> String {
    // Without the file, users have only numbers, and root finds no user to switch to.
    String::from_utf8_lossy(&fs::read("/etc/passwd").unwrap_or_default()).into_owned()
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let (_password, uid, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Account { name, owner: Owner { uid: parse_id(uid)?, gid: parse_id(gid)? } })
    })
}

/// Parses a user or group id. macOS writes the ids of `nobody` as -2.
fn parse_id(field: &str) -> Option<u32> {
    field.parse().ok().or_else(|| field.parse().ok().map(i32::cast_unsigned))
}

fn user_name(uid: u32, passwd: &str) -> String {
    accounts(passwd)
        .find(|account| account.owner.uid == uid)
        .map_or_else(|| uid.to_string(), |account| account.name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "# a comment\n\
        root:x:0:0:root:/root:/bin/bash\n\
        broken line\n\
        joe:x:1000:1001::/home/joe:/bin/sh\n\
        nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n\
        postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash\n";
    const ROOT: Owner = Owner { uid: 0, gid: 0 };
    const JOE: Owner = Owner { uid: 1000, gid: 1001 };

    fn user(name: &str, uid: u32, gid: u32, dropped_to: bool) -> Option<ServerUser> {
        Some(ServerUser { name: name.to_owned(), uid, gid, dropped_to })
    }

    #[test]
    fn ordinary_user_runs_the_server() {
        assert_eq!(ServerUser::pick(JOE, None, PASSWD), user("joe", 1000, 1001, false));
        assert_eq!(ServerUser::pick(JOE, Some(ROOT), PASSWD), user("joe", 1000, 1001, false));
        let unnamed = Owner { uid: 4711, gid: 0 };
        assert_eq!(ServerUser::pick(unnamed, None, PASSWD), user("4711", 4711, 0, false));
    }

    #[test]
    fn root_runs_the_server_as_postgres_or_else_as_nobody() {
        assert_eq!(ServerUser::pick(ROOT, None, PASSWD), user("postgres", 101, 104, true));
        let bare = PASSWD.replace("postgres:", "mysql:");
        assert_eq!(ServerUser::pick(ROOT, None, &bare), user("nobody", 65534, 65534, true));
        assert_eq!(ServerUser::pick(ROOT, None, "root:x:0:0:::\n"), None);
    }

    #[test]
    fn root_keeps_the_owner_of_an_existing_cluster() {
        let by_files = Owner { uid: 1000, gid: 7 };
        assert_eq!(ServerUser::pick(ROOT, Some(by_files), PASSWD), user("joe", 1000, 1001, true));
        let unnamed = Owner { uid: 4711, gid: 7 };
        assert_eq!(ServerUser::pick(ROOT, Some(unnamed), PASSWD), user("4711", 4711, 7, true));
        let postgres = user("postgres", 101, 104, true);
        assert_eq!(ServerUser::pick(ROOT, Some(ROOT), PASSWD), postgres);
    }

    #[test]
    fn negative_user_ids_wrap_around_as_in_the_kernel() {
        let macos = "nobody:*:-2:-2:Unprivileged User:/var/empty:/usr/bin/false\n";
        assert_eq!(
            ServerUser::pick(ROOT, None, macos),
            user("nobody", u32::MAX - 1, u32::MAX - 1, true)
        );
    }

    #[test]
    fn directory_access_is_decided_by_the_first_matching_permission_class() {
        let joe = user("joe", 1000, 1001, true).expect("a user");
        let other = Owner { uid: 5, gid: 5 };
        assert!(joe.may_enter(0o711, other));
        assert!(!joe.may_enter(0o700, ROOT));
        assert!(joe.may_enter(0o710, Owner { uid: 5, gid: 1001 }));
        assert!(!joe.may_enter(0o701, Owner { uid: 5, gid: 1001 }));
        assert!(joe.may_enter(0o100, JOE));
        assert!(!joe.may_enter(0o011, JOE));
    }
}
