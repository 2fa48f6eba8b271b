//! What the tests stand on.

pub mod app;
pub mod cluster;
pub mod place;
pub mod process;
pub mod proxy;
pub mod request;

pub use app::{App, TestTenant};
pub use request::{Answer, Call};

/// Long enough for a slow machine; no test waits for it to pass.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Waits until it is so; a test in which it never is fails, and does not hang.
pub fn eventually(what: &str, condition: impl AsyncFn() -> bool) -> impl Future<Output = ()> {
    let waiting = async move {
        // Asked again and again, and not so often that nothing else gets done.
        let mut again = tokio::time::interval(std::time::Duration::from_millis(5));
        again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !condition().await {
            again.tick().await;
        }
    };
    async move {
        let done = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(done.is_ok(), "in {PATIENCE:?} it did not come to be that {what}");
    }
}

/// An address whose checksum is right.
pub const WALLET: &str = "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC";
/// Another one.
pub const OTHER_WALLET: &str = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t";
