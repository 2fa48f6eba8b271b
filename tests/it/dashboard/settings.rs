//! The dashboard settings of a tenant accept only safe values.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::visitor::Site;

/// Creates a file of this length that starts with these bytes. Returns it in base64.
fn base64_file(beginning: &[u8], length: usize) -> String {
    let mut bytes = beginning.to_vec();
    bytes.resize(length.max(beginning.len()), 0);
    STANDARD.encode(bytes)
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
const JPEG: &[u8] = b"\xff\xd8\xff\xe0\0\x10JFIF\0";
const WEBP: &[u8] = b"RIFF\x30\0\0\0WEBPVP8 ";

#[tokio::test]
async fn settings_are_empty_by_default_and_absent_members_are_kept() {
    let site = Site::start().await;
    let tenant = &site.app.tronagg;
    let get = || site.api(tenant.call("GET", "/v1/dashboard-settings"));
    let defaults = json!({
        "name": null, "color": null, "logo": null, "return_origins": [], "wallet_sign_in": "off",
        "owner_rate_limits": false, "client_addresses": "full",
    });
    assert_eq!(get().await.expect(200).json, defaults);
    let change = json!({
        "name": "  TronAgg ", "color": "#C2410C", "logo": base64_file(PNG, 100),
        "return_origins": ["https://app.tronagg.example", "HTTPS://App.TronAgg.example:443"],
        "wallet_sign_in": "existing", "owner_rate_limits": true,
    });
    let set = site.set_dashboard(tenant, change).await.expect(200);
    assert_eq!(set.text("/name"), "TronAgg");
    assert_eq!(set.text("/color"), "#c2410c");
    assert_eq!(set.text("/logo/media_type"), "image/png");
    assert_eq!(set.json["return_origins"], json!(["https://app.tronagg.example"]));
    assert_eq!(set.json["owner_rate_limits"], true);
    assert_eq!(get().await.expect(200).json, set.json);
    let kept = site.set_dashboard(tenant, json!({"name": null})).await.expect(200);
    assert_eq!((&kept.json["name"], kept.text("/color")), (&Value::Null, "#c2410c"));
    assert_eq!(kept.json["logo"], set.json["logo"]);
    assert_eq!(kept.json["owner_rate_limits"], true);
    let cleared = json!({
        "color": null, "logo": null, "return_origins": [], "wallet_sign_in": "off",
        "owner_rate_limits": false, "client_addresses": "full",
    });
    assert_eq!(site.set_dashboard(tenant, cleared).await.expect(200).json, defaults);
    // The settings of another tenant have not changed.
    site.set_dashboard(tenant, json!({"name": "TronAgg"})).await.expect(200);
    let theirs = site.api(site.app.tradetally.call("GET", "/v1/dashboard-settings")).await;
    assert_eq!(theirs.expect(200).json, defaults);
}

#[tokio::test]
async fn pages_show_the_name_colour_and_logo_of_the_tenant() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let mut owner = site.owner(&site.app.tronagg, wallet).await;
    let plain = owner.get("/dashboard/keys").await.expect(200);
    plain.says("tronagg");
    assert!(!plain.source.contains("/dashboard/accent/"), "{plain:?}");
    let change = json!({"name": "Tron & Agg", "color": "#c2410c", "logo": base64_file(WEBP, 200)});
    let set = site.set_dashboard(&site.app.tronagg, change).await.expect(200);
    let logo = set.text("/logo/url").strip_prefix(site.url).expect("it is at the public URL");
    let page = owner.get("/dashboard/keys").await.expect(200);
    page.says("Tron & Agg");
    assert!(page.source.contains("/dashboard/accent/c2410c.css"), "{page:?}");
    assert!(page.source.contains(&format!("src=\"{logo}\"")), "{page:?}");
    let picture = site.visitor().get(logo).await.expect(200);
    assert_eq!(picture.header("content-type"), Some("image/webp"));
    // The URL returns 404 for another tenant, and after the logo has been removed.
    let other = site.app.tradetally.tenant.id.to_string();
    let theirs = logo.replace(&site.app.tronagg.tenant.id.to_string(), &other);
    assert_ne!(theirs, logo);
    site.visitor().get(&theirs).await.expect(404);
    site.set_dashboard(&site.app.tronagg, json!({"logo": null})).await.expect(200);
    site.visitor().get(logo).await.expect(404);
    for (bytes, media_type) in [(PNG, "image/png"), (JPEG, "image/jpeg"), (WEBP, "image/webp")] {
        let set = site
            .set_dashboard(&site.app.tronagg, json!({"logo": base64_file(bytes, 32_768)}))
            .await;
        assert_eq!(set.expect(200).text("/logo/media_type"), media_type);
    }
}

