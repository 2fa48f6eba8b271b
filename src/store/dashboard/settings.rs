use serde_json::{Map, Value, json};

use crate::{
    domain::{
        audit::{AuditAction, Origin},
        dashboard::{
            AccentColor, DashboardSettings, DisplayName, Logo, LogoHash, LogoMediaType, LogoRef,
            ReturnOrigins, WalletSignIn, WebOrigin,
        },
        id::TenantId,
        key_clients::ClientAddresses,
        tenant::Tenant,
    },
    store::{
        Refusal, Store, StoreError,
        audit::{Act, Subject},
        clock::now,
        connection::Connection,
    },
};

/// A change to a tenant's dashboard settings. `None` keeps a setting, and `Some(None)` clears it.
#[derive(Clone, Default, Debug)]
pub struct DashboardChange {
    pub name: Option<Option<DisplayName>>,
    pub color: Option<Option<AccentColor>>,
    pub logo: Option<Option<Logo>>,
    pub return_origins: Option<ReturnOrigins>,
    pub wallet_sign_in: Option<WalletSignIn>,
    pub owner_rate_limits: Option<bool>,
    pub client_addresses: Option<ClientAddresses>,
}

struct SettingsRow {
    name: Option<String>,
    color: Option<String>,
    logo_hash: Option<Vec<u8>>,
    logo_type: Option<String>,
    return_origins: Vec<String>,
    wallet_sign_in: String,
    owner_rate_limits: bool,
    client_addresses: String,
}

impl SettingsRow {
    fn into_settings(self) -> Result<DashboardSettings, StoreError> {
        let corrupt =
            |error: &dyn std::fmt::Display| StoreError::corrupt("dashboard_settings", error);
        let logo = match (self.logo_hash, self.logo_type) {
            (Some(hash), Some(logo_type)) => {
                let hash = hash.try_into().map_err(|_| corrupt(&"not a hash"))?;
                let media_type = logo_type.parse::<LogoMediaType>();
                let media_type = media_type.map_err(|error| corrupt(&error))?;
                Some(LogoRef { hash: LogoHash::from_bytes(hash), media_type })
            }
            _ => None,
        };
        let name = self.name.as_deref().map(DisplayName::parse).transpose();
        let color = self.color.as_deref().map(AccentColor::parse).transpose();
        let origins = self.return_origins.iter().map(|text| WebOrigin::parse(text));
        let origins = origins.collect::<Result<Vec<_>, _>>().map_err(|error| corrupt(&error))?;
        let policy = self.wallet_sign_in.parse::<WalletSignIn>();
        let addresses = self.client_addresses.parse::<ClientAddresses>();
        Ok(DashboardSettings {
            name: name.map_err(|error| corrupt(&error))?,
            color: color.map_err(|error| corrupt(&error))?,
            logo,
            return_origins: ReturnOrigins::new(origins).map_err(|error| corrupt(&error))?,
            wallet_sign_in: policy.map_err(|error| corrupt(&error))?,
            owner_rate_limits: self.owner_rate_limits,
            client_addresses: addresses.map_err(|error| corrupt(&error))?,
        })
    }
}

impl Store {
    /// Reads the settings of a tenant's dashboard, or returns the defaults if none are stored.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug))]
    pub async fn dashboard_settings(
        &self,
        tenant: &Tenant,
    ) -> Result<DashboardSettings, StoreError> {
        let _timer = self.timer("dashboard_settings");
        let tenant_id = tenant.id.uuid();
        let row = self
            .read(|mut connection| async move {
                sqlx::query_as!(
                    SettingsRow,
                    "SELECT /* dashboard_settings.dashboard_settings */
                            name, color, logo_hash, logo_type, return_origins, wallet_sign_in,
                            owner_rate_limits, client_addresses
                     FROM dashboard_settings WHERE tenant_id = $1",
                    tenant_id,
                )
                .fetch_optional(&mut connection)
                .await
            })
            .await?;
        row.map_or_else(|| Ok(DashboardSettings::default()), SettingsRow::into_settings)
    }

    /// Changes the settings of a tenant's dashboard. If no setting changes, the call records no
    /// event.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug))]
    pub async fn change_dashboard_settings(
        &self,
        tenant: &Tenant,
        change: &DashboardChange,
        origin: &Origin,
    ) -> Result<DashboardSettings, StoreError> {
        let _timer = self.timer("change_dashboard_settings");
        let mut tx = self.begin().await?;
        sqlx::query!(
            "INSERT /* dashboard_settings.change_dashboard_settings */
                    INTO dashboard_settings (tenant_id) VALUES ($1) ON CONFLICT (tenant_id) DO NOTHING",
            tenant.id.uuid(),
        )
        .execute(&mut *tx)
        .await?;
        let old = select_for_update(&mut tx, tenant).await?;
        let new = apply(change, &old);
        if new != old {
            update(&mut tx, tenant, &new).await?;
            if let Some(logo) = &change.logo {
                update_logo(&mut tx, tenant, logo.as_ref()).await?;
            }
            let at = now(&mut tx).await?;
            let detail = Value::Object(differences(&old, &new));
            let act = Act {
                action: AuditAction::DashboardChange,
                subject: Subject::Tenant(None),
                detail,
            };
            act.record(&mut tx, tenant, origin, at).await?;
        }
        tx.commit().await?;
        Ok(new)
    }

