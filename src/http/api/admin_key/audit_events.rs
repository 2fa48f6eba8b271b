//! The audit trail: who did what to which key or account.

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    auth::Problem,
    domain::{
        account::ExternalId,
        id::{AdminKeyId, AuditEventId, CreditId, KeyId, RequestId},
        timestamp::Timestamp,
    },
    http::api::shared::{
        admin::Admin,
        page::{List, Page, PageParams},
        params::QueryParams,
        problems::{AnyRoute, WithAdminKey, WithParameters},
    },
    state::AppState,
    store::{self, AuditFilter},
};

/// Something that was done.
#[derive(Serialize, ToSchema)]
pub struct AuditEvent {
    #[schema(value_type = String, example = "evt_01h455vb4pex5vsknk084sn02q")]
    id: AuditEventId,
    /// `admin_key`, `cli` or `account_owner`.
    #[schema(pattern = "^(admin_key|cli|account_owner)$")]
    actor: String,
    #[schema(value_type = Option<String>, required = true)]
    admin_key_id: Option<AdminKeyId>,
    #[schema(example = "api_key.revoke")]
    action: String,
    /// The account acted on; `null`: the tenant itself.
    #[schema(required = true)]
    account: Option<String>,
    /// The API key, admin key or credit acted on; `null`: the account or the tenant itself.
    #[schema(required = true, example = "key_01h455vb4pex5vsknk084sn02q")]
    target_id: Option<String>,
    /// What changed, by field.
    #[schema(value_type = Object)]
    detail: Value,
    /// The address that the request came from; `null` at the command line.
    #[schema(required = true)]
    address: Option<String>,
    #[schema(value_type = Option<String>, required = true)]
    request_id: Option<RequestId>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<store::AuditEvent> for AuditEvent {
    fn from(event: store::AuditEvent) -> Self {
        let target_id = event.target_id.map(|id| match event.action.as_str() {
            "account.credit" => CreditId::from_uuid(id).to_string(),
            action if action.starts_with("admin_key.") => AdminKeyId::from_uuid(id).to_string(),
            _ => KeyId::from_uuid(id).to_string(),
        });
        Self {
            id: event.id,
            actor: event.actor,
            admin_key_id: event.admin_key_id,
            action: event.action,
            account: event.account,
            target_id,
            detail: event.detail,
            address: event.address,
            request_id: event.request_id,
            created_at: event.created_at,
        }
    }
}

/// Which events are wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the parameters, for the OpenAPI document")]
pub struct AuditFilterParams {
    /// Only acts on this account.
    account: Option<String>,
    /// Only acts on this API key.
    #[param(pattern = "^key_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    key_id: Option<String>,
}

/// List what was done to the tenant's accounts and keys, newest first.
#[utoipa::path(get, path = "/v1/audit-events", operation_id = "listAuditEvents",
    tag = "audit",
    security(("admin_key" = [])), params(AuditFilterParams, PageParams),
    responses((status = 200, body = List<AuditEvent>), AnyRoute, WithAdminKey, WithParameters))]
pub async fn list(
    State(state): State<AppState>,
    admin: Admin,
    mut params: QueryParams,
) -> Result<Json<List<AuditEvent>>, Problem> {
    let format = admin.tenant.policy.account_format;
    let filter = AuditFilter {
        account: params.optional("account", |text| ExternalId::parse(text, format)),
        key_id: params.optional("key_id", str::parse),
    };
    let page = Page::<16>::read(params, format!("audit {} {filter:?}", admin.tenant.id))?;
    let before = page.after.map(|bytes| AuditEventId::from_uuid(Uuid::from_bytes(bytes)));
    let events =
        state.store.list_audit_events(&admin.tenant, &filter, before, page.fetch()).await?;
    Ok(page.respond(events, |event| event.id.uuid().into_bytes(), AuditEvent::from))
}
