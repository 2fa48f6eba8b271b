//! Tests the book that the service serves at `/docs/book/`. Every kind of page fits every width,
//! axe finds no violation, and the search works under the content security policy.

use serde_json::json;

use super::{
    pages::{check_page, open_and_check_page},
    with_and_without_javascript,
    world::{Scripts, World},
};

with_and_without_javascript!(pages_of_the_book_are_accessible_and_fit_every_width);

/// A page of each kind: prose, commands, generated tables, a long table of types, an error.
const PAGES: [&str; 6] = [
    "",
    "tutorial/first-bot.html",
    "how-to/several-nodes.html",
    "reference/settings.html",
    "reference/errors/insufficient_balance.html",
    "explanation/lease.html",
];

async fn pages_of_the_book_are_accessible_and_fit_every_width(scripts: Scripts) {
    let world = World::start(scripts).await;
    for page in PAGES {
        let name = page.rsplit('/').next().unwrap_or_default().trim_end_matches(".html");
        let name = if name.is_empty() { "introduction" } else { name };
        let path = format!("/docs/book/{page}");
        open_and_check_page(&world, &format!("book-{name}"), &path).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn search_of_the_book_opens_the_page_that_it_finds() {
    let world = World::start(Scripts::On).await;
    world.open("/docs/book/").await;
    world.fill("#search-text", "insufficient_balance").await;
    world.click("#search-list a[href*='errors/insufficient_balance']").await;
    world.is_at("/docs/book/reference/errors/insufficient_balance.html").await;
    world.says("Insufficient balance").await;
    world.check_console().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn book_and_dashboard_share_the_theme_that_the_reader_chooses() {
    let world = World::start(Scripts::On).await;
    world.set_viewport(1280, "light").await;
    world.open("/docs/book/").await;
    world.select("#theme-choice", "dark").await;
    check_page(&world, "book-chosen-theme").await;
    for path in ["/docs/book/reference/settings.html", "/dashboard/signed-out"] {
        world.open(path).await;
        let theme = world.run("return document.documentElement.dataset.theme").await;
        assert_eq!(theme, json!("dark"), "{path}");
    }
    world.check_console().await;
}
