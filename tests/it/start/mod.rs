//! Checks at the start of the program. If settings are invalid or the database is unsuitable, the
//! program exits with a message that says what to do.

mod certificates;
mod closed_output;
mod connection_limits;
mod libpq;
mod own_database;
mod pooler;
mod refusals;
mod run;
mod search_path;
mod settings;
mod tls;
mod unreachable;
mod urls;
mod waiting;
