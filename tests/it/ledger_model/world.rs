//! The service that the tests compare with the model.

use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _,
    postgres::{PgConnectOptions, PgRow},
};
use time::OffsetDateTime;
use tollgate::{
    domain::{
        account::{AccountFormat, AccountId, AccountStatus, ExternalId},
        audit::Origin,
        credit::NewCredit,
        id::{HoldId, KeyId, PurchaseId},
        key_settings::{KeyChange, KeySettings},
        rate_limit::OwnerLimits,
        scope::ScopeSet,
        text::{Metadata, Name},
        timestamp::Timestamp,
    },
    entropy,
    store::{Batch, BatchConnection, BatchOutcome, NoExpiry, Operation, Refusal, StoreError},
};
use uuid::Uuid;

use super::{
    account::BalanceChange,
    clock,
    keys::KeyAction,
    model::{Ledger, units},
    state::{CreditRequest, RefundRequest, SentBatch, State, Step, opening},
    view::{Bought, Entry, Hold, Spent, View},
};
use crate::harness::{App, OTHER_WALLET, WALLET};

pub struct World {
    pub app: App,
    accounts: Vec<Account>,
    batches: BatchConnection,
    /// The connection that reads the stored state of the service.
    connection: PgConnection,
}

struct Account {
    id: AccountId,
    name: ExternalId,
    /// The keys, in the order of the model.
    keys: Vec<KeyId>,
}

/// Returns the result or the refusal. Panics if the database fails.
fn answer<T>(result: Result<T, StoreError>) -> Result<T, Refusal> {
    result.map_err(|error| match error {
        StoreError::Refused(refusal) => refusal,
        error => panic!("{error:?}"),
    })
}

fn stored_time(moment: OffsetDateTime) -> Timestamp {
    Timestamp::try_from(moment).expect("a time")
}

impl World {
    /// Starts a service with the initial accounts, keys and balances of the model.
    pub async fn start(ledger: &Ledger) -> Self {
        let app = App::start().await;
        clock::stop(&app.pool, ledger.now).await;
        let mut accounts = Vec::new();
        for (wallet, model) in [WALLET, OTHER_WALLET].into_iter().zip(&ledger.accounts) {
            app.account(&app.tronagg, wallet, "0").await;
            let mut keys = Vec::new();
            for _ in 0..model.keys.len() {
                let key = app.key(&app.tronagg, wallet).await;
                keys.push(key.id.parse::<KeyId>().expect("an id"));
            }
            let name = ExternalId::parse(wallet, AccountFormat::Tron).expect("an address");
            let id = AccountId::derive(app.tronagg.tenant.id, &name);
            accounts.push(Account { id, name, keys });
        }
        let connection = PgConnection::connect(&app.url).await.expect("the cluster runs");
        let batches = BatchConnection::default();
        let world = Self { app, accounts, batches, connection };
        for (account, model) in ledger.accounts.iter().enumerate() {
            if model.balance() > 0 {
                let credit = NewCredit { amount: units(model.balance()), reference: None };
                let request = CreditRequest { account, credit, key: opening() };
                world.credit(&request).await.expect("this is the first credit");
            }
        }
        world
    }

    /// Applies a step of the model to the service, and compares the results.
    pub async fn apply_step(&mut self, step: &Step) {
        match step {
            Step::Nothing => {}
            Step::Clock(now) => clock::set(&self.app.pool, *now).await,
            Step::SetClockBack(now) => {
                // Without this step, a hold that has already expired would be open again.
                self.release_holds().await;
                clock::set(&self.app.pool, *now).await;
            }
            Step::ReleaseHolds => self.release_holds().await,
            Step::Credit(request, expected) => {
                assert_eq!(self.credit(request).await, *expected, "{step:?}");
            }
            Step::Refund(request, expected) => {
                assert_eq!(self.refund(request).await, *expected, "{step:?}");
            }
            Step::Key { account, key, action, expected } => {
                assert_eq!(self.change_key(*account, *key, *action).await, *expected, "{step:?}");
            }
            Step::Suspend { account, suspended } => {
                let status =
                    if *suspended { AccountStatus::Suspended } else { AccountStatus::Active };
                let (tenant, name) = (&self.app.tronagg.tenant, &self.accounts[*account].name);
                let (store, origin) = (&self.app.store, Origin::cli());
                let done = store.account(tenant, name, &origin).set_status(status).await;
                answer(done).expect("the account exists");
            }
            Step::Batch(batch, expected) => {
                assert_eq!(self.apply(batch).await, *expected, "{step:?}");
            }
        }
    }

    /// Compares the observable state of all accounts.
    pub async fn compare(&mut self, state: &State) {
        for (account, model) in self.accounts.iter().zip(&state.ledger.accounts) {
            let view = account.view(&mut self.connection).await;
            assert_eq!(view, model.view(), "after {:?}", state.step);
        }
    }

