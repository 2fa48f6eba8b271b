//! Sign-in with a link that the tenant's backend has requested.

use serde_json::json;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use tollgate::{
    domain::{
        account::{AccountFormat, ExternalId},
        audit::Origin,
        dashboard::LinkSeconds,
    },
    entropy,
};

use super::{
    times,
    visitor::{LOOPBACK, SECURE, Site, attribute, form, tags},
};
use crate::harness::Call;

const LINK_UNUSABLE: &str = "This link has been used or has expired";
const ENTER: &str = "/dashboard/enter";
const PLATFORM: &str = "https://app.tronagg.example";

#[tokio::test]
async fn link_opens_one_session_of_its_account_and_cannot_be_reused() {
    let site = Site::start().await;
    let wallet = site.app.wallet("12.5").await;
    let call = site.app.tronagg.call("POST", "/v1/dashboard-links");
    let made = site.api(call.json(json!({"account": wallet}))).await.expect(201);
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let members: Vec<_> = made.json.as_object().expect("an object").keys().collect();
    assert_eq!(members, ["url", "expires_at"]);
    let link =
        made.text("/url").strip_prefix(LOOPBACK).expect("a URL at the public origin").to_owned();
    let token = link.strip_prefix("/dashboard/enter?token=").expect("a token");
    assert_eq!(token.len(), 43);
    let expires = OffsetDateTime::parse(made.text("/expires_at"), &Rfc3339).expect("a time");
    let left = expires - times::now(&site.app).await;
    assert!(left <= Duration::minutes(5) && left > Duration::minutes(4), "{left}");

    // A scanner may send a HEAD request to the link. This does not use the link up.
    let mut scanner = site.visitor();
    for _ in 0..2 {
        let seen = scanner.send(Call::new("HEAD", &link)).await;
        assert!(seen.status < 400 && scanner.cookies.is_empty(), "{seen:?}");
    }
    let mut owner = site.visitor();
    owner.open_link(&link).await.expect_redirect("/dashboard/keys");
    owner.get("/dashboard/keys").await.expect(200).says("API Keys");
    owner.get("/dashboard/balance").await.expect(200).says("12.5 TRX");

    let mut second = site.visitor();
    second.get(&link).await.expect(410).says(LINK_UNUSABLE);
    assert!(second.cookies.is_empty());
    second.get("/dashboard/keys").await.expect_redirect("/dashboard/signed-out");
    owner.get("/dashboard/keys").await.expect(200);
}

#[tokio::test]
async fn ten_concurrent_uses_of_a_link_open_one_session() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let link = site.link(&site.app.tronagg, wallet).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (mut visitor, link) = (site.visitor(), link.clone());
        tasks.spawn(async move { visitor.open_link(&link).await.status });
    }
    let mut statuses = tasks.join_all().await;
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (303, &[410; 9][..]));
}

#[tokio::test]
async fn link_works_for_five_minutes_by_default() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let link = site.link(&site.app.tronagg, wallet).await;
    times::age_links(&site.app, "4 minutes 50 seconds").await;
    site.owner_by_link(&link).await;
    let link = site.link(&site.app.tronagg, wallet).await;
    times::age_links(&site.app, "5 minutes").await;
    site.visitor().get(&link).await.expect(410).says(LINK_UNUSABLE);
}

#[tokio::test]
async fn link_expires_after_the_requested_seconds_from_one_to_a_day() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let request_link = |expires_in: serde_json::Value| {
        let body = json!({"account": wallet, "expires_in": expires_in});
        site.api(site.app.tronagg.call("POST", "/v1/dashboard-links").json(body))
    };
    for seconds in [1, 300, 86_400] {
        let before = times::now(&site.app).await;
        let made = request_link(json!(seconds)).await.expect(201);
        let after = times::now(&site.app).await;
        let expires = OffsetDateTime::parse(made.text("/expires_at"), &Rfc3339).expect("a time");
        let created = expires - Duration::seconds(seconds);
        assert!(before <= created && created <= after, "{seconds}: {before} {created} {after}");
    }
    for wrong in [json!(0), json!(-1), json!(86_401), json!(1.5), json!("300"), json!(true)] {
        let answer = request_link(wrong.clone()).await.expect_problem(422, "validation_failed");
        assert_eq!(answer.errors_at(), ["/expires_in"], "{wrong}");
    }

    let of_a_day = json!({"account": wallet, "expires_in": 86_400});
    let link = site.link_with(&site.app.tronagg, of_a_day.clone()).await;
    times::age_links(&site.app, "23 hours 59 minutes").await;
    site.owner_by_link(&link).await;
    let link = site.link_with(&site.app.tronagg, of_a_day).await;
    times::age_links(&site.app, "24 hours").await;
    site.visitor().get(&link).await.expect(410).says(LINK_UNUSABLE);
}

