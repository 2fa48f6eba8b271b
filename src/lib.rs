//! Tollgate: multi-tenant API keys with a prepaid balance.
//!
//! With only the feature `middleware`, this crate is the gate for your own program (see [`auth`]).
//! It then includes only the modules of [`domain`] that the gate needs. With `remote`, the gate can
//! verify keys with a running Tollgate server. With `server`, the crate is the whole service, whose
//! command line is `tollgate`. By default, all three features are enabled.
//!
//! Modules depend on each other in one direction: `domain` ← `store`, `auth` ← `money`, `node`,
//! `usage` ← `state` ← `http` ← `dashboard` ← `cli` ← `main`. `web` contains the parts that pages
//! share. `http` and `dashboard` use it, and it uses only `domain` and `auth`. Only `store` and
//! `schema` use sqlx, only `config` reads the environment, and `domain` does no I/O.

// Each async function adds a level to the type of a request's future. The type has more levels than
// the default limit of 128.
#![recursion_limit = "256"]

pub mod auth;
pub mod domain;

#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
mod clock;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod dashboard;
#[cfg(feature = "server")]
pub mod entropy;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
mod jobs;
#[cfg(feature = "server")]
pub mod limits;
#[cfg(feature = "server")]
pub mod money;
#[cfg(feature = "server")]
pub mod node;
#[cfg(feature = "server")]
pub mod postgres;
#[cfg(feature = "schema")]
pub mod schema;
#[cfg(feature = "server")]
pub mod state;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod telemetry;
#[cfg(feature = "server")]
pub mod usage;
#[cfg(feature = "server")]
pub mod web;
