//! A real nginx in front of Tollgate. One test runs the exact configuration in the guide to
//! gateways between clients and a backend. The other tests balance requests between two nodes.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tollgate::{http::ServerLimits, state::Limits};

use crate::harness::{
    App, Call, PATIENCE, app::NewKey, cluster, data_dir::DataDir, listener::listen,
    process::Process, within_patience,
};

/// The address of Tollgate in the guide. The test replaces it with the address of the process that
/// it starts.
const ADDRESS_IN_GUIDE: &str = "127.0.0.1:8080";

/// Returns the only nginx block of the guide, with this address of Tollgate.
fn block_of_guide(tollgate: SocketAddr) -> String {
    let guide = include_str!("../../docs/src/how-to/gate-with-a-gateway.md");
    let mut blocks = guide.split("```nginx\n").skip(1);
    let (Some(block), None) = (blocks.next(), blocks.next()) else {
        panic!("the guide must have exactly one block for nginx")
    };
    let block = block.split("```").next().expect("a split has a first part");
    assert_eq!(block.matches(ADDRESS_IN_GUIDE).count(), 1, "{block}");
    block.replace(ADDRESS_IN_GUIDE, &tollgate.to_string())
}

/// Starts a backend on its own thread. Its response lists the headers that identify the caller, and
/// any API keys that the backend received.
fn start_backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("the listener has an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            answer(&stream);
        }
    });
    address
}

fn answer(mut stream: &TcpStream) {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let headers = lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase());
    let mut shown: Vec<String> = headers
        .filter(|line| line.starts_with("x-tollgate-") || line.starts_with("x-api-key"))
        .collect();
    shown.sort();
    let body = shown.join("\n");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    // nginx may have disconnected, so an error here is not a failure.
    let _ = stream.write_all((head + &body).as_bytes());
}

/// A running nginx. It listens on a socket in its directory.
struct Nginx {
    child: Child,
    directory: PathBuf,
}

impl Nginx {
    /// Starts an nginx with this `upstream` block and these directives in its `server` block.
    fn start(name: &str, upstream: &str, server: &str) -> Self {
        let directory = cluster::directory(name);
        std::fs::create_dir_all(&directory).expect("the directory can be created");
        let configuration = directory.join("nginx.conf");
        let text = configuration_of(&directory.display().to_string(), upstream, server);
        std::fs::write(&configuration, text).expect("the configuration is written");
        let log =
            std::fs::File::create(directory.join("stderr")).expect("the log file can be created");
        let program = cluster::variable("NGINX").unwrap_or_else(|| "nginx".into());
        // On Debian, the PATH of an ordinary user does not contain these directories.
        let mut path = cluster::variable("PATH").unwrap_or_default();
        path.push(":/usr/local/sbin:/usr/sbin:/sbin");
        let child = Command::new(program)
            .env("PATH", path)
            .arg("-p")
            .arg(&directory)
            .arg("-c")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("scripts/ensure-nginx.sh has installed nginx");
        let mut nginx = Self { child, directory };
        nginx.wait_until_it_listens();
        nginx
    }