#[tokio::test]
async fn link_from_the_command_line_opens_a_session_with_all_permissions() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let app = &site.app;
    let account = ExternalId::parse(wallet, AccountFormat::Tron).expect("an account");
    let (token, origin) = (entropy::new_session_token().expect("entropy"), Origin::cli());
    let handle = app.store.account(&app.tronagg.tenant, &account, &origin);
    let made = handle.create_dashboard_link(&token, None, LinkSeconds::default()).await;
    made.expect("a link");
    let mut owner = site.owner_by_link(&format!("{ENTER}?token={}", token.expose())).await;
    for path in ["/dashboard/keys", "/dashboard/balance", "/dashboard/log"] {
        owner.get(path).await.expect(200);
    }
    let events = app.tronagg.call("GET", "/v1/audit-events?limit=2");
    let events = site.api(events).await.expect(200);
    assert_eq!(events.data()[1]["action"], "dashboard_link.create");
    assert_eq!(events.data()[1]["actor"], "cli");
}

#[tokio::test]
async fn page_of_a_used_or_expired_link_says_how_to_get_another_link() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let change = json!({"name": "TronAgg", "return_origins": [PLATFORM]});
    site.set_dashboard(&site.app.tronagg, change).await.expect(200);
    let return_url = format!("{PLATFORM}/api-keys");
    let body = json!({"account": wallet, "return_url": return_url});
    let how = "To get a new link, go to your platform's own site";

    // The page of an expired link contains a link to the origin of its return URL. The path and the
    // query may contain secrets.
    let link = site.link_with(&site.app.tronagg, body.clone()).await;
    times::age_links(&site.app, "5 minutes").await;
    let page = site.visitor().get(&link).await.expect(410);
    page.says(LINK_UNUSABLE);
    page.says(how);
    page.says("Return to TronAgg");
    let links = tags(&page.source, "a");
    let back = links.iter().filter(|tag| attribute(tag, "href").as_deref() == Some(PLATFORM));
    assert_eq!(back.count(), 1, "{page:?}");
    page.does_not_say("/api-keys");
    // The button on the confirmation page of an expired link opens this page too.
    let token = link.strip_prefix("/dashboard/enter?token=").expect("a token");
    let page = site.visitor().post("/dashboard/enter", &[("token", token)]).await;
    page.expect(410).says("Return to TronAgg");
    // The page contains no link to an origin that the platform has removed.
    site.set_dashboard(&site.app.tronagg, json!({"return_origins": []})).await.expect(200);
    site.visitor().get(&link).await.expect(410).does_not_say("Return to TronAgg");
    let change = json!({"return_origins": [PLATFORM]});
    site.set_dashboard(&site.app.tronagg, change).await.expect(200);

    // The service does not keep the return URL of a used link. A browser with a session gets a link
    // to the dashboard.
    let link = site.link_with(&site.app.tronagg, body).await;
    let mut owner = site.owner_by_link(&link).await;
    let page = site.visitor().get(&link).await.expect(410);
    page.says(how);
    page.does_not_say("TronAgg");
    let page = owner.get(&link).await.expect(410);
    page.says(how);
    page.says("Go to the dashboard");
    page.says("Return to TronAgg");
}

#[tokio::test]
async fn invalid_link_opens_no_session() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let link = site.link(&site.app.tronagg, wallet).await;
    let mut visitor = site.visitor();
    let unknown = format!("/dashboard/enter?token={}", "A".repeat(43));
    for path in [
        "/dashboard/enter",
        "/dashboard/enter?token=",
        "/dashboard/enter?token=x",
        "/dashboard/enter?token=%00",
        unknown.as_str(),
        &format!("{link}A"),
        &link[..link.len() - 1],
    ] {
        visitor.get(path).await.expect(410).says(LINK_UNUSABLE);
    }
    assert!(visitor.cookies.is_empty());
    visitor.open_link(&link).await.expect_redirect("/dashboard/keys");
}

