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
mod options;
mod owner;
mod postmaster;
mod private;
mod socket;
mod supervisor;
mod timing;

pub use cluster::DATABASE;
pub use error::{StartError, StopError};
pub use options::{Options, default_data_dir};
pub use private::PrivatePostgres;
