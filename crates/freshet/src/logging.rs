//! freshet's own log lines, on standard error.
//!
//! Only freshet's own targets can be turned up: drivers print statements and parameters at their finer levels, and
//! a log line must never hold the value of a cell (O10).

use crate::args::{LogFormat, LogLevel, RunArgs};
use crate::progress::Display;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

/// Sets up the process's log lines.
pub fn init(args: &RunArgs, display: &Display) {
    let screen = display.screen();
    let json = match args.log_format {
        Some(format) => format == LogFormat::Json,
        None => screen.is_none(),
    };
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match (screen, json) {
        (Some(screen), true) => fmt::layer().json().flatten_event(true).with_writer(screen).boxed(),
        (Some(screen), false) => fmt::layer().with_target(false).with_writer(screen).boxed(),
        (None, true) => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
        (None, false) => {
            fmt::layer().with_target(false).with_ansi(false).with_writer(std::io::stderr).boxed()
        }
    };
    tracing_subscriber::registry().with(layer.with_filter(filter(level(args)))).init();
}

fn filter(own: LevelFilter) -> Targets {
    Targets::new().with_default(LevelFilter::WARN.min(own)).with_target("freshet", own)
}

fn level(args: &RunArgs) -> LevelFilter {
    let level = match args.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    if args.quiet { level.min(LevelFilter::WARN) } else { level }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn o10_only_our_own_lines_can_be_turned_up() {
        let all = filter(LevelFilter::TRACE);
        assert!(all.would_enable("freshet_postgres::sink", &Level::TRACE));
        assert!(all.would_enable("freshet", &Level::TRACE));
        assert!(!all.would_enable("tokio_postgres::query", &Level::DEBUG));
        assert!(!all.would_enable("rustls", &Level::INFO));
        assert!(!filter(LevelFilter::ERROR).would_enable("rustls", &Level::WARN));
    }
}
