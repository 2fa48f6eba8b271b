//! Reads the tags of an HTML page.

use super::markdown::line_of;

/// An opening tag.
pub struct Tag {
    pub line: usize,
    pub name: String,
    pub attributes: Vec<(String, String)>,
    /// The offset at which the text after the tag begins.
    pub end: usize,
}

impl Tag {
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(of_tag, _)| of_tag == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Finds the opening tags of a page. Their names are in lower case.
pub fn tags(html: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut at = 0;
    while let Some(start) = html[at..].find('<').map(|offset| at + offset) {
        let rest = &html[start + 1..];
        if rest.starts_with("!--") {
            at = rest.find("-->").map_or(html.len(), |length| start + 1 + length);
        } else if rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            let (name, attributes, after) = read_tag(rest);
            at = html.len() - after.len();
            tags.push(Tag { line: line_of(html, start), name, attributes, end: at });
        } else {
            at = start + 1;
        }
    }
    tags
}

/// Reads a tag. `text` begins with the name of the tag. Returns the name, the attributes and the
/// text after the tag.
fn read_tag(text: &str) -> (String, Vec<(String, String)>, &str) {
    let ends_name = |c: char| c.is_whitespace() || matches!(c, '>' | '/' | '=');
    let (name, mut rest) = text.split_at(text.find(ends_name).unwrap_or(text.len()));
    let mut attributes = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        if rest.is_empty() {
            return (name.to_ascii_lowercase(), attributes, rest);
        }
        if let Some(after) = rest.strip_prefix('>') {
            return (name.to_ascii_lowercase(), attributes, after);
        }
        let (attribute, after) = rest.split_at(rest.find(ends_name).unwrap_or(rest.len()));
        rest = after.trim_start();
        let mut value = "";
        if let Some(after) = rest.strip_prefix('=') {
            (value, rest) = read_value(after.trim_start());
        }
        attributes.push((attribute.to_ascii_lowercase(), value.to_owned()));
    }
}

/// Reads the value at the start of `text`. Returns the value and the text after it.
fn read_value(text: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(quoted) = text.strip_prefix(quote) {
            return quoted.split_once(quote).unwrap_or((quoted, ""));
        }
    }
    text.split_at(text.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(text.len()))
}
