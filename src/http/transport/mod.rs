//! The code that serves every request: the listener, request ids, the log line, timeouts, forwarded
//! addresses and security headers.

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
