//! Opens every page at several widths, in the light and in the dark theme. No page is wider than
//! its window, axe finds no violation, and the console stays empty. The tests save a screenshot of
//! each page.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    provider,
    world::{Scripts, World},
};
use crate::{
    dashboard::{times, visitor},
    harness::{Call, OTHER_WALLET, WALLET, app::NewKey},
};

const WIDTHS: [u32; 3] = [360, 768, 1440];
const SCHEMES: [&str; 2] = ["light", "dark"];

/// Checks the open page at every width and in both colour schemes.
pub async fn check_page(world: &World, name: &str) {
    for scheme in SCHEMES {
        for width in WIDTHS {
            let label = format!("{name}-{scheme}-{width}");
            world.set_viewport(width, scheme).await;
            world.check_width(&label).await;
            // axe needs JavaScript. The page looks the same without JavaScript.
            if world.scripts == Scripts::On {
                world.check_axe(&label).await;
                world.save_screenshot(&label).await;
            }
        }
    }
    world.set_viewport(1280, "light").await;
    world.check_console().await;
}

pub async fn open_and_check_page(world: &World, name: &str, path: &str) {
    world.open(path).await;
    check_page(world, name).await;
}

/// Creates the keys of an account that has been in use for some weeks.
struct SampleKeys {
    bot: NewKey,
    leaked: NewKey,
    paused: NewKey,
    watcher: NewKey,
    revoked: NewKey,
}

async fn create_sample_account(world: &World) -> SampleKeys {
    let tenant = &world.app.tronagg;
    let dashboard = json!({
        "name": "TronAgg", "color": "#c2410c", "wallet_sign_in": "create",
        "return_origins": [world.url], "owner_rate_limits": true,
    });
    world.set_dashboard(tenant, dashboard).await;
    world.app.wallet("250").await;
    let daily = json!([{"name": "daily", "limit": 1_000_000, "window_seconds": 86_400}]);
    let account = tenant.call("PATCH", &format!("/v1/accounts/{WALLET}"));
    world.call(account.json(json!({"rate_limits": daily}))).await.expect(200);
    let key = async |body: Value| world.app.key_with(tenant, WALLET, body).await;
    let revoked = key(json!({"name": "First try"})).await;
    let leaked = key(
        json!({"name": "Backtests on the laptop", "scopes": ["purchases:read", "purchases:write"]}),
    );
    let leaked = leaked.await;
    let paused = key(json!({"name": "Staging", "scopes": ["read"]})).await;
    let watcher = key(json!({"name": "Price watcher", "scopes": ["read"], "expires_in": 400_000}));
    let watcher = watcher.await;
    let bot = key(json!({
        "name": "Grid bot on the office server", "expires_in": 7_776_000,
        "spend_limit": {"amount": "500", "period": "month"},
        "rate_limits": [
            {"name": "default", "limit": 1000, "window_seconds": 60},
            // The longest valid name, which has no place to break.
            {"name": "requests_of_the_order_book_depth", "limit": 10_000_000,
             "window_seconds": 2_678_399, "scope": "order_book_depth_of_all_markets:read"},
        ],
    }));
    let bot = bot.await;
    buy(world, &bot, &leaked).await;
    let answer = async |call: Call| world.call(call).await.expect(200);
    let reason = json!({"reason": "it was in a screenshot"});
    let revoke = format!("{}/revoke", revoked.path);
    answer(tenant.call("POST", &revoke).json(reason)).await;
    answer(tenant.call("PATCH", &paused.path).json(json!({"enabled": false}))).await;
    let hold =
        bot.call("POST", "/v1/holds").json(json!({"amount": "12.5", "reference": "basket 7"}));
    world.call(hold).await.expect(201);
    spread_over_a_day(world, &[&bot, &leaked, &watcher]).await;
    SampleKeys { bot, leaked, paused, watcher, revoked }
}