#[tokio::test]
async fn switching_to_another_account_by_link_needs_confirmation() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    site.app.account(&site.app.tradetally, "user-1", "0").await;
    site.app.key(&site.app.tronagg, wallet).await;
    let mut browser = site.owner(&site.app.tronagg, wallet).await;
    let mut previous = browser.clone();
    let link = site.link(&site.app.tradetally, "user-1").await;
    // Opening the link asks for confirmation each time, and does not use the link up.
    browser.get(&link).await.expect(200);
    let page = browser.get(&link).await.expect(200);
    for text in ["You are signed in as", wallet, "tronagg", "Continue as", "user-1", "tradetally"] {
        page.says(text);
    }
    assert_eq!(browser.session(), previous.session());
    browser.get("/dashboard/keys").await.expect(200).says("ta_");

    // A confirmation from another site, or without the CSRF token of this session, is refused.
    let token = page.field(ENTER, "token");
    let csrf = page.field(ENTER, "csrf");
    let forged = form(ENTER, &[("csrf", csrf.as_str()), ("token", token.as_str())]);
    browser.send(forged.header("Origin", "https://evil.example")).await.expect(403);
    browser.post(ENTER, &[("token", token.as_str())]).await.expect(403);
    assert_eq!(browser.session(), previous.session());

    browser.send_form(&page, ENTER, &[]).await.expect_redirect("/dashboard/keys");
    assert_ne!(browser.session(), previous.session());
    browser.get("/dashboard/keys").await.expect(200).does_not_say("ta_");
    // The previous session has ended, and the audit log of its account contains this event.
    previous.get("/dashboard/keys").await.expect_redirect("/dashboard/signed-out");
    let path = "/v1/audit-events?limit=1";
    let newest = site.api(site.app.tronagg.call("GET", path)).await.expect(200);
    assert_eq!(newest.data()[0]["action"], "session.close");
    assert_eq!(newest.data()[0]["account"], wallet);

    // If another browser has used the link meanwhile, the confirmation changes nothing.
    let second_link = site.link(&site.app.tronagg, wallet).await;
    let page = browser.get(&second_link).await.expect(200);
    site.visitor().open_link(&second_link).await.expect_redirect("/dashboard/keys");
    let before = browser.session().to_owned();
    browser.send_form(&page, ENTER, &[]).await.expect(410).says(LINK_UNUSABLE);
    assert_eq!(browser.session(), before);
    browser.get("/dashboard/keys").await.expect(200);
    browser.get(&second_link).await.expect(410).says(LINK_UNUSABLE);
}

#[tokio::test]
async fn link_from_the_platform_needs_no_confirmation_unless_another_account_is_signed_in() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    for tenant in [&site.app.tronagg, &site.app.tradetally] {
        let origins = json!({"return_origins": [PLATFORM]});
        site.set_dashboard(tenant, origins).await.expect(200);
    }
    let follow = |link: &str| Call::new("GET", link).header("Referer", &format!("{PLATFORM}/"));
    let mut browser = site.owner(&site.app.tronagg, wallet).await;
    let first = browser.session().to_owned();
    let link = site.link(&site.app.tronagg, wallet).await;
    browser.send(follow(&link)).await.expect_redirect("/dashboard/keys");
    assert_ne!(browser.session(), first);
    site.app.account(&site.app.tradetally, "user-1", "0").await;
    let link = site.link(&site.app.tradetally, "user-1").await;
    browser.send(follow(&link)).await.expect(200).says("Switch accounts?");
    // A link to another account needs no confirmation if the session has ended.
    times::make_sessions_idle(&site.app, "30 minutes").await;
    browser.send(follow(&link)).await.expect_redirect("/dashboard/keys");
    // A confirmation from a session that has ended is refused, and does not use the link up.
    let mut late = site.owner(&site.app.tradetally, "user-1").await;
    let link = site.link(&site.app.tronagg, wallet).await;
    let page = late.get(&link).await.expect(200);
    times::make_sessions_idle(&site.app, "30 minutes").await;
    late.send_form(&page, ENTER, &[]).await.expect(401);
    late.send(follow(&link)).await.expect_redirect("/dashboard/keys");
}

