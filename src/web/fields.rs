//! The fields of a form, as templates render them.

use super::days::parse_day;

/// A text field of a form, with its submitted value and its error.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Field {
    pub value: String,
    /// The error message next to the field, as a full sentence.
    pub error: Option<String>,
}

impl Field {
    pub fn wrong(&self) -> bool {
        self.error.is_some()
    }

    /// Returns the `type` attribute of a date input. A date input shows nothing for a malformed
    /// value, so a text input keeps such a value.
    pub fn date_type(&self) -> &'static str {
        // The parser accepts surrounding spaces, but a date input does not.
        let is_day = self.value.trim() == self.value && parse_day(&self.value).is_ok();
        if self.value.is_empty() || is_day { "date" } else { "text" }
    }
}

/// An option that the user can choose in a form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// The value that the browser sends.
    pub value: String,
    /// The text that the user sees.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_date_is_shown_in_a_text_input() {
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
    fn choice_with_the_chosen_value_is_selected() {
        assert!(Choice::new("day", "a day", "day").selected);
        assert!(!Choice::new("day", "a day", "month").selected);
    }
}
