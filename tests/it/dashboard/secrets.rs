//! Tollgate neither stores nor logs the plaintext of keys and dashboard tokens.

use std::io::Read as _;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use sqlx::AssertSqlSafe;

use super::{
    visitor::{Page, Site, form},
    wallet::Wallet,
};
use crate::harness::{Call, PATIENCE, WALLET, data_dir::DataDir, process::Process};

/// Reads every row of every table, as text.
async fn dump(site: &Site) -> String {
    let tables = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
        WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
    let tables = sqlx::query_scalar::<_, String>(tables).fetch_all(&site.app.pool).await;
    let mut all = String::new();
    for table in tables.expect("names") {
        let rows = format!("SELECT coalesce(string_agg(t::text, ' '), '') FROM {table} t");
        let rows = sqlx::query_scalar::<_, String>(AssertSqlSafe(rows)).fetch_one(&site.app.pool);
        all.push_str(&rows.await.expect("rows"));
    }
    all
}

#[tokio::test]
async fn no_table_stores_a_token_or_a_key() {
    let site = Site::start().await;
    site.app.wallet("5").await;
    site.set_dashboard(&site.app.tronagg, json!({"wallet_sign_in": "existing"})).await.expect(200);
    // One unused and one used link, and one pending and one finished sign-in.
    let unused = site.link(&site.app.tronagg, WALLET).await;
    let used = site.link(&site.app.tronagg, WALLET).await;
    let mut owner = site.owner_by_link(&used).await;
    let new = "/dashboard/keys/new";
    let form = owner.get(new).await.expect(200);
    let fields = [("name", "a"), ("access", "read"), ("expires", "never")];
    let key = owner.send_form(&form, new, &fields).await.expect(200).key("ta_");
    let (login, verify) = ("/dashboard/tronagg/login", "/dashboard/tronagg/login/verify");
    let mut visitor = site.visitor();
    let waiting = visitor.submit(login, login, &[("address", WALLET)]).await.expect(200);
    let mut signed = site.visitor();
    let page = signed.submit(login, login, &[("address", WALLET)]).await.expect(200);
    let signature = Wallet::first().sign(&page.message());
    let answer = [("signature", signature.as_str())];
    signed.send_form(&page, verify, &answer).await.expect(303);

    let token = |link: &str| link.split_once("token=").expect("a token").1.to_owned();
    let mut secrets = vec![
        token(&unused),
        token(&used),
        owner.session().to_owned(),
        signed.session().to_owned(),
        form.field(new, "form"),
        form.field(new, "csrf"),
        waiting.field(verify, "nonce"),
        page.field(verify, "nonce"),
        key[3..].to_owned(),
    ];
    secrets.extend(visitor.cookies.values().cloned());
    let rows = dump(&site).await;
    for secret in secrets {
        assert!(!rows.contains(&secret), "a table has {secret}");
        let bytes = URL_SAFE_NO_PAD.decode(&secret).unwrap_or_default();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(hex.is_empty() || !rows.contains(&hex), "a table has {secret} as bytes");
    }
    // The search finds the stored hint and account. This proves that it would find a stored secret.
    let hint = format!("{}…{}", &key[..7], &key[42..]);
    assert!(rows.contains(&hint) && rows.contains(WALLET));
}

/// A browser with one cookie. It sends requests to a service that runs as a separate process.
struct Browser<'a> {
    service: &'a Process,
    cookie: String,
}

impl Browser<'_> {
    fn send(&mut self, call: Call) -> Page {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let (mut parts, body) = call.header("Cookie", &self.cookie).into_parts();
        let address = self.service.address;
        parts.uri = format!("http://{address}{}", parts.uri).parse().expect("a URI");
        let response = agent.run(axum::http::Request::from_parts(parts, body));
        let (parts, mut body) = response.expect("a response").into_parts();
        let mut source = String::new();
        body.as_reader().read_to_string(&mut source).expect("the whole body");
        if let Some(cookie) = parts.headers.get("set-cookie") {
            let cookie = cookie.to_str().expect("text");
            self.cookie = cookie.split(';').next().expect("a first part").to_owned();
        }
        Page { status: parts.status.as_u16(), headers: parts.headers, source }
    }

    fn get(&mut self, path: &str) -> Page {
        self.send(Call::new("GET", path))
    }

    fn post(&mut self, page: &Page, action: &str, fields: &[(&str, &str)]) -> Page {
        let hidden = page.hidden(action);
        let mut all = fields.to_vec();
        all.extend(hidden.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let call = form(action, &all).header("Origin", "null");
        self.send(call.header("Sec-Fetch-Site", "same-origin"))
    }
}

#[test]
fn no_log_line_contains_a_token_or_a_key() {
    let data_dir = DataDir::new("dashboard-secrets");
    let service = data_dir.start(&["demo", "--log", "trace"]);
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let link = || {
        let call = Call::new("POST", "/v1/dashboard-links").bearer(&admin_key);
        let made = service.send(call.json(json!({"account": WALLET}))).expect(201);
        let url = made.text("/url").to_owned();
        let (_, path) = url.split_once("/dashboard/").expect("a link into the dashboard");
        format!("/dashboard/{path}")
    };
    let unused = link();
    let used = link();
    let mut browser = Browser { service: &service, cookie: String::new() };
    let asked = browser.get(&used).expect(200);
    browser.post(&asked, "/dashboard/enter", &[]).expect(303);
    let session = browser.cookie.split_once('=').expect("a value").1.to_owned();
    let new = "/dashboard/keys/new";
    let page = browser.get(new).expect(200);
    let fields = [("name", "a"), ("access", "read"), ("expires", "never")];
    let key = browser.post(&page, new, &fields).expect(200).key("ta_");
    browser.post(&page, new, &fields).expect(409);
    for path in ["/dashboard/keys", "/dashboard/log", "/dashboard/balance.csv"] {
        browser.get(path).expect(200).does_not_say(&key[3..]);
    }
    // Two of these URLs contain a key, as if somebody had pasted it there. The link has already
    // been used.
    browser.get(&format!("/dashboard/keys/{key}")).expect(404);
    browser.get(&format!("/dashboard/keys?cursor={key}")).expect(200);
    browser.get(&used).expect(410);

    let (status, log) = service.stop();
    assert!(status.success(), "{status}");
    assert!(log.contains("/dashboard/keys"), "the log contains the requests: {log}");
    let token = |link: &str| link.split_once("token=").expect("a token").1.to_owned();
    let (form, csrf) = (page.field(new, "form"), page.field(new, "csrf"));
    for secret in [token(&unused), token(&used), session, form, csrf, key[3..].to_owned()] {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&secret)).collect();
        assert_eq!(lines, Vec::<&str>::new(), "the log has {secret}");
    }
}
