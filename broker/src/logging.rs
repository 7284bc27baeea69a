//! Log lines: one event, one line, fields instead of prose, on standard error. The levels of loggers can be changed while the broker runs.
//!
//! A logger is a module path (`broker::net`), or `root` for everything that no other logger stands for. Changes do not survive a restart, as in Kafka.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// The logger that stands for all without a level of their own.
pub const ROOT: &str = "root";

/// The crates whose modules have loggers.
const CRATES: [&str; 6] = ["broker", "coord", "glommio", "protocol", "storage", "tracing"];

/// What Kafka calls its levels; there is nothing above an error here.
const LEVELS: [(&str, &str); 6] = [
    ("DEBUG", "debug"),
    ("ERROR", "error"),
    ("FATAL", "error"),
    ("INFO", "info"),
    ("TRACE", "trace"),
    ("WARN", "warn"),
];

/// The logging of this process.
static LOGGING: OnceLock<Logging> = OnceLock::new();

struct Logging {
    levels: Mutex<Levels>,
    reload: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
}

/// Sets up logging for the whole process; the error says what is wrong with the filter.
pub fn start(config: &Config) -> Result<(), String> {
    let filter = EnvFilter::try_new(&config.log_filter).map_err(|error| {
        format!("log filter {:?} is not allowed ({error}); allowed: levels such as info, and info,broker::net=debug", config.log_filter)
    })?;
    // journald adds the time itself.
    let under_journald = std::env::var_os("JOURNAL_STREAM").is_some();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    macro_rules! install {
        ($builder:expr) => {{
            let builder = $builder.with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map_err(|error| error.to_string())?;
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }};
    }
    let reload: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync> = match config.log_format {
        LogFormat::Json => install!(builder.json().flatten_event(true)),
        LogFormat::Text if under_journald => install!(builder.with_ansi(false).without_time()),
        LogFormat::Text => install!(builder.with_ansi(std::io::stderr().is_terminal())),
    };
    let levels = Mutex::new(Levels::new(&config.log_filter));
    // Logging is started once; a second subscriber would have been refused above.
    let _ = LOGGING.set(Logging { levels, reload });
    Ok(())
}

/// All loggers that have a level of their own, `root` among them, with Kafka's names of the levels.
pub fn levels() -> BTreeMap<String, &'static str> {
    LOGGING.get().map(|logging| lock(&logging.levels).all()).unwrap_or_default()
}

/// A change of one logger's level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelChange {
    /// The logger.
    pub logger: String,
    /// Kafka's name of the level; none: as it was at the start.
    pub level: Option<String>,
}

/// Why a level was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// No logger can have this name.
    #[error("Logger {0} does not exist!")]
    UnknownLogger(String),
    /// No level has this name.
    #[error(
        "Cannot set the log level of {logger} to {level} as it is not a supported log level. Valid log levels are {}",
        LEVELS.map(|(name, _)| name).join(", ")
    )]
    UnknownLevel {
        /// The logger.
        logger: String,
        /// What its level was to be.
        level: String,
    },
    /// Something must hold for loggers without a level.
    #[error("Removing the log level of the root logger is not allowed")]
    RootRemoved,
    /// The logging of this process cannot be changed.
    #[error("the log levels cannot be changed: {0}")]
    Fixed(String),
}

/// Changes levels, all or none; or only checks.
pub fn change(changes: &[LevelChange], validate_only: bool) -> Result<(), LevelError> {
    let mut changed = BTreeMap::new();
    for change in changes {
        changed.insert(change.logger.clone(), check(change)?);
    }
    let Some(logging) = LOGGING.get().filter(|_| !validate_only) else { return Ok(()) };
    let mut levels = lock(&logging.levels);
    let mut wanted = levels.clone();
    wanted.set(changed);
    let fixed = |error: String| LevelError::Fixed(error);
    let filter = EnvFilter::try_new(wanted.filter()).map_err(|error| fixed(error.to_string()))?;
    (logging.reload)(filter).map_err(fixed)?;
    tracing::info!(filter = wanted.filter(), "log levels changed");
    *levels = wanted;
    Ok(())
}

