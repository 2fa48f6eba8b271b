/// Whether a text is a name of 1 to `max_length` characters from a-z, 0-9, _ and - that begins with a
/// letter.
pub(super) fn is_lower_name(text: &str, max_length: usize) -> bool {
    let is_allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-'
    };
    text.len() <= max_length
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(is_allowed)
}
