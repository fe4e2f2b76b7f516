//! Log lines, and spans where they are sent (see [`super::traces`]).

use tracing_subscriber::{Layer, filter::EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{LogFormat, Telemetry};

/// Log lines go to standard error from here on, in the form of the settings. To be called outside of the runtime.
///
/// # Errors
/// A filter that cannot be read, a collector's address that cannot be used, or a process that has a logger already.
pub fn start(settings: &Telemetry) -> Result<(), String> {
    let filter =
        EnvFilter::try_new(&settings.log).map_err(|error| format!("telemetry.log: {error}"))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr);
    let lines = match settings.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let lines = lines.with_filter(filter);
    #[cfg(feature = "otel")]
    let (lines, traces) = {
        use tracing_subscriber::filter::filter_fn;
        let lines = lines.with_filter(filter_fn(|line| line.target() != super::traces::TARGET));
        (lines, super::traces::layer(&settings.otlp_endpoint)?)
    };
    let registry = tracing_subscriber::registry().with(lines);
    #[cfg(feature = "otel")]
    let registry = registry.with(traces);
    registry.try_init().map_err(|error| error.to_string())
}
