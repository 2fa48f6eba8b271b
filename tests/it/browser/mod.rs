//! Tests of the dashboard in headless Chromium. They run every flow with and without JavaScript.
//! They open every page at several widths, in the light and in the dark theme.
//!
//! `scripts/ensure-chromium.sh` and `scripts/ensure-axe.sh` install what these tests need. The
//! tests save screenshots to `target/screenshots/`.

mod allowed_ips;
mod book;
mod compromised;
mod driver;
mod frame;
mod holds;
mod keys;
mod pages;
mod provider;
mod rate_limits;
mod rights;
mod sign_in;
mod world;

/// Creates two tests for each function: one with JavaScript and one without it.
macro_rules! with_and_without_javascript {
    ($($name:ident),+ $(,)?) => {
        mod with_javascript {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::browser::world::Scripts::On).await;
            })+
        }

        mod without_javascript {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::browser::world::Scripts::Off).await;
            })+
        }
    };
}
use with_and_without_javascript;
