//! Runs a service on a port, and a browser that uses the service.

use std::{net::SocketAddr, path::Path, time::Duration};

use fantoccini::{Client, Locator, elements::Element};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tollgate::http::{Connections, ServerLimits, TrustedProxies, serve};

use super::driver::Driver;
use crate::{
    dashboard::visitor,
    harness::{Answer, App, Call, PATIENCE, TestTenant, eventually, process},
};

/// Whether pages may run their scripts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scripts {
    On,
    Off,
}

pub struct World {
    pub app: App,
    /// The public URL of the service.
    pub url: String,
    address: SocketAddr,
    pub scripts: Scripts,
    pub driver: Driver,
}

impl World {
    pub async fn start(scripts: Scripts) -> Self {
        let app = App::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let url = format!("http://{address}");
        let router = visitor::router_at(&app, &url);
        // The server stops when the test's runtime shuts down.
        let never = std::future::pending();
        let proxies = TrustedProxies::default();
        let limits = ServerLimits::default();
        let connections = Connections::new(&limits);
        tokio::spawn(serve(listener, router, limits, connections, proxies, never));
        let driver = Driver::start(scripts).await;
        let world = Self { app, url, address, scripts, driver };
        world.set_viewport(1280, "light").await;
        world
    }

    pub fn client(&self) -> &Client {
        &self.driver.client
    }

    /// Sends a request to the API over the network.
    pub async fn call(&self, call: Call) -> Answer {
        let address = self.address;
        let answer = tokio::task::spawn_blocking(move || process::send(address, call)).await;
        answer.expect("no panic")
    }

    /// Sends a request with this key. Returns the status of the response.
    pub async fn status(&self, key: &str) -> u16 {
        self.call(Call::new("GET", "/v1/me").header("X-API-Key", key)).await.status
    }

    /// Requests a new dashboard link to the account, as the tenant's backend does.
    pub async fn link(&self, tenant: &TestTenant, account: &str) -> String {
        self.link_with(tenant, json!({"account": account})).await
    }

    pub async fn link_with(&self, tenant: &TestTenant, body: Value) -> String {
        let made = self.call(tenant.call("POST", "/v1/dashboard-links").json(body)).await;
        made.expect(201).text("/url").to_owned()
    }

    /// Signs in to the account with a link.
    pub async fn sign_in_by_link(&self, tenant: &TestTenant, account: &str) {
        let link = self.link(tenant, account).await;
        self.open_link(&link).await;
    }

    /// Opens a link as if the user clicked it in a chat, and submits the confirmation page.
    pub async fn open_link(&self, link: &str) {
        self.open(link).await;
        self.click("#continue-as").await;
        self.is_at("/dashboard/keys").await;
    }

    pub async fn set_dashboard(&self, tenant: &TestTenant, change: Value) {
        let call = tenant.call("PATCH", "/v1/dashboard-settings").json(change);
        self.call(call).await.expect(200);
    }
}

/// Simulates what a person does and sees in the browser.
impl World {
    /// Opens a URL or a path of the service.
    pub async fn open(&self, address: &str) {
        let url = if address.starts_with('/') {
            format!("{}{address}", self.url)
        } else {
            address.into()
        };
        self.client().goto(&url).await.unwrap_or_else(|error| panic!("{address}: {error}"));
    }

    pub async fn reload(&self) {
        self.client().refresh().await.expect("a reload");
    }

    /// Waits for an element that matches. Returns the first such element.
    pub async fn find(&self, selector: &str) -> Element {
        let wait = self.client().wait().at_most(PATIENCE).every(Duration::from_millis(20));
        match wait.for_element(Locator::Css(selector)).await {
            Ok(element) => element,
            Err(error) => panic!("{selector}: {error}\n{}", self.describe().await),
        }
    }

    pub async fn has(&self, selector: &str) -> bool {
        let found = self.client().find_all(Locator::Css(selector)).await;
        !found.expect("a selector").is_empty()
    }

    pub async fn click(&self, selector: &str) {
        if let Err(error) = self.find(selector).await.click().await {
            panic!("{selector}: {error}\n{}", self.describe().await);
        }
    }

    /// Clears a field and types into it.
    pub async fn fill(&self, selector: &str, text: &str) {
        let field = self.find(selector).await;
        field.clear().await.expect("a field");
        if !text.is_empty() {
            field.send_keys(text).await.expect("a field for text");
        }
    }

    pub async fn select(&self, selector: &str, value: &str) {
        let chosen = self.find(selector).await.select_by_value(value).await;
        chosen.unwrap_or_else(|error| panic!("{value} of {selector}: {error}"));
    }

    pub async fn text(&self, selector: &str) -> String {
        self.find(selector).await.text().await.expect("a text")
    }

    /// Waits until the browser is at this path, with any query.
    pub async fn is_at(&self, path: &str) {
        let is_there = async || {
            let url = self.client().current_url().await;
            url.is_ok_and(|url| url.path() == path)
        };
        eventually(&format!("the browser is at {path}"), is_there).await;
    }

