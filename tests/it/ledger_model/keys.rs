//! The keys of an account of the model.

use tollgate::{
    domain::{spend_limit::SpendLimit, verification::Denial},
    store::Refusal,
};

/// Live keys that an account of the tenant may have, and as many in their grace.
const MAX_KEYS: u16 = 5;

/// A key is its place among those of its account.
#[derive(Clone, Debug)]
pub struct Keys(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    life: Life,
    enabled: bool,
    may_buy: bool,
    limit: Option<SpendLimit>,
    /// The first of the keys that replaced each other.
    spender: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    Live,
    Revoked,
    /// Rotated out. By the ledger's clock the grace is over; by that of the keys it is not, and
    /// the key can be changed.
    Rotated,
}

/// What is done to a key.
#[derive(Clone, Copy, Debug)]
pub enum KeyAct {
    Limit(Option<SpendLimit>),
    Enable(bool),
    /// Whether it has a scope to buy with.
    Allow(bool),
    Revoke,
    Rotate {
        grace: bool,
    },
    /// Another one for the account.
    Create,
}

impl Keys {
    pub fn new(number: usize) -> Self {
        Self((0..number).map(Key::new).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn limit(&self, key: usize) -> Option<SpendLimit> {
        self.0[key].limit
    }

    /// The first of the keys that spend as this one.
    pub fn spender(&self, key: usize) -> usize {
        self.0[key].spender
    }

    /// Why the key may not buy.
    pub fn denial(&self, key: usize, suspended: bool) -> Option<Refusal> {
        let key = &self.0[key];
        let denial = match key.life {
            Life::Revoked => Some(Denial::Revoked),
            Life::Rotated => Some(Denial::Expired),
            Life::Live if !key.enabled => Some(Denial::Disabled),
            Life::Live if suspended => Some(Denial::AccountSuspended),
            Life::Live => None,
        };
        denial.map(Refusal::KeyDenied).or((!key.may_buy).then_some(Refusal::ScopeLost))
    }

    pub fn change(&mut self, key: usize, act: KeyAct) -> Result<(), Refusal> {
        let life = self.0[key].life;
        match act {
            KeyAct::Create => {
                self.refuse_over_cap(Life::Live)?;
                self.0.push(Key::new(self.0.len()));
            }
            KeyAct::Revoke => self.0[key].life = Life::Revoked,
            _ if life == Life::Revoked => return Err(Refusal::KeyNotLive),
            KeyAct::Limit(limit) => self.0[key].limit = limit,
            KeyAct::Enable(enabled) => self.0[key].enabled = enabled,
            KeyAct::Allow(may_buy) => self.0[key].may_buy = may_buy,
            KeyAct::Rotate { .. } if life == Life::Rotated => {
                return Err(Refusal::KeyAlreadyRotated);
            }
            KeyAct::Rotate { grace } => {
                if grace {
                    self.refuse_over_cap(Life::Rotated)?;
                }
                self.0.push(self.0[key].clone());
                self.0[key].life = if grace { Life::Rotated } else { Life::Revoked };
            }
        }
        Ok(())
    }

    fn refuse_over_cap(&self, life: Life) -> Result<(), Refusal> {
        if self.0.iter().filter(|key| key.life == life).count() < usize::from(MAX_KEYS) {
            Ok(())
        } else {
            Err(Refusal::KeyLimitReached { max_keys: MAX_KEYS })
        }
    }
}

impl Key {
    fn new(place: usize) -> Self {
        Self { life: Life::Live, enabled: true, may_buy: true, limit: None, spender: place }
    }
}
