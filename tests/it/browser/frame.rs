//! The elements of every page: the sidebar, the theme switch, and the buttons that copy ids.

use serde_json::json;

use super::{
    with_and_without_javascript,
    world::{Scripts, World},
};
use crate::harness::WALLET;

with_and_without_javascript!(
    navigation_is_a_sidebar_on_wide_screens_and_tabs_on_narrow_screens,
    first_visit_shows_what_to_do_in_three_steps,
);

async fn start(scripts: Scripts) -> World {
    let world = World::start(scripts).await;
    world.app.wallet("25").await;
    world.sign_in_by_link(&world.app.tronagg, WALLET).await;
    world
}

/// Measures the layout: [right edge of the navigation, bottom edge of the navigation, left edge of
/// the content, top edge of the content].
async fn places(world: &World) -> [f64; 4] {
    let script = "const [nav, main] = ['#sections', '#main']
            .map(part => document.querySelector(part).getBoundingClientRect());
        return [nav.right, nav.bottom, main.left, main.top]";
    let places = world.run(script).await;
    [0, 1, 2, 3].map(|place| places[place].as_f64().expect("a number"))
}

async fn navigation_is_a_sidebar_on_wide_screens_and_tabs_on_narrow_screens(scripts: Scripts) {
    let world = start(scripts).await;
    let first = world.text("#sections a").await;
    assert_eq!(first, "API Keys");
    for width in [1024, 1440] {
        world.set_viewport(width, "light").await;
        let [right, bottom, left, top] = places(&world).await;
        assert!(right <= left && bottom > top, "{width}: {right} {bottom} {left} {top}");
    }
    for width in [360, 768] {
        world.set_viewport(width, "light").await;
        let [_, bottom, _, top] = places(&world).await;
        assert!(bottom <= top, "{width}: {bottom} {top}");
    }
    world.click("#sections li:nth-child(2) a").await;
    world.is_at("/dashboard/balance").await;
    assert_eq!(world.text("#sections a[aria-current=page]").await, "Balance");
    world.check_console().await;
}

async fn first_visit_shows_what_to_do_in_three_steps(scripts: Scripts) {
    let world = start(scripts).await;
    world.says("Send your first request in three steps").await;
    let steps = world.run("return document.querySelectorAll('.first-steps li').length").await;
    assert_eq!(steps, json!(3));
    let command = format!("curl -H \"X-API-Key: $TRONAGG_API_KEY\" {}/v1/me", world.url);
    assert_eq!(world.text("#first-curl").await, command);
    world.click("#no-keys a.button").await;
    world.is_at("/dashboard/keys/new").await;
    world.check_console().await;
}

/// Whether the page has a dark background.
async fn is_dark(world: &World) -> bool {
    let color = "const parts = getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g);
        return parts.slice(0, 3).map(Number).reduce((a, b) => a + b) < 384";
    world.run(color).await == json!(true)
}

async fn stored_theme(world: &World) -> serde_json::Value {
    world.run("return localStorage.getItem('tollgate-theme')").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn theme_follows_the_system_until_the_user_chooses_the_other_theme() {
    let world = start(Scripts::On).await;
    for (system, dark) in [("light", false), ("dark", true)] {
        world.set_viewport(1280, system).await;
        assert_eq!(is_dark(&world).await, dark, "{system}");
    }
    world.find("#theme[aria-label='Use the light theme']").await;
    world.click("#theme").await;
    assert!(!is_dark(&world).await);
    assert_eq!(stored_theme(&world).await, json!("light"));
    world.find("#theme[aria-label='Use the dark theme']").await;
    // The choice also applies to other pages, including pages for signed-out visitors.
    for path in ["/dashboard/balance", "/dashboard/tronagg/login", "/dashboard/keys"] {
        world.open(path).await;
        assert!(!is_dark(&world).await, "{path}");
    }
    // The choice now equals the system's preference, so the pages follow the system again.
    world.set_viewport(1280, "light").await;
    world.click("#theme").await;
    assert!(is_dark(&world).await);
    world.click("#theme").await;
    assert_eq!(stored_theme(&world).await, json!(null));
    world.set_viewport(1280, "dark").await;
    assert!(is_dark(&world).await);
    world.check_console().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_button_copies_the_id() {
    let world = start(Scripts::On).await;
    let key = world.app.key(&world.app.tronagg, WALLET).await;
    world.call(key.buy("1.5")).await.expect(201);
    let permissions = json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]});
    world.driver.devtools("Browser.grantPermissions", permissions).await;
    world.open("/dashboard/balance").await;
    world.click("tr[data-cause^='pur_'] .copy").await;
    world.says("The ID is copied.").await;
    let read = "const done = arguments[arguments.length - 1];
        navigator.clipboard.readText().then(done, error => done(String(error)))";
    let copied = world.run_async(read, Vec::new()).await;
    let id = world.run("return document.querySelector('tr[data-cause]').dataset.cause").await;
    assert_eq!(copied, id);
    world.check_console().await;
}
