//! Log lines, and spans where they are sent (see [`super::traces`]).

use tracing_subscriber::{
    Layer, Registry,
    filter::EnvFilter,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

use crate::config::{LogFormat, TelemetrySettings, log_filter};

/// The filter of the running logger, which a reload replaces.
#[derive(Debug, Clone)]
pub struct FilterHandle(reload::Handle<EnvFilter, Registry>);

/// A filter that is checked and not in force yet.
#[derive(Debug)]
pub struct Filter(EnvFilter);

impl Filter {
    /// As `telemetry.log` says.
    /// Errors: a filter that cannot be read, with the accepted forms.
    pub fn new(text: &str) -> Result<Self, String> {
        let directives = log_filter::filter_directives(text);
        let filter = directives.and_then(|directives| {
            EnvFilter::try_new(directives).map_err(|error| error.to_string())
        });
        filter
            .map(Self)
            .map_err(|reason| format!("telemetry.log: {reason}"))
    }
}

impl FilterHandle {
    /// Puts the filter in force.
    pub fn replace_filter(&self, filter: Filter) {
        // It fails only where there is no logger any more, at the end of the process.
        let _ = self.0.reload(filter.0);
    }
}

/// Log lines go to standard error from here on, in the form of the settings; panics too where that form is JSON. To be
/// called outside of the runtime.
/// Errors: a filter that cannot be read, a collector's address that cannot be used, or a process that has a logger already.
pub fn start_logging(settings: &TelemetrySettings) -> Result<FilterHandle, String> {
    let (filter, handle) = reload::Layer::new(Filter::new(&settings.log)?.0);
    let lines = fmt::layer()
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
    registry.try_init().map_err(|error| error.to_string())?;
    if settings.format == LogFormat::Json {
        std::panic::set_hook(Box::new(log_panic));
    }
    Ok(FilterHandle(handle))
}

/// Writes the events of `line` to `writer` in the JSON form of log lines, whatever the filter says: for what is said before
/// there is a logger, or must not be filtered.
pub fn in_json<W>(writer: W, line: impl FnOnce())
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = fmt::layer().json().flatten_event(true).with_writer(writer);
    let subscriber = tracing_subscriber::registry().with(lines);
    tracing::subscriber::with_default(subscriber, line);
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let backtrace = std::backtrace::Backtrace::capture();
    let captured = backtrace.status() == std::backtrace::BacktraceStatus::Captured;
    let place = panic.location().map(ToString::to_string);
    in_json(std::io::stderr, || {
        tracing::error!(
            panic.text = panic.payload_as_str(),
            panic.place = place,
            panic.backtrace = captured.then(|| backtrace.to_string()),
            "panic"
        );
    });
}
