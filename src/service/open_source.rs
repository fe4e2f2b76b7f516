//! Opens the source that the settings name.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{StartError, advice, startup_error};
use crate::{
    config::{Settings, SourceKind},
    domain::Catalogue,
    ledger::{Source, embedded::Embedded, postgres::Postgres, scylla::Scylla},
};

/// The source as every part uses it, and its kind.
pub(super) struct OpenedSource {
    pub(super) source: Arc<dyn Source>,
    pub(super) embedded: Option<Arc<Embedded>>,
    pub(super) database: SourceDatabase,
}

#[derive(Debug, Clone)]
pub(super) enum SourceDatabase {
    /// The embedded ledger needs none.
    None,
    Scylla(Arc<Scylla>),
    Postgres(Arc<Postgres>),
}

impl SourceDatabase {
    /// Connects and keeps checking, in the background.
    pub(super) fn spawn_loop(self, loops: &TaskTracker, stop: &CancellationToken) {
        match self {
            Self::None => {}
            Self::Scylla(scylla) => drop(loops.spawn(scylla.run_watch(stop.clone()))),
            Self::Postgres(postgres) => drop(loops.spawn(postgres.run_watch(stop.clone()))),
        }
    }
}

pub(super) fn open_source(
    settings: &Settings,
    catalogue: &Arc<Catalogue>,
) -> Result<OpenedSource, StartError> {
    match settings.source.kind {
        SourceKind::Embedded => {
            let opened = Embedded::open_ledger(
                &settings.embedded,
                settings.source.timeout_ms.0,
                rand::random(),
            );
            let embedded = Arc::new(opened.map_err(|error| startup_error(Some(error)))?);
            advice::tell_origin(settings, embedded.origin());
            Ok(OpenedSource {
                source: embedded.clone(),
                embedded: Some(embedded),
                database: SourceDatabase::None,
            })
        }
        SourceKind::Scylla => {
            let opened = Scylla::new(&settings.scylla, &settings.source, Arc::clone(catalogue));
            let scylla = opened.map_err(|error| startup_error(Some(error)))?;
            let scylla = Arc::new(scylla.with_writer(settings.seq_writer()));
            Ok(OpenedSource {
                source: scylla.clone(),
                embedded: None,
                database: SourceDatabase::Scylla(scylla),
            })
        }
        SourceKind::Postgres => {
            let opened = Postgres::new(&settings.postgres, &settings.source);
            let postgres = opened.map_err(|error| startup_error(Some(error)))?;
            let postgres = postgres.with_writer(settings.seq_writer());
            let postgres = Arc::new(postgres.with_mapping(&settings.postgres, catalogue));
            Ok(OpenedSource {
                source: postgres.clone(),
                embedded: None,
                database: SourceDatabase::Postgres(postgres),
            })
        }
    }
}
