use std::{
    future::pending, io::Write as _, net::SocketAddr, os::fd::AsFd as _, pin::pin, sync::Arc,
};

use anyhow::{Context as _, bail};
use clap::Args;
use metrics_exporter_prometheus::PrometheusHandle;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
};
use tracing::{error, info, warn};

use super::{database::Database, local_url::local_url, log::start_log};
use crate::{
    config::{DatabaseArgs, DatabaseConfig, ServerArgs, ServerConfig, resolve},
    dashboard,
    domain::dashboard::WebOrigin,
    http::{self, Connections, RESERVE, RefusalLog, ServerLimits, TrustedProxies},
    jobs::Jobs,
    node::Node,
    state::AppState,
    telemetry, usage,
};

#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

impl Serve {
    pub async fn run(self) -> anyhow::Result<()> {
        let service = Service::start(&self.database, &self.server).await?;
        service.run().await
    }
}

/// A service that is ready and listening, but does not serve requests yet.
pub struct Service {
    pub database: Database,
    node: Node,
    config: ServerConfig,
    listener: TcpListener,
    metrics: Metrics,
    stop: watch::Receiver<bool>,
}

struct Metrics {
    handle: PrometheusHandle,
    /// `None` if the service does not serve its metrics.
    listener: Option<TcpListener>,
}

impl Service {
    pub async fn start(database: &DatabaseArgs, server: &ServerArgs) -> anyhow::Result<Self> {
        let (database, log, config) = resolve(database, server)?;
        start_log(log);
        // From here on, a signal stops the service gracefully, even during its start.
        let mut stop = watch_signals()?;
        // The service binds its addresses before it opens the database, so that an address that is
        // already in use is reported immediately.
        let listener = bind("TOLLGATE_LISTEN", config.listen).await?;
        let metrics_listener = match config.metrics_listen {
            Some(address) => Some(bind("TOLLGATE_METRICS_LISTEN", address).await?),
            None => None,
        };
        let metrics_handle = telemetry::start_metrics().context("cannot start the metrics")?;
        let listeners = std::iter::once(&listener).chain(&metrics_listener);
        let database = open_and_answer_meanwhile(database, &mut stop, listeners, &config).await?;
        if database.is_attached() {
            warn!(
                "using the private Postgres of another process. This Postgres stops when that \
                 process stops"
            );
        }
        let config = fit_open_files(config);
        let node = Node::new(database.store.clone(), config.node);
        let metrics = Metrics { handle: metrics_handle, listener: metrics_listener };
        Ok(Self { database, node, config, listener, metrics, stop })
    }

    /// Returns the address of the listener. If the setting contains port 0, the operating system
    /// has chosen the port.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Whether the service serves its documentation.
    pub fn has_docs(&self) -> bool {
        self.config.docs
    }

    /// Returns the URL at which browsers reach the service.
    pub fn public_url(&self) -> anyhow::Result<WebOrigin> {
        self.config.public_url.clone().map_or_else(|| local_url(self.address()?), Ok)
    }

    /// Serves requests until a signal arrives, then finishes the requests in flight and stops. The
    /// service also stops if a background job ends by itself, because it needs all its jobs.
    pub async fn run(self) -> anyhow::Result<()> {
        self.run_beside(pending()).await
    }