    /// Drops the database, because the test creates many databases.
    pub async fn remove(self) {
        let Ok(options) = self.app.url.parse::<PgConnectOptions>() else { return };
        let Some(name) = options.get_database() else { return };
        let statement = format!("DROP DATABASE {name} WITH (FORCE)");
        // The test ignores errors, because the harness removes the cluster with all databases.
        let connection = PgConnection::connect_with(&options.database("postgres")).await;
        if let Ok(mut connection) = connection {
            let _ = connection.execute(AssertSqlSafe(statement)).await;
        }
    }

    async fn release_holds(&self) {
        self.app.store.release_due_holds(1000).await.expect("expired holds are released");
        let due: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM holds WHERE status = 'open' AND expires_at <= ledger_now()",
        )
        .fetch_one(&self.app.pool)
        .await
        .expect("a number");
        assert_eq!(due, 0);
    }

    async fn credit(&self, request: &CreditRequest) -> Result<BalanceChange, Refusal> {
        let (tenant, name) = (&self.app.tronagg.tenant, &self.accounts[request.account].name);
        let CreditRequest { credit, key, .. } = request;
        let made = self.app.store.account(tenant, name, &Origin::cli()).credit(credit, key).await;
        answer(made).map(|made| BalanceChange {
            amount: made.credit.amount,
            balance_after: made.credit.balance_after,
            replayed: made.replayed,
        })
    }

    async fn refund(&self, request: &RefundRequest) -> Result<BalanceChange, Refusal> {
        let (tenant, name) = (&self.app.tronagg.tenant, &self.accounts[request.account].name);
        let RefundRequest { purchase, refund, key, .. } = request;
        let origin = Origin::cli();
        let made =
            self.app.store.account(tenant, name, &origin).refund(*purchase, refund, key).await;
        answer(made).map(|made| BalanceChange {
            amount: made.refund.amount,
            balance_after: made.refund.balance_after,
            replayed: made.replayed,
        })
    }

    async fn change_key(
        &mut self,
        account: usize,
        key: usize,
        action: KeyAction,
    ) -> Result<(), Refusal> {
        let (store, tenant) = (&self.app.store, &self.app.tronagg.tenant);
        let Account { name, keys, .. } = &mut self.accounts[account];
        let (id, origin) = (keys[key], Origin::cli());
        let change = match action {
            KeyAction::Limit(limit) => {
                KeyChange { spend_limit: Some(limit), ..KeyChange::default() }
            }
            KeyAction::Enable(enabled) => {
                KeyChange { enabled: Some(enabled), ..KeyChange::default() }
            }
            KeyAction::Allow(may_buy) => {
                let scopes = ScopeSet::parse([if may_buy { "purchases:write" } else { "read" }]);
                KeyChange { scopes: Some(scopes.expect("a scope")), ..KeyChange::default() }
            }
            KeyAction::Revoke => {
                let revoked = store.account(tenant, name, &origin).revoke_api_key(id, None).await;
                return answer(revoked).map(drop);
            }
            KeyAction::Rotate { grace } => {
                let text = entropy::new_key(&tenant.policy.prefix).expect("entropy");
                let seconds = if grace { 3600 } else { 0 };
                let made =
                    store.account(tenant, name, &origin).rotate_api_key(id, &text, seconds).await;
                keys.push(answer(made)?.id);
                return Ok(());
            }
            KeyAction::Create => {
                let text = entropy::new_key(&tenant.policy.prefix).expect("entropy");
                let new = KeySettings {
                    name: Name::parse("another").expect("a name"),
                    scopes: ScopeSet::parse(["write"]).expect("a scope"),
                    expires_at: None,
                    enabled: true,
                    metadata: Metadata::default(),
                    spend_limit: None,
                    rate_limits: None,
                    owner_limits: OwnerLimits::default(),
                    allowed_ips: None,
                };
                let made = store
                    .account(tenant, name, &origin)
                    .create_api_key(&text, NoExpiry::Never, |_| new)
                    .await;
                keys.push(answer(made)?.id);
                return Ok(());
            }
        };
        answer(store.account(tenant, name, &origin).change_api_key(id, &change).await).map(drop)
    }

    async fn apply(&mut self, batch: &SentBatch) -> Vec<BatchOutcome> {
        // This query waits for locks, because a refused batch holds its lock until its connection
        // returns to the pool.
        sqlx::query("SELECT FROM accounts FOR NO KEY UPDATE")
            .execute(&self.app.pool)
            .await
            .expect("the locks are free");
        let operations = batch
            .operations
            .iter()
            .map(|operation| Operation {
                account_id: self.accounts[operation.account].id,
                key_id: match operation.key {
                    Some(key) => self.accounts[operation.account].keys[key],
                    None => self.accounts[1 - operation.account].keys[0],
                },
                request_id: operation.request_id,
                action: operation.action.clone(),
            })
            .collect();
        let SentBatch { id, attempt, wait, .. } = *batch;
        let batch = Batch { id, attempt, wait, operations };
        let outcomes = self.app.store.apply(&mut self.batches, &batch).await;
        outcomes.unwrap_or_else(|error| panic!("{error:?} of {batch:?}"))
    }
}

