//! A standby that replicates a private Postgres.

use std::{
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use sqlx::PgPool;
use tollgate::postgres::{DATABASE, Options, PrivatePostgres};

use super::{cluster, eventually};

/// A standby. It replays the primary's commits until a test promotes it.
pub struct Standby {
    directory: PathBuf,
    process: Child,
    pub pool: PgPool,
}

impl Standby {
    /// Copies the primary, starts the copy, and waits until it accepts connections.
    pub async fn of(primary: &PrivatePostgres, options: &Options, name: &str) -> Self {
        let pool = PgPool::connect(&primary.url(DATABASE)).await.expect("the primary answers");
        let bindir: String =
            sqlx::query_scalar("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
                .fetch_one(&pool)
                .await
                .expect("the query succeeds");
        pool.close().await;
        let bindir = PathBuf::from(bindir);
        // Postgres must run as the owner of its data directory.
        let owner = std::fs::metadata(options.data_dir.join("data"))
            .expect("the primary has a data directory");
        let directory = cluster::directory(name);
        std::fs::create_dir(&directory).expect("the test owns the directory");
        chown(&directory, Some(owner.uid()), Some(owner.gid())).expect("the owner can be changed");
        let run = |program: &str| {
            let mut command = Command::new(bindir.join(program));
            command.uid(owner.uid()).gid(owner.gid()).current_dir(&directory);
            command.stdout(Stdio::null());
            command
        };
        let copied = run("pg_basebackup")
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--pgdata=data"])
            .args(["--username=postgres", "--port=5432", "--host"])
            .arg(primary.socket_dir())
            .output()
            .expect("the program runs");
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        let log =
            std::fs::File::create(directory.join("log")).expect("the log file can be created");
        let process = run("postgres")
            .args(["-D", "data", "-p", "5432", "-c", "fsync=off"])
            .args(["-c", "listen_addresses=", "-k"])
            .arg(&directory)
            .arg("-c")
            .arg(format!("max_connections={}", options.max_connections))
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let pool = PgPool::connect_lazy(&url(&directory)).expect("the URL is valid");
        let standby = Self { directory, process, pool };
        let answers = async || standby.run("SELECT 1").await.is_ok();
        eventually("the standby answers", answers).await;
        standby
    }

    pub fn url(&self) -> String {
        url(&self.directory)
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.join(".s.PGSQL.5432")
    }

    /// Waits until all commits of the primary are visible on the standby.
    pub async fn catch_up(&self, primary: &PgPool) {
        let position: String = sqlx::query_scalar("SELECT pg_current_wal_lsn()::text")
            .fetch_one(primary)
            .await
            .expect("the query succeeds");
        let caught_up = async || {
            sqlx::query_scalar::<_, bool>("SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn")
                .bind(&position)
                .fetch_one(&self.pool)
                .await
                .expect("the standby answers")
        };
        eventually("the standby has replayed all commits", caught_up).await;
    }

    /// Pauses the replay. The standby still receives the primary's WAL, but does not show its
    /// changes.
    pub async fn pause_replay(&self) {
        self.run("SELECT pg_wal_replay_pause()").await.expect("the replay is paused");
        let paused = async || {
            sqlx::query_scalar::<_, String>("SELECT pg_get_wal_replay_pause_state()")
                .fetch_one(&self.pool)
                .await
                .expect("the query succeeds")
                == "paused"
        };
        eventually("the replay is paused", paused).await;
    }

    /// Ends the replication. If the test then promotes the standby, the standby lacks all later
    /// commits of the primary. A paused replay would not have this effect, because a promotion
    /// replays all received WAL.
    pub async fn stop_receiving(&self, primary: &PgPool) {
        self.run("ALTER SYSTEM SET primary_conninfo = ''")
            .await
            .expect("Postgres accepts the setting");
        self.run("SELECT pg_reload_conf()").await.expect("the setting is read");
        let stopped = async || {
            sqlx::query_scalar::<_, bool>("SELECT count(*) = 0 FROM pg_stat_replication")
                .fetch_one(primary)
                .await
                .expect("the primary answers")
        };
        eventually("the standby receives nothing", stopped).await;
    }

    /// Promotes the standby to a primary. Returns once it accepts writes.
    pub async fn promote(&self) {
        self.run("SELECT pg_promote()").await.expect("the standby is promoted");
    }

    async fn run(&self, statement: &'static str) -> Result<(), sqlx::Error> {
        sqlx::query(statement).execute(&self.pool).await.map(drop)
    }
}

fn url(directory: &std::path::Path) -> String {
    let host = directory.to_string_lossy().replace('/', "%2F");
    format!("postgres://postgres@{host}:5432/{DATABASE}?sslmode=disable")
}

impl Drop for Standby {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
