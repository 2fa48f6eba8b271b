//! Finds the known name that a client or an operator most likely meant by a misspelled one.

/// Maximum number of edits between a misspelling and the known name.
const MAX_EDITS: usize = 3;

/// Finds the known name with the fewest edits to the given one. Returns `None` if no known name is
/// similar.
pub fn closest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let similar = known.into_iter().filter_map(|known| Some((edits(given, known)?, known)));
    similar.min().map(|(_, known)| known)
}

/// Counts the letters that differ, are missing, are superfluous, or are swapped with their
/// neighbour. Returns `None` if there are too many for a misspelling. The limit is lower for
/// shorter names.
pub fn edits(given: &str, known: &str) -> Option<usize> {
    let (length, known_length) = (given.chars().count(), known.chars().count());
    let max_edits = (length / 3).clamp(1, MAX_EDITS);
    // An edit changes the length by at most one. So only texts of similar lengths are compared, and
    // a client cannot make a comparison expensive.
    if length.abs_diff(known_length) > max_edits {
        return None;
    }
    let edits = strsim::damerau_levenshtein(given, known);
    // Names that have no letter in common do not resemble each other.
    (edits <= max_edits && edits < length.max(known_length)).then_some(edits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: [&str; 5] = ["name", "scopes", "expires_at", "expires_in", "metadata"];

    #[test]
    fn misspelled_name_gets_the_closest_known_name() {
        for (given, known) in [
            ("nam", "name"),
            ("naem", "name"),
            ("Name", "name"),
            ("scope", "scopes"),
            ("expire_in", "expires_in"),
            ("expiresin", "expires_in"),
            ("expires_a", "expires_at"),
            ("meta_data", "metadata"),
            ("metadata", "metadata"),
        ] {
            assert_eq!(closest(given, MEMBERS), Some(known), "{given}");
        }
    }

    #[test]
    fn name_that_resembles_no_known_name_gets_no_suggestion() {
        assert_eq!(closest("z", ["a", "b"]), None);
        for given in ["", "n", "x", "owner", "nmea2", "SCOPES", "expires", "metadatametadata"] {
            assert_eq!(closest(given, MEMBERS), None, "{given}");
        }
        assert_eq!(closest("name", []), None);
    }

    #[test]
    fn longer_name_allows_more_edits_but_never_more_than_three() {
        for (given, known, expected) in [
            ("ab", "xb", Some(1)),
            ("abcde", "xbcde", Some(1)),
            ("abcde", "xycde", None),
            ("abcdef", "xycdef", Some(2)),
            ("abcdefghi", "xyzdefghi", Some(3)),
            ("abcdefghijklmno", "wxyzefghijklmno", None),
            ("ééé", "éée", Some(1)),
        ] {
            assert_eq!(edits(given, known), expected, "{given} {known}");
        }
    }

    #[test]
    fn text_of_a_very_different_length_is_not_compared() {
        assert_eq!(edits(&"x".repeat(1_000_000), "name"), None);
    }
}
