//! What the pages show: a template struct a page, and the small views that pages share.
//!
//! They hold texts that are ready to be read. Handlers fill them; templates escape them.

pub mod balance;
pub mod compromised;
pub mod frame;
pub mod key_actions;
pub mod key_detail;
pub mod key_form;
pub mod key_shown;
pub mod keys;
pub mod message;
pub mod notices;
pub mod purchases;
pub mod security_log;
pub mod sign_in;

use askama::{Template, filters::HtmlSafe};

use super::days::parse_day;

/// A moment: `<time>` in UTC, which the script rewrites into the viewer's zone.
///
/// Made by [`super::format::moment`] and [`super::format::day`].
#[derive(Template, Clone, PartialEq, Eq, Debug)]
#[template(path = "dashboard/parts/time.html")]
pub struct TimeView {
    /// For machines: `2026-11-25T21:40:05Z`.
    pub iso: String,
    /// Shown on hover: `2026-11-25 21:40:05 UTC`.
    pub utc: String,
    /// What is read: `25 Nov 2026, 21:40 UTC`, or `25 Nov 2026`.
    pub words: String,
    /// Only the day is shown.
    pub day_only: bool,
    /// `in 3 days`, `2 hours ago`: shown after the time where it is given.
    pub relative: Option<String>,
}

impl HtmlSafe for TimeView {}

/// A text field of a form as it was sent, and what is wrong with it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Field {
    pub value: String,
    /// A sentence that stands beside the field.
    pub error: Option<String>,
}

impl Field {
    pub fn wrong(&self) -> bool {
        self.error.is_some()
    }

    /// The type of an input for a date. A browser shows nothing for what is no date, and complains:
    /// what was typed is kept as a text.
    pub fn date_type(&self) -> &'static str {
        // Spaces around it are forgiven by the parser alone.
        let is_day = self.value.trim() == self.value && parse_day(&self.value).is_ok();
        if self.value.is_empty() || is_day { "date" } else { "text" }
    }
}

/// One value that can be chosen in a form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// What is sent.
    pub value: String,
    /// What is read.
    pub label: String,
    pub selected: bool,
}

impl Choice {
    pub fn new(value: impl Into<String>, label: impl Into<String>, chosen: &str) -> Self {
        let value = value.into();
        let selected = value == chosen;
        Self { value, label: label.into(), selected }
    }
}

/// A link to a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    pub label: String,
    pub url: String,
}

/// Enough of a key to know it again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyHead {
    /// `key_…`
    pub key_id: String,
    pub name: String,
    /// Such as `ta_aBcD…_-ab`.
    pub hint: String,
    /// The page of the key: `/dashboard/keys/key_…`. What is done to it lies below.
    pub url: String,
}

/// What a key is good for now, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyState {
    /// It passes.
    Active,
    /// Its owner has switched it off; it can be switched on again.
    Disabled,
    /// It was rotated out, and passes until its grace ends.
    RotatedOut,
    Revoked,
    Expired,
}

impl KeyState {
    pub fn label(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Disabled => "Disabled",
            Self::RotatedOut => "Rotated out",
            Self::Revoked => "Revoked",
            Self::Expired => "Expired",
        }
    }

    /// The class of its badge.
    pub fn class(self) -> &'static str {
        match self {
            Self::Active => "badge badge-good",
            Self::Disabled | Self::RotatedOut => "badge badge-warn",
            Self::Revoked => "badge badge-bad",
            Self::Expired => "badge",
        }
    }
}

/// What a key may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    /// [`Access::of`] gives the words.
    pub label: &'static str,
    /// The scopes, where the label does not say it all.
    pub scopes: Vec<String>,
}

impl Access {
    /// The words for a key's scopes.
    pub fn of(scopes: Vec<String>) -> Self {
        let only = |scope: &str| scopes.iter().all(|held| held == scope) && !scopes.is_empty();
        if only("write") {
            Self { label: "Read and write", scopes: Vec::new() }
        } else if only("read") {
            Self { label: "Read-only", scopes: Vec::new() }
        } else {
            Self { label: "Single resources", scopes }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_said_in_words_where_words_say_it_all() {
        let of = |scopes: &[&str]| Access::of(scopes.iter().map(|&scope| scope.into()).collect());
        assert_eq!(of(&["read"]).label, "Read-only");
        assert_eq!(of(&["write"]).label, "Read and write");
        let single = of(&["prices:read", "read"]);
        assert_eq!((single.label, single.scopes.len()), ("Single resources", 2));
    }

    #[test]
    fn what_is_no_date_stays_as_it_was_typed() {
        for (value, expected) in [
            ("", "date"),
            ("2027-01-31", "date"),
            ("2028-02-29", "date"),
            ("2027-02-29", "text"),
            ("2027-02-30", "text"),
            ("2027-13-01", "text"),
            ("2027-1-31", "text"),
            (" 2027-01-31", "text"),
            ("2027-01-31T12:00", "text"),
            ("tomorrow", "text"),
        ] {
            let field = Field { value: value.to_owned(), error: None };
            assert_eq!(field.date_type(), expected, "{value:?}");
        }
    }

    #[test]
    fn a_choice_knows_whether_it_is_chosen() {
        assert!(Choice::new("day", "a day", "day").selected);
        assert!(!Choice::new("day", "a day", "month").selected);
    }

    #[test]
    fn a_time_is_escaped_and_said_twice() {
        let time = TimeView {
            iso: "2026-11-25T21:40:05Z".into(),
            utc: "2026-11-25 21:40:05 UTC".into(),
            words: "25 Nov 2026, 21:40 UTC".into(),
            day_only: false,
            relative: Some("in <3> days".into()),
        };
        let html = time.to_string();
        assert!(html.contains(r#"<time datetime="2026-11-25T21:40:05Z""#), "{html}");
        assert!(html.contains("in &#60;3&#62; days"), "{html}");
    }
}
