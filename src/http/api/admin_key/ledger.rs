//! The statement: the ledger entries of an account, and its balance at a past time.

use std::sync::Arc;

use axum::{Json, extract::State, response::Response};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    auth::Problem,
    domain::{
        account::ExternalId,
        amount::{Currency, CurrencyCode, DecimalAmount, SignedDecimalAmount},
        id::{AdminKeyId, KeyId},
        ledger_entry::{EntryCause, EntryKind, SortOrder},
        tenant::Tenant,
        text::Reference,
        timestamp::Timestamp,
    },
    http::{
        api::shared::{
            admin::Admin,
            page::{List, Page, filter_text},
            params::{AccountPath, QueryParams},
            problems::{AnyRoute, WithAdminKey, WithParameters, WithTarget},
        },
        csv_download::{Credential, CsvDownload, CsvLines, LINES_AT_ONCE},
    },
    state::AppState,
    store::{self, EntryFilter, EntryRange, Store, StoreError},
    web::csv,
};

/// One change to an account's balance.
#[derive(Serialize, ToSchema)]
pub struct LedgerEntry {
    /// Number of the entry within its account: 1, 2, 3, … without gaps.
    seq: i64,
    kind: EntryKind,
    /// Change in the balance. Negative if the balance decreased.
    amount: SignedDecimalAmount,
    currency: CurrencyCode,
    balance_after: DecimalAmount,
    /// The purchase, credit or refund that changed the balance.
    cause_id: EntryCause,
    /// The API key that made the purchase. `null` if the entry is not a purchase.
    #[schema(required = true)]
    key_id: Option<KeyId>,
    /// The admin key that created the credit or refund. `null` if no admin key was used.
    #[schema(required = true)]
    admin_key_id: Option<AdminKeyId>,
    /// The reference of the purchase, credit or refund.
    #[schema(required = true)]
    reference: Option<Reference>,
    /// Time of the entry, never earlier than the time of the previous entry.
    created_at: Timestamp,
}

pub type LedgerEntryList = List<LedgerEntry>;

/// The part of a list of entries that `limit` and `cursor` select.
type LedgerEntryPage = Page<8>;

impl LedgerEntry {
    fn new(entry: store::LedgerEntry, currency: &Currency) -> Self {
        Self {
            seq: entry.seq,
            kind: entry.cause.kind(),
            amount: currency.format(entry.amount).into(),
            currency: currency.into(),
            balance_after: currency.format(entry.balance_after),
            cause_id: entry.cause,
            key_id: entry.key_id,
            admin_key_id: entry.admin_key_id,
            reference: entry.reference,
            created_at: entry.created_at,
        }
    }

    const COLUMNS: [&str; 10] = [
        "seq",
        "created_at",
        "kind",
        "amount",
        "currency",
        "balance_after",
        "cause_id",
        "key_id",
        "admin_key_id",
        "reference",
    ];

    fn into_record(self) -> [String; 10] {
        [
            self.seq.to_string(),
            self.created_at.to_string(),
            self.kind.to_string(),
            self.amount.to_string(),
            self.currency.to_string(),
            self.balance_after.to_string(),
            self.cause_id.to_string(),
            self.key_id.map(|id| id.to_string()).unwrap_or_default(),
            self.admin_key_id.map(|id| id.to_string()).unwrap_or_default(),
            self.reference.map(|reference| reference.to_string()).unwrap_or_default(),
        ]
    }
}

/// An account's balance at a given time.
#[derive(Serialize, ToSchema)]
pub struct BalanceThen {
    amount: DecimalAmount,
    currency: CurrencyCode,
    /// Number of decimals of the currency.
    decimals: u8,
    /// The `seq` of the newest ledger entry at that time, or 0 if there was no entry.
    seq: i64,
    at: Timestamp,
}

/// The filters and the order of a list of entries.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EntryQuery {
    /// Returns only entries at or after this time.
    from: Option<Timestamp>,
    /// Returns only entries before this time.
    to: Option<Timestamp>,
    /// Returns only purchases that this API key made.
    key_id: Option<KeyId>,
    /// Returns only entries of this kind.
    kind: Option<EntryKind>,
    /// `desc` returns the newest entries first, `asc` the oldest.
    #[param(required = false, default = SortOrder::default)]
    order: SortOrder,
}

impl EntryQuery {
    fn read(params: &mut QueryParams) -> Self {
        Self {
            from: params.optional("from", Timestamp::parse),
            to: params.optional("to", Timestamp::parse),
            key_id: params.optional("key_id", str::parse),
            kind: params.optional("kind", str::parse),
            order: params.optional("order", str::parse).unwrap_or_default(),
        }
    }

    fn filter(&self) -> EntryFilter {
        EntryFilter { from: self.from, to: self.to, key_id: self.key_id, kind: self.kind }
    }
}

/// The time of the requested balance.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BalanceQuery {
    /// Time of the balance. Must not be in the future. Defaults to now.
    at: Option<Timestamp>,
}

