//! The open holds of the account, and the page with the form that voids one.

use axum::{
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
    response::Response,
};

use super::{
    account_keys::named_keys,
    events::Names,
    pages::{
        frame::{FormError, Frame, Nav},
        holds::{HoldRow, HoldTable, HoldsPage, VoidPage},
    },
    session::Visitor,
    submission::Submission,
    views::{cut, to_fetch},
};
use crate::{
    domain::{
        dashboard::DashboardRight,
        hold::{HoldStatus, VoidReason},
        id::{HoldId, KeyId},
    },
    state::AppState,
    store::{Hold, HoldFilter, Refusal, StoreError},
    web::{
        failure::Failure,
        format,
        forms::{Form, Query},
        links::link,
        paths::InPath,
        respond::{see_other, show, show_with},
    },
};

const PATH: &str = "/dashboard/holds";

const TITLE: &str = "Open holds";

/// Holds on a page.
const LENGTH: usize = 50;

/// The hold in the path. A text that is not the id of a hold gets the response to an unknown id.
pub struct HoldInPath(HoldId);

impl<S: Send + Sync> FromRequestParts<S> for HoldInPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let InPath(text) = InPath::<String>::from_request_parts(parts, state).await?;
        text.parse().map(Self).map_err(|_| Failure::NotFound)
    }
}

/// `GET /dashboard/holds`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account()))]
pub async fn list(
    State(state): State<AppState>,
    visitor: Visitor,
    Query(query): Query,
) -> Result<Response, Failure> {
    let frame = if is_voided(&state, &visitor, &query).await {
        visitor.frame_after(TITLE, nav(&visitor), &query)
    } else {
        visitor.frame(TITLE, nav(&visitor))
    };
    page(&state, &visitor, &query, frame, StatusCode::OK).await
}

/// `GET /dashboard/holds/{hold_id}/void`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %hold_id))]
pub async fn ask_to_void(
    State(state): State<AppState>,
    visitor: Visitor,
    HoldInPath(hold_id): HoldInPath,
) -> Result<Response, Failure> {
    let hold = state.store().find_hold(visitor.tenant(), visitor.account(), hold_id).await?;
    if hold.status != HoldStatus::Open {
        return Ok(see_other(PATH));
    }
    let names = Names::of(&visitor, &named_keys(&state, &visitor).await?);
    let frame = visitor.frame("Void a hold", nav(&visitor));
    show(&VoidPage { frame, hold: row(&visitor, hold, &names) })
}

/// `POST /dashboard/holds/{hold_id}/void`, also for a suspended account: it lets no key do more.
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %hold_id))]
pub async fn void(
    State(state): State<AppState>,
    HoldInPath(hold_id): HoldInPath,
    Submission { visitor, .. }: Submission,
) -> Result<Response, Failure> {
    match visitor.handle(&state).void_hold(hold_id, VoidReason::AccountOwner).await {
        Ok(_) => Ok(see_other(&link(PATH, &[("done", "voided"), ("hold", &hold_id.to_string())]))),
        Err(StoreError::Refused(Refusal::HoldNotOpen { status })) => {
            let text = if status == HoldStatus::Captured {
                "A purchase was made with this hold, so it cannot be voided."
            } else {
                "This hold has expired, so its amount is already available again."
            };
            let errors = vec![FormError { field: None, label: None, text: text.to_owned() }];
            let frame = Frame { errors, ..visitor.frame(TITLE, nav(&visitor)) };
            page(&state, &visitor, &Form::default(), frame, StatusCode::CONFLICT).await
        }
        Err(error) => Err(error.into()),
    }
}

/// The entry of the navigation that holds belong to: keys, if the session may not see the balance.
fn nav(visitor: &Visitor) -> Nav {
    if visitor.may(DashboardRight::Audit) { Nav::Balance } else { Nav::Keys }
}

/// Whether the hold that a redirect names is voided. Anybody can make a link that says so.
async fn is_voided(state: &AppState, visitor: &Visitor, query: &Form) -> bool {
    if query.text("done") != "voided" {
        return false;
    }
    let Ok(hold_id) = query.text("hold").parse::<HoldId>() else { return false };
    let hold = state.store().find_hold(visitor.tenant(), visitor.account(), hold_id).await;
    hold.is_ok_and(|hold| hold.status == HoldStatus::Voided)
}

async fn page(
    state: &AppState,
    visitor: &Visitor,
    query: &Form,
    frame: Frame,
    status: StatusCode,
) -> Result<Response, Failure> {
    let (tenant, account) = (visitor.tenant(), visitor.account());
    let key_id = query.text("key").parse::<KeyId>().ok();
    let filter = HoldFilter { status: Some(HoldStatus::Open), key_id };
    let before = query.text("cursor").parse().ok();
    let limit = to_fetch(LENGTH);
    let holds = state.store().list_holds(tenant, account, &filter, before, limit).await?;
    let names = Names::of(visitor, &named_keys(state, visitor).await?);
    let older = |last: HoldId| older_url(key_id, last);
    let table = table(visitor, holds, LENGTH, &names, older);
    show_with(status, &HoldsPage { frame, table })
}

/// The page of the open holds before one of them, optionally only those of one key.
pub fn older_url(key_id: Option<KeyId>, last: HoldId) -> String {
    let key = key_id.map(|key_id| key_id.to_string()).unwrap_or_default();
    link(PATH, &[("key", &key), ("cursor", &last.to_string())])
}

/// Holds, out of what was fetched: one more than the table holds, if there are more.
pub fn table(
    visitor: &Visitor,
    mut holds: Vec<Hold>,
    length: usize,
    names: &Names,
    next_url: impl FnOnce(HoldId) -> String,
) -> HoldTable {
    let next = cut(&mut holds, length).map(|hold| hold.id);
    HoldTable {
        rows: holds.into_iter().map(|hold| row(visitor, hold, names)).collect(),
        of_one_key: false,
        next_url: next.map(next_url),
    }
}

fn row(visitor: &Visitor, hold: Hold, names: &Names) -> HoldRow {
    HoldRow {
        id: hold.id.to_string(),
        placed: format::moment(hold.created_at, None),
        expires: format::moment(hold.expires_at, Some(visitor.now())),
        amount: format::amount(hold.amount, visitor.currency()),
        reference: hold.reference.map(|reference| reference.to_string()),
        key: names.link(hold.key_id),
    }
}
