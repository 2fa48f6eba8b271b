//! What all requests share: the listener, ids, the log line, time-outs, forwarded addresses.

pub mod access;
pub mod forwarded;
pub mod logged_tenant;
pub mod server;