    /// Serves requests as [`run`](Self::run) does, and runs `companion` concurrently. `companion`
    /// begins after the log lines of the start.
    pub async fn run_beside(self, companion: impl Future<Output = ()>) -> anyhow::Result<()> {
        let address = self.address()?;
        info!(%address, "serving");
        let public_url = self.public_url()?;
        match &self.config.public_url {
            Some(url) => info!(public_url = %url, "the dashboard is at this address"),
            None => log_local_url(address, &public_url),
        }
        let docs = self.config.docs;
        let state = AppState::new(self.node.clone(), self.config.limits, public_url, docs);
        let (limits, proxies) = (self.config.server_limits, self.config.trusted_proxies);
        let connections = Connections::new(&limits);
        let refusals = Arc::new(RefusalLog::default());
        let jobs = start_jobs(self.node, &state, &refusals, &connections, limits, self.metrics)?;
        let (mut stop, ended) = (self.stop, jobs.one_ended());
        let (failed, ended_job) = oneshot::channel();
        let stopped = async move {
            tokio::select! {
                // An error means that the task that watches for signals has ended. The service
                // stops in this case too.
                _ = stop.wait_for(|&stop| stop) => info!("stopping after the requests in flight"),
                job = ended => {
                    error!(job, "a background job ended by itself, so the service stops");
                    // An error means that the service has been dropped.
                    let _ = failed.send(job);
                }
            }
        };
        let start = http::start(&state, dashboard::start_page(&state));
        let pages = dashboard::routes(&state).merge(start).merge(http::docs(&state));
        let router = http::router(state, pages, refusals);
        let serving = http::serve(self.listener, router, limits, connections, proxies, stopped);
        let mut serving = pin!(serving);
        let all_finished = tokio::select! {
            all_finished = &mut serving => all_finished,
            () = companion => serving.await,
        };
        if all_finished {
            info!("finished all requests in flight");
        } else {
            let drain_timeout = limits.drain_timeout;
            warn!(
                "closing the connections of requests that did not finish within {drain_timeout:?}"
            );
        }
        finish(jobs, self.database, ended_job).await
    }
}

/// Starts the background jobs. After the last request, jobs stop in the reverse order of their
/// start: the release of holds, the lease, the deletion of old clients, the usage counts of all
/// requests, the listener of the metrics, the summaries of refusals, and finally the metrics, which
/// include the shutdown itself.
fn start_jobs(
    node: Node,
    state: &AppState,
    refusals: &Arc<RefusalLog>,
    connections: &Arc<Connections>,
    limits: ServerLimits,
    metrics: Metrics,
) -> anyhow::Result<Jobs> {
    let mut jobs = Jobs::default();
    let handle = metrics.handle.clone();
    jobs.start("metrics", |stop| telemetry::sum_up(handle, stop));
    jobs.start("refusals", |stop| Arc::clone(refusals).run(stop));
    if let Some(listener) = metrics.listener {
        info!(address = %listener.local_addr()?, "serving metrics");
        let (node, connections) = (node.clone(), Arc::clone(connections));
        let router = telemetry::metrics_router(metrics.handle, node, move || {
            connections.set_gauges();
        });
        let router = http::operations_router(router, state, refusals);
        // An orchestrator and Prometheus may connect from the same address.
        let limits = ServerLimits {
            max_connections: METRICS_CONNECTIONS,
            max_connections_per_address: Some(METRICS_CONNECTIONS),
            ..limits
        };
        let places = Connections::new(&limits);
        let nobody = TrustedProxies::default();
        jobs.start("metrics_listener", move |stop| async move {
            http::serve(listener, router, limits, places, nobody, stop).await;
        });
    }
    let store = Arc::clone(state.store());
    jobs.start("usage", |stop| state.usage().clone().run(store, stop));
    let store = Arc::clone(state.store());
    jobs.start("old_clients", |stop| usage::delete_old_clients(store, stop));
    jobs.start("lease", |stop| node.keep_lease(stop));
    jobs.start("holds", |stop| state.money().clone().release_holds(stop));
    Ok(jobs)
}

