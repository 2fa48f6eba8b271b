//! The clients that used a key.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::Problem,
    domain::{timestamp::Timestamp, usage::UsageOutcome},
    http::api::shared::{
        admin::Admin,
        params::KeyPath,
        problems::{AnyRoute, WithAdminKey, WithParameters, WithTarget},
    },
    state::AppState,
    store,
};

/// The clients that used a key. Nodes write them in the background, so a use appears after at most a
/// minute.
#[derive(Serialize, ToSchema)]
pub struct KeyClients {
    /// The last accepted request. `null` if no request with the key was accepted.
    #[schema(required = true)]
    last_use: Option<LastUse>,
    /// The networks from which the key was used in the last 30 days: the first 24 bits of IPv4
    /// addresses, and the first 48 bits of IPv6 addresses. At most 50, the one that was used last
    /// first.
    #[schema(max_items = 50)]
    networks: Vec<KeyNetwork>,
    /// The refused requests of the last 30 days, newest first. An item counts equal refusals of one
    /// client in a row. At most 100 items.
    #[schema(max_items = 100)]
    refusals: Vec<KeyRefusal>,
}

/// The last accepted request with a key.
#[derive(Serialize, ToSchema)]
pub struct LastUse {
    /// Time of the request. Updated at most once a minute.
    at: Timestamp,
    #[serde(flatten)]
    client: RequestClient,
}

/// The client of a request, as far as it is known.
#[derive(Serialize, ToSchema)]
pub struct RequestClient {
    /// The client's address, or its network if the tenant truncates addresses. `null` if the address
    /// is unknown, or if the tenant does not store addresses.
    #[schema(required = true, example = "203.0.113.7")]
    address: Option<String>,
    /// The first 100 characters of the header `User-Agent`. `null` if it is unknown.
    #[schema(required = true, max_length = 100, example = "trading-bot/2.1")]
    user_agent: Option<String>,
    /// The pattern of Tollgate's route.
    #[schema(required = true, example = "/v1/purchases")]
    route: Option<String>,
}

/// A network from which a key was used.
#[derive(Serialize, ToSchema)]
pub struct KeyNetwork {
    #[schema(example = "203.0.113.0/24")]
    network: String,
    first_used_at: Timestamp,
    /// Updated at most once a minute.
    last_used_at: Timestamp,
}

/// Equal refusals of one client, one after another.
#[derive(Serialize, ToSchema)]
pub struct KeyRefusal {
    /// The reason for the refusals, as in the usage of the key.
    reason: UsageOutcome,
    #[schema(minimum = 1)]
    count: i64,
    first_at: Timestamp,
    last_at: Timestamp,
    #[serde(flatten)]
    client: RequestClient,
}

impl From<store::StoredClient> for RequestClient {
    fn from(client: store::StoredClient) -> Self {
        let store::StoredClient { address, user_agent, route } = client;
        Self { address, user_agent, route }
    }
}

impl From<store::KeyClients> for KeyClients {
    fn from(clients: store::KeyClients) -> Self {
        let network = |network: store::KeyNetwork| KeyNetwork {
            network: network.network,
            first_used_at: network.first_used_at,
            last_used_at: network.last_used_at,
        };
        let refusal = |refusal: store::KeyRefusal| KeyRefusal {
            reason: refusal.outcome,
            count: refusal.count,
            first_at: refusal.first_at,
            last_at: refusal.last_at,
            client: refusal.client.into(),
        };
        Self {
            last_use: clients.last.map(|last| LastUse { at: last.at, client: last.client.into() }),
            networks: clients.networks.into_iter().map(network).collect(),
            refusals: clients.refusals.into_iter().map(refusal).collect(),
        }
    }
}

/// Get the clients of an API key
///
/// Shows where a key was used from: the client of the last accepted request, the networks of the
/// last 30 days, and the last refused requests with their reasons. With `client_addresses` in the
/// dashboard settings, a tenant truncates or omits addresses.
#[utoipa::path(get, path = "/v1/accounts/{account}/keys/{key_id}/clients",
    operation_id = "getKeyClients", tag = "keys",
    params(KeyPath),
    responses((status = 200, description = "The clients.", body = KeyClients),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account), %key_id))]
pub async fn get(
    State(state): State<AppState>,
    admin: Admin,
    KeyPath { account, key_id }: KeyPath,
) -> Result<Json<KeyClients>, Problem> {
    let clients = state.store.key_clients(&admin.tenant, &account, key_id).await?;
    Ok(Json(clients.into()))
}
