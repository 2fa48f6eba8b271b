use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{database::Database, output::outln, which_tenant::WhichTenant};
use crate::{
    config::DatabaseArgs,
    domain::{
        api_key::{KeyPrefix, KeyText},
        audit::Origin,
        id::AdminKeyId,
        permission::PermissionSet,
        tenant::Tenant,
        text::Name,
    },
    entropy,
    store::{AdminKey, Refusal, StoreError},
};

#[derive(Subcommand)]
pub enum AdminKeyCommand {
    /// Create an admin key for a tenant's backend, and print it
    ///
    /// The key is shown only once.
    Create(Create),
    /// List a tenant's admin keys, including revoked ones
    List(List),
    /// Revoke an admin key permanently on every node
    ///
    /// Also ends the dashboard sessions that the key's links opened, and invalidates the key's
    /// unused links.
    Revoke(Revoke),
}

#[derive(Args)]
pub struct Create {
    #[command(flatten)]
    which: WhichTenant,
    /// Permissions of the admin key, separated by commas
    ///
    /// By default, the key has all permissions.
    #[arg(long, default_value_t = PermissionSet::all(), value_parser = parse_permissions)]
    permissions: PermissionSet,
    /// Name of the admin key, such as the name of the program that uses it
    #[arg(long, default_value = "backend", value_parser = Name::parse)]
    name: Name,
    /// Print the admin key as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    which: WhichTenant,
    /// Print the admin keys as one JSON list
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
pub struct Revoke {
    #[command(flatten)]
    which: WhichTenant,
    /// Id of the admin key, such as adm_01h455vb4pex5vsknk084sn02q, from the output of tollgate
    /// admin-key list
    id: AdminKeyId,
    #[command(flatten)]
    database: DatabaseArgs,
}

impl AdminKeyCommand {
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(list) => list.run().await,
            Self::Revoke(revoke) => revoke.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        let database = Database::open_for_command(&self.database).await?;
        let tenant = self.which.find(&database).await?;
        let text = entropy::new_key(&KeyPrefix::admin())?;
        let key = database
            .store
            .create_admin_key(&tenant, &text, &self.name, &self.permissions, &Origin::cli())
            .await?;
        self.print_created(&tenant, &key, &text).with_context(|| {
            format!(
                "the admin key {id} was created, but could not be printed. Revoke it with \
                 tollgate admin-key revoke {tenant} {id}",
                id = key.id,
                tenant = tenant.slug
            )
        })?;
        database.close().await
    }

    fn print_created(&self, tenant: &Tenant, key: &AdminKey, text: &KeyText) -> anyhow::Result<()> {
        if self.json {
            let mut object = describe(key);
            object["tenant"] = tenant.slug.as_str().into();
            object["environment"] = tenant.environment.as_str().into();
            object["admin_key"] = text.expose().into();
            return outln!("{object}");
        }
        outln!("id           {}", key.id)?;
        outln!("name         {}", key.name)?;
        outln!("permissions  {}", key.permissions.to_strings().join(", "))?;
        outln!("admin key    {}", text.expose())?;
        outln!("\nThe admin key is shown only once. Store it where only your backend can read it.")
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let database = Database::open_to_read(&self.database).await?;
        let tenant = self.which.find(&database).await?;
        let keys = database.store.list_admin_keys(&tenant).await?;
        if self.json {
            outln!("{}", json!(keys.iter().map(describe).collect::<Vec<_>>()))?;
        } else {
            outln!("{:<31} {:<19} {:<20} {:<8} PERMISSIONS", "ID", "HINT", "NAME", "STATUS")?;
            for key in &keys {
                let status = if key.revoked_at.is_some() { "revoked" } else { "live" };
                let permissions = key.permissions.to_strings().join(", ");
                outln!(
                    "{:<31} {:<19} {:<20} {status:<8} {permissions}",
                    key.id.to_string(),
                    key.hint,
                    key.name
                )?;
            }
        }
        database.close().await
    }
}

impl Revoke {
    async fn run(self) -> anyhow::Result<()> {
        let database = Database::open_for_command(&self.database).await?;
        let tenant = self.which.find(&database).await?;
        let hearing = database.hear_acknowledgements().await;
        let revoked = database.store.revoke_admin_key(&tenant, self.id, &Origin::cli()).await;
        drop(hearing);
        let key = revoked.map_err(|error| match error {
            StoreError::Refused(Refusal::NotFound) => {
                anyhow::anyhow!("tenant {} has no admin key {}", tenant.slug, self.id)
            }
            other => other.into(),
        })?;
        outln!("The admin key {} ({}) is revoked.", key.id, key.name)?;
        database.close().await
    }
}

fn describe(key: &AdminKey) -> serde_json::Value {
    json!({
        "id": key.id,
        "hint": key.hint,
        "name": key.name,
        "permissions": key.permissions.to_strings(),
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    })
}

fn parse_permissions(text: &str) -> Result<PermissionSet, String> {
    PermissionSet::parse(text.split(',').map(str::trim)).map_err(|error| error.to_string())
}
