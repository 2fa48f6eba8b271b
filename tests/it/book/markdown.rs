//! Parses Markdown into code blocks, inline code, links and headings, each with its line number.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
};

/// A Markdown file.
pub struct Document {
    /// The path of the file in the repository.
    pub path: PathBuf,
    pub blocks: Vec<Block>,
    /// The text, in which spaces replace code blocks and comments. So line numbers and offsets
    /// match the file.
    pub prose: String,
}

/// A fenced block of code.
pub struct Block {
    pub language: String,
    /// The line number at which its text begins.
    pub line: usize,
    pub text: String,
}

/// A part of a document, and the line at which it begins.
#[derive(PartialEq, Eq, Debug)]
pub struct Found {
    pub line: usize,
    pub text: String,
}

impl Document {
    pub fn parse(path: impl AsRef<Path>, text: &str) -> Self {
        let mut blocks = Vec::new();
        let mut prose = String::new();
        let mut open: Option<(&str, Block)> = None;
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let content = line.trim();
            let Some((fence, mut block)) = open.take() else {
                if let Some((fence, info)) = opening_fence(content) {
                    let language = info.split([',', ' ']).next().unwrap_or_default().to_owned();
                    let block = Block { language, line: index + 2, text: String::new() };
                    open = Some((fence, block));
                    prose.push_str(&blank(line));
                } else {
                    prose.push_str(line);
                }
                continue;
            };
            prose.push_str(&blank(line));
            if content.starts_with(fence) && content.chars().all(|c| fence.contains(c)) {
                blocks.push(block);
            } else {
                block.text.push_str(line);
                open = Some((fence, block));
            }
        }
        blocks.extend(open.map(|(_, block)| block));
        Self { path: path.as_ref().to_owned(), blocks, prose: without_comments(&prose) }
    }

    /// Formats a sentence about a line of this document.
    pub fn fault(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path.display())
    }

    /// Returns the inline code, in which spaces replace line breaks.
    pub fn inline_code(&self) -> Vec<Found> {
        let text = |range: Range<usize>| {
            let words = self.prose[range].trim_matches('`').split_whitespace();
            words.collect::<Vec<_>>().join(" ")
        };
        let spans = code_spans(&self.prose).into_iter();
        spans.map(|range| self.found(range.start, text(range))).collect()
    }

    /// Returns the targets of links and images.
    pub fn links(&self) -> Vec<Found> {
        let mut text = self.prose.clone();
        for range in code_spans(&self.prose) {
            let blank = blank(&text[range.clone()]);
            text.replace_range(range, &blank);
        }
        let mut links = Vec::new();
        for (at, mark) in text.match_indices("](") {
            links.push(self.found(at, target(&text[at + mark.len()..]).to_owned()));
        }
        for attribute in ["src=\"", "srcset=\"", "href=\""] {
            for (at, _) in text.match_indices(attribute) {
                let value = text[at + attribute.len()..].split(['"', ' ']).next();
                links.push(self.found(at, value.unwrap_or_default().to_owned()));
            }
        }
        for (index, line) in text.lines().enumerate() {
            let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
            if let Some((label, rest)) = definition
                && !label.starts_with('^')
            {
                links.push(Found { line: index + 1, text: target(rest).to_owned() });
            }
        }
        links.sort_by_key(|link| link.line);
        links
    }

    pub fn headings(&self) -> Vec<Found> {
        let mut headings = Vec::new();
        for (index, line) in self.prose.lines().enumerate() {
            let text = line.trim_start_matches('#');
            if (1..=6).contains(&(line.len() - text.len())) && text.starts_with(' ') {
                headings.push(Found { line: index + 1, text: text.trim().to_owned() });
            }
        }
        headings
    }

    /// Returns the ids of the headings, as mdBook and GitHub generate them, and the ids that HTML
    /// tags set.
    pub fn ids(&self) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        for heading in self.headings() {
            let own = heading.text.strip_suffix('}').and_then(|text| text.rsplit_once("{#"));
            if let Some((_, id)) = own {
                ids.insert(id.to_owned());
                continue;
            }
            let id = id_of(&heading.text);
            let earlier = times.entry(id.clone()).or_default();
            ids.insert(if *earlier == 0 { id } else { format!("{id}-{earlier}") });
            *earlier += 1;
        }
        for attribute in [" id=\"", " name=\""] {
            for rest in self.prose.split(attribute).skip(1) {
                ids.insert(rest.split('"').next().unwrap_or_default().to_owned());
            }
        }
        ids
    }

    fn found(&self, offset: usize, text: String) -> Found {
        Found { line: line_of(&self.prose, offset), text }
    }
}

