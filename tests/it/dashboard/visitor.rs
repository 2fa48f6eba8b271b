//! A simulated browser, which keeps cookies, submits forms and checks every response.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    net::IpAddr,
};

use axum::{Router, http::HeaderMap};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tollgate::{
    auth::ClientAddress,
    domain::dashboard::WebOrigin,
    state::{AppState, Limits},
};
use tower::ServiceExt as _;

use crate::harness::{
    Answer, App, Call, TestTenant,
    app::service,
    listener::{Listening, SlowRequest},
};

pub const LOOPBACK: &str = "http://127.0.0.1:8080";
pub const SECURE: &str = "https://keys.example.com";

/// A service at a public URL.
pub struct Site {
    pub app: App,
    pub url: &'static str,
    router: Router,
}

/// A simulated browser.
#[derive(Clone)]
pub struct Visitor {
    router: Router,
    url: String,
    /// The client address of the browser's requests. Limits on sign-ins use this address.
    pub address: IpAddr,
    pub cookies: BTreeMap<String, String>,
}

/// A response that the browser received.
pub struct Page {
    pub status: u16,
    pub headers: HeaderMap,
    /// The unchanged body.
    pub source: String,
}

/// Builds the router of a service at a public URL. It uses the node of the app and runs in memory.
pub fn router_at(app: &App, url: &str) -> Router {
    let url = WebOrigin::parse(url).expect("an origin");
    service(AppState::new(app.node.clone(), Limits::default(), url, true))
}

impl Site {
    pub async fn start() -> Self {
        Self::start_at(LOOPBACK).await
    }

    pub async fn start_at(url: &'static str) -> Self {
        let app = App::start().await;
        let router = router_at(&app, url);
        Self { app, url, router }
    }

    /// Sends a request to the API, as the tenant's backend or a bot.
    pub async fn api(&self, call: Call) -> Answer {
        let (status, headers, body) = exchange(&self.router, call, default_address()).await;
        Answer::new(status, headers, body)
    }

    /// Creates a browser that is not signed in.
    pub fn visitor(&self) -> Visitor {
        let (router, url) = (self.router.clone(), self.url.to_owned());
        Visitor { router, url, address: default_address(), cookies: BTreeMap::new() }
    }

    /// Requests a link to the account. Returns its path.
    pub async fn link(&self, tenant: &TestTenant, account: &str) -> String {
        self.link_with(tenant, json!({"account": account})).await
    }

    pub async fn link_with(&self, tenant: &TestTenant, body: Value) -> String {
        let made = self.api(tenant.call("POST", "/v1/dashboard-links").json(body)).await;
        let made = made.expect(201);
        let path = made.text("/url").strip_prefix(self.url);
        path.unwrap_or_else(|| panic!("not at {}: {made:?}", self.url)).to_owned()
    }

    /// Creates a browser, and signs in to the account with a link.
    pub async fn owner(&self, tenant: &TestTenant, account: &str) -> Visitor {
        let link = self.link(tenant, account).await;
        self.owner_by_link(&link).await
    }

    pub async fn owner_by_link(&self, link: &str) -> Visitor {
        let mut owner = self.visitor();
        owner.open_link(link).await.expect_redirect("/dashboard/keys");
        owner
    }

    pub async fn set_dashboard(&self, tenant: &TestTenant, change: Value) -> Answer {
        self.api(tenant.call("PATCH", "/v1/dashboard-settings").json(change)).await
    }
}

/// Creates a browser that uses the service at another public URL.
pub fn visitor_at(app: &App, url: &str) -> Visitor {
    let (router, url) = (router_at(app, url), url.to_owned());
    Visitor { router, url, address: default_address(), cookies: BTreeMap::new() }
}

/// Creates a browser that uses another node on the same database.
pub async fn visitor_on_another_node(site: &Site) -> Visitor {
    Visitor { router: site.app.another_node().await, ..site.visitor() }
}

impl Visitor {
    pub async fn get(&mut self, path: &str) -> Page {
        self.send(Call::new("GET", path)).await
    }

    /// Opens a link, and submits the confirmation page if there is one. Returns the last response.
    pub async fn open_link(&mut self, link: &str) -> Page {
        let page = self.get(link).await;
        if page.status == 200 { self.send_form(&page, "/dashboard/enter", &[]).await } else { page }
    }

