//! How often keys are used, and when last, with nothing written on the path of a request.
//!
//! A request leaves its outcome in a [`UsageBuffer`], in memory. Every few seconds what waits there
//! is written, many keys in one statement. What waits when the process is killed is lost, and what
//! a commit took whose answer was lost is counted twice: the counts are for people to look at, and
//! nothing is decided by them.

mod buffer;
mod flusher;

pub use buffer::UsageBuffer;