async fn buy(world: &World, bot: &NewKey, leaked: &NewKey) {
    let tenant = &world.app.tronagg;
    for number in 0..34_u32 {
        let key = if number % 4 == 3 { leaked } else { bot };
        let amount = format!("{}.{:02}", 1 + number * 7 % 5, number * 37 % 100);
        let body = json!({
            "amount": amount, "reference": format!("swap {:05}", 10_417 + number * 13),
            "description": (number % 3 == 0).then_some("TRX to USDT, best of four routes"),
        });
        world.call(key.call("POST", "/v1/purchases").json(body)).await.expect(201);
        if number == 20 {
            let path = format!("/v1/accounts/{WALLET}/credits");
            let credit = tenant.call("POST", &path).idempotency_key("second");
            let body = json!({"amount": "100", "reference": "top-up 2"});
            world.call(credit.json(body)).await.expect(201);
        }
    }
    let path = format!("/v1/accounts/{WALLET}/purchases");
    let bought = world.call(tenant.call("GET", &path)).await.expect(200);
    let refund = format!("{path}/{}/refunds", bought.data()[2]["id"].as_str().expect("an id"));
    let refund = tenant.call("POST", &refund).idempotency_key("refund");
    let body = json!({"amount": "1", "reference": "a late fill"});
    world.call(refund.json(body)).await.expect(201);
}

/// Spreads purchases and calls over the last day, so that the charts show more than one bar.
async fn spread_over_a_day(world: &World, keys: &[&NewKey]) {
    let mut tx = world.app.pool.begin().await.expect("a transaction");
    // Triggers on these tables reject changes. This setting disables the triggers.
    let backdate = "SET LOCAL session_replication_role = replica;
        UPDATE ledger_entries SET created_at = created_at
            - ((SELECT max(seq) FROM ledger_entries) - seq) * interval '34 minutes';
        UPDATE purchases p SET created_at = e.created_at FROM ledger_entries e
            WHERE (e.account_id, e.seq) = (p.account_id, p.seq);
        UPDATE api_keys SET created_at = created_at - interval '40 days'";
    sqlx::raw_sql(backdate).execute(&mut *tx).await.expect("the update succeeds");
    for (key, share) in keys.iter().zip([1_i32, 5, 2]) {
        let hint = format!("{}…{}", &key.text[..7], &key.text[42..]);
        let used = "INSERT INTO api_key_usage (account_id, key_id, hour, outcome, count)
            SELECT k.account_id, k.key_id, date_trunc('hour', now(), 'UTC') - h * interval '1 hour',
                   o.outcome, (1 + (h * 37 + 11) % 53) * o.weight / $2 + 1
            FROM api_keys k, generate_series(0, 23) h,
                 (VALUES ('valid', 9), ('insufficient_scope', 1)) o (outcome, weight)
            WHERE k.hint = $1 AND (h % 5 <> 3 OR $2 = 1)";
        sqlx::query(used).bind(&hint).bind(share).execute(&mut *tx).await.expect("the counts");
        let last = "INSERT INTO api_key_last_used (account_id, key_id, last_used_at)
            SELECT account_id, key_id, now() - $2 * interval '3 minutes' FROM api_keys
            WHERE hint = $1 ON CONFLICT (account_id, key_id) DO NOTHING";
        sqlx::query(last).bind(&hint).bind(share).execute(&mut *tx).await.expect("the last use");
    }
    tx.commit().await.expect("the commit succeeds");
}

async fn key_pages(scripts: Scripts) {
    let world = World::start(scripts).await;
    let keys = create_sample_account(&world).await;
    let SampleKeys { bot, leaked, paused, revoked, .. } = &keys;
    let back = format!("{}/dashboard", world.url);
    let body = json!({"account": WALLET, "return_url": back});
    let link = world.link_with(&world.app.tronagg, body).await;
    world.open_link(&link).await;
    check_page(&world, "keys").await;
    open_and_check_page(&world, "keys-all", "/dashboard/keys?show=all").await;
    let of = |key: &NewKey, page: &str| format!("/dashboard/keys/{}{page}", key.id);
    open_and_check_page(&world, "key", &of(bot, "")).await;
    open_and_check_page(&world, "key-disabled", &of(paused, "")).await;
    open_and_check_page(&world, "key-revoked", &of(revoked, "")).await;
    open_and_check_page(&world, "key-change", &of(bot, "/edit")).await;
    open_and_check_page(&world, "key-limits", &of(bot, "/limits")).await;
    world.fill("#calls-default", "1001").await;
    world.fill("#calls-requests_of_the_order_book_depth", "many").await;
    world.click("#submit").await;
    world.find("#errors").await;
    check_page(&world, "key-limits-wrong").await;
    open_and_check_page(&world, "key-limits-none", &of(paused, "/limits")).await;
    open_and_check_page(&world, "key-rotate", &of(bot, "/rotate")).await;
    open_and_check_page(&world, "key-revoke", &of(bot, "/revoke")).await;
    open_and_check_page(&world, "key-purchases", &of(bot, "/purchases")).await;
    open_and_check_page(&world, "key-compromised", &of(leaked, "/compromised")).await;
    world.click("#confirm-compromised").await;
    world.find("#new-key").await;
    check_page(&world, "key-compromised-done").await;

    // The replacement counts toward the key limit instead of the leaked key, so the account can
    // create one more key.
    open_and_check_page(&world, "new-key", "/dashboard/keys/new").await;
    world.click("#access-custom").await;
    world.select("#expires", "date").await;
    check_page(&world, "new-key-custom").await;
    world.click("#submit").await;
    world.find("#errors").await;
    check_page(&world, "new-key-wrong").await;
    world.fill("#name", "Arbitrage bot").await;
    world.click("#access-write").await;
    world.select("#expires", "90").await;
    world.click("#submit").await;
    world.find("#new-key").await;
    check_page(&world, "new-key-shown").await;
    open_and_check_page(&world, "key-limit", "/dashboard/keys/new").await;
    check_pages_after_rotations(&world, &keys).await;
    let notice = format!("/dashboard/keys?done=revoked&key={}", revoked.id);
    open_and_check_page(&world, "keys-notice", &notice).await;
    world.find("#notice").await;
}

