//! Tests with a real Postgres, and with certificates that OpenSSL creates.

use std::{
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use sqlx::{Connection as _, PgConnection};
use tollgate::postgres::{DATABASE, PrivatePostgres};

use super::run::{fails, succeeds};
use crate::harness::{cluster, eventually, process::tollgate};

/// The data of a Postgres cluster, and a directory for its certificates.
struct Cluster {
    directory: PathBuf,
    bindir: PathBuf,
}

impl Cluster {
    async fn create(name: &str) -> Self {
        let options = cluster::options(name);
        let directory = options.data_dir.clone();
        let start = tokio::task::spawn_blocking(move || PrivatePostgres::start(&options));
        let postgres = start.await.expect("the task does not panic").expect("Postgres starts");
        let mut connection =
            PgConnection::connect(&postgres.url(DATABASE)).await.expect("Postgres answers");
        let bindir: String =
            sqlx::query_scalar("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
                .fetch_one(&mut connection)
                .await
                .expect("the query succeeds");
        connection.close().await.expect("the connection is closed");
        let stop = tokio::task::spawn_blocking(move || postgres.stop());
        stop.await.expect("the task does not panic").expect("Postgres stops");
        Self { directory, bindir: PathBuf::from(bindir) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Runs a shell command in the directory.
    fn shell(&self, command: &str) {
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir(&self.directory)
            .output()
            .expect("the shell starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {stderr}");
    }

    /// Starts Postgres with this certificate. It accepts only connections that use TLS.
    async fn serve(&self, certificate: &str, key: &str) -> Server {
        let owner = std::fs::metadata(self.file("data")).expect("the cluster has a data directory");
        let rules = self.file("tls_hba.conf");
        let text = "hostssl all all 127.0.0.1/32 trust\n";
        std::fs::write(&rules, text).expect("the rules are written");
        // Postgres runs as the owner of the data, who must also own the key.
        for file in [&rules, &self.file(certificate), &self.file(key)] {
            chown(file, Some(owner.uid()), Some(owner.gid())).expect("the owner can be changed");
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("the listener has an address").port();
        drop(listener);
        let log = std::fs::File::create(self.file("tls.log")).expect("the log file can be created");
        let setting = |name: &str, path: &Path| format!("{name}={}", path.display());
        let process = Command::new(self.bindir.join("postgres"))
            .uid(owner.uid())
            .gid(owner.gid())
            .current_dir(&self.directory)
            .arg("-D")
            .arg(self.file("data"))
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "ssl=on"])
            .args(["-c", "unix_socket_directories="])
            .args(["-c", &setting("ssl_cert_file", &self.file(certificate))])
            .args(["-c", &setting("ssl_key_file", &self.file(key))])
            .args(["-c", &setting("hba_file", &rules), "-c", "fsync=off"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let server = Server { process, port };
        let url = server.url("127.0.0.1", "sslmode=require");
        let answers = async || PgConnection::connect(&url).await.is_ok();
        eventually("Postgres answers", answers).await;
        server
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // If this fails, the files stay in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A running Postgres.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn url(&self, host: &str, parameters: &str) -> String {
        format!("postgres://postgres:hunter2@{host}:{}/{DATABASE}?{parameters}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The next server of the cluster can start only after this server has stopped.
        let pid = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        let _ = self.process.wait();
    }
}

fn migrate(url: &str) -> Command {
    let mut command = tollgate(&["migrate"]);
    command.env("DATABASE_URL", url);
    command
}

/// Runs `tollgate migrate` with this URL, which must fail. Checks that its stderr is one line
/// without the password, and returns it.
fn error_of(url: &str) -> String {
    let error = fails(migrate(url));
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    error
}

/// Creates a self-signed certificate, as the Postgres manual describes.
const OWN_AUTHORITY: &str = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
     -addext subjectAltName=DNS:localhost -keyout own.key -out own.crt";

#[tokio::test]
async fn commands_in_the_certificate_error_create_a_certificate_that_tollgate_accepts() {
    let cluster = Cluster::create("certificates").await;
    cluster.shell(OWN_AUTHORITY);
    let server = cluster.serve("own.crt", "own.key").await;
    let own = cluster.file("own.crt");
    for mode in ["verify-full", "verify-ca"] {
        let parameters = format!("sslmode={mode}&sslrootcert={}", own.display());
        let error = error_of(&server.url("localhost", &parameters));
        assert!(error.contains("CaUsedAsEndEntity"), "{error}");
    }
    let parameters = format!("sslmode=verify-full&sslrootcert={}", own.display());
    let error = error_of(&server.url("localhost", &parameters));
    let commands = error.split_once("openssl req ").expect("the error has commands").1;
    let commands = commands.split_once(". Then set ").expect("the list of commands has an end").0;
    cluster.shell(&format!("openssl req {commands}"));
    drop(server);

    let server = cluster.serve("server.crt", "server.key").await;
    let trusted = format!("sslmode=verify-full&sslrootcert={}", cluster.file("ca.crt").display());
    succeeds(migrate(&server.url("localhost", &trusted)));
    let wrong_authority = format!("sslmode=verify-full&sslrootcert={}", own.display());
    for (host, parameters, part) in [
        ("localhost", &*wrong_authority, "Set sslrootcert in DATABASE_URL to the file"),
        ("localhost", "sslmode=verify-full", "only public certificate authorities are trusted"),
        ("localhost", "sslmode=verify-ca", "only public certificate authorities are trusted"),
        ("127.0.0.1", &*trusted, "whose subjectAltName contains \"127.0.0.1\""),
        (
            "localhost",
            "sslmode=verify-full&sslrootcert=/nonexistent/ca.crt",
            "Check the certificate and key files: sslrootcert",
        ),
        // The server accepts only connections that use TLS.
        ("localhost", "sslmode=disable", "Use sslmode=verify-full in DATABASE_URL"),
    ] {
        let error = error_of(&server.url(host, parameters));
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    succeeds(migrate(&server.url("127.0.0.1", "sslmode=require")));
}
