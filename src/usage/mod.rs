//! Counts how often keys are used, and records when and by which clients. Counting a request causes
//! no write to the database.
//!
//! A request adds its outcome and its client to a [`UsageBuffer`] in memory. Every few seconds the
//! node writes the waiting counts, with many keys in one statement. If the process is killed,
//! unwritten counts are lost. If the connection is lost during a commit, counts can be written
//! twice. The counts and the clients are only for display, and no decision depends on them.

mod buffer;
mod clients;
mod flusher;
mod sweeper;

pub use buffer::UsageBuffer;
pub use sweeper::delete_old_clients;
