//! Notices that confirm a change after a redirect. Anyone can create a link to a page with a
//! notice, so handlers show a notice only if it is true.

/// The text that confirms a change. Screen readers announce it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notice {
    pub text: &'static str,
}

impl Notice {
    /// Returns the notice for the value of `?done=`, or `None` for an unknown value.
    pub fn of(word: &str) -> Option<Self> {
        let text = match word {
            "revoked" => "The key is revoked. Requests with it fail. Your other keys keep working.",
            "disabled" => "The key is disabled. Requests with it fail until you enable it again.",
            "enabled" => "The key is enabled. Programs can use it.",
            "changed" => "Your changes are saved.",
            "limits" => "The limits are saved. They apply to all new requests with this key.",
            "voided" => "The hold is voided. Its amount is available.",
            _ => return None,
        };
        Some(Self { text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_values_of_done_show_a_notice() {
        for word in ["revoked", "disabled", "enabled", "changed", "limits", "voided"] {
            assert!(Notice::of(word).is_some(), "{word}");
        }
        for word in ["", "Revoked", "<b>", "revoked "] {
            assert_eq!(Notice::of(word), None, "{word}");
        }
    }
}
