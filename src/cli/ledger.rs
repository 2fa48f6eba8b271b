use std::io::{IsTerminal as _, Write as _};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};

use super::database::Database;
use crate::{
    config::DatabaseArgs,
    domain::{
        account::{AccountId, ExternalId},
        tenant::{Environment, Slug},
    },
    store::LedgerCheck,
};

#[derive(Subcommand)]
pub enum LedgerCommand {
    /// Check that the money of every account adds up, and print every fault
    ///
    /// Checks that the entries of each account have no gaps and add up to its balance, that the
    /// held amount is the sum of its open holds, and that entries match the purchases, credits,
    /// refunds and idempotency records. A service may run meanwhile. Prints one fault per line. The
    /// exit status is 1 if there are faults.
    Verify(Verify),
}

#[derive(Args)]
pub struct Verify {
    /// Check only the account with this id, which is the tenant's own id
    #[arg(long, requires = "tenant", value_name = "ID")]
    account: Option<String>,

    /// Tenant of the account
    #[arg(long, requires = "account", value_name = "SLUG")]
    tenant: Option<Slug>,

    /// Environment of the tenant
    #[arg(long, default_value = "live", value_name = "live|test")]
    environment: Environment,

    #[command(flatten)]
    database: DatabaseArgs,
}

impl LedgerCommand {
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Verify(verify) => verify.run().await,
        }
    }
}

impl Verify {
    async fn run(self) -> anyhow::Result<()> {
        let database = Database::open_to_read(&self.database).await?;
        let checked = self.check(&database).await;
        database.close().await?;
        let (accounts, entries, faults) = checked?;
        ensure!(faults == 0, "{faults} faults in {accounts} accounts, {entries} entries");
        println!("{accounts} accounts, {entries} entries: no fault");
        Ok(())
    }

    /// The numbers of accounts, entries and faults.
    async fn check(&self, database: &Database) -> anyhow::Result<(usize, i64, u64)> {
        let store = &database.store;
        let account = match (&self.account, &self.tenant) {
            (Some(account), Some(slug)) => {
                let tenant = store.find_tenant(slug, self.environment).await;
                let tenant = tenant.with_context(|| {
                    format!("no tenant {slug} in environment {}", self.environment.as_str())
                })?;
                let account = ExternalId::parse(account, tenant.policy.account_format)?;
                Some(AccountId::derive(tenant.id, &account))
            }
            _ => None,
        };
        let mut bar = Bar::new(store.count_ledger_entries(account).await?);
        let mut faults = 0;
        let accounts = store.check_ledger(account, |said| match said {
            LedgerCheck::Progress { entries } => bar.advance(entries),
            LedgerCheck::Fault { account, fault } => {
                faults += 1;
                bar.clear();
                println!("{account}: {fault}");
            }
        });
        let accounts = accounts.await?;
        bar.clear();
        if account.is_some() && accounts == 0 {
            bail!("the tenant has no account with this id");
        }
        Ok((accounts, bar.done, faults))
    }
}

/// A progress bar, shown only on a terminal.
struct Bar {
    done: i64,
    total: i64,
    shown: bool,
}

impl Bar {
    const WIDTH: usize = 40;

    fn new(total: i64) -> Self {
        Self { done: 0, total, shown: std::io::stderr().is_terminal() }
    }

    fn advance(&mut self, entries: i64) {
        self.done += entries;
        if !self.shown {
            return;
        }
        // Entries may have been added since they were counted.
        let total = self.total.max(self.done).max(1);
        let share = |of: usize| {
            let of = i64::try_from(of).unwrap_or(1);
            usize::try_from(i128::from(self.done) * i128::from(of) / i128::from(total)).unwrap_or(0)
        };
        let (full, percent) = (share(Self::WIDTH), share(100));
        let bar = format!("{}{}", "#".repeat(full), "-".repeat(Self::WIDTH - full));
        eprint!("\r[{bar}] {percent:3} %  {} entries", self.done);
        // The bar is only information: a failure to show it is ignored.
        let _ = std::io::stderr().flush();
    }

    /// Removes the bar, so that a line can be printed in its place.
    fn clear(&self) {
        if self.shown {
            eprint!("\r\x1b[2K");
        }
    }
}
