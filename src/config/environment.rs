//! Reads the environment and `.env`.

use std::ffi::OsString;

use super::error::ConfigError;

/// Sets the environment variables that `.env` in the current directory lists, except for variables
/// that are already set. Must be called before any thread is started.
pub fn load_dotenv() -> Result<(), ConfigError> {
    match dotenvy::from_path(".env") {
        Ok(()) => Ok(()),
        Err(error) if error.not_found() => Ok(()),
        // The message omits the line, because it may contain a password.
        Err(dotenvy::Error::LineParse(line, _)) => {
            let text = std::fs::read_to_string(".env").unwrap_or_default();
            let wrong = line.lines().next().unwrap_or_default();
            let place = text.lines().position(|line| !wrong.is_empty() && line.contains(wrong));
            let number = place.map_or(String::new(), |index| format!(" (line {})", index + 1));
            Err(ConfigError(vec![format!(
                ".env cannot be read{number}. Each line must have the form NAME=value, with quotes \
                 around a value that contains spaces"
            )]))
        }
        Err(error) => Err(ConfigError(vec![format!(".env cannot be read: {error}")])),
    }
}

/// Returns the message about a variable that is set but empty.
pub(super) fn set_but_empty(name: &str) -> String {
    format!(
        "{name} is set but empty, in the environment or in .env. Give it a value, or unset it. An \
         empty variable in the environment also overrides the line in .env"
    )
}

pub(super) fn variable(name: &str) -> Option<OsString> {
    #[expect(clippy::disallowed_methods, reason = "only this function reads the environment")]
    std::env::var_os(name)
}