    /// Submits fields with the headers that a browser sends from the dashboard's own pages.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        self.send(from_our_page(form(path, fields))).await
    }

    /// Opens a page and submits its form to `action`, with the hidden fields and with `fields`.
    pub async fn submit(&mut self, page: &str, action: &str, fields: &[(&str, &str)]) -> Page {
        let page = self.get(page).await.expect(200);
        self.send_form(&page, action, fields).await
    }

    /// Submits the form to `action` on a page that is already open.
    pub async fn send_form(&mut self, page: &Page, action: &str, fields: &[(&str, &str)]) -> Page {
        self.send(page.submission(action, fields)).await
    }

    /// Opens a page and begins to submit its form to `action` over a connection to a service.
    pub async fn begin_form(
        &mut self,
        server: &Listening,
        page: &str,
        action: &str,
        fields: &[(&str, &str)],
    ) -> SlowRequest {
        let page = self.get(page).await.expect(200);
        let call = self.with_cookies(page.submission(action, fields));
        SlowRequest::begin(server.address, call).await
    }

    fn with_cookies(&self, call: Call) -> Call {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if cookies.is_empty() { call } else { call.header("Cookie", &cookies.join("; ")) }
    }

    /// Sends a request unchanged, with the cookies of this browser.
    pub async fn send(&mut self, call: Call) -> Page {
        let call = self.with_cookies(call);
        let path = call.clone().into_parts().0.uri.to_string();
        let (status, headers, body) = exchange(&self.router, call, self.address).await;
        for cookie in headers.get_all("set-cookie") {
            self.store_cookie(cookie.to_str().expect("text"));
        }
        let page = Page { status, headers, source: String::from_utf8_lossy(&body).into_owned() };
        page.check(&path, &self.url);
        page
    }

    fn store_cookie(&mut self, cookie: &str) {
        let (pair, attributes) = cookie.split_once(';').expect("a cookie has attributes");
        let (name, value) = pair.split_once('=').expect("a cookie has a value");
        if attributes.to_ascii_lowercase().contains("max-age=0") || value.is_empty() {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Returns the session token of this browser.
    pub fn session(&self) -> &str {
        let mut named = self.cookies.iter().filter(|(name, _)| name.ends_with("tollgate_session"));
        named.next().map(|(_, value)| value.as_str()).expect("a session")
    }
}

impl Page {
    /// Asserts the headers and the status range of a response under `/dashboard`.
    fn check(&self, path: &str, url: &str) {
        for (name, value) in HEADERS {
            let values: Vec<_> = self.headers.get_all(*name).iter().collect();
            assert_eq!(values, [value], "{name} of {path}: {self:?}");
        }
        let hsts = url.starts_with("https:").then_some("max-age=31536000");
        assert_eq!(self.header("strict-transport-security"), hsts, "{path}");
        let is_cacheable =
            ["/assets/", "/accent/", "/logo/"].iter().any(|part| path.contains(part));
        if !is_cacheable || self.status != 200 {
            assert_eq!(self.header("cache-control"), Some("no-store"), "{path}: {self:?}");
        }
        assert!(self.header("x-request-id").is_some(), "{path}");
        assert!(self.status < 500, "{path}: {self:?}");
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Asserts that the response redirects to this address.
    #[track_caller]
    pub fn expect_redirect(self, to: &str) -> Self {
        assert_eq!((self.status, self.header("location")), (303, Some(to)), "{self:?}");
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the unescaped source of the page.
    pub fn text(&self) -> String {
        unescape(&self.source)
    }

    #[track_caller]
    pub fn says(&self, text: &str) {
        assert!(self.text().contains(text), "the page does not say {text:?}: {self:?}");
    }

    #[track_caller]
    pub fn does_not_say(&self, text: &str) {
        assert!(!self.source.contains(text), "the page says {text:?}: {self:?}");
        assert!(!self.text().contains(text), "the page says {text:?}: {self:?}");
    }

    /// Finds the message that the page asks the wallet to sign.
    #[track_caller]
    pub fn message(&self) -> String {
        let text = self.text();
        let beginning = text.find(" asks you to sign in to ");
        let middle = beginning.unwrap_or_else(|| panic!("no message: {self:?}"));
        let start = text[..middle].rfind(['>', '\n', '"']).map_or(0, |at| at + 1);
        let end =
            text[middle..].find("Expires At: ").expect("the last line of the message") + middle;
        let end = text[end..].find(['<', '"', '\r']).expect("the end of the message") + end;
        text[start..end].trim_end().to_owned()
    }

    /// Finds the key that the page shows.
    #[track_caller]
    pub fn key(&self, prefix: &str) -> String {
        find_key(&self.source, prefix).unwrap_or_else(|| panic!("the page shows no key: {self:?}"))
    }

    /// Returns the hidden fields of the form whose target is `action`.
    #[track_caller]
    pub fn hidden(&self, action: &str) -> Vec<(String, String)> {
        let form = self.form(action);
        let tags = tags(&form, "input");
        tags.iter()
            .filter(|tag| attribute(tag, "type").as_deref() == Some("hidden"))
            .map(|tag| {
                let name = attribute(tag, "name").expect("a field has a name");
                (name, attribute(tag, "value").unwrap_or_default())
            })
            .collect()
    }

    /// Returns the value of a hidden field of the form whose target is `action`.
    #[track_caller]
    pub fn field(&self, action: &str, name: &str) -> String {
        let hidden = self.hidden(action);
        let field = hidden.into_iter().find(|(field, _)| field == name);
        field.unwrap_or_else(|| panic!("no field {name}: {self:?}")).1
    }

    /// Builds the request that submits the form whose target is `action`, with the hidden fields
    /// and with `fields`.
    #[track_caller]
    fn submission(&self, action: &str, fields: &[(&str, &str)]) -> Call {
        let hidden = self.hidden(action);
        let typed = |name: &str| fields.iter().any(|(field, _)| *field == name);
        let mut all: Vec<_> = fields.to_vec();
        all.extend(
            hidden
                .iter()
                .filter(|(name, _)| !typed(name))
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        from_our_page(form(action, &all))
    }

    /// Returns the source of the form whose target is `action`, up to its closing tag.
    #[track_caller]
    fn form(&self, action: &str) -> String {
        let forms = self.source.match_indices("<form").map(|(at, _)| &self.source[at..]);
        let forms = forms.map(|rest| rest.split("</form>").next().expect("there is a first part"));
        let mut matching = forms.filter(|form| {
            let tag = form.split('>').next().expect("there is a first part");
            attribute(tag, "action").as_deref() == Some(action)
        });
        matching.next().unwrap_or_else(|| panic!("no form to {action}: {self:?}")).to_owned()
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {value:?}")?;
        }
        f.write_str(&self.source)
    }
}

/// Headers that every response under `/dashboard` contains exactly once.
const HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
];

/// Returns the default client address of visitors.
fn default_address() -> IpAddr {
    "192.0.2.7".parse().expect("an address")
}

async fn exchange(router: &Router, call: Call, from: IpAddr) -> (u16, HeaderMap, Vec<u8>) {
    let mut request = call.into_request();
    request.extensions_mut().insert(ClientAddress(from));
    let response = router.clone().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    (parts.status.as_u16(), parts.headers, body.to_vec())
}

/// Builds the request that submits a form, without the headers that name its origin.
pub fn form(path: &str, fields: &[(&str, &str)]) -> Call {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    Call::new("POST", path).body("application/x-www-form-urlencoded", pairs.join("&"))
}

/// Adds the headers that a browser sends from a page with the policy `no-referrer`: `Origin` is
/// `null`, but `Sec-Fetch-Site` is `same-origin`.
fn from_our_page(call: Call) -> Call {
    call.header("Origin", "null").header("Sec-Fetch-Site", "same-origin")
}

/// Percent-encodes all characters except ASCII letters and digits.
pub fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Finds the first key with this prefix.
pub fn find_key(source: &str, prefix: &str) -> Option<String> {
    let in_body = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    source.match_indices(prefix).find_map(|(at, _)| {
        let body = source[at + prefix.len()..].bytes();
        let length = body.take_while(|byte| in_body(*byte)).count();
        (length == 43).then(|| source[at..at + prefix.len() + 43].to_owned())
    })
}

/// Finds the tags with this name. Returns them without angle brackets.
pub fn tags(source: &str, name: &str) -> Vec<String> {
    let opening = format!("<{name}");
    let tags = source.match_indices(&opening).map(|(at, _)| &source[at + 1..]);
    tags.filter(|rest| rest[name.len()..].starts_with(|c: char| c.is_whitespace() || c == '>'))
        .map(|rest| rest.split('>').next().expect("there is a first part").to_owned())
        .collect()
}

/// Returns the unescaped value of an attribute of a tag.
pub fn attribute(tag: &str, name: &str) -> Option<String> {
    let beginning = format!("{name}=\"");
    let mut places = tag.match_indices(&beginning).map(|(at, _)| at);
    // The match may be the end of a longer name.
    let at = places.find(|at| tag[..*at].ends_with(|c: char| c.is_whitespace()))?;
    tag[at + beginning.len()..].split('"').next().map(unescape)
}

fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    for (escaped, character) in [
        ("&lt;", "<"),
        ("&#60;", "<"),
        ("&gt;", ">"),
        ("&#62;", ">"),
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&#x2F;", "/"),
        ("&amp;", "&"),
        ("&#38;", "&"),
    ] {
        plain = plain.replace(escaped, character);
    }
    plain
}
