//! The composite types that the program and the database exchange, and the conversions of
//! operations and outcomes.

use std::{fmt::Display, str::FromStr};

use sqlx::{
    Encode, Postgres,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, types::PgRecordEncoder},
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::operations::{BatchOutcome, Decline, Done, DoneNow, Operation, OperationAction};
use crate::{
    domain::{
        amount::Amount,
        id::RequestId,
        idempotency::IdempotencyKey,
        ledger_entry::EntryCause,
        text::{Description, Reference},
        text_enum::text_enum,
    },
    store::{AcknowledgedEntry, Refusal, StoreError, clock::stored_time, keys::row::stored_limit},
};

/// For each composite type, its name, and the names and SQL types of its members, in their order.
pub const COMPOSITES: [(&str, &[(&str, &str)]); 2] =
    [("ledger_operation", OPERATION_MEMBERS), ("ledger_outcome", OUTCOME_MEMBERS)];

text_enum! {
    /// The values of `ledger_outcome.result`.
    enum OutcomeKind {
        Purchased = "purchased",
        Held = "held",
        Captured = "captured",
        Voided = "voided",
        InsufficientBalance = "insufficient_balance",
        SpendLimitExceeded = "spend_limit_exceeded",
        KeyDenied = "key_denied",
        ScopeLost = "scope_lost",
        NotFound = "not_found",
        IdempotencyMismatch = "idempotency_mismatch",
        HoldNotOpen = "hold_not_open",
        HoldTooSmall = "hold_too_small",
        HoldLimitReached = "hold_limit_reached",
        Busy = "busy",
        Fenced = "fenced",
    }
}

/// Defines a row of a composite type that the program sends to Postgres. The wire format is
/// positional, so the members are listed only once. The struct and the encoder use this list, and a
/// test compares it with Postgres's catalogue.
macro_rules! encoded_composite {
    ($(#[$attribute:meta])* struct $row:ident as $name:literal, $list:ident {
        $($member:ident: $type:ty as $sql:literal,)+
    }) => {
        $(#[$attribute])*
        #[derive(Default)]
        pub(super) struct $row<'a> {
            $($member: $type,)+
        }

        const $list: &[(&str, &str)] = &[$((stringify!($member), $sql)),+];

        impl sqlx::Type<Postgres> for $row<'_> {
            fn type_info() -> PgTypeInfo {
                PgTypeInfo::with_name($name)
            }
        }

        impl PgHasArrayType for $row<'_> {
            fn array_type_info() -> PgTypeInfo {
                PgTypeInfo::array_of($name)
            }
        }

        impl<'q> Encode<'q, Postgres> for $row<'_> {
            fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
                let mut record = PgRecordEncoder::new(buffer);
                $(record.encode(&self.$member)?;)+
                record.finish();
                Ok(IsNull::No)
            }
        }
    };
}

encoded_composite! {
    /// The composite type `ledger_operation`.
    struct OperationRow as "ledger_operation", OPERATION_MEMBERS {
        account_id: Uuid as "uuid",
        kind: &'a str as "text",
        id: Option<Uuid> as "uuid",
        key_id: Uuid as "uuid",
        request_id: Uuid as "uuid",
        amount: Option<i64> as "bigint",
        reference: Option<&'a str> as "text",
        description: Option<&'a str> as "text",
        metadata: Option<String> as "text",
        idempotency_key: Option<&'a str> as "text",
        fingerprint: Option<Vec<u8>> as "bytea",
        hold_id: Option<Uuid> as "uuid",
        expires_in: Option<i32> as "integer",
    }
}

/// The members of `ledger_outcome`. The program reads them by name.
const OUTCOME_MEMBERS: &[(&str, &str)] = &[
    ("place", "bigint"),
    ("result", "text"),
    ("replayed", "boolean"),
    ("seq", "bigint"),
    ("balance_after", "bigint"),
    ("decided_at", "timestamp with time zone"),
    ("cause_id", "uuid"),
    ("required", "bigint"),
    ("available", "bigint"),
    ("spend_limit", "bigint"),
    ("spend_period", "text"),
    ("decided_for", "uuid"),
    ("reason", "text"),
];

