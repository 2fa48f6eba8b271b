//! An account's API keys, as its tenant manages them.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    auth::Problem,
    domain::{
        amount::Currency,
        api_key::KeyText,
        id::KeyId,
        lifecycle::{Expiry, MAX_GRACE_SECONDS},
        scope::ScopeSet,
        spend_limit::SpendLimit,
        tenant::Tenant,
        text::{Metadata, Name, Reason},
        timestamp::Timestamp,
    },
    entropy,
    http::api::shared::{
        admin::Admin,
        amounts::{NewSpendLimitBody, spend_limit},
        api_key::ApiKey,
        fields::{Fields, Patch, Wrong, boolean, integer, metadata, scopes, text},
        page::{List, Page, PageParams},
        params::{AccountInPath, AccountPath, KeyInPath, KeyPath, QueryParams},
        problems::{
            AnyRoute, KeyLimitReached, KeyNotChangeable, WithAdminKey, WithBody, WithParameters,
            WithTarget,
        },
    },
    state::AppState,
    store::{self, KeyChange, KeyFilter, NewApiKey},
};

/// A new API key, and its text, which is shown this once.
#[derive(Serialize, ToSchema)]
pub struct NewKey {
    /// The whole text. It cannot be had again.
    #[schema(example = "ta_aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789_-aBcDe")]
    key: String,
    #[serde(flatten)]
    api_key: ApiKey,
}

impl NewKey {
    /// One of the two responses that carry a key's text.
    fn respond(text: &KeyText, api_key: store::ApiKey, currency: &Currency) -> Response {
        let api_key = ApiKey::new(api_key, currency);
        let body = Self { key: text.expose().to_owned(), api_key };
        let no_store = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        (StatusCode::CREATED, [no_store], Json(body)).into_response()
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKeyRequest {
    /// 1 to 100 characters after trimming, no control characters.
    #[schema(value_type = String, min_length = 1, max_length = 100, example = "trading bot 1")]
    name: Name,
    /// Absent: the tenant's default.
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 32)]
    scopes: Option<ScopeSet>,
    /// In the future, at most ten years ahead. Absent: never. Not along with `expires_in`.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Expiry>,
    /// Seconds from now: the other way to say it.
    #[schema(value_type = Option<i64>, minimum = 1)]
    #[expect(dead_code, reason = "read into expires_at; here for the OpenAPI document")]
    expires_in: Option<i64>,
    /// At most 4096 bytes as compact JSON.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Metadata>,
    /// Absent: all of the balance.
    #[schema(value_type = Option<NewSpendLimitBody>)]
    spend_limit: Option<SpendLimit>,
}

