//! The test harness starts services, sends requests, and waits for conditions.

pub mod app;
pub mod cluster;
pub mod data_dir;
pub mod listener;
pub mod node;
pub mod played_node;
pub mod process;
pub mod proxy;
pub mod request;
pub mod standby;

pub use app::{App, TestTenant};
pub use request::{Answer, Call};

/// How long a test waits before it fails. Long enough for a slow machine.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Waits until the condition holds. Fails after [`PATIENCE`], so that no test hangs.
pub fn eventually(what: &str, condition: impl AsyncFn() -> bool) -> impl Future<Output = ()> {
    let waiting = async move {
        // The pause leaves CPU time for the work that the test waits for.
        let mut polls = tokio::time::interval(std::time::Duration::from_millis(5));
        polls.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !condition().await {
            polls.tick().await;
        }
    };
    async move {
        let done = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(done.is_ok(), "timed out after {PATIENCE:?}; expected: {what}");
    }
}

/// Waits for the future. Fails after [`PATIENCE`], so that no test hangs.
pub async fn within_patience<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("timed out after {PATIENCE:?}; expected: {what}"))
}

/// A TRON address with a valid checksum.
pub const WALLET: &str = "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC";
/// Another valid TRON address.
pub const OTHER_WALLET: &str = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t";
