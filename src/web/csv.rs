//! Writes CSV (RFC 4180) that is safe to open in a spreadsheet.

/// Formats one line, including its line ending.
pub fn record(fields: &[String]) -> String {
    let fields: Vec<String> = fields.iter().map(|text| field(text)).collect();
    fields.join(",") + "\r\n"
}

/// A spreadsheet runs a field that begins with one of these characters as a formula. A single quote
/// in front of the field prevents this.
const FORMULA: [char; 10] = ['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠'];

/// Formats one field. A negative amount stays a number.
fn field(text: &str) -> String {
    let is_number = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && !text.is_empty()
    };
    if text.strip_prefix('-').is_some_and(is_number) {
        return text.to_owned();
    }
    // Some spreadsheets split fields at a semicolon, even inside quotes.
    let parts: Vec<String> = text
        .split(';')
        .map(|part| if part.starts_with(FORMULA) { format!("'{part}") } else { part.to_owned() })
        .collect();
    let safe = parts.join(";");
    if safe != text || safe.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", safe.replace('"', "\"\""))
    } else {
        safe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_is_quoted_only_where_necessary() {
        let line =
            |fields: &[&str]| record(&fields.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>());
        assert_eq!(line(&["1", "a b", ""]), "1,a b,\r\n");
        assert_eq!(line(&["a,b", "a\"b", "a\nb"]), "\"a,b\",\"a\"\"b\",\"a\nb\"\r\n");
    }

    #[test]
    fn formula_is_neutralised() {
        for text in ["=1+1", "＝1+1", "+1", "@SUM(A1)", "-1+2", "-", "\tx"] {
            assert_eq!(field(text), format!("\"'{text}\""));
        }
        assert_eq!(field("x;=1;y"), "\"x;'=1;y\"");
        assert_eq!(field("=\"a\""), "\"'=\"\"a\"\"\"");
        assert_eq!(field("-1.500000"), "-1.500000");
    }
}