impl Account {
    async fn view(&self, connection: &mut PgConnection) -> View {
        let accounts = "SELECT balance, ledger_held(account_id, held) AS held, status, last_seq,
                               last_entry_at
                        FROM accounts WHERE account_id = $1";
        let accounts = self.rows(connection, accounts).await;
        let entries = "SELECT e.seq, e.kind, e.amount, e.balance_after, e.created_at, e.key_id,
                              p.purchase_id, p.hold_id
                       FROM ledger_entries e
                       LEFT JOIN purchases p ON p.account_id = e.account_id
                           AND p.purchase_id = e.cause_id AND p.seq = e.seq
                       WHERE e.account_id = $1 ORDER BY e.seq";
        let entries = self.rows(connection, entries).await;
        // An open hold is expired once its expiry time has passed, even if the ledger has not
        // released it yet.
        let holds = "SELECT hold_id, key_id, amount, expires_at, captured, purchase_id,
                            void_reason,
                            CASE WHEN status = 'open' AND expires_at <= ledger_now() THEN 'expired'
                                 ELSE status END AS status
                     FROM holds WHERE account_id = $1";
        let holds = self.rows(connection, holds).await;
        let spent = "SELECT key_id, day, day_spent::bigint AS in_day, month,
                            month_spent::bigint AS in_month, total_spent::bigint AS total
                     FROM spend_counters WHERE account_id = $1";
        let spent = self.rows(connection, spent).await;
        let account = &accounts[0];
        let last_entry_at: Option<OffsetDateTime> = account.get("last_entry_at");
        View {
            balance: account.get("balance"),
            held: account.get("held"),
            suspended: account.get::<String, _>("status") == "suspended",
            last_seq: account.get("last_seq"),
            last_entry_at: last_entry_at.map(stored_time),
            entries: entries.iter().map(|row| self.entry(row)).collect(),
            holds: holds.iter().map(|row| self.hold(row)).collect(),
            spent: spent.iter().map(|row| self.spent(row)).collect(),
        }
    }

    async fn rows(&self, connection: &mut PgConnection, query: &'static str) -> Vec<PgRow> {
        let rows = sqlx::query(query).bind(self.id.uuid()).fetch_all(connection).await;
        rows.expect("the rows can be read")
    }

    fn key_index(&self, id: Uuid) -> usize {
        let found = self.keys.iter().position(|key| key.uuid() == id);
        found.expect("a key of the account")
    }

    fn entry(&self, row: &PgRow) -> Entry {
        let key: Option<Uuid> = row.get("key_id");
        let purchase: Option<Uuid> = row.get("purchase_id");
        let hold: Option<Uuid> = row.get("hold_id");
        Entry {
            seq: row.get("seq"),
            kind: row.get::<String, _>("kind").parse().expect("a kind"),
            amount: row.get("amount"),
            balance_after: row.get("balance_after"),
            at: stored_time(row.get("created_at")),
            bought: key.zip(purchase).map(|(key, id)| Bought {
                key: self.key_index(key),
                id: PurchaseId::from_uuid(id),
                hold: hold.map(HoldId::from_uuid),
            }),
        }
    }

    fn hold(&self, row: &PgRow) -> (HoldId, Hold) {
        let purchase: Option<Uuid> = row.get("purchase_id");
        let void_reason: Option<String> = row.get("void_reason");
        let hold = Hold {
            key: self.key_index(row.get("key_id")),
            amount: row.get("amount"),
            expires_at: stored_time(row.get("expires_at")),
            status: row.get::<String, _>("status").parse().expect("a status"),
            void_reason: void_reason.map(|reason| reason.parse().expect("a reason")),
            captured: row.get("captured"),
            purchase: purchase.map(PurchaseId::from_uuid),
        };
        (HoldId::from_uuid(row.get("hold_id")), hold)
    }

    fn spent(&self, row: &PgRow) -> (usize, Spent) {
        let spent = Spent {
            day: row.get("day"),
            in_day: row.get("in_day"),
            month: row.get("month"),
            in_month: row.get("in_month"),
            total: row.get("total"),
        };
        (self.key_index(row.get("key_id")), spent)
    }
}
