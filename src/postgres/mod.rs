//! The private Postgres, which is used if `DATABASE_URL` is not set.
//!
//! On a machine with the Postgres packages, no setup is needed. [`PrivatePostgres`] creates a
//! cluster in a data directory and runs the server as a child process. Clients connect through a
//! Unix socket in a directory that no other user can enter. The server listens on no TCP port.
//!
//! ```text
//! <data directory>/          0700, of the user that runs the server
//!     lock                   locked (flock) by the process that owns the server
//!     data/                  PGDATA
//!     data.new/              PGDATA while it is being created; removed if found at a start
//!     run/                   the directory of the socket, 0700
//!     postgres.log           the output of initdb and of the server
//!     postgres.log.1         the previous log, after it became too long
//! ```
//!
//! The first process on a data directory *owns* the server. A later process, such as a command that
//! runs alongside a service, *attaches* to it. When the owner exits, the server stops, and the
//! attached processes lose their connections.
//!
//! [`PrivatePostgres::stop`] shuts the server down, and so does dropping the value. On Linux, the
//! kernel stops the server if the owner is killed. On other systems, the server keeps running until
//! the next owner stops it. The owner restarts a server that crashes.
//!
//! Some service managers, such as systemd with its default `KillMode=control-group`, signal every
//! process of a service at the same time. In this case, requests in flight lose their connection to
//! the server. With `KillMode=mixed`, systemd signals only this process.
//!
//! Architecture invariant: this module does not read the environment or name a tenant, and uses SQL
//! only to create the database. Settings are passed in [`Options`]. The functions block, so
//! asynchronous code calls them from `spawn_blocking`.

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
