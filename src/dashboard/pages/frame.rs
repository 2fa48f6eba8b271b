//! The parts that all pages share, such as the header and the navigation.

use super::notices::Notice;
use crate::{
    domain::dashboard::{DashboardRight, DashboardRights},
    web::links::Link,
};

/// The head, the header and the footer of a page. Every page contains a frame in its field `frame`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// The title of the page. The template appends the platform's name, and prepends "Error: " if
    /// `errors` is not empty.
    pub title: String,
    /// The platform's name, or `Tollgate` if the tenant is unknown.
    pub tenant_name: String,
    /// Whether the tenant is a test environment. If so, the header shows a badge.
    pub test: bool,
    /// The URL of the logo, `/dashboard/logo/{tenant_id}/{hash}`. Without a logo, the header shows
    /// the name.
    pub logo_url: Option<String>,
    /// The URL of the colour's style sheet, `/dashboard/accent/{rrggbb}.css`. `None` for the
    /// default colour.
    pub accent_url: Option<String>,
    /// The URL of the style sheet, `/dashboard/assets/{hash}/dashboard.css`.
    pub css_url: String,
    /// The URL of `theme.js`, which runs before the browser paints the page.
    pub theme_url: String,
    /// The URL of the script, `/dashboard/assets/{hash}/dashboard.js`.
    pub js_url: String,
    /// The URL of the icon, `/dashboard/assets/{hash}/favicon.svg`.
    pub icon_url: String,
    /// The entry that the navigation marks as current.
    pub nav: Nav,
    /// The account of the session. `None` without a session. The page then shows no navigation.
    pub account: Option<AccountView>,
    /// The CSRF token that the forms of the page submit. Empty if the page needs none.
    pub csrf: String,
    /// The notice that confirms a change after a redirect.
    pub notice: Option<Notice>,
    /// The errors of the submitted form, for the summary above it.
    pub errors: Vec<FormError>,
}

impl Frame {
    /// Whether the page is the response to a rejected form.
    pub fn failed(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Returns the navigation entries that the session may open. Without a session there are none.
    pub fn nav_entries(&self) -> Vec<NavEntry> {
        self.account.as_ref().map(|account| self.nav.entries(account.rights)).unwrap_or_default()
    }

    /// Whether the page shows the navigation, which is a sidebar, or tabs on a narrow screen.
    pub fn has_sidebar(&self) -> bool {
        !self.nav_entries().is_empty()
    }

    /// Whether the session may open the pages of keys.
    pub fn may_keys(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.rights.has(DashboardRight::Keys))
    }

    /// Whether the session may open the balance, the purchases and the security log.
    pub fn may_audit(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.rights.has(DashboardRight::Audit))
    }

    /// Whether the account is suspended.
    pub fn suspended(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.suspended)
    }
}

/// The account of the session, as the header shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountView {
    /// The account's external id in full.
    pub full: String,
    /// The external id, shortened in the middle by [`crate::web::format::shortened`].
    pub short: String,
    /// Whether the account is suspended. If so, the page shows a banner.
    pub suspended: bool,
    /// The parts of the dashboard that the session may use.
    pub rights: DashboardRights,
    /// The link back to the platform, such as "Return to TronAgg".
    pub return_link: Option<Link>,
}

/// An error of a form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FormError {
    /// The id of the invalid field. `None` if the error concerns the whole form.
    pub field: Option<String>,
    /// The label of the field. `None` if the text needs no label.
    pub label: Option<String>,
    /// The sentence that the form also shows next to the field.
    pub text: String,
}

/// The entries of the navigation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nav {
    Keys,
    Balance,
    SecurityLog,
    /// The page belongs to no entry.
    Nowhere,
}

/// An entry of the navigation, as the template renders it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NavEntry {
    pub label: &'static str,
    pub url: &'static str,
    pub current: bool,
}

impl Nav {
    /// Returns the entries that a session with these rights may open, in order.
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
