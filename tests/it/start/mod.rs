//! What the program does with its settings and its database before it serves: it starts, or it
//! refuses with a message that says what to do.

mod certificates;
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
