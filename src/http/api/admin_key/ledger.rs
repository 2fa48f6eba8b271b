//! The statement: everything that moved an account's balance, and the balance as it once was.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    auth::Problem,
    domain::{
        account::ExternalId,
        amount::Currency,
        id::{AdminKeyId, KeyId},
        tenant::Tenant,
        timestamp::Timestamp,
    },
    http::api::shared::{
        admin::Admin,
        page::{List, Page, PageParams},
        params::{AccountInPath, AccountPath, QueryParams},
        problems::{AnyRoute, WithAdminKey, WithParameters, WithTarget},
    },
    state::AppState,
    store::{self, Direction, EntryFilter, EntryKind, EntryRange, Store, StoreError},
    web::csv,
};

/// Entries that an export reads at once: what it needs of memory does not grow with the statement.
const EXPORTED_AT_ONCE: i64 = 1000;

/// One movement of an account's balance.
#[derive(Serialize, ToSchema)]
pub struct LedgerEntry {
    /// 1, 2, 3, … of its account, without a gap.
    seq: i64,
    /// `credit`, `purchase` or `refund`.
    #[schema(pattern = "^(credit|purchase|refund)$")]
    kind: String,
    /// With a minus: out.
    #[schema(example = "-1.500000")]
    amount: String,
    #[schema(example = "TRX")]
    currency: String,
    balance_after: String,
    /// The purchase, the credit or the refund that it is the effect of.
    #[schema(example = "pur_01h455vb4pex5vsknk084sn02q")]
    cause_id: String,
    /// The API key that bought.
    #[schema(value_type = Option<String>, required = true)]
    key_id: Option<KeyId>,
    /// The admin key that credited or refunded; `null`: not over HTTP.
    #[schema(value_type = Option<String>, required = true)]
    admin_key_id: Option<AdminKeyId>,
    /// That of the purchase, the credit or the refund.
    #[schema(required = true)]
    reference: Option<String>,
    /// Never before that of the entry before.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl LedgerEntry {
    fn new(entry: store::LedgerEntry, currency: &Currency) -> Self {
        let cause_id = entry.cause();
        Self {
            seq: entry.seq,
            kind: entry.kind,
            amount: currency.format(entry.amount),
            currency: currency.code().to_owned(),
            balance_after: currency.format(entry.balance_after),
            cause_id,
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
            self.kind,
            self.amount,
            self.currency,
            self.balance_after,
            self.cause_id,
            self.key_id.map(|id| id.to_string()).unwrap_or_default(),
            self.admin_key_id.map(|id| id.to_string()).unwrap_or_default(),
            self.reference.unwrap_or_default(),
        ]
    }
}