impl BalanceQuery {
    fn read(mut params: QueryParams, now: Timestamp) -> Result<Self, Problem> {
        let at = params.optional("at", |text| match Timestamp::parse(text) {
            Ok(at) if at <= now => Ok(at),
            Ok(_) => Err("must not be in the future".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        params.finish()?;
        Ok(Self { at })
    }
}

/// Returns the rest of a range after the entry `seq`, in the given order.
fn rest(range: EntryRange, order: SortOrder, seq: i64) -> EntryRange {
    match order {
        SortOrder::OldestFirst => EntryRange { after: range.after.max(seq), ..range },
        SortOrder::NewestFirst => {
            EntryRange { last: range.last.min(seq.saturating_sub(1)), ..range }
        }
    }
}

/// List an account's ledger entries
///
/// Returns the newest entries first, unless `order` is `asc`.
#[utoipa::path(get, path = "/v1/accounts/{account}/ledger", operation_id = "listLedgerEntries",
    tag = "accounts",
    params(AccountPath, EntryQuery, LedgerEntryPage),
    responses((status = 200, description = "A page of ledger entries.", body = LedgerEntryList),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account)))]
pub async fn list(
    State(state): State<AppState>,
    admin: Admin,
    AccountPath { account }: AccountPath,
    mut params: QueryParams,
) -> Result<LedgerEntryList, Problem> {
    let tenant = &admin.tenant;
    let query = EntryQuery::read(&mut params);
    let (filter, order) = (query.filter(), query.order);
    let filters = [
        filter_text("from", filter.from.as_ref()),
        filter_text("to", filter.to.as_ref()),
        filter_text("key_id", filter.key_id.as_ref()),
        filter_text("kind", filter.kind.as_ref()),
    ]
    .join(" ");
    let list = format!("ledger {} {account} {filters} {order}", tenant.id);
    let page = LedgerEntryPage::read(params, list)?;
    let range = state.store.find_entry_range(tenant, &account, &filter).await?;
    let range = match page.after.map(i64::from_be_bytes) {
        Some(seq) => rest(range, order, seq),
        None => range,
    };
    let entries =
        state.store.list_ledger_entries(tenant, &account, &filter, range, order, page.fetch());
    let shape = |entry| LedgerEntry::new(entry, &tenant.policy.currency);
    Ok(page.respond(entries.await?, |entry| entry.seq.to_be_bytes(), shape))
}

/// Export an account's ledger entries as CSV
///
/// The first line contains the column names. If the service cannot finish the export, for example
/// because the admin key was revoked, it aborts the connection. The client then detects an
/// incomplete transfer.
#[utoipa::path(get, path = "/v1/accounts/{account}/ledger.csv",
    operation_id = "exportLedgerEntries", tag = "accounts",
    params(AccountPath, EntryQuery),
    responses(
        (status = 200, description = "The entries as CSV.", content_type = "text/csv",
            body = String),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account)))]
pub async fn export(
    State(state): State<AppState>,
    admin: Admin,
    AccountPath { account }: AccountPath,
    mut params: QueryParams,
) -> Result<Response, Problem> {
    let query = EntryQuery::read(&mut params);
    params.finish()?;
    let (filter, order) = (query.filter(), query.order);
    let rest = state.store.find_entry_range(&admin.tenant, &account, &filter).await?;
    let download = CsvDownload {
        store: Arc::clone(&state.store),
        tenant: Arc::clone(&admin.tenant),
        credential: Credential::AdminKey(admin.key_hash),
        lines: Statement { account, filter, order, rest },
    };
    Ok(download.respond("ledger.csv", &LedgerEntry::COLUMNS))
}

/// The state of a CSV export of a statement.
struct Statement {
    account: ExternalId,
    filter: EntryFilter,
    order: SortOrder,
    rest: EntryRange,
}

impl CsvLines for Statement {
    async fn read(&mut self, store: &Store, tenant: &Tenant) -> Result<String, StoreError> {
        let Self { account, filter, order, rest: range } = self;
        let entries = store
            .list_ledger_entries(tenant, account, filter, *range, *order, LINES_AT_ONCE)
            .await?;
        if let Some(last) = entries.last() {
            *range = rest(*range, *order, last.seq);
        }
        let line =
            |entry| csv::record(&LedgerEntry::new(entry, &tenant.policy.currency).into_record());
        Ok(entries.into_iter().map(line).collect())
    }
}

/// Get an account's balance at a given time
#[utoipa::path(get, path = "/v1/accounts/{account}/balance", operation_id = "getBalanceThen",
    tag = "accounts",
    params(AccountPath, BalanceQuery),
    responses((status = 200, description = "The balance at that time.", body = BalanceThen),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account)))]
pub async fn balance_then(
    State(state): State<AppState>,
    admin: Admin,
    AccountPath { account }: AccountPath,
    params: QueryParams,
) -> Result<Json<BalanceThen>, Problem> {
    let BalanceQuery { at } = BalanceQuery::read(params, admin.now)?;
    let then = state.store.find_balance_then(&admin.tenant, &account, at).await?;
    let currency = &admin.tenant.policy.currency;
    Ok(Json(BalanceThen {
        amount: currency.format(then.balance),
        currency: currency.into(),
        decimals: currency.decimals(),
        seq: then.seq,
        at: at.unwrap_or(admin.now),
    }))
}
