//! The listener. Each connection has one task. Everything that a client decides is bounded. A
//! shutdown finishes the requests in flight.

use std::{future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::Request};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt as _;
use tracing::{debug, info, warn};

use super::forwarded::TrustedProxies;
use crate::auth::ClientAddress;

/// Bounds of the connections.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Maximum number of concurrent connections. Further ones wait to be accepted.
    pub max_connections: usize,
    /// How long to wait for the headers of a request. An idle connection is closed after this time.
    pub header_timeout: Duration,
    /// How long to wait until a client reads more of a response.
    pub write_timeout: Duration,
    /// Maximum size in bytes of a request's first line and headers.
    pub header_bytes: usize,
    pub max_headers: usize,
    /// How long requests in flight may take to finish when the service is stopped.
    pub drain_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            header_bytes: 16 * 1024,
            max_headers: 64,
            drain_timeout: Duration::from_secs(20),
        }
    }
}

/// Serves until `stop` is ready, then accepts no more connections and finishes the requests in
/// flight. If a request comes from one of `proxies`, its client is the one that they name.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ServerLimits,
    proxies: TrustedProxies,
    stop: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(limits.max_connections));
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                serve_connection(stream, peer, permit, &router, limits, &proxies, &graceful);
            }
            Err(error) => {
                // Most likely there are no free file descriptors. Without a pause this would spin.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(limits.drain_timeout, graceful.shutdown()).await.is_err() {
        warn!("some requests did not finish within {:?}, and are cut off", limits.drain_timeout);
    } else {
        info!("all requests in flight are finished");
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.expect("the semaphore is never closed");
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
    router: &Router,
    limits: ServerLimits,
    proxies: &TrustedProxies,
    graceful: &GracefulShutdown,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot disable Nagle's algorithm");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let peer = peer.ip().to_canonical();
    // The header is read only if the peer is a trusted proxy.
    let proxies = proxies.include(peer).then(|| proxies.clone());
    let router = router.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        let named = proxies.as_ref().map(|proxies| proxies.client(peer, request.headers()));
        request.extensions_mut().insert(ClientAddress(named.unwrap_or(peer)));
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Responses are small: copying the body costs less than a vectored write.
        .writev(false)
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.max_headers)
        .max_buf_size(limits.header_bytes)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        let _permit = permit;
        if let Err(error) = connection.await {
            debug!(%error, "a connection ended in an error");
        }
    });
}