/// An account's balance as it was.
#[derive(Serialize, ToSchema)]
pub struct BalanceThen {
    #[schema(example = "100.000000")]
    amount: String,
    #[schema(example = "TRX")]
    currency: String,
    /// Decimals of the currency.
    decimals: u8,
    /// That of the newest ledger entry then; 0: there was none.
    seq: i64,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// Which entries are wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the parameters, for the OpenAPI document")]
pub struct EntryFilterParams {
    /// From this time on.
    #[param(format = DateTime)]
    from: Option<String>,
    /// Before this time.
    #[param(format = DateTime)]
    to: Option<String>,
    /// Only what this API key bought.
    #[param(pattern = "^key_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    key_id: Option<String>,
    /// Only this kind.
    #[param(pattern = "^(credit|purchase|refund)$")]
    kind: Option<String>,
    /// `desc`, newest first (the default), or `asc`.
    #[param(pattern = "^(asc|desc)$")]
    order: Option<String>,
}

/// When a balance is wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the parameter, for the OpenAPI document")]
pub struct MomentParams {
    /// Absent: now.
    #[param(format = DateTime)]
    at: Option<String>,
}

fn read_filter(params: &mut QueryParams) -> (EntryFilter, Direction) {
    let filter = EntryFilter {
        from: params.optional("from", Timestamp::parse),
        to: params.optional("to", Timestamp::parse),
        key_id: params.optional("key_id", str::parse::<KeyId>),
        kind: params.optional("kind", str::parse::<EntryKind>),
    };
    let direction = params.optional("order", |text| match text {
        "asc" => Ok(Direction::OldestFirst),
        "desc" => Ok(Direction::NewestFirst),
        _ => Err("must be asc or desc"),
    });
    (filter, direction.unwrap_or(Direction::NewestFirst))
}

/// What is left of a range after an entry.
fn rest(range: EntryRange, direction: Direction, seq: i64) -> EntryRange {
    match direction {
        Direction::OldestFirst => EntryRange { after: range.after.max(seq), ..range },
        Direction::NewestFirst => EntryRange { last: range.last.min(seq - 1), ..range },
    }
}

/// List an account's ledger entries, newest first or oldest first.
#[utoipa::path(get, path = "/v1/accounts/{account}/ledger", operation_id = "listLedgerEntries",
    tag = "accounts",
    security(("admin_key" = [])),
    params(AccountPath, EntryFilterParams, PageParams),
    responses((status = 200, body = List<LedgerEntry>),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
pub async fn list(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    mut params: QueryParams,
) -> Result<Json<List<LedgerEntry>>, Problem> {
    let tenant = &admin.tenant;
    let (filter, direction) = read_filter(&mut params);
    let list = format!("ledger {} {account} {filter:?} {direction:?}", tenant.id);
    let page = Page::<8>::read(params, list)?;
    let range = state.store.find_entry_range(tenant, &account, &filter).await?;
    let range = match page.after.map(i64::from_be_bytes) {
        Some(seq) => rest(range, direction, seq),
        None => range,
    };
    let entries =
        state.store.list_ledger_entries(tenant, &account, &filter, range, direction, page.fetch());
    let shape = |entry| LedgerEntry::new(entry, &tenant.policy.currency);
    Ok(page.respond(entries.await?, |entry| entry.seq.to_be_bytes(), shape))
}

/// Download an account's ledger entries as CSV, with a header line: what is there now.
///
/// If the connection breaks off before the end, the transfer is not complete; a client sees that.
#[utoipa::path(get, path = "/v1/accounts/{account}/ledger.csv",
    operation_id = "exportLedgerEntries", tag = "accounts",
    security(("admin_key" = [])),
    params(AccountPath, EntryFilterParams),
    responses((status = 200, content_type = "text/csv", body = String),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
pub async fn export(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    mut params: QueryParams,
) -> Result<Response, Problem> {
    let (filter, direction) = read_filter(&mut params);
    params.finish()?;
    let range = state.store.find_entry_range(&admin.tenant, &account, &filter).await?;
    let (store, tenant) = (Arc::clone(&state.store), Arc::clone(&admin.tenant));
    let export = Export { store, tenant, account, filter, direction, rest: Some(range) };
    let first = Bytes::from(csv::record(&LedgerEntry::COLUMNS.map(str::to_owned)));
    let parts = stream::try_unfold((export, Some(first)), async |(mut export, header)| {
        let part = match header {
            Some(header) => Some(header),
            None => export.next().await?,
        };
        Ok::<_, StoreError>(part.map(|part| (part, (export, None))))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8; header=present")),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment; filename=\"ledger.csv\""),
        ),
    ];
    Ok((headers, Body::from_stream(parts)).into_response())
}

/// A statement that is being written.
struct Export {
    store: Arc<Store>,
    tenant: Arc<Tenant>,
    account: ExternalId,
    filter: EntryFilter,
    direction: Direction,
    rest: Option<EntryRange>,
}

impl Export {
    /// The next lines; `None`: that was all.
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let Some(range) = self.rest else { return Ok(None) };
        let entries = self
            .store
            .list_ledger_entries(
                &self.tenant,
                &self.account,
                &self.filter,
                range,
                self.direction,
                EXPORTED_AT_ONCE,
            )
            .await
            .inspect_err(|error| {
                // The answer has begun: it can only be broken off, and the log of requests has it as good.
                let (tenant, error) = (self.tenant.slug.as_str(), error as &dyn std::error::Error);
                tracing::error!(tenant, error, "an export broke off");
            })?;
        let Some(last) = entries.last() else { return Ok(None) };
        self.rest = Some(rest(range, self.direction, last.seq));
        let mut lines = String::new();
        for entry in entries {
            let entry = LedgerEntry::new(entry, &self.tenant.policy.currency);
            lines.push_str(&csv::record(&entry.into_record()));
        }
        Ok(Some(lines.into()))
    }
}

/// Read an account's balance as it was at a time, with all that had happened until then.
#[utoipa::path(get, path = "/v1/accounts/{account}/balance", operation_id = "getBalanceThen",
    tag = "accounts",
    security(("admin_key" = [])),
    params(AccountPath, MomentParams),
    responses((status = 200, body = BalanceThen),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
pub async fn balance_then(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    mut params: QueryParams,
) -> Result<Json<BalanceThen>, Problem> {
    let at = params.optional("at", |text| match Timestamp::parse(text) {
        Ok(at) if at <= admin.now => Ok(at),
        Ok(_) => Err("must not lie in the future".to_owned()),
        Err(error) => Err(error.to_string()),
    });
    params.finish()?;
    let then = state.store.find_balance_then(&admin.tenant, &account, at).await?;
    let currency = &admin.tenant.policy.currency;
    Ok(Json(BalanceThen {
        amount: currency.format(then.balance),
        currency: currency.code().to_owned(),
        decimals: currency.decimals(),
        seq: then.seq,
        at: at.unwrap_or(admin.now),
    }))
}
