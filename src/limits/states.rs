use uuid::Uuid;

use super::limiter::Limiter;
use crate::{
    domain::{
        account::ExternalId,
        rate_limit::{LimitLevel, LimitState, RateLimit},
        tenant::Tenant,
    },
    store::{Account, ApiKey, LimitWindow, StoreError},
};

impl Limiter {
    /// Returns the limits that apply to the calls of a key of this account, with their current
    /// windows: the key's limits, then the account's.
    pub async fn of_key(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        key: &ApiKey,
    ) -> Result<Vec<LimitState>, StoreError> {
        let states = self.of_keys(tenant, account, std::slice::from_ref(key)).await?;
        Ok(states.into_iter().next().unwrap_or_default())
    }

    /// Returns the limits of each key, as [`Self::of_key`] does.
    pub async fn of_keys(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        keys: &[ApiKey],
    ) -> Result<Vec<Vec<LimitState>>, StoreError> {
        let plans = self.store().plan_limits(tenant).await?;
        let account = self.store().find_account(tenant, account).await?;
        let defaults = plans.get(&account.plan).cloned().unwrap_or_default();
        let of_account = defaults.of_account(account.rate_limits.as_ref());
        let of_key = |key: &ApiKey| {
            let settings = &key.settings;
            let limits = settings.rate_limits.clone().unwrap_or_default();
            settings.owner_limits.lower(limits.or_defaults(&defaults.keys))
        };
        let limits: Vec<Vec<RateLimit>> = keys.iter().map(of_key).collect();
        if of_account.is_empty() && limits.iter().all(Vec::is_empty) {
            return Ok(vec![Vec::new(); keys.len()]);
        }
        let ids: Vec<Uuid> = keys.iter().map(|key| key.id.uuid()).collect();
        let windows = self.store().find_limit_windows(&[account.id.uuid()], &ids).await?;
        let states = keys.iter().zip(limits).map(|(key, limits)| {
            let own = limits.iter().map(|limit| {
                self.state(&windows, LimitLevel::Key, limit, |window| {
                    window.keys.contains(&key.id.uuid())
                })
            });
            let shared = of_account.iter().map(|limit| {
                self.state(&windows, LimitLevel::Account, limit, |window| {
                    window.holder == window.account
                })
            });
            own.chain(shared).collect()
        });
        Ok(states.collect())
    }

    /// Returns the limits of an account, with their current windows.
    pub async fn of_account(
        &self,
        tenant: &Tenant,
        account: &Account,
    ) -> Result<Vec<LimitState>, StoreError> {
        let states = self.of_accounts(tenant, std::slice::from_ref(account)).await?;
        Ok(states.into_iter().next().unwrap_or_default())
    }

    /// Returns the limits of each account, with their current windows.
    pub async fn of_accounts(
        &self,
        tenant: &Tenant,
        accounts: &[Account],
    ) -> Result<Vec<Vec<LimitState>>, StoreError> {
        let plans = self.store().plan_limits(tenant).await?;
        let of_account = |account: &Account| {
            let defaults = plans.get(&account.plan).cloned().unwrap_or_default();
            defaults.of_account(account.rate_limits.as_ref())
        };
        let limits: Vec<Vec<RateLimit>> = accounts.iter().map(of_account).collect();
        if limits.iter().all(Vec::is_empty) {
            return Ok(limits.into_iter().map(|_| Vec::new()).collect());
        }
        let ids: Vec<Uuid> = accounts.iter().map(|account| account.id.uuid()).collect();
        let windows = self.store().find_limit_windows(&ids, &[]).await?;
        let states = accounts.iter().zip(limits).map(|(account, limits)| {
            let state = |limit: &RateLimit| {
                self.state(&windows, LimitLevel::Account, limit, |window| {
                    window.holder == account.id.uuid()
                })
            };
            limits.iter().map(state).collect()
        });
        Ok(states.collect())
    }

    /// Returns the state of a limit. Its window is the one for which `is_its` returns `true`.
    fn state(
        &self,
        windows: &[LimitWindow],
        level: LimitLevel,
        limit: &RateLimit,
        is_its: impl Fn(&LimitWindow) -> bool,
    ) -> LimitState {
        let state = LimitState::unused(level, limit);
        let window =
            windows.iter().find(|window| window.name == limit.name.as_str() && is_its(window));
        let Some(window) = window else { return state };
        // The database does not know which calls of its own share this node has not spent.
        let used = window.given.saturating_sub(self.unspent(window));
        let remaining = limit.calls.get().saturating_sub(used);
        state.running(remaining, window.ends_in).resetting_at(window.ends_at)
    }
}