    /// Waits until the page visibly contains this text.
    pub async fn says(&self, text: &str) {
        let says = async || {
            let shown = self.run_or_null("return document.body.innerText").await;
            shown.as_str().is_some_and(|shown| shown.contains(text))
        };
        eventually(&format!("the page says {text:?}"), says).await;
    }

    /// Whether the element is visible. Waits until it exists.
    pub async fn shows(&self, selector: &str) -> bool {
        self.find(selector).await.is_displayed().await.expect("an element")
    }

    /// Sets a date field by script, because the format for typing depends on the locale.
    pub async fn set_day(&self, selector: &str, day: &str) {
        let script = "document.querySelector(arguments[0]).value = arguments[1]";
        let done = self.client().execute(script, vec![json!(selector), json!(day)]).await;
        done.expect("a field");
    }

    /// Returns the source of the page, including invisible parts.
    pub async fn source(&self) -> String {
        self.client().source().await.expect("a page")
    }

    pub async fn run(&self, script: &str) -> Value {
        let done = self.client().execute(script, Vec::new()).await;
        done.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Runs a script while another page may be loading. Returns null if the script cannot run.
    pub async fn run_or_null(&self, script: &str) -> Value {
        self.client().execute(script, Vec::new()).await.unwrap_or_default()
    }

    /// Runs a script that calls its last argument when it is done.
    pub async fn run_async(&self, script: &str, arguments: Vec<Value>) -> Value {
        let done = self.client().execute_async(script, arguments).await;
        done.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Downloads the file that a link points to.
    pub async fn download(&self, selector: &str) -> String {
        let downloads = self.driver.downloads();
        let _ = std::fs::remove_dir_all(&downloads);
        self.click(selector).await;
        let file = || {
            let mut files = std::fs::read_dir(&downloads).ok()?;
            let path = files.find_map(|file| Some(file.ok()?.path()))?;
            // An incomplete download has another extension. An empty file may reserve the name
            // until the download is complete.
            let is_complete = path.extension()? == "csv" && path.metadata().ok()?.len() > 0;
            is_complete.then_some(path)
        };
        eventually("the file is downloaded", async || file().is_some()).await;
        std::fs::read_to_string(file().expect("a file")).expect("a text")
    }

    async fn describe(&self) -> String {
        let url = self.client().current_url().await;
        let place = url.map_or_else(|error| error.to_string(), |url| url.to_string());
        let body = self.client().find(Locator::Css("body")).await;
        let said = match body {
            Ok(body) => body.text().await.unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        format!("{place}:\n{said}")
    }
}

/// Checks that apply to every page.
impl World {
    /// Asserts that the console shows only messages about responses with a 4xx status.
    pub async fn check_console(&self) {
        for entry in self.driver.console().await {
            let message = entry["message"].as_str().unwrap_or_default();
            let is_client_error = entry["source"] == "network"
                && message.starts_with(&format!("{}/dashboard/", self.url))
                && message.contains("the server responded with a status of 4")
                && !message.contains("/dashboard/assets/");
            assert!(is_client_error, "the console says {entry}\n{}", self.describe().await);
        }
    }

    /// Sets the width of the window and the colour scheme.
    pub async fn set_viewport(&self, width: u32, scheme: &str) {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.driver.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.driver.devtools("Emulation.setEmulatedMedia", json!({"features": features})).await;
    }

    /// Asserts that the page is not wider than the window.
    pub async fn check_width(&self, label: &str) {
        let widths = "return [document.documentElement.scrollWidth, window.innerWidth]";
        let widths = self.run(widths).await;
        let (page, window) = (widths[0].as_f64(), widths[1].as_f64());
        if page <= window {
            return;
        }
        let wide = "return [...document.querySelectorAll('body *')]
            .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5)
            .slice(0, 5).map(e => e.outerHTML.slice(0, 120))";
        panic!(
            "{label} is {page:?} pixels wide in a window of {window:?}: {:#}",
            self.run(wide).await
        );
    }

    /// Asserts that axe finds no accessibility violation.
    pub async fn check_axe(&self, label: &str) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/browser-test/axe.min.js");
        let axe = std::fs::read_to_string(file);
        let axe = axe.expect("axe-core, which scripts/ensure-axe.sh installs");
        let script = format!(
            "{axe}; const done = arguments[arguments.length - 1];
             const rules = {{'target-size': {{enabled: true}}}};
             window.axe.run(document, {{rules, resultTypes: ['violations']}}).then(
                 result => done(result.violations.map(violation => ({{
                     rule: violation.id,
                     help: violation.help,
                     places: violation.nodes.map(node => node.html.slice(0, 200) + ' -- ' +
                         node.failureSummary),
                 }}))),
                 error => done(String(error)))"
        );
        let found = self.run_async(&script, Vec::new()).await;
        assert_eq!(found, json!([]), "axe on {label}: {found:#}");
    }

    /// Saves a screenshot of the page to `target/screenshots/`.
    pub async fn save_screenshot(&self, name: &str) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        std::fs::create_dir_all(&directory).expect("a directory");
        let image = self.driver.screenshot().await;
        std::fs::write(directory.join(format!("{name}.png")), image).expect("a written file");
    }
}