impl CreateKeyRequest {
    fn read(mut fields: Fields, now: Timestamp, tenant: &Tenant) -> Result<Self, Problem> {
        let name = fields.required("name", text(Name::parse));
        let scopes = fields.optional("scopes", scopes);
        let at = fields.optional("expires_at", expires_at(now));
        let after = |seconds| Expiry::after_seconds(seconds, now);
        let expires_in = fields.optional("expires_in", integer(after));
        if at.is_some() && expires_in.is_some() {
            fields.wrong("expires_in", "must not stand beside expires_at".into());
        }
        let metadata = fields.optional("metadata", metadata);
        let spend_limit = fields.object("spend_limit", |limit| spend_limit(limit, tenant));
        let request = name.map(|name| Self {
            name,
            scopes,
            expires_at: at.or(expires_in),
            expires_in: None,
            metadata,
            spend_limit,
        });
        fields.finish(request)
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the shape of the body, for the OpenAPI document")]
pub struct PatchKeyRequest {
    #[schema(nullable = false, min_length = 1, max_length = 100)]
    name: Option<String>,
    #[schema(nullable = false, min_items = 1, max_items = 32)]
    scopes: Option<Vec<String>>,
    /// `null`: never to expire.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    #[schema(nullable = false)]
    enabled: Option<bool>,
    /// Replaced whole; `null`: emptied.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// `null`: all of the balance.
    spend_limit: Option<NewSpendLimitBody>,
}

impl PatchKeyRequest {
    fn read(mut fields: Fields, now: Timestamp, tenant: &Tenant) -> Result<KeyChange, Problem> {
        let change = KeyChange {
            name: fields.change("name", text(Name::parse)),
            scopes: fields.change("scopes", scopes),
            expiry: match fields.patch("expires_at", expires_at(now)) {
                Patch::Keep => None,
                Patch::Clear => Some(None),
                Patch::Set(expiry) => Some(Some(expiry)),
            },
            enabled: fields.change("enabled", boolean),
            metadata: match fields.patch("metadata", metadata) {
                Patch::Keep => None,
                Patch::Clear => Some(Metadata::default()),
                Patch::Set(metadata) => Some(metadata),
            },
            spend_limit: match fields.patch_object("spend_limit", |f| spend_limit(f, tenant)) {
                Patch::Keep => None,
                Patch::Clear => Some(None),
                Patch::Set(limit) => Some(Some(limit)),
            },
        };
        fields.finish(Some(change))
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeKeyRequest {
    /// For the audit trail: 1 to 200 characters.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 200)]
    reason: Option<Reason>,
}

impl RevokeKeyRequest {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let reason = fields.optional("reason", text(Reason::parse));
        fields.finish(Some(Self { reason }))
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKeyRequest {
    /// How long the old key passes on.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 604800, default = 0)]
    grace_seconds: i64,
}

impl RotateKeyRequest {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let grace = |seconds| match seconds {
            0..=MAX_GRACE_SECONDS => Ok(seconds),
            _ => Err("must be from 0 to 604800"),
        };
        let grace_seconds = fields.optional("grace_seconds", integer(grace)).unwrap_or(0);
        fields.finish(Some(Self { grace_seconds }))
    }
}

/// Which keys are wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the parameters, for the OpenAPI document")]
pub struct KeyFilterParams {
    /// `live` (the default), `revoked`, `expired` or `all`.
    #[param(pattern = "^(live|revoked|expired|all)$")]
    status: Option<String>,
}

fn expires_at(now: Timestamp) -> impl FnOnce(Value) -> Result<Expiry, Wrong> {
    move |value| {
        let moment = text(Timestamp::parse)(value)?;
        Ok(Expiry::at(moment, now)?)
    }
}

/// Give an account a key. Its text is in this response alone.
#[utoipa::path(post, path = "/v1/accounts/{account}/keys", operation_id = "createKey",
    tag = "keys",
    security(("admin_key" = [])),
    params(AccountPath),
    request_body = CreateKeyRequest,
    responses(
        (status = 201, body = NewKey),
        KeyLimitReached, AnyRoute, WithAdminKey, WithBody, WithTarget))]
pub async fn create(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    fields: Fields,
) -> Result<Response, Problem> {
    let request = CreateKeyRequest::read(fields, admin.now, &admin.tenant)?;
    let policy = &admin.tenant.policy;
    let new = NewApiKey {
        name: request.name,
        scopes: request.scopes.unwrap_or_else(|| policy.default_scopes.clone()),
        expiry: request.expires_at,
        metadata: request.metadata.unwrap_or_default(),
        spend_limit: request.spend_limit,
    };
    let text = entropy::new_key(&policy.prefix).map_err(store::StoreError::from)?;
    let key =
        state.store.create_api_key(&admin.tenant, &account, &text, &new, &admin.origin).await?;
    Ok(NewKey::respond(&text, key, &admin.tenant.policy.currency))
}

/// List an account's keys, newest first.
#[utoipa::path(get, path = "/v1/accounts/{account}/keys", operation_id = "listKeys",
    tag = "keys",
    security(("admin_key" = [])),
    params(AccountPath,
        KeyFilterParams, PageParams),
    responses((status = 200, body = List<ApiKey>),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
pub async fn list(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    mut params: QueryParams,
) -> Result<Json<List<ApiKey>>, Problem> {
    let filter = params.optional("status", |text| match text {
        "all" => Ok(KeyFilter::All),
        other => {
            other.parse().map(KeyFilter::Only).map_err(|_| "must be live, revoked, expired or all")
        }
    });
    let filter = filter.unwrap_or(KeyFilter::Only(crate::domain::lifecycle::KeyStatus::Live));
    let list = format!("keys {} {account} {filter:?}", admin.tenant.id);
    let page = Page::<16>::read(params, list)?;
    let before = page.after.map(|bytes| KeyId::from_uuid(Uuid::from_bytes(bytes)));
    let keys =
        state.store.list_api_keys(&admin.tenant, &account, filter, before, page.fetch()).await?;
    let shape = |key| ApiKey::new(key, &admin.tenant.policy.currency);
    Ok(page.respond(keys, |key| key.id.uuid().into_bytes(), shape))
}

/// Read a key.
#[utoipa::path(get, path = "/v1/accounts/{account}/keys/{key_id}", operation_id = "getKey",
    tag = "keys",
    security(("admin_key" = [])),
    params(KeyPath),
    responses((status = 200, body = ApiKey), AnyRoute, WithAdminKey, WithParameters, WithTarget))]
pub async fn get(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    KeyInPath(key_id): KeyInPath,
) -> Result<Json<ApiKey>, Problem> {
    let key = state.store.find_api_key(&admin.tenant, &account, key_id).await?;
    Ok(Json(ApiKey::new(key, &admin.tenant.policy.currency)))
}

/// Change a live key. Absent keeps, `null` clears.
#[utoipa::path(patch, path = "/v1/accounts/{account}/keys/{key_id}", operation_id = "patchKey",
    tag = "keys",
    security(("admin_key" = [])),
    params(KeyPath),
    request_body = Option<PatchKeyRequest>,
    responses((status = 200, body = ApiKey),
        KeyNotChangeable, AnyRoute, WithAdminKey, WithBody, WithTarget))]
