//! Counts how often keys are used, and when they were last used. A request writes nothing to the
//! database for this.
//!
//! A request adds its outcome to a [`UsageBuffer`] in memory. Every few seconds the waiting counts
//! are written, many keys in one statement. If the process is killed, the counts that it has not
//! written are lost. If the connection is lost during a commit, counts can be written twice. People
//! read the counts; nothing is decided by them.

mod buffer;
mod flusher;

pub use buffer::UsageBuffer;