/// Stops the background jobs and closes the database. Returns an error if a job has failed.
/// `ended_job` receives the name of a job that ended by itself.
async fn finish(
    jobs: Jobs,
    database: Database,
    ended_job: oneshot::Receiver<&'static str>,
) -> anyhow::Result<()> {
    let broken = jobs.stop().await;
    let closed = database.close().await;
    // The first failure may have caused the others.
    let failure = match ended_job.await {
        Ok(job) => format!("the background job {job} ended by itself"),
        Err(_) if !broken.is_empty() => {
            format!("background jobs failed: {}", broken.join(", "))
        }
        Err(_) => {
            closed?;
            info!("stopped");
            return Ok(());
        }
    };
    if let Err(error) = closed {
        let error: &(dyn std::error::Error + 'static) = error.as_ref();
        error!(error, "cannot close the database");
    }
    bail!(failure)
}

/// Logs the URL of the dashboard. Logs a warning if other machines cannot use the dashboard,
/// because `http` works only on loopback addresses.
fn log_local_url(address: SocketAddr, public_url: &WebOrigin) {
    let ip = address.ip().to_canonical();
    if ip.is_loopback() {
        info!(%public_url, "the dashboard is at this address");
    } else if ip.is_unspecified() {
        warn!(
            %public_url,
            "the dashboard works only on this machine, at this address. To use it from other \
             machines, put a proxy that terminates TLS in front of Tollgate, and set \
             TOLLGATE_PUBLIC_URL=https://…"
        );
    } else {
        warn!(
            "the dashboard is unreachable, because http works only on loopback addresses. Put a \
             proxy that terminates TLS in front of Tollgate, and set TOLLGATE_PUBLIC_URL=https://…"
        );
    }
}

/// Maximum number of open files and sockets that do not belong to clients, such as the log, the
/// listeners and the connections to the database.
const OTHER_FILES: u64 = 64 + (RESERVE + 2 * METRICS_CONNECTIONS) as u64;

/// Maximum number of connections to the listener of the metrics.
const METRICS_CONNECTIONS: usize = 16;

/// Raises the soft open-file limit to the hard limit, and limits the number of connections
/// accordingly. Otherwise the service could run out of file descriptors and fail to accept
/// connections.
fn fit_open_files(mut config: ServerConfig) -> ServerConfig {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // `None` means that there is no limit.
    let room = allowed.unwrap_or(u64::MAX).saturating_sub(OTHER_FILES).max(1);
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if room < config.server_limits.max_connections {
        warn!(
            connections = room,
            "the limit of open files allows fewer connections than TOLLGATE_MAX_CONNECTIONS"
        );
        config.server_limits.max_connections = room;
    }
    config
}

/// Opens the database. While Postgres is a standby, the listeners answer that the service is alive
/// but not ready, so that an orchestrator does not restart it and a load balancer does not use it.
async fn open_and_answer_meanwhile(
    config: DatabaseConfig,
    stop: &mut watch::Receiver<bool>,
    listeners: impl Iterator<Item = &TcpListener>,
    &ServerConfig { limits, server_limits, .. }: &ServerConfig,
) -> anyhow::Result<Database> {
    let (waiting, mut seen) = watch::channel(false);
    let mut opening = pin!(Database::open_for_service(config, stop, &waiting));
    let mut meanwhile = Jobs::default();
    // Drops the borrowed value immediately, because it would block the sender.
    let is_waiting = async { drop(seen.wait_for(|&waiting| waiting).await) };
    let opened = tokio::select! {
        opened = &mut opening => opened,
        () = is_waiting => {
            for listener in listeners {
                let listener = same_socket(listener)?;
                let address = listener.local_addr()?;
                info!(%address, "serving only /livez until the standby is promoted");
                let router = http::waiting_router(limits);
                let places = Connections::new(&server_limits);
                let nobody = TrustedProxies::default();
                meanwhile.start("waiting", move |stop| async move {
                    http::serve(listener, router, server_limits, places, nobody, stop).await;
                });
            }
            opening.await
        }
    };
    meanwhile.stop().await;
    opened
}

/// Returns a second listener on the same socket.
fn same_socket(listener: &TcpListener) -> anyhow::Result<TcpListener> {
    let socket = std::net::TcpListener::from(listener.as_fd().try_clone_to_owned()?);
    Ok(TcpListener::from_std(socket)?)
}

async fn bind(name: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{name}: cannot listen on {address}"))
}

fn watch_signals() -> anyhow::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for Ctrl-C")?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        for stop in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop {
                sender.send_replace(true);
            }
        }
        let _ = writeln!(std::io::stderr(), "second signal received: exiting now");
        std::process::exit(130);
    });
    Ok(receiver)
}
