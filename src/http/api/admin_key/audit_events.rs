//! Lists audit events, which record changes to a tenant, its accounts and its keys.

use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::{
    IntoParams, ToSchema,
    openapi::{ObjectBuilder, schema::AdditionalProperties},
};
use uuid::Uuid;

use crate::{
    auth::Problem,
    domain::{
        account::{AccountFormat, ExternalId},
        audit::{ActorKind, AuditAction, AuditTarget},
        id::{AdminKeyId, AuditEventId, KeyId, RequestId},
        timestamp::Timestamp,
    },
    http::api::shared::{
        admin::Admin,
        page::{List, Page, filter_text},
        params::QueryParams,
        problems::{AnyRoute, WithAdminKey, WithParameters},
    },
    state::AppState,
    store::{self, AuditFilter},
};

/// A recorded action, such as a change to a key.
#[derive(Serialize, ToSchema)]
pub struct AuditEvent {
    id: AuditEventId,
    actor: ActorKind,
    #[schema(required = true)]
    admin_key_id: Option<AdminKeyId>,
    action: AuditAction,
    /// The changed account. `null` if the event concerns the tenant itself.
    #[schema(required = true)]
    account: Option<ExternalId>,
    /// The API key, admin key, credit, refund or hold that the event concerns. `null` if the event
    /// concerns the account or the tenant itself.
    #[schema(required = true)]
    target_id: Option<AuditTarget>,
    #[schema(schema_with = detail)]
    detail: Value,
    /// The IP address of the client. `null` if the change was made on the command line.
    #[schema(required = true)]
    address: Option<String>,
    #[schema(required = true)]
    request_id: Option<RequestId>,
    created_at: Timestamp,
}

fn detail() -> ObjectBuilder {
    ObjectBuilder::new()
        .description(Some("The details of the change, by field."))
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
}

pub type AuditEventList = List<AuditEvent>;

/// The part of a list of events that `limit` and `cursor` select.
type AuditEventPage = Page<16>;

impl From<store::AuditEvent> for AuditEvent {
    fn from(event: store::AuditEvent) -> Self {
        Self {
            id: event.id,
            actor: event.actor,
            admin_key_id: event.admin_key_id,
            action: event.action,
            account: event.account,
            target_id: event.target,
            detail: event.detail,
            address: event.address,
            request_id: event.request_id,
            created_at: event.created_at,
        }
    }
}

/// The filters of a list of events.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Returns only events that concern this account.
    account: Option<ExternalId>,
    /// Returns only events that concern this API key.
    key_id: Option<KeyId>,
}

impl AuditQuery {
    fn read(params: &mut QueryParams, format: AccountFormat) -> Self {
        Self {
            account: params.optional("account", |text| ExternalId::parse(text, format)),
            key_id: params.optional("key_id", str::parse),
        }
    }
}

impl From<AuditQuery> for AuditFilter {
    fn from(query: AuditQuery) -> Self {
        Self { account: query.account, key_id: query.key_id }
    }
}

/// List audit events
///
/// Returns the changes to the tenant, its accounts and its keys, newest first.
#[utoipa::path(get, path = "/v1/audit-events", operation_id = "listAuditEvents",
    tag = "audit",
    params(AuditQuery, AuditEventPage),
    responses((status = 200, description = "A page of audit events.", body = AuditEventList),
        AnyRoute, WithAdminKey, WithParameters))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug))]
pub async fn list(
    State(state): State<AppState>,
    admin: Admin,
    mut params: QueryParams,
) -> Result<AuditEventList, Problem> {
    let format = admin.tenant.policy.account_format;
    let filter = AuditFilter::from(AuditQuery::read(&mut params, format));
    let by_account = filter_text("account", filter.account.as_ref());
    let by_key = filter_text("key_id", filter.key_id.as_ref());
    let list = format!("audit {} {by_account} {by_key}", admin.tenant.id);
    let page = AuditEventPage::read(params, list)?;
    let before = page.after.map(|bytes| AuditEventId::from_uuid(Uuid::from_bytes(bytes)));
    let events =
        state.store.list_audit_events(&admin.tenant, &filter, before, page.fetch()).await?;
    Ok(page.respond(events, |event| event.id.uuid().into_bytes(), AuditEvent::from))
}
