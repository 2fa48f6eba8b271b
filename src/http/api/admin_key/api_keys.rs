//! Manages the API keys of an account, for its tenant.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    auth::Problem,
    domain::{
        account::ExternalId,
        allowed_ips::AllowedIps,
        api_key::KeyText,
        id::KeyId,
        key_settings::{KeyChange, KeySettings},
        lifecycle::{Expiry, GraceSeconds, KeyStatusFilter, Lifetime},
        plan::Plan,
        rate_limit::{OwnerLimits, RateLimits},
        scope::ScopeSet,
        spend_limit::SpendLimit,
        tenant::Tenant,
        text::{Metadata, Name, Reason},
        timestamp::Timestamp,
    },
    entropy,
    http::api::shared::{
        admin::Admin,
        allowed_ips::allowed_ips,
        amounts::spend_limit,
        api_key::ApiKey,
        fields::{Fields, Patch, Wrong, boolean, integer, metadata, scopes, text},
        page::{List, Page},
        params::{AccountPath, KeyPath, QueryParams},
        problems::{
            AnyRoute, KeyLimitReached, KeyNotChangeable, WithAdminKey, WithBody, WithParameters,
            WithTarget,
        },
        rate_limits::{patch_rate_limits, rate_limits},
    },
    state::AppState,
    store::{self, NoExpiry},
};

/// A new API key with its plaintext. No other response contains the plaintext.
#[derive(Serialize, ToSchema)]
pub struct NewKey {
    /// The key's plaintext. Store it now, because no other response contains it.
    #[schema(example = "ta_aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789_-aBcDe")]
    key: String,
    #[serde(flatten)]
    api_key: ApiKey,
}

pub type ApiKeyList = List<ApiKey>;

/// The part of a list of keys that `limit` and `cursor` select.
type ApiKeyPage = Page<16>;