#[tokio::test]
async fn link_opens_directly_only_if_the_browser_follows_it_from_a_return_origin() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let origins = json!({"return_origins": ["https://other.example", PLATFORM]});
    site.set_dashboard(&site.app.tronagg, origins).await.expect(200);
    let (referer, mode, dest) = ("Referer", "Sec-Fetch-Mode", "Sec-Fetch-Dest");
    let page = "https://app.tronagg.example/account?tab=keys";
    for direct in [
        &[(referer, "https://app.tronagg.example/")][..],
        &[(referer, page)],
        &[(referer, "https://other.example/")],
        &[
            (referer, page),
            (mode, "navigate"),
            (dest, "document"),
            ("Sec-Fetch-Site", "cross-site"),
        ],
    ] {
        let link = site.link(&site.app.tronagg, wallet).await;
        let mut call = Call::new("GET", &link);
        for (name, value) in direct {
            call = call.header(name, value);
        }
        let mut visitor = site.visitor();
        visitor.send(call).await.expect_redirect("/dashboard/keys");
        visitor.get("/dashboard/keys").await.expect(200);
    }
    let link = site.link(&site.app.tronagg, wallet).await;
    for indirect in [
        &[][..],
        &[(referer, "")],
        &[(referer, "null")],
        &[(referer, "https://evil.example/")],
        &[(referer, "https://app.tronagg.example.evil.example/")],
        &[(referer, "https://app.tronagg.example@evil.example/")],
        &[(referer, "https://evil.example/?https://app.tronagg.example/")],
        &[(referer, "http://app.tronagg.example/")],
        &[(referer, "https://app.tronagg.example:8443/")],
        &[(referer, LOOPBACK)],
        &[(referer, page), (referer, "https://evil.example/")],
        &[("Origin", "https://app.tronagg.example")],
        // The requests for an image, a frame and a script of the platform's page, and a prefetch.
        &[(referer, page), (mode, "no-cors"), (dest, "image")],
        &[(referer, page), (mode, "navigate"), (dest, "iframe")],
        &[(referer, page), (mode, "cors"), (dest, "empty")],
        &[(referer, page), (mode, "navigate"), (dest, "document"), ("Sec-Purpose", "prefetch")],
        &[(referer, page), ("Purpose", "prefetch")],
    ] {
        let mut call = Call::new("GET", &link);
        for (name, value) in indirect {
            call = call.header(name, value);
        }
        let mut visitor = site.visitor();
        let asked = visitor.send(call).await.expect(200);
        assert!(asked.headers.get("set-cookie").is_none(), "{indirect:?}: {asked:?}");
        asked.says("Open the dashboard?");
    }
    // None of these requests has used the link up.
    site.owner_by_link(&link).await;
}

#[tokio::test]
async fn confirmation_page_names_the_account_and_contains_one_form() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    site.set_dashboard(&site.app.tronagg, json!({"name": "Tron & Agg"})).await.expect(200);
    let link = site.link(&site.app.tronagg, wallet).await;
    let token = link.strip_prefix("/dashboard/enter?token=").expect("a token");
    let mut victim = site.visitor();
    let page = victim.get(&link).await.expect(200);
    page.says(wallet);
    page.says("Tron & Agg");
    let forms = tags(&page.source, "form");
    assert_eq!(forms.len(), 1, "{page:?}");
    assert_eq!(attribute(&forms[0], "method").as_deref(), Some("post"));
    assert_eq!(page.hidden(ENTER), [("token".to_owned(), token.to_owned())]);
    assert!(victim.cookies.is_empty(), "{:?}", victim.cookies);

    // Another site cannot submit the form.
    for (origin, fetch_site) in [
        ("https://evil.example", "cross-site"),
        ("null", "cross-site"),
        ("null", "same-site"),
        ("null", "none"),
    ] {
        let forged = form(ENTER, &[("token", token)]).header("Origin", origin);
        victim.send(forged.header("Sec-Fetch-Site", fetch_site)).await.expect(403);
    }
    victim.send(form(ENTER, &[("token", token)])).await.expect(403);
    assert!(victim.cookies.is_empty(), "{:?}", victim.cookies);
    victim.post(ENTER, &[]).await.expect(410);
    victim.send_form(&page, ENTER, &[]).await.expect_redirect("/dashboard/keys");
    victim.get("/dashboard/keys").await.expect(200);
}

