//! Checks that every command and flag of Tollgate in the documents exists.

use clap::{Command, CommandFactory as _};
use tollgate::cli::Cli;

use super::{
    files::{assert_none, readme_and_book},
    markdown::{Block, Document, Found},
};

/// Languages of blocks that contain commands. Other blocks, such as `text`, contain output.
const OF_COMMANDS: [&str; 6] = ["", "sh", "bash", "console", "ini", "systemd"];

/// Shell operators after which another command begins.
const SEPARATORS: [&str; 8] = ["|", "||", "&", "&&", ";", "do", "then", "!"];

/// Words that may precede the program's name in a command.
const PREFIXES: [&str; 4] = ["$", "exec", "env", "sudo"];

/// Flags of other programs that the documents mention without a command.
const OF_OTHER_PROGRAMS: [&str; 2] = ["--locked", "--stop-timeout"];

fn program() -> Command {
    let mut program = Cli::command();
    // Building the command adds --help, --version and the command `help`.
    program.build();
    program
}

/// Finds the calls of Tollgate in a block. Returns the words after the program's name for each
/// call.
fn calls(block: &Block) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for line in joined_lines(block) {
        let mut call: Option<Vec<String>> = None;
        let mut at_start = true;
        for word in line.text.split_whitespace() {
            let is_end = word.ends_with([';', ')']);
            if SEPARATORS.contains(&word) {
                found.extend(call.take().map(|words| (line.line, words)));
                at_start = true;
            } else if let Some(words) = &mut call {
                words.push(word.trim_end_matches([';', ')', '"']).to_owned());
            } else {
                let (before, name) = match word.rsplit_once("$(") {
                    Some((_, name)) => (true, name),
                    None => (at_start, word.trim_start_matches("ExecStart=")),
                };
                if before && is_program(name) {
                    call = Some(Vec::new());
                }
                at_start = before && (PREFIXES.contains(&word) || word.contains('='));
            }
            if is_end {
                found.extend(call.take().map(|words| (line.line, words)));
                at_start = true;
            }
        }
        found.extend(call.map(|words| (line.line, words)));
    }
    found
}

fn is_program(name: &str) -> bool {
    name == "tollgate" || name.ends_with("/tollgate")
}

/// Returns the lines of a block. Joins each line that ends with a backslash to the next line.
fn joined_lines(block: &Block) -> Vec<Found> {
    let mut lines = Vec::new();
    let mut line = Found { line: block.line, text: String::new() };
    for (index, text) in block.text.lines().enumerate() {
        if let Some(start) = text.trim_end().strip_suffix('\\') {
            line.text.push_str(start);
            continue;
        }
        line.text.push_str(text);
        let next = Found { line: block.line + index + 1, text: String::new() };
        lines.push(std::mem::replace(&mut line, next));
    }
    lines.push(line);
    lines
}

/// Finds the fault in a call of Tollgate. `words` are the words after the program's name.
fn fault_in_call<'a>(program: &Command, words: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut command = program;
    let mut name = "tollgate".to_owned();
    for word in words {
        // In a synopsis, optional words are in brackets.
        let word = word.trim_matches(['[', ']']);
        // `tollgate = …` is a line of a configuration file.
        if word == "--" || word == "=" || word.starts_with('#') {
            break;
        }
        if let Some(flag) = word.strip_prefix("--") {
            let flag = flag_name(flag);
            if !flag.is_empty() && !has_flag(command, flag) {
                return Some(format!("`{name}` has no flag `--{flag}`"));
            }
        } else if command.has_subcommands() && !word.starts_with('-') {
            if is_placeholder(word) {
                break;
            }
            let Some(subcommand) = command.find_subcommand(word) else {
                return Some(format!("`{name}` has no command `{word}`"));
            };
            command = subcommand;
            name = format!("{name} {word}");
        }
    }
    None
}

/// Extracts the name of a flag from the text after `--`, which may end with a value.
fn flag_name(flag: &str) -> &str {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    &flag[..flag.find(|c: char| !is_part(c)).unwrap_or(flag.len())]
}

fn has_flag(command: &Command, flag: &str) -> bool {
    command.get_arguments().any(|argument| argument.get_long() == Some(flag))
}

/// Whether a command or one of its subcommands has the flag.
fn has_flag_anywhere(command: &Command, flag: &str) -> bool {
    has_flag(command, flag)
        || command.get_subcommands().any(|subcommand| has_flag_anywhere(subcommand, flag))
}

/// Whether a word stands for any command, such as `COMMAND`, `<command>` and `…`.
fn is_placeholder(word: &str) -> bool {
    word.starts_with(['<', '{', '$', '…']) || word.chars().all(|c| c.is_ascii_uppercase())
}

/// Returns one sentence for each command and flag in the document that does not exist.
fn unknown_commands(document: &Document, program: &Command) -> Vec<String> {
    let mut faults = Vec::new();
    let blocks = document.blocks.iter();
    for block in blocks.filter(|block| OF_COMMANDS.contains(&block.language.as_str())) {
        for (line, words) in calls(block) {
            let fault = fault_in_call(program, words.iter().map(String::as_str));
            faults.extend(fault.map(|fault| document.fault(line, &fault)));
        }
    }
    for code in document.inline_code() {
        let mut words = code.text.split(' ');
        let first = words.next().unwrap_or_default();
        let fault = if is_program(first) {
            fault_in_call(program, words.take_while(|word| !SEPARATORS.contains(word)))
        } else if let Some(flag) = first.strip_prefix("--").map(flag_name) {
            let is_known = flag.is_empty()
                || has_flag_anywhere(program, flag)
                || OF_OTHER_PROGRAMS.contains(&first);
            (!is_known).then(|| format!("no command of Tollgate has the flag `--{flag}`"))
        } else {
            None
        };
        faults.extend(fault.map(|fault| document.fault(code.line, &fault)));
    }
    faults
}

#[test]
fn every_command_and_flag_in_readme_and_book_exists() {
    let program = program();
    let documents = readme_and_book().into_iter();
    let faults = documents.flat_map(|document| unknown_commands(&document, &program));
    assert_none(&faults.collect::<Vec<_>>());
}

#[test]
fn check_reports_unknown_commands_and_flags_in_blocks_and_inline_code() {
    let text = "`tollgate serve --listen 1` `tollgate COMMAND --help` `--version` `pg_dump --x`\n\
        `tollgate sevre` `tollgate serve --lisetn=1` `--lisetn` `tollgate tenant lst | cat`\n\
        \n\
        ```sh\n\
        TOLLGATE_LISTEN=1 tollgate serve --listn 1; curl --silent\n\
        echo tollgate is ready\n\
        KEY=$(tollgate tenant create a --prefix ta_ --josn)\n\
        tollgate tenant create a \\\n\
        \x20   --prefx ta_ # --not-read\n\
        true && tollgate tennant list\n\
        ```\n\
        \n\
        ```text\n\
        tollgate 1.0.0\n\
        ```\n";
    let expected = [
        "a.md:5: `tollgate serve` has no flag `--listn`",
        "a.md:7: `tollgate tenant create` has no flag `--josn`",
        "a.md:8: `tollgate tenant create` has no flag `--prefx`",
        "a.md:10: `tollgate` has no command `tennant`",
        "a.md:2: `tollgate` has no command `sevre`",
        "a.md:2: `tollgate serve` has no flag `--lisetn`",
        "a.md:2: no command of Tollgate has the flag `--lisetn`",
        "a.md:2: `tollgate tenant` has no command `lst`",
    ];
    assert_eq!(unknown_commands(&Document::parse("a.md", text), &program()), expected);
}
