//! Escapes texts, and builds headings, lists and tables in Markdown.

/// Returns the first lines of a page. `name` is the page's name in `tollgate reference`.
pub fn begin(name: &str, title: &str) -> String {
    format!(
        "<!-- `tollgate reference {name}` prints this page: run `make docs`. -->\n\n# {title}\n\n"
    )
}

/// Escapes Markdown and HTML in a text, except for code between backticks.
pub fn prose(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    // If the number of backticks is odd, the last one does not begin code.
    if parts.len().is_multiple_of(2) {
        return escape(text);
    }
    let escaped = parts
        .iter()
        .enumerate()
        .map(|(index, part)| if index % 2 == 0 { escape(part) } else { format!("`{part}`") });
    escaped.collect()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '*' | '_' | '~' | '[' | ']' | '`' => {
                escaped.push('\\');
                escaped.push(character);
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Escapes a help text of the command line. The text contains no Markdown, so this function marks
/// its variables, flags, paths and URLs as code.
pub fn help(text: &str) -> String {
    if text.contains('`') {
        return prose(text);
    }
    let words: Vec<String> = text.split_whitespace().map(mark).collect();
    prose(&words.join(" "))
}

/// Escapes the paragraphs of a help text.
pub fn help_paragraphs(text: &str) -> String {
    let paragraphs: Vec<String> = text.split("\n\n").map(help).collect();
    paragraphs.join("\n\n")
}

fn mark(word: &str) -> String {
    let rest = word.trim_start_matches('(');
    let core = rest.trim_end_matches(['.', ',', ';', ':', ')']);
    if !is_technical(core) {
        return word.to_owned();
    }
    let (before, after) = (&word[..word.len() - rest.len()], &rest[core.len()..]);
    format!("{before}`{core}`{after}")
}

fn is_technical(word: &str) -> bool {
    let is_variable = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let is_name = (word.contains('_') || word.starts_with("PG")) && word.chars().all(is_variable);
    let has_start = ["--", "/", "~/", "$", "?", "%"].iter().any(|start| word.starts_with(start));
    word.len() > 2 && (is_name || has_start || word.contains("://") || word.contains(".0.0."))
}

/// Formats a text as code. The text must not begin or end with a backtick.
pub fn code(text: &str) -> String {
    if text.contains('`') { format!("``{text}``") } else { format!("`{text}`") }
}

/// Formats a value: a single word as code, a phrase as text.
pub fn value(text: &str) -> String {
    if text.contains(char::is_whitespace) { help(text) } else { code(text) }
}

/// Formats several texts as code, such as `` `a`, `b` or `c` ``.
pub fn choice(texts: &[&str]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| code(text)).collect();
    match &texts[..] {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        texts => texts.join(", "),
    }
}

/// Returns a link to a heading of the same page.
pub fn link_to(heading: &str) -> String {
    format!("[{}](#{})", prose(heading), anchor(heading))
}

/// Returns the id that mdBook assigns to a heading with this text.
pub fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|character| match character {
        '-' | '_' => Some(character),
        character if character.is_whitespace() => Some('-'),
        character => character.is_alphanumeric().then(|| character.to_ascii_lowercase()),
    });
    kept.collect()
}

/// Returns a table. The cells contain Markdown, so this function escapes only characters that would
/// end a cell.
pub fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", titles.join(" | "), " --- |".repeat(titles.len()));
    for row in rows {
        text.push('|');
        for cell in row {
            let words: Vec<&str> = cell.split_whitespace().collect();
            text.push(' ');
            text.push_str(&words.join(" ").replace('|', "\\|"));
            text.push_str(" |");
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_and_markdown_are_escaped_outside_code() {
        assert_eq!(prose("a <b> & `<c>` *d* ~e"), "a &lt;b&gt; &amp; `<c>` \\*d\\* \\~e");
        assert_eq!(prose("[a](b) one ` alone"), "\\[a\\](b) one \\` alone");
    }

    #[test]
    fn variables_flags_paths_and_urls_in_a_help_text_become_code() {
        assert_eq!(
            help("Set DATABASE_URL (PGPORT), --listen or /docs, such as https://a.example.com."),
            "Set `DATABASE_URL` (`PGPORT`), `--listen` or `/docs`, such as `https://a.example.com`."
        );
        assert_eq!(help("HTTP, a / and x_y"), "HTTP, a / and x\\_y");
        assert_eq!(help_paragraphs("a\n\nb"), "a\n\nb");
    }

    #[test]
    fn table_cell_is_one_line_with_escaped_separators() {
        let rows = [vec![code("on|off"), "two\n  lines".to_owned()]];
        assert_eq!(
            table(&["a", "b"], &rows),
            "| a | b |\n| --- | --- |\n| `on\\|off` | two lines |\n\n"
        );
    }

    #[test]
    fn anchor_equals_the_id_that_mdbook_generates() {
        assert_eq!(
            anchor("Get an account's `Balance` at_a-time"),
            "get-an-accounts-balance-at_a-time"
        );
        assert_eq!(link_to("API key"), "[API key](#api-key)");
    }

    #[test]
    fn last_two_choices_are_joined_with_or() {
        assert_eq!(choice(&["a"]), "`a`");
        assert_eq!(choice(&["a", "b", "c"]), "`a`, `b` or `c`");
        assert_eq!(choice(&[]), "");
    }
}
