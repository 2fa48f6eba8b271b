//! Generates the page of all commands.

use clap::{Arg, Command};

use super::{
    markdown::{anchor, begin, code, help, help_paragraphs, table, value},
    settings::{groups, value_name},
};

const INTRODUCTION: &str = "\
`tollgate help COMMAND` prints the description of a command. Every command also accepts `--help` \
(`-h` for a short form) and `--version`. A command that fails prints the reason to standard error, \
and exits with a nonzero status.

";

/// Generates the page. `tollgate` is the definition of the whole command line.
pub fn page(mut tollgate: Command) -> String {
    tollgate.build();
    let mut text = begin("commands", "Commands");
    if let Some(about) = tollgate.get_long_about().or(tollgate.get_about()) {
        text.push_str(&help_paragraphs(&about.to_string()));
        text.push_str("\n\n");
    }
    text.push_str(INTRODUCTION);
    for command in shown(&mut tollgate) {
        describe(&mut text, command, 2);
    }
    text.trim_end().to_owned() + "\n"
}

/// Returns the subcommands except `help` and hidden subcommands.
fn shown(command: &mut Command) -> impl Iterator<Item = &mut Command> {
    let is_shown = |command: &&mut Command| !command.is_hide_set() && command.get_name() != "help";
    command.get_subcommands_mut().filter(is_shown)
}

fn describe(text: &mut String, command: &mut Command, level: usize) {
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim();
    let name = command.get_bin_name().unwrap_or(command.get_name());
    text.push_str(&format!("{} {}\n\n", "#".repeat(level), code(name)));
    if let Some(about) = command.get_long_about().or(command.get_about()) {
        text.push_str(&sentence(&help_paragraphs(&about.to_string())));
        text.push_str("\n\n");
    }
    text.push_str(&format!("```text\n{usage}\n```\n\n"));
    let own: Vec<Vec<String>> = command.get_arguments().filter_map(row).collect();
    if !own.is_empty() {
        text.push_str(&table(&["argument", "default", "meaning"], &own));
    }
    let link = |group: &&str| format!("[{group}](settings.md#{})", anchor(group));
    let settings: Vec<String> = groups(command).iter().map(link).collect();
    if !settings.is_empty() {
        text.push_str(&format!("Settings: {}.\n\n", settings.join(", ")));
    }
    for subcommand in shown(command) {
        describe(text, subcommand, level + 1);
    }
}

/// Adds the full stop at the end of the first paragraph, which clap removes.
fn sentence(text: &str) -> String {
    let (first, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let stop = if first.ends_with(['.', ':']) { "" } else { "." };
    let rest = if rest.is_empty() { String::new() } else { format!("\n\n{rest}") };
    format!("{first}{stop}{rest}")
}

/// Returns the table row of an argument. `None` if the argument is a setting, or if every command
/// has it.
fn row(argument: &Arg) -> Option<Vec<String>> {
    let is_common = ["help", "version"].contains(&argument.get_id().as_str());
    if is_common || argument.get_env().is_some() || argument.is_hide_set() {
        return None;
    }
    let takes_value = argument.get_action().takes_values();
    let values = if takes_value { value_name(argument) } else { String::new() };
    let name = match argument.get_long() {
        Some(flag) => format!("--{flag} {values}"),
        None => values,
    };
    let defaults = argument.get_default_values().iter().map(|value| value.to_string_lossy());
    let default = match defaults.collect::<Vec<_>>().join(",") {
        _ if !takes_value => String::new(),
        _ if argument.is_required_set() => "required".to_owned(),
        none if none.is_empty() => String::new(),
        default => value(&default),
    };
    let text = argument.get_long_help().or(argument.get_help());
    let text = text.map(ToString::to_string).unwrap_or_default();
    let text = sentence(&text).replace("\n\n", " ");
    Some(vec![code(name.trim()), default, help(&text)])
}

#[cfg(test)]
mod tests {
    use clap::ArgAction;

    use super::*;

    #[test]
    fn page_lists_the_arguments_of_each_command_except_hidden_arguments() {
        let verify = Command::new("verify")
            .about("Check <it>")
            .long_about("Check <it>\n\nPrints faults.")
            .arg(Arg::new("tenant").value_name("tenant").required(true).help("Name of the tenant"))
            .arg(Arg::new("since").long("since").value_name("FILE").default_value("a").help("File"))
            .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON"))
            .arg(Arg::new("url").long("url").env("DATABASE_URL").help_heading("Database"));
        let ledger = Command::new("ledger").about("Check it").subcommand(verify);
        let hidden = Command::new("secret").hide(true);
        let page = page(Command::new("tollgate").subcommand(ledger).subcommand(hidden));
        for part in [
            "\n## `tollgate ledger`\n\nCheck it.\n",
            "\n### `tollgate ledger verify`\n\nCheck &lt;it&gt;.\n\nPrints faults.\n",
            "\ntollgate ledger verify [OPTIONS] <tenant>\n",
            "| `<tenant>` | required | Name of the tenant. |\n",
            "| `--since <FILE>` | `a` | File. |\n",
            "| `--json` |  | Print JSON. |\n",
            "\nSettings: [Database](settings.md#database).\n",
        ] {
            assert!(page.contains(part), "{part} is not in:\n{page}");
        }
        assert!(!page.contains("secret") && !page.contains("--help |"), "{page}");
    }
}
