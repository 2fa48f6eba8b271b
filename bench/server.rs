//! Runs the service's listener and store with a handler of one line, with or without the gate and
//! its cache. bench/README.md describes the pairs that use this server.

use std::sync::Arc;

use axum::{Router, routing::get};
use clap::{Parser, ValueEnum};
use tokio::net::TcpListener;
use tollgate::{
    auth::ApiKeyLayer,
    domain::{
        dashboard::WebOrigin,
        tenant::{Environment, Slug},
    },
    http::{Connections, ServerLimits, TrustedProxies, serve},
    node::{Node, NodeSettings},
    state::{AppState, Limits},
    store::{PoolSettings, Store},
    telemetry,
};

/// The service uses this allocator too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// The fields of the rate limits in the pair `gate-limits`.
const POLICY: &str = r#""default";q=100000;w=60, "account:default";q=500000;w=60"#;
const LIMIT: &str = r#""default";r=99900;t=59, "account:default";r=499500;t=59"#;

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    listen: String,
    #[arg(long, value_enum)]
    gate: Gate,
    /// Adds the `RateLimit` fields of a key's and of an account's limit to each response, with the
    /// same text each time.
    #[arg(long)]
    constant_fields: bool,
    #[arg(long, default_value_t = NodeSettings::default().cache_entries)]
    cache_entries: usize,
    #[arg(long, env = "DATABASE_URL")]
    database_url: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Gate {
    On,
    Off,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    // The service records metrics, so this server does too.
    let _metrics = telemetry::start_metrics()?;
    let store = Store::connect(&PoolSettings::for_url(&arguments.database_url)).await?;
    let settings = NodeSettings { cache_entries: arguments.cache_entries, ..Default::default() };
    let node = Node::new(Arc::new(store), settings);
    tokio::spawn(node.clone().keep_lease(std::future::pending()));
    let public_url = WebOrigin::parse("http://localhost")?;
    let state = AppState::new(node, Limits::default(), public_url, false);

    let handler = if arguments.constant_fields {
        let fields = [("ratelimit-policy", POLICY), ("ratelimit", LIMIT)];
        get(move || async move { (fields, "ok") })
    } else {
        get(|| async { "ok" })
    };
    let mut router = Router::new().route("/", handler);
    if arguments.gate == Gate::On {
        let tenant: Slug = "tronagg".parse()?;
        let verifier = Arc::clone(state.verifier());
        router = router.route_layer(ApiKeyLayer::shared(verifier, tenant, Environment::Live));
    }
    // Without this call, axum would wrap the handler in its layers for each request.
    let router = router.with_state(());
    let listener = TcpListener::bind(&arguments.listen).await?;
    println!("listening on {}", listener.local_addr()?);
    let proxies = TrustedProxies::default();
    let limits = ServerLimits::default();
    let connections = Connections::new(&limits);
    serve(listener, router, limits, connections, proxies, std::future::pending()).await;
    Ok(())
}
