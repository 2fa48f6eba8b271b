//! What the tests stand on.

pub mod app;
pub mod cluster;
pub mod place;
pub mod process;
pub mod request;

pub use app::{App, TestTenant};
pub use request::{Answer, Call};

/// An address whose checksum is right.
pub const WALLET: &str = "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC";
/// Another one.
pub const OTHER_WALLET: &str = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t";
