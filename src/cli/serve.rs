use std::net::SocketAddr;

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

use super::database::Database;
use crate::{
    config::{DatabaseArgs, ServerArgs, ServerConfig, resolve},
    dashboard,
    domain::dashboard::WebOrigin,
    http::{self, ServerLimits, TrustedProxies},
    jobs::Jobs,
    node::Node,
    state::AppState,
    telemetry,
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

/// A service that has all it needs and listens, but does not answer yet.
pub struct Service {
    pub database: Database,
    node: Node,
    config: ServerConfig,
    listener: TcpListener,
    metrics_handle: PrometheusHandle,
    metrics: Option<(TcpListener, axum::Router)>,
    stop: watch::Receiver<bool>,
}

impl Service {
    pub async fn start(database: &DatabaseArgs, server: &ServerArgs) -> anyhow::Result<Self> {
        let (database, log, config) = resolve(database, server)?;
        telemetry::start_log(log);
        // From here on a signal stops the service in good order, also while it starts.
        let mut stop = watch_signals()?;
        // Before the database, so that an address that is in use is reported immediately.
        let listener = bind("TOLLGATE_LISTEN", config.listen).await?;
        let metrics_listener = match config.metrics_listen {
            Some(address) => Some(bind("TOLLGATE_METRICS_LISTEN", address).await?),
            None => None,
        };
        let handle = telemetry::start_metrics().context("cannot start counting")?;
        let database = Database::open_for_service(database, &mut stop).await?;
        if database.is_attached() {
            warn!("using the private Postgres of another process: it stops when that one does");
        }
        let config = fit_open_files(config);
        let node = Node::new(database.store.clone(), config.node);
        let metrics_handle = handle.clone();
        let metrics = metrics_listener
            .map(|listener| (listener, telemetry::metrics_router(handle, node.clone())));
        Ok(Self { database, node, config, listener, metrics_handle, metrics, stop })
    }

    /// The address that is listened on: with the port that the system chose, if it was to.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Answers until a signal comes, then finishes what is in flight and stops. A background job
    /// that ends by itself stops the service too: it would go on without what the job does.
    pub async fn run(self) -> anyhow::Result<()> {
        let address = self.address()?;
        info!(%address, "serving");
        let public_url = match self.config.public_url {
            Some(url) => {
                info!(public_url = %url, "the dashboard is at this address");
                url
            }
            None => local_url(address)?,
        };
        let state = AppState::new(self.node.clone(), self.config.limits, public_url);
        let mut jobs = Jobs::default();
        // Stopped last first: once no request is in flight, holds, then the lease (a request that is
        // answered late is verified by the database), then the counts of what was answered, and the
        // metrics at the very end, which count the shutdown itself.
        jobs.start("metrics", |stop| telemetry::sum_up(self.metrics_handle, stop));
        if let Some((listener, router)) = self.metrics {
            info!(address = %listener.local_addr()?, "serving metrics");
            let limits = ServerLimits { max_connections: 16, ..self.config.server_limits };
            let nobody = TrustedProxies::default();
            jobs.start("metrics_listener", |stop| {
                http::serve(listener, router, limits, nobody, stop)
            });
        }
        let store = self.database.store.clone();
        jobs.start("usage", |stop| state.usage().clone().run(store, stop));
        jobs.start("lease", |stop| self.node.keep_lease(stop));
        jobs.start("holds", |stop| state.money().clone().release_holds(stop));

        let (mut stop, ended) = (self.stop, jobs.one_ended());
        let (failed, has_failed) = oneshot::channel();
        let stopped = async move {
            tokio::select! {
                // An error would mean that the signals' task is gone: stop then too.
                _ = stop.wait_for(|&stop| stop) => info!("stopping: requests in flight are finished first"),
                job = ended => {
                    error!(job, "a background job ended by itself: stopping");
                    // Nobody waits for it only if the service is cut off.
                    let _ = failed.send(job);
                }
            }
        };
        let pages = dashboard::routes(&state);
        let router = http::router(state, pages);
        let (limits, proxies) = (self.config.server_limits, self.config.trusted_proxies);
        http::serve(self.listener, router, limits, proxies, stopped).await;
        let broken = jobs.stop().await;
        let closed = self.database.close().await;
        // The first failure may have caused the others.
        let failure = match has_failed.await {
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
}

/// What a browser on this machine calls the service, told to the operator: `http` is for loopback
/// addresses alone, and there may be none that is listened on.
fn local_url(address: SocketAddr) -> anyhow::Result<WebOrigin> {
    let (ip, port) = (address.ip().to_canonical(), address.port());
    let url = if ip.is_loopback() {
        format!("http://{}", SocketAddr::new(ip, port))
    } else {
        format!("http://localhost:{port}")
    };
    let public_url =
        WebOrigin::parse(&url).with_context(|| format!("{url} is no address of a dashboard"))?;
    if ip.is_loopback() {
        info!(%public_url, "the dashboard is at this address");
    } else if ip.is_unspecified() {
        warn!(
            %public_url,
            "the dashboard works at this address, and so on this machine alone: for others set \
             TOLLGATE_PUBLIC_URL=https://… behind TLS"
        );
    } else {
        warn!(
            "the dashboard works nowhere, as http is for loopback addresses alone: set \
             TOLLGATE_PUBLIC_URL=https://… behind TLS"
        );
    }
    Ok(public_url)
}

/// Files and sockets beside those of clients: the database's, the log, the listeners.
const OTHER_FILES: u64 = 64;

/// Raises the soft limit of open files to the hard one, and bounds the connections by it: one
/// that cannot be accepted would not even wait in order.
fn fit_open_files(mut config: ServerConfig) -> ServerConfig {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // No limit at all is as good as the largest.
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
        eprintln!("second signal received: exiting now");
        std::process::exit(130);
    });
    Ok(receiver)
}
