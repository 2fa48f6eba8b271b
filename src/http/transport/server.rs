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
    /// Connections at once; a further one waits to be accepted.
    pub max_connections: usize,
    /// For all headers of a request to come. Also how long an idle connection is kept.
    pub header_timeout: Duration,
    /// For a client to take more of an answer that waits to be sent.
    pub write_timeout: Duration,
    /// Bytes of a request's first line and headers.
    pub header_bytes: usize,
    pub max_headers: usize,
    /// For requests in flight to finish once the service is to stop.
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

/// Serves until `stop` is ready, then stops accepting and finishes what is in flight. A client that
/// comes through `proxies` is whom they name.
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
                // Out of file descriptors, most likely: without a pause this would spin.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(limits.drain_timeout, graceful.shutdown()).await.is_err() {
        warn!("some requests did not finish in {:?}; they are cut off", limits.drain_timeout);
    } else {
        info!("everything in flight is finished");
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
        debug!(%error, "cannot switch Nagle's algorithm off");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let peer = peer.ip().to_canonical();
    // Of another than a trusted proxy no such header is read.
    let proxies = proxies.include(peer).then(|| proxies.clone());
    let router = router.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(axum::body::Body::new);
        let told = proxies.as_ref().map(|proxies| proxies.client(peer, request.headers()));
        request.extensions_mut().insert(ClientAddress(told.unwrap_or(peer)));
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // An answer is small: to copy its body behind its head costs less than to send two pieces.
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
