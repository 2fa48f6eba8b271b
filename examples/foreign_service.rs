//! A service of your own behind the gate, without a database. Run it with `cargo run --example
//! foreign_service --no-default-features --features middleware`.
//!
//! The program creates one key at the start, prints how to send requests with this key, and accepts
//! no other key. A real service would verify keys with Tollgate or with its own store, through any
//! type that implements `KeyVerifier`.

use axum::{Router, routing::get};
use tollgate::{
    auth::{ApiKeyLayer, Denial, KeyVerifier, Presented, Principal, PrincipalParts, Verdict},
    domain::{
        account::{AccountFormat, ExternalId},
        api_key::{KeyHash, KeyText},
        scope::ScopeSet,
        tenant::Environment,
    },
};

/// A verifier that knows one key.
struct OneKey {
    hash: KeyHash,
    principal: Principal,
}

impl KeyVerifier for OneKey {
    async fn verify(&self, presented: &Presented<'_>) -> Verdict {
        if presented.key.hash() == self.hash {
            Ok(self.principal.clone())
        } else {
            Err(Denial::NotFound.into())
        }
    }
}

async fn orders(caller: Principal) -> String {
    format!("the orders of {}\n", caller.account)
}

async fn place_order(caller: Principal) -> String {
    format!("an order of {} by key {}\n", caller.account, caller.key_id)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // This key is public. A real key must come from a CSPRNG.
    let key = KeyText::parse("ta_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc")?;
    let verifier = OneKey {
        hash: key.hash(),
        principal: Principal::new(PrincipalParts::new(
            "tronagg".parse()?,
            Environment::Test,
            ExternalId::parse("user-1", AccountFormat::Any)?,
            "key_01h455vb4pex5vsknk084sn02q".parse()?,
            ScopeSet::parse(["orders:read"])?,
        )),
    };
    let gate = ApiKeyLayer::new(verifier, "tronagg".parse()?, Environment::Test);
    let reading = Router::new()
        .route("/orders", get(orders))
        .route_layer(gate.clone().require_scope("orders:read".parse()?));
    let writing = Router::new()
        .route("/orders/new", get(place_order))
        .route_layer(gate.require_scope("orders:write".parse()?));

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    let key = key.expose();
    println!("200:           curl -i http://127.0.0.1:3000/orders -H 'X-API-Key: {key}'");
    println!("403, no scope: curl -i http://127.0.0.1:3000/orders/new -H 'X-API-Key: {key}'");
    println!("401, no key:   curl -i http://127.0.0.1:3000/orders");
    axum::serve(listener, reading.merge(writing)).await?;
    Ok(())
}
