//! Traces of what is not answered at once: requests, reads, loads and notifications, as OpenTelemetry spans sent to a collector
//! (OTLP over HTTP). The interface to the OpenTelemetry crates is localized here; without the feature `otel` there are no spans.
//!
//! **Invariants.** A hit in memory makes no span. A caller's `traceparent` (W3C) is followed, its decision to sample too. Spans are
//! not in the log. They name users, never amounts.
//!
//! **Limits.** Spans are sent in batches by a thread of their own; what a collector does not take is dropped.
//!
//! **Deliberately absent**: spans of the stream's notifications (they come without a context), TLS to the collector (run one beside it).

use http::HeaderMap;
use tracing::Span;

use crate::domain::UserId;

#[cfg(feature = "otel")]
pub(super) use sent::{TARGET, layer};

/// Whether spans continue the callers' traces (`traceparent`).
pub const FOLLOWED: bool = cfg!(feature = "otel");

/// Makes the span of a request that the fast path does not answer; its parent is the caller's span.
pub fn request(method: &http::Method, path: &str, headers: &HeaderMap) -> Span {
    sent::request(method, path, headers)
}

pub fn read(user: UserId) -> Span {
    sent::read(user)
}

pub fn load(user: UserId) -> Span {
    sent::load(user)
}

/// Makes the span of applying `count` notifications or entries.
pub fn apply(count: usize) -> Span {
    sent::apply(count)
}

/// Sends what was not sent yet. Blocks, for some seconds at most.
pub fn finish() {
    sent::finish();
}

#[cfg(not(feature = "otel"))]
mod sent {
    use super::{HeaderMap, Span, UserId};

    pub(super) const fn request(_: &http::Method, _: &str, _: &HeaderMap) -> Span {
        Span::none()
    }

    pub(super) const fn read(_: UserId) -> Span {
        Span::none()
    }

    pub(super) const fn load(_: UserId) -> Span {
        Span::none()
    }

    pub(super) const fn apply(_: usize) -> Span {
        Span::none()
    }

    pub(super) const fn finish() {}
}

#[cfg(feature = "otel")]
mod sent {
    use std::sync::OnceLock;

    use opentelemetry::{
        propagation::{Extractor, TextMapPropagator},
        trace::TracerProvider,
    };
    use opentelemetry_otlp::{SpanExporter, WithExportConfig};
    use opentelemetry_sdk::{
        Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider,
    };
    use tracing::{Subscriber, info_span, level_filters::LevelFilter};
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

    use super::{HeaderMap, Span, UserId};

    /// The field that tells our spans from all others.
    pub(in crate::telemetry) const TARGET: &str = "balance_cache::traces";

    /// The provider of the process, kept to flush it at the end.
    static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

    /// The layer that sends spans to a collector, `http://host:4318`; nothing for an empty address.
    pub(in crate::telemetry) fn layer<S>(
        endpoint: &str,
    ) -> Result<Option<Box<dyn Layer<S> + Send + Sync>>, String>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        if endpoint.is_empty() {
            return Ok(None);
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .build()
            .map_err(|error| format!("telemetry.otlp_endpoint: {error}"))?;
        let resource = Resource::builder().with_service_name("balance-cache");
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        let provider = PROVIDER.get_or_init(|| provider);
        let ours = Targets::new().with_target(TARGET, LevelFilter::INFO);
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("balance-cache"))
            .with_location(false)
            .with_threads(false)
            .with_filter(ours);
        Ok(Some(layer.boxed()))
    }

    struct Headers<'a>(&'a HeaderMap);

    impl Extractor for Headers<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key).and_then(|value| value.to_str().ok())
        }

        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(http::HeaderName::as_str).collect()
        }
    }

    pub(super) fn request(method: &http::Method, path: &str, headers: &HeaderMap) -> Span {
        let span = info_span!(target: TARGET, "request", otel.kind = "server", http.request.method = %method, url.path = path);
        let context = TraceContextPropagator::new().extract(&Headers(headers));
        // The call fails if no layer takes spans; that is no error here.
        let _ = span.set_parent(context);
        span
    }

    pub(super) fn read(user: UserId) -> Span {
        info_span!(target: TARGET, "read", user.id = user.get())
    }

    pub(super) fn load(user: UserId) -> Span {
        info_span!(target: TARGET, "load", user.id = user.get())
    }

    pub(super) fn apply(count: usize) -> Span {
        info_span!(target: TARGET, "apply", notifications = count)
    }

    pub(super) fn finish() {
        if let Some(provider) = PROVIDER.get()
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "some spans were not sent");
        }
    }
}