async fn check_pages_after_rotations(world: &World, keys: &SampleKeys) {
    let SampleKeys { bot, paused, watcher, .. } = keys;
    let of = |key: &NewKey, page: &str| format!("/dashboard/keys/{}{page}", key.id);
    world.open(&of(bot, "/rotate")).await;
    let token = world.run("return document.querySelector('#rotate-form [name=form]').value").await;
    world.select("#grace", "86400").await;
    world.click("#confirm-rotate").await;
    world.find("#new-key").await;
    check_page(world, "key-rotated").await;
    open_and_check_page(world, "key-in-grace", &of(bot, "")).await;

    // A reload of the response sends the form's token again.
    world.open(&of(watcher, "/rotate")).await;
    let script = "document.querySelector('#rotate-form [name=form]').value = arguments[0]";
    world.client().execute(script, vec![token]).await.expect("the script runs");
    world.click("#confirm-rotate").await;
    world.find("#message-page").await;
    world.says("This form has already created a key").await;
    check_page(world, "created-already").await;

    world.open(&of(paused, "/rotate")).await;
    world.click("#confirm-rotate").await;
    world.find("#new-key-disabled").await;
    check_page(world, "key-rotated-disabled").await;

    // The page offers no replacement for a rotated key, because its successor still works.
    open_and_check_page(world, "key-compromised-rotated", &of(bot, "/compromised")).await;
    world.find("#not-replaced").await;
    world.click("#confirm-compromised").await;
    world.find("#revoked").await;
    assert!(!world.has("#new-key").await);
    check_page(world, "key-compromised-done-without-a-key").await;

    // Another window changes the key while the form is open.
    world.open(&of(watcher, "/edit")).await;
    let rename = world.app.tronagg.call("PATCH", &watcher.path).json(json!({"name": "Watcher"}));
    world.call(rename).await.expect(200);
    world.fill("#name", "Price watcher 2").await;
    world.click("#submit").await;
    world.find("#errors").await;
    world.says("This key changed while you were editing it.").await;
    check_page(world, "key-changed-meanwhile").await;
}

