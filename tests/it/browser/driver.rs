//! Starts chromedriver for one test, and sends it commands that the WebDriver standard does not
//! include.

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

/// The number of browsers that this process has started, for the names of their directories.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A browser with its own profile. Dropping the driver removes the profile.
pub struct Driver {
    process: Chromedriver,
    pub client: Client,
}

/// The chromedriver process and its directory. Dropping this value ends the process and the
/// browser, and removes the directory, even if the test fails.
struct Chromedriver {
    child: Child,
    directory: PathBuf,
}

impl Driver {
    pub async fn start(scripts: Scripts) -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let directory = cluster::directory(&format!("browser-{number}"));
        let capabilities = capabilities(&directory, scripts);
        let starting = tokio::task::spawn_blocking(move || Chromedriver::start(directory)).await;
        let (process, port) = starting.expect("no panic");
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities.as_object().expect("an object").clone());
        let client = builder.connect(&format!("http://127.0.0.1:{port}")).await;
        Self { process, client: client.expect("chromedriver starts Chromium") }
    }

    /// Sends a command of the DevTools protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.command("goog/cdp/execute", body).await
    }

    /// Returns the console messages since the last call.
    pub async fn console(&self) -> Vec<Value> {
        let log = self.command("se/log", json!({"type": "browser"})).await;
        log.as_array().expect("a list").clone()
    }

    /// Returns the directory to which the browser downloads files.
    pub fn downloads(&self) -> PathBuf {
        downloads(&self.process.directory)
    }

    /// Takes a screenshot of the whole page. Returns a PNG.
    pub async fn screenshot(&self) -> Vec<u8> {
        let metrics = self.devtools("Page.getLayoutMetrics", json!({})).await;
        let size = &metrics["cssContentSize"];
        let clip =
            json!({"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1});
        let parameters = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let image = self.devtools("Page.captureScreenshot", parameters).await;
        let image = image["data"].as_str().expect("an image");
        STANDARD.decode(image).expect("base64")
    }

    async fn command(&self, path: &'static str, body: Value) -> Value {
        let sent = self.client.issue_cmd(ChromeCommand { path, body }).await;
        sent.unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

impl Chromedriver {
    /// Starts chromedriver on a free port, and returns when it listens.
    fn start(directory: PathBuf) -> (Self, u16) {
        // chromedriver chooses a port that is free on 127.0.0.1, and ends if the port is not free
        // on ::1 too.
        let started = std::iter::repeat_with(start_chromedriver).take(MAX_STARTS).flatten().next();
        let (child, port) = started.expect("chromedriver listens on a port");
        (Self { child, directory }, port)
    }
}

/// Starts chromedriver. Returns the process and its port, or `None` if it ended without listening.
fn start_chromedriver() -> Option<(Child, u16)> {
    let program = cluster::variable("CHROMEDRIVER").unwrap_or_else(|| "chromedriver".into());
    let mut child = Command::new(program)
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // The browser joins the process group. Otherwise it would outlive chromedriver.
        .process_group(0)
        .spawn()
        .expect("chromedriver, which scripts/ensure-chromium.sh installs");
    let stdout = child.stdout.take().expect("a piped stdout");
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let port = lines.find_map(|line| {
        let (_, port) = line.split_once("started successfully on port ")?;
        port.trim_end_matches('.').parse().ok()
    });
    let Some(port) = port else {
        let _ = child.wait();
        return None;
    };
    // Without this thread, the pipe would fill up and block chromedriver.
    std::thread::spawn(move || lines.for_each(drop));
    Some((child, port))
}

impl Drop for Chromedriver {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // The browser is in the process group. An error means that the group has already ended.
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
        let _ = self.child.wait();
        // An error leaves the files in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// How often chromedriver is started until it listens.
const MAX_STARTS: usize = 5;

/// A command that the WebDriver standard does not include.
#[derive(Debug)]
struct ChromeCommand {
    /// Relative to the path of the session.
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for ChromeCommand {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        let session = session.expect("the session is open while its client exists");
        base.join(&format!("session/{session}/{}", self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

fn downloads(directory: &Path) -> PathBuf {
    directory.join("downloads")
}

fn capabilities(directory: &Path, scripts: Scripts) -> Value {
    let profile = format!("--user-data-dir={}", directory.join("profile").display());
    let mut arguments = vec![
        "--headless=new".to_owned(),
        profile,
        "--no-first-run".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-sync".to_owned(),
        // A container's /dev/shm can be too small for Chromium.
        "--disable-dev-shm-usage".to_owned(),
        "--lang=en-GB".to_owned(),
    ];
    if getuid().is_root() {
        // Chromium's sandbox does not work as root. The sandbox can be off, because the tests load
        // only Tollgate's own pages.
        arguments.push("--no-sandbox".to_owned());
    }
    let mut preferences = json!({
        "download.default_directory": downloads(directory),
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
