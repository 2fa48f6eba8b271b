use clap::Args;

use super::{database::Database, output::outln};
use crate::config::DatabaseArgs;

#[derive(Args)]
pub struct Migrate {
    #[command(flatten)]
    database: DatabaseArgs,
}

impl Migrate {
    pub async fn run(self) -> anyhow::Result<()> {
        let database = Database::open_for_command(&self.database).await?;
        outln!("The schema is up to date.")?;
        database.close().await
    }
}
