//! Checks the command line and the environment before any value is read. The rules apply to every
//! setting, including future ones.

use clap::{Arg, ArgMatches, Command, parser::ValueSource};

use super::{environment::set_but_empty, error::ConfigError, libpq};

/// Refuses settings that are set but empty. Such a setting is a mistake in a script or a deployment
/// file. With the default instead, Tollgate could start a private Postgres although the operator
/// wants another database. An empty variable also overrides the line in `.env`.
pub fn refuse_empty_settings(command: &Command, arguments: &ArgMatches) -> Result<(), ConfigError> {
    let (mut command, mut arguments) = (command, arguments);
    let mut errors = Vec::new();
    loop {
        let settings = command.get_arguments();
        errors.extend(settings.filter_map(|setting| empty_setting(setting, arguments)));
        let Some((name, of_subcommand)) = arguments.subcommand() else { break };
        let Some(subcommand) = command.find_subcommand(name) else { break };
        (command, arguments) = (subcommand, of_subcommand);
    }
    if errors.is_empty() { Ok(()) } else { Err(ConfigError(errors)) }
}

/// Returns the message about an argument that is a setting, if it is set but empty.
fn empty_setting(setting: &Arg, arguments: &ArgMatches) -> Option<String> {
    let variable = setting.get_env()?.to_string_lossy();
    let id = setting.get_id().as_str();
    let mut values = arguments.try_get_raw(id).ok()??;
    if values.all(|value| !value.to_string_lossy().trim().is_empty()) {
        return None;
    }
    Some(if arguments.value_source(id) == Some(ValueSource::CommandLine) {
        let flag = setting.get_long().unwrap_or(id);
        format!("--{flag} ({variable}) is given but empty. Give it a value, or leave it out")
    } else {
        set_but_empty(&variable)
    })
}

/// Removes libpq's variables (`PGPORT`, `PGOPTIONS`, …) from the environment when the command uses
/// the private Postgres. They describe another server, but sqlx applies them to every connection,
/// and a URL cannot override `PGOPTIONS`. Must be called before any thread is started.
#[expect(unsafe_code, reason = "changing the environment is unsafe while other threads read it")]
pub fn shield_private_postgres(arguments: &ArgMatches) {
    if has_database_url(arguments) != Some(false) {
        return;
    }
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") && name != "PG_BINDIR" {
            // SAFETY: the caller has started no thread yet, so no other thread reads the
            // environment.
            unsafe { std::env::remove_var(name) };
        }
    }
}

/// Refuses libpq's variables that are empty or invalid, if the command applies them to a database.
/// sqlx would ignore such values. With a typo in `PGSSLMODE`, it would open a connection without
/// the requested protection.
pub fn refuse_invalid_libpq_variables(arguments: &ArgMatches) -> Result<(), ConfigError> {
    if has_database_url(arguments) != Some(true) {
        return Ok(());
    }
    let errors = libpq::invalid_variables();
    if errors.is_empty() { Ok(()) } else { Err(ConfigError(errors)) }
}

/// Whether the command has the URL of a database. If not, the command uses the private Postgres.
/// `None` means that the command uses no database.
fn has_database_url(arguments: &ArgMatches) -> Option<bool> {
    let mut arguments = arguments;
    while let Some((_, of_subcommand)) = arguments.subcommand() {
        arguments = of_subcommand;
    }
    // A command without this argument uses no database.
    let values = arguments.try_get_raw("database_url").ok()?;
    Some(values.is_some())
}