    /// Reads a tenant's logo. Returns `None` if its current hash differs from the given one.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn dashboard_logo(
        &self,
        tenant_id: TenantId,
        hash: &[u8; 32],
    ) -> Result<Option<Logo>, StoreError> {
        let _timer = self.timer("dashboard_logo");
        let bytes = self
            .read(|mut connection| async move {
                sqlx::query_scalar!(
                    r#"SELECT /* dashboard_settings.dashboard_logo */
                              logo AS "logo!" FROM dashboard_settings
                       WHERE tenant_id = $1 AND logo_hash = $2"#,
                    tenant_id.uuid(),
                    hash,
                )
                .fetch_optional(&mut connection)
                .await
            })
            .await?;
        let logo = bytes.map(Logo::new).transpose();
        logo.map_err(|error| StoreError::corrupt("dashboard_settings.logo", error))
    }
}

/// Reads in a transaction which wallet sign-ins the tenant allows.
pub(in crate::store) async fn wallet_sign_in(
    connection: &mut Connection,
    tenant: &Tenant,
) -> Result<WalletSignIn, StoreError> {
    let policy = sqlx::query_scalar!(
        "SELECT /* dashboard_settings.wallet_sign_in */
                wallet_sign_in FROM dashboard_settings WHERE tenant_id = $1",
        tenant.id.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    let Some(policy) = policy else { return Ok(WalletSignIn::default()) };
    policy.parse().map_err(|error| StoreError::corrupt("dashboard_settings.wallet_sign_in", error))
}

async fn select_for_update(
    connection: &mut Connection,
    tenant: &Tenant,
) -> Result<DashboardSettings, StoreError> {
    sqlx::query_as!(
        SettingsRow,
        "SELECT /* dashboard_settings.select_for_update */
                name, color, logo_hash, logo_type, return_origins, wallet_sign_in,
                owner_rate_limits, client_addresses
         FROM dashboard_settings WHERE tenant_id = $1 FOR NO KEY UPDATE",
        tenant.id.uuid(),
    )
    .fetch_optional(connection)
    .await?
    .ok_or(Refusal::NotFound)?
    .into_settings()
}

async fn update(
    connection: &mut Connection,
    tenant: &Tenant,
    settings: &DashboardSettings,
) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE /* dashboard_settings.update */ dashboard_settings
         SET name = $2, color = $3, return_origins = $4, wallet_sign_in = $5,
             owner_rate_limits = $6, client_addresses = $7
         WHERE tenant_id = $1",
        tenant.id.uuid(),
        settings.name.as_ref().map(DisplayName::as_str),
        settings.color.map(|color| color.to_string()),
        &settings.return_origins.to_strings(),
        settings.wallet_sign_in.as_str(),
        settings.owner_rate_limits,
        settings.client_addresses.as_str(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn update_logo(
    connection: &mut Connection,
    tenant: &Tenant,
    logo: Option<&Logo>,
) -> Result<(), StoreError> {
    let hash = logo.map(|logo| logo.to_ref().hash);
    sqlx::query!(
        "UPDATE /* dashboard_settings.update_logo */
                dashboard_settings SET logo = $2, logo_hash = $3, logo_type = $4 WHERE tenant_id = $1",
        tenant.id.uuid(),
        logo.map(Logo::bytes),
        hash.as_ref().map(|hash| hash.as_bytes().as_slice()),
        logo.map(|logo| logo.media_type().as_str()),
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn apply(change: &DashboardChange, old: &DashboardSettings) -> DashboardSettings {
    let mut new = old.clone();
    if let Some(name) = &change.name {
        new.name.clone_from(name);
    }
    if let Some(color) = change.color {
        new.color = color;
    }
    if let Some(logo) = &change.logo {
        new.logo = logo.as_ref().map(Logo::to_ref);
    }
    if let Some(origins) = &change.return_origins {
        new.return_origins = origins.clone();
    }
    if let Some(policy) = change.wallet_sign_in {
        new.wallet_sign_in = policy;
    }
    if let Some(allowed) = change.owner_rate_limits {
        new.owner_rate_limits = allowed;
    }
    if let Some(addresses) = change.client_addresses {
        new.client_addresses = addresses;
    }
    new
}

/// Lists the fields that differ, for the audit trail. The value of a logo is its hash.
fn differences(old: &DashboardSettings, new: &DashboardSettings) -> Map<String, Value> {
    let mut differences = Map::new();
    let mut compare = |field: &str, show: fn(&DashboardSettings) -> Value| {
        let (from, to) = (show(old), show(new));
        if from != to {
            differences.insert(field.to_owned(), json!({"from": from, "to": to}));
        }
    };
    compare("name", |settings| json!(settings.name.as_ref().map(DisplayName::as_str)));
    compare("color", |settings| json!(settings.color.map(|color| color.to_string())));
    compare("logo", |settings| json!(settings.logo.map(|logo| logo.hash.to_string())));
    compare("return_origins", |settings| json!(settings.return_origins.to_strings()));
    compare("wallet_sign_in", |settings| json!(settings.wallet_sign_in.as_str()));
    compare("owner_rate_limits", |settings| json!(settings.owner_rate_limits));
    compare("client_addresses", |settings| json!(settings.client_addresses));
    differences
}