fn check(change: &LevelChange) -> Result<Option<&'static str>, LevelError> {
    let logger = &change.logger;
    let of_crate = logger.split("::").next().unwrap_or_default();
    let is_path = logger.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    if logger != ROOT && !(is_path && CRATES.contains(&of_crate)) {
        return Err(LevelError::UnknownLogger(logger.clone()));
    }
    match &change.level {
        None if logger == ROOT => Err(LevelError::RootRemoved),
        None => Ok(None),
        Some(level) => {
            let known = LEVELS.iter().find(|(name, _)| name == level);
            known
                .map(|(_, ours)| Some(*ours))
                .ok_or_else(|| LevelError::UnknownLevel { logger: logger.clone(), level: level.clone() })
        }
    }
}

fn lock(levels: &Mutex<Levels>) -> std::sync::MutexGuard<'_, Levels> {
    levels.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The filter of the settings, and what has been changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Levels {
    settings: String,
    changed: BTreeMap<String, &'static str>,
}

impl Levels {
    fn new(settings: &str) -> Self {
        Levels { settings: settings.to_owned(), changed: BTreeMap::new() }
    }

    fn set(&mut self, changes: BTreeMap<String, Option<&'static str>>) {
        for (logger, level) in changes {
            match level {
                Some(level) => self.changed.insert(logger, level),
                None => self.changed.remove(&logger),
            };
        }
    }

    /// Later directives beat earlier ones for the same target.
    fn filter(&self) -> String {
        let mut filter = self.settings.clone();
        for (logger, level) in &self.changed {
            filter.push(',');
            if logger != ROOT {
                filter.push_str(logger);
                filter.push('=');
            }
            filter.push_str(level);
        }
        filter
    }

    fn all(&self) -> BTreeMap<String, &'static str> {
        let mut all = BTreeMap::from([(ROOT.to_owned(), "ERROR")]);
        for directive in self.filter().split(',').filter(|directive| !directive.is_empty()) {
            let (logger, level) = directive.split_once('=').unwrap_or((ROOT, directive));
            let known = LEVELS.iter().find(|(_, ours)| ours.eq_ignore_ascii_case(level));
            if let Some((name, _)) = known {
                all.insert(logger.to_owned(), name);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change_of(logger: &str, level: Option<&str>) -> LevelChange {
        LevelChange { logger: logger.to_owned(), level: level.map(str::to_owned) }
    }

    #[test]
    fn changed_levels_beat_the_settings_until_they_are_removed() {
        let mut levels = Levels::new("info,broker::net=debug");
        let names = |levels: &Levels| {
            levels.all().into_iter().map(|(logger, level)| format!("{logger}={level}")).collect::<Vec<_>>()
        };
        assert_eq!(names(&levels), ["broker::net=DEBUG", "root=INFO"]);
        levels.set(BTreeMap::from([(ROOT.to_owned(), Some("warn")), ("storage".to_owned(), Some("trace"))]));
        assert_eq!(levels.filter(), "info,broker::net=debug,warn,storage=trace");
        assert_eq!(names(&levels), ["broker::net=DEBUG", "root=WARN", "storage=TRACE"]);
        assert!(EnvFilter::try_new(levels.filter()).is_ok());
        levels.set(BTreeMap::from([("storage".to_owned(), None)]));
        assert_eq!(names(&levels), ["broker::net=DEBUG", "root=WARN"]);
    }

    #[test]
    fn unknown_loggers_and_levels_are_refused_in_kafkas_words() {
        let refusal = |logger, level| check(&change_of(logger, level)).unwrap_err().to_string();
        assert_eq!(refusal("nope.logger", Some("INFO")), "Logger nope.logger does not exist!");
        assert_eq!(refusal("broker=trace,x", Some("INFO")), "Logger broker=trace,x does not exist!");
        assert_eq!(
            refusal("root", Some("BAD")),
            "Cannot set the log level of root to BAD as it is not a supported log level. \
             Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN"
        );
        assert_eq!(refusal("root", None), "Removing the log level of the root logger is not allowed");
        assert_eq!(check(&change_of("broker::net", Some("FATAL"))), Ok(Some("error")));
        assert_eq!(check(&change_of("broker::net", None)), Ok(None));
    }
}