#[tokio::test]
async fn unsafe_settings_are_refused() {
    let site = Site::start().await;
    let svg = STANDARD.encode("<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"/>");
    let gif = base64_file(b"GIF89a", 100);
    let html = STANDARD.encode("<!doctype html><script>alert(1)</script>");
    let long = "a".repeat(61);
    let many: Vec<String> = (0..21).map(|n| format!("https://{n}.example")).collect();
    for (member, value) in [
        ("name", json!("")),
        ("name", json!(" ")),
        ("name", json!(long)),
        ("name", json!("two\nlines")),
        ("name", json!(7)),
        ("color", json!("red")),
        ("color", json!("#fff")),
        ("color", json!("#12345g")),
        ("color", json!("#123456; }")),
        ("color", json!("url(x)")),
        ("logo", json!(svg)),
        ("logo", json!(gif)),
        ("logo", json!(html)),
        ("logo", json!("")),
        ("logo", json!("not base64!")),
        ("logo", json!("https://evil.example/logo.png")),
        ("logo", json!("data:image/png;base64,iVBORw0KGgo=")),
        ("logo", json!(base64_file(PNG, 32_769))),
        ("return_origins", json!(null)),
        ("return_origins", json!("https://a.example")),
        ("return_origins", json!(many)),
        ("return_origins", json!(["javascript:alert(1)"])),
        ("return_origins", json!(["http://a.example"])),
        ("return_origins", json!(["https://a.example/path"])),
        ("return_origins", json!(["https://user@a.example"])),
        ("return_origins", json!(["https://*.example"])),
        ("return_origins", json!(["null"])),
        ("return_origins", json!(["ftp://a.example"])),
        ("return_origins", json!([7])),
        ("wallet_sign_in", json!("on")),
        ("wallet_sign_in", json!(null)),
        ("owner_rate_limits", json!(null)),
        ("owner_rate_limits", json!("true")),
        ("css", json!("body { display: none }")),
    ] {
        let answer = site.set_dashboard(&site.app.tronagg, json!({member: value.clone()})).await;
        let answer = answer.expect_problem(422, "validation_failed");
        let reported = answer.errors_at();
        assert!(
            reported.iter().all(|at| at.starts_with(&format!("/{member}"))),
            "{value}: {reported:?}"
        );
        assert_eq!(reported.len(), 1, "{value}: {reported:?}");
    }
    // Wallet sign-in needs a tenant whose account ids are TRON addresses.
    let change = json!({"wallet_sign_in": "existing"});
    let answer = site.set_dashboard(&site.app.tradetally, change).await;
    assert_eq!(answer.expect_problem(422, "validation_failed").errors_at(), ["/wallet_sign_in"]);
    let settings =
        site.api(site.app.tronagg.call("GET", "/v1/dashboard-settings")).await.expect(200);
    assert_eq!(settings.json["name"], Value::Null);
}

#[tokio::test]
async fn all_invalid_settings_are_reported_together() {
    let site = Site::start().await;
    let change = json!({
        "name": "", "color": "red", "logo": "x", "return_origins": ["x"],
        "wallet_sign_in": "x", "owner_rate_limits": 1, "y": 1,
    });
    let answer = site.set_dashboard(&site.app.tronagg, change).await;
    let answer = answer.expect_problem(422, "validation_failed");
    let mut reported: Vec<_> = answer
        .errors_at()
        .iter()
        .map(|at| at[1..].split('/').next().expect("there is a first part").to_owned())
        .collect();
    reported.sort_unstable();
    let members =
        ["color", "logo", "name", "owner_rate_limits", "return_origins", "wallet_sign_in", "y"];
    assert_eq!(reported, members);
}

#[tokio::test]
async fn only_the_settings_route_accepts_a_larger_body() {
    let site = Site::start().await;
    let large = json!({"logo": base64_file(PNG, 32_768)});
    site.set_dashboard(&site.app.tronagg, large).await.expect(200);
    let too_large = json!({"name": "a".repeat(70_000)});
    site.set_dashboard(&site.app.tronagg, too_large).await.expect_problem(413, "body_too_large");
    let call = site.app.tronagg.call("POST", "/v1/dashboard-links");
    let elsewhere = json!({"account": "a".repeat(20_000)});
    site.api(call.json(elsewhere)).await.expect_problem(413, "body_too_large");
}

#[tokio::test]
async fn audit_trail_records_that_owners_may_lower_rate_limits() {
    let site = Site::start().await;
    let tenant = &site.app.tronagg;
    let newest_event = async || {
        let events = site.api(tenant.call("GET", "/v1/audit-events?limit=1")).await.expect(200);
        events.data()[0].clone()
    };
    let allow = json!({"owner_rate_limits": true});
    site.set_dashboard(tenant, allow.clone()).await.expect(200);
    let event = newest_event().await;
    assert_eq!(event["action"], "dashboard.change");
    assert_eq!(event["detail"], json!({"owner_rate_limits": {"from": false, "to": true}}));
    site.set_dashboard(tenant, allow).await.expect(200);
    assert_eq!(newest_event().await, event, "the repeated change has no effect");
}