pub async fn patch(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    KeyInPath(key_id): KeyInPath,
    fields: Fields,
) -> Result<Json<ApiKey>, Problem> {
    let change = PatchKeyRequest::read(fields, admin.now, &admin.tenant)?;
    let key =
        state.store.change_api_key(&admin.tenant, &account, key_id, &change, &admin.origin).await?;
    Ok(Json(ApiKey::new(key, &admin.tenant.policy.currency)))
}

/// Revoke a key, at once and for ever. Repeating it is harmless; other keys stay as they are.
#[utoipa::path(post, path = "/v1/accounts/{account}/keys/{key_id}/revoke", operation_id = "revokeKey",
    tag = "keys",
    security(("admin_key" = [])),
    params(KeyPath),
    request_body = Option<RevokeKeyRequest>,
    responses((status = 200, body = ApiKey), AnyRoute, WithAdminKey, WithBody, WithTarget))]
pub async fn revoke(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    KeyInPath(key_id): KeyInPath,
    fields: Fields,
) -> Result<Json<ApiKey>, Problem> {
    let request = RevokeKeyRequest::read(fields)?;
    let key = state
        .store
        .revoke_api_key(&admin.tenant, &account, key_id, request.reason.as_ref(), &admin.origin)
        .await?;
    Ok(Json(ApiKey::new(key, &admin.tenant.policy.currency)))
}

/// Replace a key by a new one with the same settings. The text of the new one is in this response
/// alone; the old one dies when the grace ends.
#[utoipa::path(post, path = "/v1/accounts/{account}/keys/{key_id}/rotate", operation_id = "rotateKey",
    tag = "keys",
    security(("admin_key" = [])),
    params(KeyPath),
    request_body = Option<RotateKeyRequest>,
    responses((status = 201, body = NewKey),
        KeyNotChangeable, AnyRoute, WithAdminKey, WithBody, WithTarget))]
pub async fn rotate(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    KeyInPath(key_id): KeyInPath,
    fields: Fields,
) -> Result<Response, Problem> {
    let request = RotateKeyRequest::read(fields)?;
    let text = entropy::new_key(&admin.tenant.policy.prefix).map_err(store::StoreError::from)?;
    let key = state
        .store
        .rotate_api_key(
            &admin.tenant,
            &account,
            key_id,
            &text,
            request.grace_seconds,
            &admin.origin,
        )
        .await?;
    Ok(NewKey::respond(&text, key, &admin.tenant.policy.currency))
}
