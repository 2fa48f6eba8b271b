//! The setting for the log.

pub(super) const LOG_FORMS: &str = "a level (error, warn, info, debug or trace), optionally \
                                    followed by a comma and a format (text or json)";

/// The level and the format of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogConfig {
    pub level: tracing::Level,
    pub json: bool,
}

/// Parses the level and the format of the log.
pub(super) fn read_log(text: &str) -> Option<LogConfig> {
    let (level, format) = text.split_once(',').unwrap_or((text, "text"));
    let level = match level {
        "error" => tracing::Level::ERROR,
        "warn" => tracing::Level::WARN,
        "info" => tracing::Level::INFO,
        "debug" => tracing::Level::DEBUG,
        "trace" => tracing::Level::TRACE,
        _ => return None,
    };
    match format {
        "text" => Some(LogConfig { level, json: false }),
        "json" => Some(LogConfig { level, json: true }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_setting_is_a_level_and_an_optional_format() {
        let debug_json = LogConfig { level: tracing::Level::DEBUG, json: true };
        assert_eq!(read_log("debug,json"), Some(debug_json));
        assert_eq!(read_log("debug,xml"), None);
    }
}
