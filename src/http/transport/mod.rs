//! What all requests share: the listener, ids, the log line, time-outs, forwarded addresses,
//! security headers.

pub mod access;
pub mod connection;
pub mod connections;
pub mod forwarded;
pub mod limits;
pub mod logged_tenant;
pub mod refusal_log;
mod request_body;
pub mod security_headers;
pub mod server;