impl<'a> OperationRow<'a> {
    pub fn new(operation: &'a Operation) -> Self {
        let asked = Self {
            account_id: operation.account_id.uuid(),
            key_id: operation.key_id.uuid(),
            request_id: operation.request_id.uuid(),
            kind: operation.action.kind().as_str(),
            ..Self::default()
        };
        match &operation.action {
            OperationAction::Purchase { id, purchase, idempotency_key } => Self {
                id: Some(id.uuid()),
                amount: Some(purchase.amount.minor_units()),
                reference: purchase.reference.as_ref().map(Reference::as_str),
                description: purchase.description.as_ref().map(Description::as_str),
                metadata: Some(purchase.metadata.to_string()),
                idempotency_key: idempotency_key.as_ref().map(IdempotencyKey::as_str),
                fingerprint: idempotency_key
                    .as_ref()
                    .map(|_| purchase.fingerprint().as_bytes().to_vec()),
                ..asked
            },
            OperationAction::Hold { id, hold, idempotency_key } => Self {
                id: Some(id.uuid()),
                amount: Some(hold.amount.minor_units()),
                reference: hold.reference.as_ref().map(Reference::as_str),
                idempotency_key: idempotency_key.as_ref().map(IdempotencyKey::as_str),
                fingerprint: idempotency_key
                    .as_ref()
                    .map(|_| hold.fingerprint().as_bytes().to_vec()),
                expires_in: Some(hold.expires_in.get()),
                ..asked
            },
            OperationAction::Capture { id, hold_id, amount } => Self {
                id: Some(id.uuid()),
                hold_id: Some(hold_id.uuid()),
                amount: amount.map(Amount::minor_units),
                metadata: Some("{}".to_owned()),
                ..asked
            },
            OperationAction::Void { hold_id } => Self { hold_id: Some(hold_id.uuid()), ..asked },
        }
    }
}

/// The composite type `ledger_outcome`.
pub(super) struct OutcomeRow {
    pub place: i64,
    pub result: String,
    pub replayed: Option<bool>,
    /// The number of the ledger entry that this attempt wrote. `None` if it wrote none.
    pub seq: Option<i64>,
    pub balance_after: Option<i64>,
    pub decided_at: Option<OffsetDateTime>,
    pub cause_id: Option<Uuid>,
    pub required: Option<i64>,
    pub available: Option<i64>,
    pub spend_limit: Option<i64>,
    pub spend_period: Option<String>,
    pub decided_for: Option<Uuid>,
    pub reason: Option<String>,
}

impl OutcomeRow {
    /// Returns the ledger entry that this attempt wrote. `None` if it wrote none. `operations` are
    /// the operations of its batch.
    pub fn entry(&self, operations: &[Operation]) -> Option<AcknowledgedEntry> {
        let seq = self.seq?;
        let operation = operations.get(usize::try_from(self.place - 1).ok()?)?;
        let (OperationAction::Purchase { id, .. } | OperationAction::Capture { id, .. }) =
            operation.action
        else {
            return None;
        };
        let cause = EntryCause::Purchase(id);
        Some(AcknowledgedEntry { account_id: operation.account_id, seq, cause })
    }

    pub fn into_outcome(self) -> Result<BatchOutcome, StoreError> {
        use OutcomeKind as Kind;
        let replayed = self.replayed.unwrap_or(false);
        let kind = self.result.parse::<OutcomeKind>();
        let kind = kind.map_err(|error| StoreError::corrupt("ledger_outcome.result", error))?;
        let refusal = match kind {
            Kind::Purchased | Kind::Held | Kind::Captured | Kind::Voided => {
                let at = self.decided_at.map(|at| stored_time("ledger_outcome.decided_at", at));
                let now = at.transpose()?;
                let now = now.map(|at| DoneNow { at, balance_after: self.balance_after });
                return Ok(BatchOutcome::Done(Done { now, made_before: self.cause_id, replayed }));
            }
            Kind::InsufficientBalance | Kind::SpendLimitExceeded => {
                return Ok(BatchOutcome::Declined(self.into_decline(replayed)?));
            }
            Kind::Busy => return Ok(BatchOutcome::Busy),
            Kind::Fenced => return Ok(BatchOutcome::Fenced),
            Kind::NotFound => Refusal::NotFound,
            Kind::ScopeLost => Refusal::ScopeLost,
            Kind::IdempotencyMismatch => Refusal::IdempotencyMismatch,
            Kind::HoldLimitReached => Refusal::HoldLimitReached(self.reason()?),
            Kind::HoldTooSmall => {
                let missing = || StoreError::corrupt("ledger_outcome", "a hold without an amount");
                Refusal::HoldTooSmall { held: self.available.ok_or_else(missing)? }
            }
            Kind::HoldNotOpen => Refusal::HoldNotOpen { status: self.reason()? },
            Kind::KeyDenied => Refusal::KeyDenied(self.reason()?),
        };
        Ok(BatchOutcome::Refused(refusal))
    }

    fn into_decline(self, replayed: bool) -> Result<Decline, StoreError> {
        let limit = stored_limit(self.spend_limit, self.spend_period.as_deref())?;
        let (Some(required), Some(available), Some(request_id)) =
            (self.required, self.available, self.decided_for)
        else {
            return Err(StoreError::corrupt("ledger_outcome", "a decline without amounts"));
        };
        let request_id = RequestId::from_uuid(request_id);
        Ok(Decline { required, available, limit, request_id, replayed })
    }

    fn reason<T: FromStr<Err: Display>>(&self) -> Result<T, StoreError> {
        let reason = self.reason.as_deref().unwrap_or_default().parse();
        reason.map_err(|error| StoreError::corrupt("ledger_outcome.reason", format!("{error}")))
    }
}