/// Returns the line number of this offset. The first line is 1.
pub fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

/// Returns the fence that opens a code block, and the words after it. `None` if the line opens no
/// block.
fn opening_fence(line: &str) -> Option<(&str, &str)> {
    let mark = line.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let info = line.trim_start_matches(mark);
    let fence = &line[..line.len() - info.len()];
    (fence.len() >= 3 && !info.contains('`')).then_some((fence, info.trim()))
}

/// Replaces each byte of the text with a space, except line breaks.
fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

fn without_comments(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("<!--") {
        let end = rest[start..].find("-->").map_or(rest.len(), |length| start + length + 3);
        kept.push_str(&rest[..start]);
        kept.push_str(&blank(&rest[start..end]));
        rest = &rest[end..];
    }
    kept.push_str(rest);
    kept
}

/// Finds the ranges of the inline code in the text, including its backticks.
fn code_spans(text: &str) -> Vec<Range<usize>> {
    let ticks_at = |at: usize| text[at..].bytes().take_while(|byte| *byte == b'`').count();
    let mut spans = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find('`').map(|offset| at + offset) {
        let ticks = ticks_at(start);
        // Inline code ends in the paragraph in which it begins, with as many backticks as at its
        // start.
        let paragraph_end = text[start..].find("\n\n").map_or(text.len(), |length| start + length);
        at = start + ticks;
        let mut from = at;
        while let Some(next) = text[from..paragraph_end].find('`').map(|offset| from + offset) {
            from = next + ticks_at(next);
            if from - next == ticks {
                spans.push(start..from);
                at = from;
                break;
            }
        }
    }
    spans
}

/// Reads the target of a link. `text` begins with the target.
fn target(text: &str) -> &str {
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix('<') {
        return rest.split('>').next().unwrap_or_default();
    }
    let mut depth = 0;
    let end = text.find(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth < 0 || c.is_whitespace()
    });
    &text[..end.unwrap_or(text.len())]
}

/// Generates the id of a heading: its text in lower case, without punctuation, with hyphens for
/// spaces.
fn id_of(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading;
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(before);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    let part = |c: char| match c {
        '_' | '-' => Some(c),
        c if c.is_alphanumeric() => Some(c),
        c if c.is_whitespace() => Some('-'),
        _ => None,
    };
    text.trim().to_lowercase().chars().filter_map(part).collect()
}

fn found(line: usize, text: &str) -> Found {
    Found { line, text: text.to_owned() }
}

#[test]
fn parser_reports_the_line_of_each_block_inline_code_link_and_heading() {
    let text = "# One `a`: b & (c)\n\
        \n\
        Text `x\n\
        y` [link](a.md#b) [`code`](c.md \"title\") `[no](d.md)`\n\
        <!-- [no](e.md) -->\n\
        \n\
        ```sh\n\
        # comment `z` [no](f.md)\n\
        ```\n\
        ## One `a`: b & (c)\n\
        ## One\n\
        ## Own {#mine}\n\
        \n\
        ![picture](<g h.png>) <a id=\"set\" href=\"i.md\">\n\
        \n\
        [reference]: j.md\n";
    let document = Document::parse("a.md", text);
    let [block] = &document.blocks[..] else { panic!("one block") };
    assert_eq!((block.language.as_str(), block.line), ("sh", 8));
    assert_eq!(block.text, "# comment `z` [no](f.md)\n");
    let code = [found(1, "a"), found(3, "x y"), found(4, "code"), found(4, "[no](d.md)")];
    let code: Vec<_> = code.into_iter().chain([found(10, "a")]).collect();
    assert_eq!(document.inline_code(), code);
    let links = [found(4, "a.md#b"), found(4, "c.md"), found(14, "g h.png")];
    let links = links.into_iter().chain([found(14, "i.md"), found(16, "j.md")]);
    assert_eq!(document.links(), links.collect::<Vec<_>>());
    let ids = ["one-a-b--c", "one-a-b--c-1", "one", "mine", "set"];
    assert_eq!(document.ids(), BTreeSet::from(ids.map(str::to_owned)));
}