#[tokio::test]
async fn session_cookie_has_all_protective_attributes_on_http_and_https() {
    for (url, name, secure) in
        [(LOOPBACK, "tollgate_session", false), (SECURE, "__Host-tollgate_session", true)]
    {
        let site = Site::start_at(url).await;
        let wallet = site.app.wallet("0").await;
        let link = site.link(&site.app.tronagg, wallet).await;
        let entered = site.visitor().open_link(&link).await.expect(303);
        let cookies: Vec<_> = entered.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies.len(), 1, "{entered:?}");
        let cookie = cookies[0].to_str().expect("text");
        let mut parts = cookie.split("; ");
        let (named, token) = parts.next().expect("a pair").split_once('=').expect("a value");
        assert_eq!((named, token.len()), (name, 43));
        let mut attributes: Vec<_> = parts.collect();
        attributes.sort_unstable();
        let mut expected = vec!["HttpOnly", "Path=/", "SameSite=Lax"];
        if secure {
            expected.push("Secure");
        }
        assert_eq!(attributes, expected);
    }
}

#[tokio::test]
async fn cookie_without_the_host_prefix_is_ignored_on_https() {
    let site = Site::start_at(SECURE).await;
    let wallet = site.app.wallet("0").await;
    let mut owner = site.owner(&site.app.tronagg, wallet).await;
    let token = owner.session().to_owned();
    // A site at a sibling domain, or a site without TLS, can set a cookie with this name.
    owner.cookies = [("tollgate_session".to_owned(), token)].into();
    owner.get("/dashboard/keys").await.expect_redirect("/dashboard/signed-out");
}

#[tokio::test]
async fn return_url_must_have_a_registered_origin() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let tenant = &site.app.tronagg;
    let origins = json!(["https://app.tronagg.example", "http://localhost:3000"]);
    site.set_dashboard(tenant, json!({"return_origins": origins})).await.expect(200);
    let request_link = |return_url: String| {
        let body = json!({"account": wallet, "return_url": return_url});
        site.api(tenant.call("POST", "/v1/dashboard-links").json(body))
    };
    for wrong in [
        "https://evil.example/",
        "https://app.tronagg.example.evil.example/",
        "https://app.tronagg.example@evil.example/",
        "https://evil.example\\@app.tronagg.example/",
        "https://user:password@app.tronagg.example/",
        "http://app.tronagg.example/",
        "https://app.tronagg.example:8443/",
        "http://localhost:3001/",
        "javascript:alert(1)//app.tronagg.example",
        "data:text/html,x",
        "//app.tronagg.example/",
        "/settings",
        "",
    ] {
        let answer = request_link(wrong.to_owned()).await;
        let answer = answer.expect_problem(422, "validation_failed");
        assert_eq!(answer.errors_at(), ["/return_url"], "{wrong}");
    }
    let long = format!("https://app.tronagg.example/{}", "a".repeat(2000));
    let answer = request_link(long).await.expect_problem(422, "validation_failed");
    assert_eq!(answer.errors_at(), ["/return_url"]);

    for allowed in ["https://app.tronagg.example/settings?tab=keys&x=1", "http://localhost:3000/a"]
    {
        let body = json!({"account": wallet, "return_url": allowed});
        let link = site.link_with(tenant, body).await;
        let mut owner = site.owner_by_link(&link).await;
        let page = owner.get("/dashboard/keys").await.expect(200);
        let links = tags(&page.source, "a");
        let back = links.iter().filter(|tag| attribute(tag, "href").as_deref() == Some(allowed));
        assert_eq!(back.count(), 1, "{page:?}");
        page.says("Return to");
    }
    // Without a return URL the page has no return link.
    let mut owner = site.owner(tenant, wallet).await;
    owner.get("/dashboard/keys").await.expect(200).does_not_say("Return to");
}

#[tokio::test]
async fn link_is_created_only_for_an_existing_account_of_the_tenant() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let request_link = |tenant: &crate::harness::TestTenant, body| {
        site.api(tenant.call("POST", "/v1/dashboard-links").json(body))
    };
    let nobody = json!({"account": crate::harness::OTHER_WALLET});
    request_link(&site.app.tronagg, nobody).await.expect_problem(404, "not_found");
    // The tenant cannot create a link for an account of another tenant.
    request_link(&site.app.tradetally, json!({"account": wallet}))
        .await
        .expect_problem(404, "not_found");
    for (body, wrong) in [
        (json!({}), vec!["/account"]),
        (json!({"account": "not an address"}), vec!["/account"]),
        (
            json!({"account": 1, "return_url": 2, "more": 3}),
            vec!["/account", "/more", "/return_url"],
        ),
    ] {
        let answer =
            request_link(&site.app.tronagg, body).await.expect_problem(422, "validation_failed");
        let mut reported = answer.errors_at();
        reported.sort_unstable();
        assert_eq!(reported, wrong);
    }
}