async fn other_pages(scripts: Scripts) {
    let world = World::start(scripts).await;
    let SampleKeys { bot, .. } = create_sample_account(&world).await;
    // This account has no keys, purchases or events.
    world.app.account(&world.app.tronagg, OTHER_WALLET, "0").await;
    let link = world.link(&world.app.tronagg, OTHER_WALLET).await;
    open_and_check_page(&world, "enter", &link).await;
    world.click("#continue-as").await;
    world.is_at("/dashboard/keys").await;
    check_page(&world, "keys-none").await;
    open_and_check_page(&world, "balance-none", "/dashboard/balance").await;

    // This link opens another account.
    let link = world.link(&world.app.tronagg, WALLET).await;
    open_and_check_page(&world, "change-account", &link).await;
    world.click("#continue-as").await;
    world.is_at("/dashboard/keys").await;
    world.set_dashboard(&world.app.tronagg, json!({"logo": logo(&world).await})).await;
    world.reload().await;
    let width = "return document.querySelector('img.logo').naturalWidth";
    assert_eq!(world.run(width).await, json!(64), "the logo is shown");
    open_and_check_page(&world, "balance", "/dashboard/balance").await;
    open_and_check_page(&world, "holds", "/dashboard/holds").await;
    world.click("tr[data-hold] .button.danger").await;
    world.find("#confirm-void").await;
    check_page(&world, "hold-void").await;
    open_and_check_page(
        &world,
        "balance-nothing-found",
        "/dashboard/balance?from=2020-01-01&to=2020-01-02",
    )
    .await;
    let wrong = "/dashboard/balance?from=yesterday&key=x&kind=x";
    open_and_check_page(&world, "balance-wrong", wrong).await;
    open_and_check_page(&world, "security-log", "/dashboard/log").await;
    let path = format!("/v1/accounts/{WALLET}");
    let suspend = world.app.tronagg.call("PATCH", &path).json(json!({"status": "suspended"}));
    world.call(suspend).await.expect(200);
    world.sign_in_by_link(&world.app.tronagg, WALLET).await;
    open_and_check_page(&world, "keys-suspended", "/dashboard/keys").await;
    let key = format!("/dashboard/keys/{}", bot.id);
    open_and_check_page(&world, "key-suspended", &key).await;
    open_and_check_page(&world, "key-change-suspended", &format!("{key}/edit")).await;
    let compromised = format!("{key}/compromised");
    open_and_check_page(&world, "key-compromised-suspended", &compromised).await;

    open_and_check_page(&world, "not-found", "/dashboard/keys/x").await;
    open_and_check_page(&world, "link-dead", "/dashboard/enter?token=x").await;
    let unknown = format!("/dashboard/enter?token={}", "A".repeat(43));
    open_and_check_page(&world, "link-dead-signed-in", &unknown).await;
    assert_eq!(world.text("#go-on").await, "Go to the dashboard");
    world.open("/dashboard/log").await;
    world.click("#log-out-everywhere").await;
    world.is_at("/dashboard/signed-out").await;
    check_page(&world, "signed-out").await;
    let body = json!({"account": WALLET, "return_url": format!("{}/dashboard", world.url)});
    let link = world.link_with(&world.app.tronagg, body).await;
    times::age_links(&world.app, "5 minutes").await;
    open_and_check_page(&world, "link-expired", &link).await;
    world.says("To get a new link, go to your platform's own site").await;
    assert_eq!(world.text("#go-on").await, "Return to TronAgg");

    open_and_check_page(&world, "start", "/").await;
    world.says("Ready").await;
    world.click("#dashboard").await;
    world.is_at("/dashboard/signed-out").await;
    world.open("/").await;
    world.click("#book").await;
    world.is_at("/docs/book/").await;

    provider::install(&world, WALLET).await;
    open_and_check_page(&world, "sign-in", provider::LOGIN).await;
    world.fill("#address", "TNotAnAddress").await;
    world.click("#continue").await;
    world.find("#address-error").await;
    check_page(&world, "sign-in-wrong").await;
    world.fill("#address", WALLET).await;
    world.click("#continue").await;
    world.find("#message").await;
    check_page(&world, "sign-in-message").await;
    world.fill("#signature", "0x00").await;
    world.click("#verify").await;
    world.find("#signature-error").await;
    check_page(&world, "sign-in-refused").await;

    // One client begins more sign-ins than the limit allows.
    let mut other_browser = visitor::visitor_at(&world.app, &world.url);
    other_browser.address = "127.0.0.1".parse().expect("an address");
    let mut status = 0;
    for _ in 0..100 {
        let fields = [("address", WALLET)];
        status = other_browser.submit(provider::LOGIN, provider::LOGIN, &fields).await.status;
        if status == 429 {
            break;
        }
    }
    assert_eq!(status, 429);
    world.open(provider::LOGIN).await;
    world.fill("#address", WALLET).await;
    world.click("#continue").await;
    world.find("#address-error").await;
    check_page(&world, "sign-in-too-many").await;
}

/// Takes a screenshot of a part of the open page, to use as a logo.
async fn logo(world: &World) -> Value {
    let clip = json!({"x": 0, "y": 0, "width": 64, "height": 32, "scale": 1});
    let parameters = json!({"format": "png", "clip": clip});
    world.driver.devtools("Page.captureScreenshot", parameters).await["data"].clone()
}

macro_rules! page_tests {
    ($($test:ident: $pages:ident $scripts:ident),+ $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            $pages(Scripts::$scripts).await;
        })+
    };
}

