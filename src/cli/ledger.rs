use std::{
    io::{BufWriter, IsTerminal as _, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};

use super::{
    database::Database,
    head_file::HeadFile,
    output::{counted, outln},
};
use crate::{
    config::DatabaseArgs,
    domain::{
        account::{AccountId, ExternalId},
        ledger_head::LedgerHead,
        tenant::{Environment, Slug},
    },
    store::{LedgerCheck, Store},
};

/// Number of lines of a file to compare with the ledger in one snapshot.
const HEADS_AT_ONCE: usize = 1000;

#[derive(Subcommand)]
pub enum LedgerCommand {
    /// Check the ledger of every account, and print every fault
    ///
    /// Checks that the entries of each account have no gaps and add up to its balance, that the
    /// held amount is the sum of its open holds, and that entries match the purchases, credits,
    /// refunds and idempotency records. Prints one fault per line, and exits with status 1 if there
    /// are faults. You can run this command while the service runs.
    Verify(Verify),
    /// Print the newest entry of each account, for verify --since
    ///
    /// Prints a line for each account. The fields are tenant, environment, account, seq, the id of
    /// the purchase, credit or refund, and the balance in minor units, separated by spaces. For an
    /// account without entries, the last three fields are 0 - 0. You can run this command while the
    /// service runs. Each line then shows the account at the time at which the command read it.
    Head(Head),
}

#[derive(Args)]
pub struct Head {
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Args)]
pub struct Verify {
    /// Also report each line of this file that the ledger no longer contains
    ///
    /// The file must contain earlier output of `tollgate ledger head`. After a failover or a
    /// restore, the comparison shows which accounts have lost their newest entries. No other check
    /// can detect this loss.
    #[arg(long, value_name = "FILE", conflicts_with = "account")]
    since: Option<PathBuf>,

    /// The tenant's own id for an account. Checks only this account
    #[arg(long, requires = "tenant", value_name = "ID")]
    account: Option<String>,

    /// Name of the account's tenant
    #[arg(long, requires = "account", value_name = "SLUG")]
    tenant: Option<Slug>,

    /// Environment of the tenant, live or test
    #[arg(long, default_value = "live", value_name = "live|test")]
    environment: Environment,

    #[command(flatten)]
    database: DatabaseArgs,
}

impl LedgerCommand {
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Verify(verify) => verify.run().await,
            Self::Head(head) => head.run().await,
        }
    }
}

impl Head {
    async fn run(self) -> anyhow::Result<()> {
        let database = Database::open_to_read(&self.database).await?;
        let printed = print_heads(&database.store).await;
        database.close().await?;
        printed
    }
}

async fn print_heads(store: &Store) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::io::stdout());
    let mut last = None;
    loop {
        let heads = store.list_ledger_heads(last).await?;
        for (_, head) in &heads {
            writeln!(out, "{head}").context("cannot write to standard output")?;
        }
        match heads.last() {
            Some((account, _)) => last = Some(*account),
            None => return out.flush().context("cannot write to standard output"),
        }
    }
}

impl Verify {
    async fn run(self) -> anyhow::Result<()> {
        // The file is read before the database is opened, so that a malformed line stops the
        // command immediately.
        let mut since = self.since.as_deref().map(HeadFile::open).transpose()?;
        let database = Database::open_to_read(&self.database).await?;
        let checked = self.check(&database, since.as_mut()).await;
        database.close().await?;
        let (accounts, entries, faults) = checked?;
        let accounts = counted(accounts, "account", "accounts");
        let entries = counted(entries, "entry", "entries");
        ensure!(faults == 0, "{} in {accounts}, {entries}", counted(faults, "fault", "faults"));
        let compared =
            since.map(|since| format!(", {} of the file", counted(since.line(), "line", "lines")));
        let compared = compared.unwrap_or_default();
        outln!("{accounts}, {entries}{compared}: no fault")
    }

    /// Returns the numbers of accounts, entries and faults.
    async fn check(
        &self,
        database: &Database,
        since: Option<&mut HeadFile>,
    ) -> anyhow::Result<(usize, i64, u64)> {
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
        let (mut faults, mut written) = (0, Ok(()));
        let accounts = store.check_ledger(account, |said| match said {
            LedgerCheck::Progress { entries } => bar.advance(entries),
            LedgerCheck::Fault { account, fault } => {
                faults += 1;
                bar.clear();
                if written.is_ok() {
                    written = outln!("{account}: {fault}");
                }
            }
        });
        let accounts = accounts.await?;
        written?;
        bar.clear();
        if account.is_some() && accounts == 0 {
            bail!("the tenant has no account with this id");
        }
        if let Some(since) = since {
            faults += print_lost_heads(store, since).await?;
        }
        Ok((accounts, bar.done, faults))
    }
}

/// Prints the lines of the file that the ledger no longer contains. Returns their number.
async fn print_lost_heads(store: &Store, since: &mut HeadFile) -> anyhow::Result<u64> {
    let mut faults = 0;
    loop {
        let before = since.line();
        let heads = since.next_heads(HEADS_AT_ONCE)?;
        if heads.is_empty() {
            return Ok(faults);
        }
        for (place, fault) in store.find_lost_heads(&heads).await? {
            faults += 1;
            let (LedgerHead { tenant, environment, account, .. }, line) =
                (&heads[place], before + place + 1);
            outln!("{tenant} ({environment}) {account}: line {line} of the file: {fault}")?;
        }
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
        // The bar is only information, so the command ignores a failure to show it.
        let _ = std::io::stderr().flush();
    }

    /// Removes the bar, so that a line can be printed in its place.
    fn clear(&self) {
        if self.shown {
            eprint!("\r\x1b[2K");
        }
    }
}
