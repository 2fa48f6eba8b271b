//! The dashboard in headless Chromium, as people use it: every way with JavaScript and without it,
//! every page narrow and wide, light and dark.
//!
//! `scripts/ensure-chromium.sh` and `scripts/ensure-axe.sh` install what these tests need. The
//! pictures that they take are in `target/screenshots/`.

mod compromised;
mod driver;
mod keys;
mod pages;
mod provider;
mod sign_in;
mod world;

/// The same steps with JavaScript, and again without it.
macro_rules! both_ways {
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
use both_ways;