    fn wait_until_it_listens(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(self.socket()).is_err() {
            let exited = self.child.try_wait().expect("the status can be read");
            let ready = exited.is_none() && Instant::now() < deadline;
            assert!(ready, "nginx does not listen: {exited:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("stderr")).unwrap_or_default()
    }

    /// Sends a GET request with a key, and with forged headers that only the gateway may set.
    fn get(&self, path: &str, key: Option<&str>) -> Response {
        let key = key.map(|key| format!("X-API-Key: {key}\r\n")).unwrap_or_default();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n{key}\
             X-Tollgate-Account: forged\r\nX-Tollgate-Key-Id: forged\r\n\r\n"
        );
        let mut stream = UnixStream::connect(self.socket()).expect("nginx listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        stream.write_all(request.as_bytes()).expect("the request is sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("the response can be read");
        Response::new(&text)
    }

    /// Sends a request with these header lines and this body.
    async fn send(&self, line: &str, headers: &str, body: &[u8]) -> Response {
        let head = format!(
            "{line} HTTP/1.1\r\nHost: tollgate\r\nConnection: close\r\n{headers}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let exchange = async {
            let mut stream = tokio::net::UnixStream::connect(self.socket()).await?;
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = within_patience("nginx answers", exchange).await;
        Response::new(&answer.unwrap_or_else(|error| panic!("{line}: {error}\n{}", self.log())))
    }

    /// Makes a purchase, which must succeed.
    async fn buy(&self, key: &NewKey) {
        let headers = format!("X-API-Key: {}\r\n", key.text);
        let bought = self.send("POST /v1/purchases", &headers, br#"{"amount": "0.000001"}"#).await;
        assert_eq!(bought.status, 201, "{bought:?}\n{}", self.log());
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // If this fails, the files stay in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Builds a minimal configuration. nginx runs as a single process in the foreground, so that
/// nothing continues after the test kills it.
fn configuration_of(directory: &str, upstream: &str, server: &str) -> String {
    format!(
        "daemon off;
master_process off;
pid {directory}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/client_body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {upstream}
    server {{
        listen unix:{directory}/socket;
{server}
    }}
}}
"
    )
}

#[derive(PartialEq, Debug)]
struct Response {
    status: u16,
    /// The header lines in lower case, without the date.
    headers: Vec<String>,
    body: String,
}

impl Response {
    fn new(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}"));
        let mut lines = head.lines().map(str::to_lowercase);
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        Self {
            status: status.unwrap_or_else(|| panic!("no status in {text}")),
            headers: lines.filter(|line| !line.starts_with("date:")).collect(),
            body: body.to_owned(),
        }
    }
}

/// A tenant with an account `user-1`, and a key of this account.
struct Tenant {
    admin_key: String,
    key: String,
    key_id: String,
}

impl Tenant {
    fn create(data_dir: &DataDir, service: &Process, name: &str, environment: &str) -> Self {
        let prefix = format!("{name}_{environment}_");
        let create = ["tenant", "create", name, "--environment", environment, "--prefix", &prefix];
        let created = data_dir.json(&[&create[..], &["--json"]].concat());
        let admin_key = created["admin_key"].as_str().expect("the key is a string").to_owned();
        let mut tenant = Self { admin_key, key: String::new(), key_id: String::new() };
        service.send(tenant.call("PUT", "/v1/accounts/user-1")).expect(201);
        (tenant.key, tenant.key_id) = tenant.new_key(service, "orders:write");
        tenant
    }

    fn call(&self, method: &str, path: &str) -> Call {
        Call::new(method, path).bearer(&self.admin_key)
    }

    /// Creates a key of the account. Returns the key and its id.
    fn new_key(&self, service: &Process, scope: &str) -> (String, String) {
        self.new_key_with(service, json!({"name": "a", "scopes": [scope]}))
    }

    fn new_key_with(&self, service: &Process, settings: Value) -> (String, String) {
        let create = self.call("POST", "/v1/accounts/user-1/keys");
        let created = service.send(create.json(settings)).expect(201);
        (created.text("/key").to_owned(), created.text("/id").to_owned())
    }
}

#[test]
fn nginx_accepts_only_keys_of_the_tenant_that_its_configuration_names() {
    let data_dir = DataDir::new("gateways");
    let service = data_dir.start(&["serve"]);
    let own = Tenant::create(&data_dir, &service, "tronagg", "live");
    let test = Tenant::create(&data_dir, &service, "tronagg", "test");
    let other = Tenant::create(&data_dir, &service, "tradetally", "live");
    let upstream = format!("upstream orders_backend {{ server {}; }}", start_backend());
    let nginx = Nginx::start("gateways-nginx", &upstream, &block_of_guide(service.address));

    let order = |key: &str| nginx.get("/orders/7?page=2", Some(key));
    let passed = order(&own.key);
    // The backend receives neither the forged headers of the client nor the key.
    let shown = format!("x-tollgate-account: user-1\nx-tollgate-key-id: {}", own.key_id);
    assert_eq!((passed.status, passed.body), (200, shown), "{}", nginx.log());

    let unknown = order(&format!("tronagg_live_{}", "A".repeat(43)));
    assert_eq!(unknown.status, 401, "{unknown:?}");
    let challenge = r#"www-authenticate: bearer realm="tollgate", error="invalid_token""#;
    assert!(unknown.headers.iter().any(|header| header == challenge), "{unknown:?}");
    assert_eq!(order(&test.key), unknown);
    assert_eq!(order(&other.key), unknown);
    // A request with a key of another tenant gets the response for an unknown key, even if the
    // account is suspended.
    let suspend = |tenant: &Tenant| {
        let change = tenant.call("PATCH", "/v1/accounts/user-1");
        service.send(change.json(json!({"status": "suspended"}))).expect(200)
    };
    suspend(&other);
    assert_eq!(order(&other.key), unknown);

    assert_eq!(nginx.get("/orders/7", None).status, 401);
    let (reader, _) = own.new_key(&service, "orders:read");
    assert_eq!(order(&reader).status, 403);
    suspend(&own);
    assert_eq!(order(&own.key).status, 403);

    let (status, log) = service.stop();
    assert!(status.success(), "{status}: {log}");
    let refused = order(&own.key);
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.headers.iter().any(|header| header == "retry-after: 1"), "{refused:?}");
}

#[test]
fn nginx_passes_the_429_and_the_rate_limits_of_a_key_to_the_client() {
    let data_dir = DataDir::new("gateways-limits");
    let service = data_dir.start(&["serve"]);
    let tenant = Tenant::create(&data_dir, &service, "tronagg", "live");
    let upstream = format!("upstream orders_backend {{ server {}; }}", start_backend());
    let nginx = Nginx::start("gateways-nginx-limits", &upstream, &block_of_guide(service.address));
    let limits = json!([{"name": "default", "limit": 1, "window_seconds": 3600}]);
    let settings = json!({"name": "a", "scopes": ["orders:write"], "rate_limits": limits});
    let (limited, _) = tenant.new_key_with(&service, settings);
    let values = |response: &Response, name: &str| -> Vec<String> {
        let values = response.headers.iter().filter_map(|header| header.split_once(": "));
        values.filter(|(other, _)| *other == name).map(|(_, value)| value.to_owned()).collect()
    };
    let assert_fields = |response: &Response| {
        assert_eq!(values(response, "ratelimit-policy"), [r#""default";q=1;w=3600"#]);
        let limit = values(response, "ratelimit").join(", ");
        assert!(limit.starts_with(r#""default";r=0;t="#), "{response:?}");
    };

    let passed = nginx.get("/orders/7", Some(&limited));
    assert_eq!(passed.status, 200, "{passed:?}\n{}", nginx.log());
    assert_fields(&passed);
    assert!(values(&passed, "retry-after").is_empty(), "{passed:?}");

    let refused = nginx.get("/orders/7", Some(&limited));
    assert_eq!(refused.status, 429, "{refused:?}\n{}", nginx.log());
    assert_fields(&refused);
    let retry_after = values(&refused, "retry-after");
    let [seconds] = &retry_after[..] else { panic!("{refused:?}") };
    assert!(seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0), "{refused:?}");
    assert!(!refused.body.contains("x-tollgate-"), "the backend did not answer: {refused:?}");

    // A key without limits gets no fields.
    let unlimited = nginx.get("/orders/7", Some(&tenant.key));
    assert_eq!(unlimited.status, 200, "{unlimited:?}");
    assert!(values(&unlimited, "ratelimit").is_empty(), "{unlimited:?}");
}

/// Sends refused and accepted requests through an nginx with two nodes. By default, nginx does not
/// use a node for ten seconds after one failed response, and does not send a failed POST to the
/// other node, so the client gets a 502.
async fn good_requests_succeed_while_nodes_refuse_others(name: &str, directives: &str) {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let reader = app
        .key_with(&app.tronagg, wallet, json!({"name": "b", "scopes": ["purchases:read"]}))
        .await;
    let first = listen(&app, Limits::default(), ServerLimits::default()).await;
    let second = listen(&app, Limits::default(), ServerLimits::default()).await;
    let upstream =
        format!("upstream nodes {{ server {}; server {}; }}", first.address, second.address);
    let server =
        format!("client_max_body_size 2m; {directives} location / {{ proxy_pass http://nodes; }}");
    let nginx = Nginx::start(name, &upstream, &server);

    let good = format!("X-API-Key: {}\r\n", key.text);
    let weak = format!("X-API-Key: {}\r\n", reader.text);
    let cases = [
        (401, "POST /v1/purchases", "X-API-Key: bad\r\n", 20),
        (401, "POST /v1/accounts/a/keys", "", 4),
        (403, "POST /v1/purchases", weak.as_str(), 4),
        (404, "POST /nothing/here", "", 4),
        (405, "DELETE /v1/purchases", "", 4),
        (413, "POST /v1/purchases", good.as_str(), 4),
    ];
    for length in [60_000, 900_000] {
        let body = vec![0_u8; length];
        for (status, line, headers, times) in cases {
            for _ in 0..times {
                let (refused, ()) = tokio::join!(nginx.send(line, headers, &body), nginx.buy(&key));
                let log = nginx.log();
                assert_eq!(refused.status, status, "{line}, {length} bytes: {refused:?}\n{log}");
                // Asserts that the response comes from a node, and not from nginx.
                let problem = "content-type: application/problem+json".to_owned();
                assert!(refused.headers.contains(&problem), "{line}: {refused:?}");
                // nginx alternates between the nodes, so each node gets one of these purchases.
                nginx.buy(&key).await;
                nginx.buy(&key).await;
            }
        }
    }
    // nginx logs the failure of a node even if the other node then responds.
    assert!(!nginx.log().contains("[error]"), "{}", nginx.log());
    app.check_ledger().await;
}

#[tokio::test]
async fn refused_request_body_does_not_make_nginx_treat_a_node_as_failed() {
    good_requests_succeed_while_nodes_refuse_others("gateways-nginx-nodes", "").await;
}

#[tokio::test]
async fn refused_unbuffered_request_body_does_not_make_nginx_treat_a_node_as_failed() {
    let directives = "proxy_request_buffering off;";
    good_requests_succeed_while_nodes_refuse_others("gateways-nginx-unbuffered", directives).await;
}
