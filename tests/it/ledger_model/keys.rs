//! The keys of an account of the model.

use tollgate::{
    domain::{spend_limit::SpendLimit, verification::Denial},
    store::Refusal,
};

/// The maximum number of live keys in an account, and the maximum number of keys in rotation grace.
const MAX_KEYS: u16 = 5;

/// The keys of one account. The index of a key identifies it.
#[derive(Clone, Debug)]
pub struct Keys(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    life: Life,
    enabled: bool,
    may_buy: bool,
    limit: Option<SpendLimit>,
    /// The first key of the rotation chain.
    spender: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    Live,
    Revoked,
    /// The key was rotated with a grace period. This period has ended on the clock of the ledger,
    /// but not on the clock that key changes use. So the key can still change.
    Rotated,
}

/// A change to a key.
#[derive(Clone, Copy, Debug)]
pub enum KeyAction {
    Limit(Option<SpendLimit>),
    Enable(bool),
    /// Grants the scope for purchases (`true`) or removes it (`false`).
    Allow(bool),
    Revoke,
    Rotate {
        grace: bool,
    },
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

    /// Returns the first key of the rotation chain. All keys of the chain share a spend counter.
    pub fn spender(&self, key: usize) -> usize {
        self.0[key].spender
    }

    /// Returns the reason why the key may not make purchases, or `None` if it may.
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

    pub fn change(&mut self, key: usize, action: KeyAction) -> Result<(), Refusal> {
        let life = self.0[key].life;
        match action {
            KeyAction::Create => {
                self.refuse_over_cap(Life::Live)?;
                self.0.push(Key::new(self.0.len()));
            }
            KeyAction::Revoke => self.0[key].life = Life::Revoked,
            _ if life == Life::Revoked => return Err(Refusal::KeyNotLive),
            KeyAction::Limit(limit) => self.0[key].limit = limit,
            KeyAction::Enable(enabled) => self.0[key].enabled = enabled,
            KeyAction::Allow(may_buy) => self.0[key].may_buy = may_buy,
            KeyAction::Rotate { .. } if life == Life::Rotated => {
                return Err(Refusal::KeyAlreadyRotated);
            }
            KeyAction::Rotate { grace } => {
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
    fn new(index: usize) -> Self {
        Self { life: Life::Live, enabled: true, may_buy: true, limit: None, spender: index }
    }
}
