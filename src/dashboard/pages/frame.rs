//! The frame around every page.

use super::notices::Notice;
use crate::{
    domain::dashboard::{DashboardRight, DashboardRights},
    web::links::Link,
};

/// The head, the header and the footer of a page. Every page has one, as its field `frame`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// The page's name. The template adds that of the platform, and "Error: " in front where
    /// `errors` is not empty.
    pub title: String,
    /// The platform's name; `Tollgate` where no tenant is known.
    pub tenant_name: String,
    /// The tenant is a platform's test environment: a badge beside its name.
    pub test: bool,
    /// `/dashboard/logo/{tenant_id}/{hash}`; `None`: the name is written.
    pub logo_url: Option<String>,
    /// `/dashboard/accent/{rrggbb}.css`; `None`: the colour of the house.
    pub accent_url: Option<String>,
    /// `/dashboard/assets/{hash}/dashboard.css`
    pub css_url: String,
    /// `/dashboard/assets/{hash}/theme.js`: runs before the page is painted.
    pub theme_url: String,
    /// `/dashboard/assets/{hash}/dashboard.js`
    pub js_url: String,
    /// `/dashboard/assets/{hash}/favicon.svg`
    pub icon_url: String,
    /// Which entry of the navigation the page belongs to.
    pub nav: Nav,
    /// Whose session it is; `None`: nobody is signed in, and there is no navigation.
    pub account: Option<AccountView>,
    /// The hidden field of every form; empty where a page without a session has none.
    pub csrf: String,
    /// What was done, after a redirect.
    pub notice: Option<Notice>,
    /// What is wrong with what was sent, for the summary above the form.
    pub errors: Vec<FormError>,
}

impl Frame {
    /// The page answers a form that cannot be accepted.
    pub fn failed(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The entries of the navigation that the session may open. None without a session.
    pub fn nav_entries(&self) -> Vec<NavEntry> {
        self.account.as_ref().map(|account| self.nav.entries(account.rights)).unwrap_or_default()
    }

    /// The page has the navigation: a sidebar, or tabs on a narrow screen.
    pub fn has_sidebar(&self) -> bool {
        !self.nav_entries().is_empty()
    }

    /// The session may open the pages of keys.
    pub fn may_keys(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.rights.has(DashboardRight::Keys))
    }

    /// The session may open the balance, purchases and the log.
    pub fn may_audit(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.rights.has(DashboardRight::Audit))
    }

    /// No key of the account passes, and none is made.
    pub fn suspended(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.suspended)
    }
}

/// Whose session it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountView {
    /// The whole id.
    pub full: String,
    /// Shortened in the middle, by [`crate::web::format::shortened`].
    pub short: String,
    /// No key of a suspended account passes: a banner says so.
    pub suspended: bool,
    /// The parts of the dashboard that the session may use.
    pub rights: DashboardRights,
    /// Back to the platform, such as "Return to TronAgg".
    pub return_link: Option<Link>,
}

/// Something wrong with a form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FormError {
    /// The id of the field that it is about; `None`: it is about the whole form.
    pub field: Option<&'static str>,
    /// What the field is called; `None`: its sentence says enough.
    pub label: Option<&'static str>,
    /// The sentence that stands beside the field as well.
    pub text: String,
}

/// The entries of the navigation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nav {
    Keys,
    Balance,
    SecurityLog,
    /// A page that belongs to none of them.
    Nowhere,
}

/// An entry of the navigation as it is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NavEntry {
    pub label: &'static str,
    pub url: &'static str,
    pub current: bool,
}

impl Nav {
    /// The entries that a session with these rights may open, in order.
    fn entries(self, rights: DashboardRights) -> Vec<NavEntry> {
        let entry = |right, nav, label, url| {
            rights.has(right).then(|| NavEntry { label, url, current: nav == self })
        };
        let entries = [
            entry(DashboardRight::Keys, Self::Keys, "API Keys", "/dashboard/keys"),
            entry(DashboardRight::Audit, Self::Balance, "Balance", "/dashboard/balance"),
            entry(DashboardRight::Audit, Self::SecurityLog, "Security log", "/dashboard/log"),
        ];
        entries.into_iter().flatten().collect()
    }
}
