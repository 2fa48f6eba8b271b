//! The listener. Each connection has one task. Limits apply to all resources that a client can use.
//! A shutdown finishes the requests in flight.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use tokio::{net::TcpListener, sync::mpsc};
use tracing::{debug, warn};

use super::{
    connection::{self, Requests},
    connections::Connections,
    forwarded::TrustedProxies,
    limits::ServerLimits,
};

/// How long to wait for the headers of a request on a connection beyond the limit.
const RESERVE_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves until `stop` completes, then stops accepting connections and finishes the requests in
/// flight. `proxies` are trusted to name the client of a request. Returns whether all requests
/// finished within the drain timeout. Unfinished requests are cut off.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ServerLimits,
    connections: Arc<Connections>,
    proxies: TrustedProxies,
    stop: impl Future<Output = ()>,
) -> bool {
    // Each connection's task holds a sender, so the channel closes after the last connection.
    let (open, mut all_closed) = mpsc::channel::<()>(1);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // The process has probably run out of file descriptors. The pause keeps the loop
                // from spinning.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let peer = peer.ip().to_canonical();
        let is_proxy = proxies.include(peer);
        let Some(place) = connections.admit(peer, is_proxy) else { continue };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "cannot disable Nagle's algorithm");
        }
        let in_reserve = place.in_reserve;
        let mut limits = limits;
        if in_reserve {
            limits.header_timeout = limits.header_timeout.min(RESERVE_HEADER_TIMEOUT);
        }
        let requests = Requests {
            router: router.clone(),
            peer,
            // `X-Forwarded-For` is read only if the peer is a trusted proxy.
            proxies: is_proxy.then(|| proxies.clone()),
            in_reserve,
        };
        let open = open.clone();
        tokio::spawn(async move {
            connection::serve(stream, requests, limits, &place.state).await;
            drop((place, open));
        });
    }
    drop((listener, open));
    connections.close_all();
    tokio::time::timeout(limits.drain_timeout, all_closed.recv()).await.is_ok()
}