impl NewKey {
    /// Builds the response to a creation or a rotation. No other response contains a key's
    /// plaintext.
    fn respond(text: &KeyText, api_key: ApiKey) -> Response {
        let body = Self { key: text.expose().to_owned(), api_key };
        let no_store = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        (StatusCode::CREATED, [no_store], Json(body)).into_response()
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKeyRequest {
    name: Name,
    /// Scopes of the key, which the account's plan must allow. Defaults to the default scopes of the
    /// plan.
    scopes: Option<ScopeSet>,
    /// Time at which the key expires. Must be in the future, and at most ten years ahead. Must not
    /// be combined with `expires_in`. Without either, the key gets the default lifetime of the
    /// account's plan, or does not expire if the plan has none. The plan can require an earlier
    /// expiry.
    expires_at: Option<Expiry>,
    /// Seconds from now until the key expires. Must not be combined with `expires_at`.
    expires_in: Option<Lifetime>,
    metadata: Option<Metadata>,
    /// Maximum amount that the key may spend in a period. If absent, the key may spend the whole
    /// balance.
    spend_limit: Option<SpendLimit>,
    /// Rate limits of the key. A limit replaces the plan's default of the same name. If absent,
    /// only the plan's defaults apply.
    rate_limits: Option<RateLimits>,
    /// Networks from which Tollgate accepts the key. If the account has a list too, the client's
    /// address must be in both lists. If absent, Tollgate accepts the key from any address that the
    /// account allows.
    allowed_ips: Option<AllowedIps>,
}

impl CreateKeyRequest {
    fn read(mut fields: Fields, now: Timestamp, tenant: &Tenant) -> Result<Self, Problem> {
        let name = fields.required("name", text(Name::parse));
        let scopes = fields.optional("scopes", scopes);
        let expires_at = fields.optional("expires_at", expires_at(now));
        let lifetime = |seconds| Lifetime::from_seconds(seconds, now);
        let expires_in = fields.optional("expires_in", integer(lifetime));
        if expires_at.is_some() && expires_in.is_some() {
            fields.wrong("expires_in", "must not be combined with expires_at".into());
        }
        let metadata = fields.optional("metadata", metadata);
        let spend_limit = fields.object("spend_limit", |limit| spend_limit(limit, tenant));
        let rate_limits = rate_limits(&mut fields, "rate_limits");
        let allowed_ips = fields.optional("allowed_ips", allowed_ips);
        let request = name.map(|name| Self {
            name,
            scopes,
            expires_at,
            expires_in,
            metadata,
            spend_limit,
            rate_limits,
            allowed_ips,
        });
        fields.finish(request)
    }

    fn into_settings(self, default_scopes: &ScopeSet) -> KeySettings {
        let expiry = self.expires_at.or(self.expires_in.map(Lifetime::expiry));
        KeySettings {
            name: self.name,
            scopes: self.scopes.unwrap_or_else(|| default_scopes.clone()),
            expires_at: expiry.map(Expiry::timestamp),
            enabled: true,
            metadata: self.metadata.unwrap_or_default(),
            spend_limit: self.spend_limit,
            rate_limits: self.rate_limits,
            owner_limits: OwnerLimits::default(),
            allowed_ips: self.allowed_ips,
        }
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchKeyRequest {
    #[schema(nullable = false)]
    name: Option<Name>,
    #[schema(nullable = false)]
    scopes: Option<ScopeSet>,
    /// New expiry of the key. `null` removes the expiry.
    #[schema(value_type = Option<Expiry>)]
    expires_at: Patch<Expiry>,
    #[schema(nullable = false)]
    enabled: Option<bool>,
    /// Replaces all metadata. `null` removes all metadata.
    #[schema(value_type = Option<Metadata>)]
    metadata: Patch<Metadata>,
    /// New spend limit of the key. `null` removes the spend limit.
    #[schema(value_type = Option<SpendLimit>)]
    spend_limit: Patch<SpendLimit>,
    /// Replaces all rate limits of the key. `null` removes them, so that only the plan's defaults
    /// apply.
    #[schema(value_type = Option<RateLimits>)]
    rate_limits: Patch<RateLimits>,
    /// Replaces all networks of the key. `null` removes them, so that Tollgate accepts the key from
    /// any address that the account allows.
    #[schema(value_type = Option<AllowedIps>)]
    allowed_ips: Patch<AllowedIps>,
}

impl PatchKeyRequest {
    fn read(mut fields: Fields, now: Timestamp, tenant: &Tenant) -> Result<Self, Problem> {
        let request = Self {
            name: fields.change("name", text(Name::parse)),
            scopes: fields.change("scopes", scopes),
            expires_at: fields.patch("expires_at", expires_at(now)),
            enabled: fields.change("enabled", boolean),
            metadata: fields.patch("metadata", metadata),
            spend_limit: fields.patch_object("spend_limit", |limit| spend_limit(limit, tenant)),
            rate_limits: patch_rate_limits(&mut fields, "rate_limits"),
            allowed_ips: fields.patch("allowed_ips", allowed_ips),
        };
        fields.finish(Some(request))
    }
}

impl From<PatchKeyRequest> for KeyChange {
    fn from(request: PatchKeyRequest) -> Self {
        Self {
            name: request.name,
            scopes: request.scopes,
            expiry: request.expires_at.into_change(),
            enabled: request.enabled,
            metadata: request.metadata.into_change().map(Option::unwrap_or_default),
            spend_limit: request.spend_limit.into_change(),
            rate_limits: request.rate_limits.into_change(),
            owner_limits: None,
            allowed_ips: request.allowed_ips.into_change(),
        }
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeKeyRequest {
    /// Reason for the revocation, which the audit trail records.
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
    /// Seconds for which the old key remains valid.
    grace_seconds: Option<GraceSeconds>,
}

impl RotateKeyRequest {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let grace_seconds = fields.optional("grace_seconds", integer(GraceSeconds::try_from));
        fields.finish(Some(Self { grace_seconds }))
    }
}

/// The filter of a list of keys.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct KeyQuery {
    /// Returns only keys with this status.
    #[param(required = false, default = KeyStatusFilter::default)]
    status: KeyStatusFilter,
}

impl KeyQuery {
    fn read(params: &mut QueryParams) -> Self {
        Self { status: params.optional("status", str::parse).unwrap_or_default() }
    }
}

fn expires_at(now: Timestamp) -> impl FnOnce(Value) -> Result<Expiry, Wrong> {
    move |value| {
        let moment = text(Timestamp::parse)(value)?;
        Ok(Expiry::at(moment, now)?)
    }
}

/// Create an API key
///
/// Only this response contains the key's plaintext.
#[utoipa::path(post, path = "/v1/accounts/{account}/keys", operation_id = "createKey",
    tag = "keys",
    params(AccountPath),
    request_body = CreateKeyRequest,
    responses(
        (status = 201, description = "The key and its plaintext.", body = NewKey),
        KeyLimitReached, AnyRoute, WithAdminKey, WithBody, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account)))]
pub async fn create(
    State(state): State<AppState>,
    admin: Admin,
    AccountPath { account }: AccountPath,
    fields: Fields,
) -> Result<Response, Problem> {
    let request = CreateKeyRequest::read(fields, admin.now, &admin.tenant)?;
    let policy = &admin.tenant.policy;
    let text = entropy::new_key(&policy.prefix).map_err(store::StoreError::from)?;
    let handle = admin.account(&state, &account);
    let settings = |plan: &Plan| request.into_settings(&plan.settings.default_scopes);
    let key = handle.create_api_key(&text, NoExpiry::PlanDefault, settings).await?;
    Ok(NewKey::respond(&text, after_change(&state, &admin, &account, key).await))
}

/// List an account's API keys
///
/// Returns the newest keys first.
#[utoipa::path(get, path = "/v1/accounts/{account}/keys", operation_id = "listKeys",
    tag = "keys",
    params(AccountPath, KeyQuery, ApiKeyPage),
    responses((status = 200, description = "A page of keys.", body = ApiKeyList),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account)))]
