//! The statement: everything that moved an account's balance.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    AppState,
    admin::Admin,
    page::{List, Page, PageParams},
    params::{AccountInPath, AccountPath, QueryParams},
    problem::{AnyRoute, WithAdminKey, WithParameters, WithTarget},
};
use crate::{
    auth::Problem,
    domain::{
        amount::Currency,
        id::{AdminKeyId, CreditId, KeyId, PurchaseId},
        timestamp::Timestamp,
    },
    store,
};

/// One movement of an account's balance.
#[derive(Serialize, ToSchema)]
pub struct LedgerEntry {
    /// 1, 2, 3, … of its account, without a gap.
    seq: i64,
    /// `credit` or `purchase`.
    #[schema(pattern = "^(credit|purchase)$")]
    kind: String,
    /// With a minus: out.
    #[schema(example = "-1.500000")]
    amount: String,
    #[schema(example = "TRX")]
    currency: String,
    balance_after: String,
    /// The purchase or the credit that it is the effect of.
    #[schema(example = "pur_01h455vb4pex5vsknk084sn02q")]
    cause_id: String,
    /// The API key that bought.
    #[schema(value_type = Option<String>, required = true)]
    key_id: Option<KeyId>,
    /// The admin key that credited; `null`: not over HTTP.
    #[schema(value_type = Option<String>, required = true)]
    admin_key_id: Option<AdminKeyId>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl LedgerEntry {
    fn new(entry: store::LedgerEntry, currency: &Currency) -> Self {
        let cause_id = match entry.kind.as_str() {
            "credit" => CreditId::from_uuid(entry.cause_id).to_string(),
            _ => PurchaseId::from_uuid(entry.cause_id).to_string(),
        };
        Self {
            seq: entry.seq,
            kind: entry.kind,
            amount: currency.format(entry.amount),
            currency: currency.code().to_owned(),
            balance_after: currency.format(entry.balance_after),
            cause_id,
            key_id: entry.key_id,
            admin_key_id: entry.admin_key_id,
            created_at: entry.created_at,
        }
    }
}

/// List an account's ledger entries, newest first.
#[utoipa::path(get, path = "/v1/accounts/{account}/ledger", operation_id = "listLedgerEntries",
    tag = "accounts",
    security(("admin_key" = [])),
    params(AccountPath,
        PageParams),
    responses((status = 200, body = List<LedgerEntry>),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
pub async fn list(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    params: QueryParams,
) -> Result<Json<List<LedgerEntry>>, Problem> {
    let page = Page::<8>::read(params, format!("ledger {} {account}", admin.tenant.id))?;
    let before = page.after.map(i64::from_be_bytes);
    let entries =
        state.store.list_ledger_entries(&admin.tenant, &account, before, page.fetch()).await?;
    let shape = |entry| LedgerEntry::new(entry, &admin.tenant.policy.currency);
    Ok(page.respond(entries, |entry| entry.seq.to_be_bytes(), shape))
}
