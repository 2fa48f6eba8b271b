//! Generates the page of all settings.

use clap::{Arg, Command};

use super::markdown::{begin, code, help, help_paragraphs, table, value};
use crate::config::{LIBPQ_VARIABLES, Variable, WORKER_THREADS};

const INTRODUCTION: &str = "\
A flag, such as `--listen`, overrides an environment variable, such as `TOLLGATE_LISTEN`. A \
variable overrides the file `.env` in the current directory. `serve` and `demo` accept all \
settings. Every other command that uses the database accepts the settings of the database and \
`TOLLGATE_LOG`. `dashboard link` also accepts `TOLLGATE_LISTEN` and `TOLLGATE_PUBLIC_URL`.

- A duration is a whole number with a unit, such as `500ms`, `15s` or `2m`. Unless the setting \
says otherwise, it is at most `60m`.
- A setting that is set but empty is an error. Unset it to get the default.
- A variable that begins with `TOLLGATE_` but belongs to no setting is probably misspelled. Every \
command that reads settings logs a warning about such a variable.

";

const LIBPQ: &str = "\
For values that `DATABASE_URL` or `TOLLGATE_LISTEN_DATABASE_URL` omits, Tollgate uses these \
variables of libpq. The variables do not affect the private Postgres. An empty or invalid variable \
is an error. If no password is set, Tollgate reads it from `~/.pgpass`.

";

/// A setting, which is an argument with an environment variable.
struct Setting<'a> {
    variable: String,
    argument: &'a Arg,
    /// The description, in one sentence.
    summary: String,
    /// The paragraphs after the first one.
    details: String,
    default: Option<String>,
    allowed: Option<String>,
}

/// Generates the page. `tollgate` is the definition of the whole command line.
pub fn page(tollgate: &Command) -> String {
    let serve = tollgate.find_subcommand("serve").expect("the command has this name");
    let settings: Vec<Setting> = serve.get_arguments().filter_map(Setting::new).collect();
    let mut text = begin("settings", "Settings");
    text.push_str(INTRODUCTION);
    text.push_str(&summary(&settings));
    for group in groups(serve) {
        text.push_str(&format!("## {group}\n\n"));
        for setting in settings.iter().filter(|setting| setting.group() == group) {
            text.push_str(&setting.section());
        }
    }
    text.push_str("## Variables without a flag\n\n");
    text.push_str(&variables(&[WORKER_THREADS]));
    text.push_str(LIBPQ);
    text.push_str(&variables(&LIBPQ_VARIABLES));
    text.trim_end().to_owned() + "\n"
}

/// Returns the headings of the settings that a command accepts, in the order of its arguments.
pub fn groups(command: &Command) -> Vec<&str> {
    let mut groups = Vec::new();
    for argument in command.get_arguments().filter(|argument| argument.get_env().is_some()) {
        let group = group_of(argument);
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

fn group_of(setting: &Arg) -> &str {
    setting.get_help_heading().unwrap_or("Other settings")
}

fn summary(settings: &[Setting]) -> String {
    let row = |setting: &Setting| {
        let Setting { variable, .. } = setting;
        let link = format!("[{}](#{})", code(variable), variable.to_ascii_lowercase());
        vec![
            link,
            setting.default.as_deref().map(value).unwrap_or_default(),
            help(&setting.summary),
        ]
    };
    table(&["variable", "default", "meaning"], &settings.iter().map(row).collect::<Vec<_>>())
}

fn variables(variables: &[Variable]) -> String {
    let row = |variable: &Variable| vec![code(variable.name), help(variable.help)];
    table(&["variable", "meaning"], &variables.iter().map(row).collect::<Vec<_>>())
}

impl<'a> Setting<'a> {
    /// Returns `None` if the argument has no environment variable.
    fn new(argument: &'a Arg) -> Option<Self> {
        let variable = argument.get_env()?.to_string_lossy().into_owned();
        let text = argument.get_long_help().or(argument.get_help());
        let text = text.map(ToString::to_string).unwrap_or_default();
        let (first, details) = text.split_once("\n\n").unwrap_or((text.as_str(), ""));
        let end = first.find(" [default: ").or_else(|| first.find(" [allowed: "));
        let summary = first[..end.unwrap_or(first.len())].trim_end_matches('.');
        Some(Self {
            variable,
            argument,
            summary: summary.to_owned(),
            details: details.to_owned(),
            default: note(first, "default"),
            allowed: note(first, "allowed"),
        })
    }

    fn group(&self) -> &str {
        group_of(self.argument)
    }

    fn section(&self) -> String {
        let mut text = format!("### {}\n\n{}.\n\n", code(&self.variable), help(&self.summary));
        if !self.details.is_empty() {
            text.push_str(&help_paragraphs(&self.details));
            text.push_str("\n\n");
        }
        let flag = self.argument.get_long().unwrap_or_default();
        let values = value_name(self.argument);
        text.push_str(&format!("- Flag: {}\n", code(&format!("--{flag} {values}"))));
        for (name, note) in [("Default", &self.default), ("Allowed", &self.allowed)] {
            if let Some(note) = note {
                text.push_str(&format!("- {name}: {}\n", value(note)));
            }
        }
        text.push('\n');
        text
    }
}

/// Returns the name of an argument's value, such as `<URL>`.
pub fn value_name(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let names: Vec<String> = names.iter().map(|name| format!("<{name}>")).collect();
    names.join(" ")
}

/// Returns a note of a help text, such as `3s` from `[default: 3s]`.
fn note(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("[{name}: "))?;
    let (note, _) = rest.split_once(']')?;
    Some(note.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_and_allowed_values_are_read_from_the_help_text() {
        let argument = Arg::new("a").long("a").env("A").value_name("N").help_heading("Limits");
        let argument = argument.long_help("Size [default: 3] [allowed: 1 to 5]\n\nMore < B_C.");
        let setting = Setting::new(&argument).expect("a setting");
        assert_eq!(
            setting.section(),
            "### `A`\n\nSize.\n\nMore &lt; `B_C`.\n\n- Flag: `--a <N>`\n- Default: `3`\n\
             - Allowed: 1 to 5\n\n"
        );
        assert!(Setting::new(&Arg::new("b").long("b").help("No setting")).is_none());
    }
}
