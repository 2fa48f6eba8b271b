//! chromedriver, started for one test, and the commands that only it knows.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use axum::http::Method;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use fantoccini::{Client, ClientBuilder, wd::WebDriverCompatibleCommand};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, getuid, kill_process_group};
use serde_json::{Value, json};
use url::{ParseError, Url};

use super::world::Scripts;
use crate::harness::cluster;

/// Browsers of this process, for their names.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A browser with a profile of its own, which goes with it.
pub struct Driver {
    process: Chromedriver,
    pub client: Client,
}

/// The process that starts the browser, and the directory of the two. Both end with it, also when
/// a test fails.
struct Chromedriver {
    child: Child,
    place: PathBuf,
}

impl Driver {
    pub async fn start(scripts: Scripts) -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let place = cluster::directory(&format!("browser-{number}"));
        let capabilities = capabilities(&place, scripts);
        let starting = tokio::task::spawn_blocking(move || Chromedriver::start(place)).await;
        let (process, port) = starting.expect("no panic");
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities.as_object().expect("an object").clone());
        let client = builder.connect(&format!("http://127.0.0.1:{port}")).await;
        Self { process, client: client.expect("chromedriver starts Chromium") }
    }

    /// A command of the DevTools protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.command("goog/cdp/execute", body).await
    }

    /// What the browser has written to its console since this was asked last.
    pub async fn console(&self) -> Vec<Value> {
        let log = self.command("se/log", json!({"type": "browser"})).await;
        log.as_array().expect("a list").clone()
    }

    /// Where the browser puts what is downloaded.
    pub fn downloads(&self) -> PathBuf {
        downloads(&self.process.place)
    }

    /// The whole page, as a PNG.
    pub async fn photograph(&self) -> Vec<u8> {
        let metrics = self.devtools("Page.getLayoutMetrics", json!({})).await;
        let size = &metrics["cssContentSize"];
        let clip =
            json!({"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1});
        let parameters = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let picture = self.devtools("Page.captureScreenshot", parameters).await;
        let picture = picture["data"].as_str().expect("a picture");
        STANDARD.decode(picture).expect("base64")
    }

    async fn command(&self, path: &'static str, body: Value) -> Value {
        let sent = self.client.issue_cmd(ChromeCommand { path, body }).await;
        sent.unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

impl Chromedriver {
    /// Starts it on a free port, and returns when it listens.
    fn start(place: PathBuf) -> (Self, u16) {
        let program = cluster::variable("CHROMEDRIVER").unwrap_or_else(|| "chromedriver".into());
        let mut child = Command::new(program)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // With the browser that it starts, which would outlive it.
            .process_group(0)
            .spawn()
            .expect("chromedriver is there: scripts/ensure-chromium.sh installs it");
        let stdout = child.stdout.take().expect("it is piped");
        let process = Self { child, place };
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        // What else it writes has to go somewhere.
        std::thread::spawn(move || lines.for_each(drop));
        (process, port.expect("it says on which port it listens"))
    }
}

impl Drop for Chromedriver {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // The browser is in the group. What is gone already needs no end.
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
        let _ = self.child.wait();
        // What is left is in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.place);
    }
}

/// A command of chromedriver that is in no standard.
#[derive(Debug)]
struct ChromeCommand {
    /// Below that of the session.
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for ChromeCommand {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        let session = session.expect("the session is open as long as there is a client");
        base.join(&format!("session/{session}/{}", self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

fn downloads(place: &Path) -> PathBuf {
    place.join("downloads")
}

fn capabilities(place: &Path, scripts: Scripts) -> Value {
    let profile = format!("--user-data-dir={}", place.join("profile").display());
    let mut arguments = vec![
        "--headless=new".to_owned(),
        profile,
        "--no-first-run".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-sync".to_owned(),
        // A container's /dev/shm can be too small for it.
        "--disable-dev-shm-usage".to_owned(),
        "--lang=en-GB".to_owned(),
    ];
    if getuid().is_root() {
        // Its sandbox refuses root. It loads nothing but our own pages here.
        arguments.push("--no-sandbox".to_owned());
    }
    let mut preferences = json!({
        "download.default_directory": downloads(place),
        "download.prompt_for_download": false,
    });
    if scripts == Scripts::Off {
        let blocked = json!(2);
        preferences["profile.managed_default_content_settings.javascript"] = blocked;
    }
    let mut options = json!({"args": arguments, "prefs": preferences});
    if let Some(chromium) = cluster::variable("CHROMIUM") {
        options["binary"] = json!(chromium.to_string_lossy());
    }
    json!({
        "browserName": "chrome",
        "goog:chromeOptions": options,
        "goog:loggingPrefs": {"browser": "ALL"},
    })
}
