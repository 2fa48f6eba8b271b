//! A service of your own behind the gate, which verifies keys with a running Tollgate. Usage:
//!
//! ```sh
//! export TOLLGATE_URL=http://127.0.0.1:8080 TOLLGATE_ADMIN_KEY=tg_admin_…
//! cargo run --example remote_gate --no-default-features --features remote
//!
//! curl -i http://127.0.0.1:3001/orders -H "X-API-Key: $TRONAGG_API_KEY"
//! curl -i http://127.0.0.1:3001/orders/new -H "X-API-Key: $TRONAGG_API_KEY"
//! ```
//!
//! The service belongs to TronAgg's live environment, and accepts only its keys. The admin key must
//! belong to this tenant and needs only the permission `verify`. The first argument may be the
//! address to listen on. With port 0 the system chooses a port, and the program prints it.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    middleware::{Next, from_fn},
    response::Response,
    routing::get,
};
use tollgate::{
    auth::{ApiKeyLayer, ClientAddress, Principal, RemoteVerifier},
    domain::{
        api_key::KeyText,
        tenant::{Environment, Slug},
    },
};

async fn orders(caller: Principal) -> String {
    format!("the orders of {}\n", caller.account)
}

async fn place_order(caller: Principal) -> String {
    format!("an order of {} by key {}\n", caller.account, caller.key_id)
}

/// Passes the client's address to the gate, for keys that may be used only from some networks.
async fn set_client_address(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(ClientAddress(peer.ip()));
    next.run(request).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A warning in the log says why a verification failed.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();

    let admin_key = KeyText::parse(&setting("TOLLGATE_ADMIN_KEY")?)
        .map_err(|error| format!("TOLLGATE_ADMIN_KEY: {error}"))?;
    let verifier = RemoteVerifier::new(&setting("TOLLGATE_URL")?, &admin_key)?;
    // The platform that this service belongs to. The gate refuses the keys of other platforms.
    let tenant: Slug = "tronagg".parse()?;
    let gate = ApiKeyLayer::new(verifier, tenant, Environment::Live);
    let reading = Router::new()
        .route("/orders", get(orders))
        .route_layer(gate.clone().require_scope("orders:read".parse()?));
    let writing = Router::new()
        .route("/orders/new", get(place_order))
        .route_layer(gate.require_scope("orders:write".parse()?));
    // This layer runs before the gates of the routes.
    let app = reading.merge(writing).layer(from_fn(set_client_address));

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3001".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

fn setting(name: &str) -> Result<String, String> {
    #[expect(clippy::disallowed_methods, reason = "this example has its own settings")]
    let value = std::env::var(name);
    value.map_err(|error| format!("{name}: {error}"))
}
