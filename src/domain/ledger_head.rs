//! The newest entry of an account's ledger, as a line of text. An operator keeps such lines outside
//! the database. With them, the operator can later check whether the database has lost entries.

use std::{fmt, str::FromStr};

use super::{
    account::{AccountFormat, ExternalId, ExternalIdError},
    ledger_entry::EntryCause,
    tenant::{Environment, Slug, SlugError},
    text_enum::UnknownText,
};

/// The newest entry of an account.
///
/// Its text consists of six fields, separated by one space: tenant, environment, account, seq,
/// cause and balance. No field contains a space.
///
/// ```
/// use tollgate::domain::ledger_head::LedgerHead;
///
/// let line = "tronagg live user-1 3 pur_01h455vb4pex5vsknk084sn02q 4000000";
/// let head: LedgerHead = line.parse()?;
/// assert_eq!(head.newest.map(|newest| (newest.seq, newest.balance)), Some((3, 4_000_000)));
/// assert_eq!(head.to_string(), line);
///
/// let without_entries: LedgerHead = "tronagg live user-2 0 - 0".parse()?;
/// assert_eq!(without_entries.newest, None);
/// # Ok::<(), tollgate::domain::ledger_head::LedgerHeadError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LedgerHead {
    /// The slug of the account's tenant.
    pub tenant: Slug,
    /// The environment of the tenant.
    pub environment: Environment,
    /// The tenant's own id of the account.
    pub account: ExternalId,
    /// The newest entry. `None` means that the account has no entries.
    pub newest: Option<HeadEntry>,
}

/// An entry, and the balance after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadEntry {
    /// The number of the entry within the account. The first entry has number 1.
    pub seq: i64,
    /// The purchase, credit or refund that caused the entry.
    pub cause: EntryCause,
    /// The balance after the entry, in minor units of the tenant's currency.
    pub balance: i64,
}

/// An error from parsing a [`LedgerHead`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerHeadError {
    /// The text does not consist of six fields.
    #[error(
        "a line consists of six fields, separated by one space: tenant, environment, account, seq, \
         cause and balance"
    )]
    Fields,
    /// The first field is not the slug of a tenant.
    #[error("the tenant is malformed")]
    Tenant(#[from] SlugError),
    /// The second field is not an environment.
    #[error("the environment is malformed")]
    Environment(#[from] UnknownText),
    /// The third field is not the id of an account.
    #[error("the account is malformed")]
    Account(#[from] ExternalIdError),
    /// The last three fields do not describe an entry.
    #[error(
        "the last three fields must be the seq, cause and balance of an entry, or 0 - 0 for an \
         account without entries"
    )]
    Entry,
}

impl FromStr for LedgerHead {
    type Err = LedgerHeadError;

    fn from_str(text: &str) -> Result<Self, LedgerHeadError> {
        let fields: Vec<&str> = text.split(' ').collect();
        let [tenant, environment, account, seq, cause, balance] = fields[..] else {
            return Err(LedgerHeadError::Fields);
        };
        let newest = match (seq, cause, balance) {
            ("0", "-", "0") => None,
            _ => Some(entry(seq, cause, balance).ok_or(LedgerHeadError::Entry)?),
        };
        Ok(Self {
            tenant: tenant.parse()?,
            environment: environment.parse()?,
            account: ExternalId::parse(account, AccountFormat::Any)?,
            newest,
        })
    }
}

fn entry(seq: &str, cause: &str, balance: &str) -> Option<HeadEntry> {
    let seq = number(seq).filter(|seq| *seq > 0)?;
    Some(HeadEntry { seq, cause: cause.parse().ok()?, balance: number(balance)? })
}

/// Parses a number that has no sign and no leading zeros.
fn number(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number: &i64| *number >= 0 && number.to_string() == text)
}

impl fmt::Display for LedgerHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.tenant, self.environment, self.account)?;
        match self.newest {
            Some(HeadEntry { seq, cause, balance }) => write!(f, "{seq} {cause} {balance}"),
            None => f.write_str("0 - 0"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_survives_a_round_trip_through_its_text() {
        for line in [
            "tronagg live TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC 1 crd_01h455vb4pex5vsknk084sn02q 10",
            "tronagg test - 2 pur_01h455vb4pex5vsknk084sn02q 0",
            "a live {\"a\":'b'},\\;# 9223372036854775807 rfd_01h455vb4pex5vsknk084sn02q 1",
            "a live 0 0 - 0",
        ] {
            let head = line.parse::<LedgerHead>().expect("a head");
            assert_eq!(head.to_string(), line);
        }
    }

    #[test]
    fn malformed_heads_are_refused() {
        let cause = "pur_01h455vb4pex5vsknk084sn02q";
        for (line, expected) in [
            (String::new(), LedgerHeadError::Fields),
            (format!("tronagg live a 1 {cause}"), LedgerHeadError::Fields),
            (format!("tronagg live a b 1 {cause} 5"), LedgerHeadError::Fields),
            (format!("tronagg live a 1 {cause} 5 "), LedgerHeadError::Fields),
            (format!("Tronagg live a 1 {cause} 5"), LedgerHeadError::Tenant(SlugError)),
            (
                format!("tronagg prod a 1 {cause} 5"),
                LedgerHeadError::Environment(UnknownText::new(Environment::TEXTS)),
            ),
            (format!("tronagg live . 1 {cause} 5"), ExternalIdError::Grammar.into()),
            (format!("tronagg live a 0 {cause} 5"), LedgerHeadError::Entry),
            (format!("tronagg live a -1 {cause} 5"), LedgerHeadError::Entry),
            (format!("tronagg live a +1 {cause} 5"), LedgerHeadError::Entry),
            (format!("tronagg live a 1 {cause} 05"), LedgerHeadError::Entry),
            (format!("tronagg live a 1 {cause} -5"), LedgerHeadError::Entry),
            (format!("tronagg live a 1 {cause} 5\r"), LedgerHeadError::Entry),
            ("tronagg live a 1 - 5".to_owned(), LedgerHeadError::Entry),
            (format!("tronagg live a 1 {} 5", &cause[4..]), LedgerHeadError::Entry),
        ] {
            assert_eq!(line.parse::<LedgerHead>(), Err(expected), "{line:?}");
        }
    }
}
