//! Opens the source that the settings name.

use std::sync::Arc;

use super::{Error, advice, told};
use crate::{
    config::{Settings, SourceKind},
    domain::Catalogue,
    ledger::{Source, embedded::Embedded, scylla::Scylla},
};

/// The source, and what it is.
pub(super) type Opened = (Arc<dyn Source>, Option<Arc<Embedded>>, Option<Arc<Scylla>>);

pub(super) fn open_source(
    settings: &Settings,
    catalogue: &Arc<Catalogue>,
) -> Result<Opened, Error> {
    match settings.source.kind {
        SourceKind::Embedded => {
            let opened = Embedded::open(
                &settings.embedded,
                settings.source.timeout_ms.0,
                rand::random(),
            );
            let embedded = Arc::new(opened.map_err(|error| told(Some(error)))?);
            advice::tell_origin(settings, embedded.origin());
            Ok((embedded.clone(), Some(embedded), None))
        }
        SourceKind::Scylla => {
            let opened = Scylla::new(&settings.scylla, &settings.source, Arc::clone(catalogue));
            let scylla = opened.map_err(|error| told(Some(error)))?;
            let scylla = Arc::new(scylla.with_writer(settings.writer()));
            Ok((scylla.clone(), None, Some(scylla)))
        }
    }
}