pub async fn list(
    State(state): State<AppState>,
    admin: Admin,
    AccountPath { account }: AccountPath,
    mut params: QueryParams,
) -> Result<ApiKeyList, Problem> {
    let KeyQuery { status } = KeyQuery::read(&mut params);
    let list = format!("keys {} {account} {status}", admin.tenant.id);
    let page = ApiKeyPage::read(params, list)?;
    let before = page.after.map(|bytes| KeyId::from_uuid(Uuid::from_bytes(bytes)));
    let keys =
        state.store.list_api_keys(&admin.tenant, &account, status, before, page.fetch()).await?;
    let limits = state.limiter().of_keys(&admin.tenant, &account, &keys).await?;
    let keys: Vec<_> = keys.into_iter().zip(limits).collect();
    let currency = &admin.tenant.policy.currency;
    let shape = |(key, limits)| ApiKey::new(key, Some(limits), admin.now, currency);
    Ok(page.respond(keys, |(key, _)| key.id.uuid().into_bytes(), shape))
}

/// Get an API key
#[utoipa::path(get, path = "/v1/accounts/{account}/keys/{key_id}", operation_id = "getKey",
    tag = "keys",
    params(KeyPath),
    responses((status = 200, description = "The key.", body = ApiKey),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account), %key_id))]
pub async fn get(
    State(state): State<AppState>,
    admin: Admin,
    KeyPath { account, key_id }: KeyPath,
) -> Result<Json<ApiKey>, Problem> {
    let key = state.store.find_api_key(&admin.tenant, &account, key_id).await?;
    let limits = state.limiter().of_key(&admin.tenant, &account, &key).await?;
    Ok(Json(ApiKey::new(key, Some(limits), admin.now, &admin.tenant.policy.currency)))
}

/// Change an API key
///
/// The key must be live. An absent member keeps its value, and `null` clears it.
#[utoipa::path(patch, path = "/v1/accounts/{account}/keys/{key_id}", operation_id = "patchKey",
    tag = "keys",
    params(KeyPath),
    request_body = Option<PatchKeyRequest>,
    responses((status = 200, description = "The key.", body = ApiKey),
        KeyNotChangeable, AnyRoute, WithAdminKey, WithBody, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account), %key_id))]
pub async fn patch(
    State(state): State<AppState>,
    admin: Admin,
    KeyPath { account, key_id }: KeyPath,
    fields: Fields,
) -> Result<Json<ApiKey>, Problem> {
    let change = KeyChange::from(PatchKeyRequest::read(fields, admin.now, &admin.tenant)?);
    let key = admin.account(&state, &account).change_api_key(key_id, &change).await?;
    Ok(Json(after_change(&state, &admin, &account, key).await))
}

/// Revoke an API key
///
/// Takes effect immediately and cannot be undone. Voids the key's open holds. Repeating the request
/// has no further effect.
#[utoipa::path(post, path = "/v1/accounts/{account}/keys/{key_id}/revoke", operation_id = "revokeKey",
    tag = "keys",
    params(KeyPath),
    request_body = Option<RevokeKeyRequest>,
    responses((status = 200, description = "The revoked key.", body = ApiKey),
        AnyRoute, WithAdminKey, WithBody, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account), %key_id))]
pub async fn revoke(
    State(state): State<AppState>,
    admin: Admin,
    KeyPath { account, key_id }: KeyPath,
    fields: Fields,
) -> Result<Json<ApiKey>, Problem> {
    let request = RevokeKeyRequest::read(fields)?;
    let handle = admin.account(&state, &account);
    let key = handle.revoke_api_key(key_id, request.reason.as_ref()).await?;
    Ok(Json(after_change(&state, &admin, &account, key).await))
}

/// Rotate an API key
///
/// Creates a new key with the same settings. Only this response contains the new key's plaintext.
/// The old key expires when the grace period ends. The holds of the old key stay open, and the new
/// key can capture them.
#[utoipa::path(post, path = "/v1/accounts/{account}/keys/{key_id}/rotate", operation_id = "rotateKey",
    tag = "keys",
    params(KeyPath),
    request_body = Option<RotateKeyRequest>,
    responses((status = 201, description = "The new key and its plaintext.", body = NewKey),
        KeyNotChangeable, AnyRoute, WithAdminKey, WithBody, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account), %key_id))]
pub async fn rotate(
    State(state): State<AppState>,
    admin: Admin,
    KeyPath { account, key_id }: KeyPath,
    fields: Fields,
) -> Result<Response, Problem> {
    let request = RotateKeyRequest::read(fields)?;
    let text = entropy::new_key(&admin.tenant.policy.prefix).map_err(store::StoreError::from)?;
    let grace = request.grace_seconds.unwrap_or_default().get();
    let key = admin.account(&state, &account).rotate_api_key(key_id, &text, grace).await?;
    Ok(NewKey::respond(&text, after_change(&state, &admin, &account, key).await))
}

/// Builds the response to a change. The change has been made, even if the limits cannot be read.
async fn after_change(
    state: &AppState,
    admin: &Admin,
    account: &ExternalId,
    key: store::ApiKey,
) -> ApiKey {
    let limits = state.limiter().of_key(&admin.tenant, account, &key).await;
    ApiKey::new(key, limits.ok(), admin.now, &admin.tenant.policy.currency)
}
