//! Log lines.

use crate::config::{LogFormat, Telemetry};

/// Log lines go to standard error from here on, in the form of the settings.
///
/// # Errors
/// A filter that cannot be read, or a process that has a logger already.
pub fn start(settings: &Telemetry) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_new(&settings.log)
        .map_err(|error| format!("telemetry.log: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr);
    let started = match settings.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| error.to_string())
}