page_tests!(
    key_pages_are_accessible_and_fit_every_width: key_pages On,
    pages_other_than_key_pages_are_accessible_and_fit_every_width: other_pages On,
    key_pages_fit_every_width_without_javascript: key_pages Off,
    pages_other_than_key_pages_fit_every_width_without_javascript: other_pages Off,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_documentation_works_under_its_content_security_policy() {
    let world = World::start(Scripts::On).await;
    world.open("/docs/").await;
    // The page has loaded the OpenAPI document, so an operation can be opened.
    world.click(".opblock-summary-control").await;
    world.find(".opblock-body").await;
    // The browser reports violations of the policy on the console.
    world.check_console().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tab_reaches_every_control_with_a_visible_focus_ring() {
    let world = World::start(Scripts::On).await;
    let SampleKeys { bot, .. } = create_sample_account(&world).await;
    world.sign_in_by_link(&world.app.tronagg, WALLET).await;
    let key = format!("/dashboard/keys/{}", bot.id);
    for path in [
        "/dashboard/keys",
        "/dashboard/keys/new",
        "/dashboard/balance",
        "/dashboard/log",
        &key,
        &format!("{key}/limits"),
        &format!("{key}/compromised"),
    ] {
        world.open(path).await;
        tab_through(&world, path).await;
    }
    // The Tab key also reaches the button "Done" while it is disabled.
    world.open("/dashboard/keys/new").await;
    world.fill("#name", "Arbitrage bot").await;
    world.click("#submit").await;
    let done = world.find("#done").await;
    assert_eq!(
        done.attr("aria-describedby").await.expect("an attribute").as_deref(),
        Some("done-why")
    );
    tab_through(&world, "the new key").await;
}

/// Presses Tab until the focus returns to the first control. Asserts that the focus reaches every
/// control of the page, and that each control is visible and has a focus ring.
async fn tab_through(world: &World, page: &str) {
    // Tab stops only at the chosen button of a radio group. The arrow keys reach the others.
    let mark_stops = "document.activeElement.blur();
        const all = [...document.querySelectorAll('a[href], button, select, summary, textarea, \
            input:not([type=hidden])')];
        const group = radio => all.filter(e => e.type === 'radio' && e.name === radio.name);
        const isStop = e => {
            const box = e.getBoundingClientRect();
            if (e.disabled || !e.checkVisibility({ visibilityProperty: true })) return false;
            if (box.width === 0 || box.height === 0) return false;
            if (e.type !== 'radio' || e.checked) return true;
            return e === group(e)[0] && !group(e).some(other => other.checked);
        };
        const stops = all.filter(isStop);
        stops.forEach((e, place) => { e.dataset.stop = place; });
        return stops.map(e => e.outerHTML.slice(0, 120));";
    let expected = world.run(mark_stops).await;
    let expected = expected.as_array().expect("a list");
    let read_focus = "const stop = document.activeElement;
        if (stop === document.body) return null;
        const style = getComputedStyle(stop), box = stop.getBoundingClientRect();
        const ring = (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2) ||
            style.boxShadow !== 'none';
        const seen = box.width > 0 && box.height > 0;
        const place = stop.dataset.stop === undefined ? null : Number(stop.dataset.stop);
        return { place, what: stop.outerHTML.slice(0, 120), ring, seen };";
    let mut reached = BTreeSet::new();
    let mut last = Value::Null;
    // Tab stops at each part of a date field.
    for _ in 0..expected.len() + 20 {
        press_tab(world).await;
        let stop = world.run(read_focus).await;
        let again = stop["place"].as_u64().is_some_and(|place| reached.contains(&place));
        if stop.is_null() || (again && stop["place"] != last["place"]) {
            break;
        }
        assert_eq!((&stop["ring"], &stop["seen"]), (&json!(true), &json!(true)), "{page}: {stop}");
        let place = stop["place"].as_u64();
        reached
            .insert(place.unwrap_or_else(|| panic!("{page}: {stop} is not an expected control")));
        last = stop;
    }
    let missed: Vec<_> = (0_u64..)
        .zip(expected)
        .filter(|(place, _)| !reached.contains(place))
        .map(|(_, what)| what)
        .collect();
    assert!(missed.is_empty(), "{page}: the Tab key does not reach {missed:#?}");
}

async fn press_tab(world: &World) {
    for kind in ["keyDown", "keyUp"] {
        let key = json!({"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9});
        world.driver.devtools("Input.dispatchKeyEvent", key).await;
    }
}
