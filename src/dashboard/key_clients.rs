//! The views of the clients that used a key.

use super::{
    account_keys::read_or_omit,
    pages::key_clients::{ClientTables, ClientView, LastUseView, NetworkRow, RefusalRow},
    session::Visitor,
};
use crate::{
    domain::{dashboard::DashboardRight, timestamp::Timestamp, usage::UsageOutcome},
    state::AppState,
    store::{ApiKey, KeyNetwork, KeyRefusal, LastClient, StoredClient},
    web::format,
};

/// Maximum number of refusals on a page. The API returns more.
const REFUSALS: usize = 20;

/// Returns the tables of the clients of a key. `None` if the session may not see them, if nothing is
/// known, or if they cannot be read.
pub async fn client_tables(
    state: &AppState,
    visitor: &Visitor,
    key: &ApiKey,
) -> Option<ClientTables> {
    if !visitor.may(DashboardRight::Audit) {
        return None;
    }
    let (tenant, account) = (visitor.tenant(), visitor.account());
    let reading = state.store().key_clients(tenant, account, key.id);
    let clients = read_or_omit(visitor, "clients", reading).await?;
    let now = visitor.now();
    let refusals = clients.refusals.into_iter().take(REFUSALS);
    let tables = ClientTables {
        last: clients.last.map(|last| last_use(last, now)),
        networks: clients.networks.into_iter().map(|network| row(network, now)).collect(),
        refusals: refusals.map(|refusal| refused(refusal, now)).collect(),
    };
    let is_empty =
        tables.last.is_none() && tables.networks.is_empty() && tables.refusals.is_empty();
    (!is_empty).then_some(tables)
}

/// Returns the networks from which a key was used, the one that was used last first. Empty if the
/// session may not see them, or if they cannot be read.
pub async fn networks(state: &AppState, visitor: &Visitor, key: &ApiKey) -> Vec<NetworkRow> {
    client_tables(state, visitor, key).await.map_or_else(Vec::new, |tables| tables.networks)
}

fn last_use(last: LastClient, now: Timestamp) -> LastUseView {
    LastUseView { at: format::moment(last.at, Some(now)), client: client(last.client) }
}

fn row(network: KeyNetwork, now: Timestamp) -> NetworkRow {
    NetworkRow {
        network: network.network,
        first: format::moment(network.first_used_at, Some(now)),
        last: format::moment(network.last_used_at, Some(now)),
    }
}

fn refused(refusal: KeyRefusal, now: Timestamp) -> RefusalRow {
    RefusalRow {
        last: format::moment(refusal.last_at, Some(now)),
        reason: reason(refusal.outcome),
        count: format::count(refusal.count),
        client: client(refusal.client),
    }
}

fn client(client: StoredClient) -> ClientView {
    let StoredClient { address, user_agent, route } = client;
    ClientView { address, user_agent, route }
}

/// Describes why a request was refused.
fn reason(outcome: UsageOutcome) -> &'static str {
    match outcome {
        UsageOutcome::Valid => "Accepted",
        UsageOutcome::Revoked => "The key was revoked",
        UsageOutcome::Expired => "The key had expired",
        UsageOutcome::Disabled => "The key was disabled",
        UsageOutcome::TenantSuspended => "The platform was suspended",
        UsageOutcome::AccountSuspended => "The account was suspended",
        UsageOutcome::IpNotAllowed => "The address was not in the allowed networks",
        UsageOutcome::InsufficientScope => "The key lacked the required scope",
        UsageOutcome::RateLimited => "A rate limit was used up",
    }
}
