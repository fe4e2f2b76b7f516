//! A running service takes over what can change without a restart: tokens, assets and symbols, the log filter, certificates.
//!
//! **Invariants.** All or nothing is prepared before anything changes: settings or files that cannot be used leave all as it
//! was. A key that needs a restart is named, and compared again by the next reload. Tokens, tables and certificates are
//! swapped whole, so a request sees either the old ones or the new ones.
//!
//! **Cancellation.** Nothing here waits; files are read, so the caller leaves the runtime's own threads alone.

use std::{fmt::Write as _, path::PathBuf, sync::Arc};

use parking_lot::Mutex;

use super::{assembled::Assembled, open_source::SourceDatabase};
use crate::{
    cache::redis::NewAuthorities,
    clock,
    config::{self, Errors, Settings},
    domain::CatalogueTable,
    http::auth::{Authorization, Tokens},
    ledger::{postgres::NewPgCertificates, scylla::NewCertificates},
    ops::openapi::Documents,
    telemetry::{
        Reloaded,
        log::{Filter, FilterHandle},
    },
};

/// Keys that name certificate files.
const REDIS_FILES: &str = "redis.ca_file";
const SCYLLA_FILES: [&str; 3] = [
    "scylla.tls_ca_file",
    "scylla.tls_cert_file",
    "scylla.tls_key_file",
];
const POSTGRES_FILES: [&str; 3] = [
    "postgres.tls_ca_file",
    "postgres.tls_cert_file",
    "postgres.tls_key_file",
];

/// Reloads the settings of a running service.
pub struct Reloader {
    pub(super) in_force: Mutex<Settings>,
    pub(super) parts: Arc<Assembled>,
    pub(super) auth: Authorization,
    pub(super) database: SourceDatabase,
    pub(super) documents: Documents,
    pub(super) log: Option<FilterHandle>,
}

/// A part that was read and can be used, and its name in the log.
#[derive(Default)]
struct PreparedPart {
    tokens: Option<Tokens>,
    table: Option<CatalogueTable>,
    filter: Option<Filter>,
    authorities: Option<NewAuthorities>,
    certificates: Option<NewCertificates>,
    pg_certificates: Option<NewPgCertificates>,
    /// Keys that are in force afterwards.
    taken: Vec<String>,
    /// Keys that are not, each with a reason where the key alone does not say it.
    left: Vec<String>,
}

impl Reloader {
    /// Puts in force what differs and can be, and tells what was and what was not: one line, and
    /// `config_reloads_total`.
    pub fn reload_settings(&self, read: Result<Settings, Errors>) {
        let mut in_force = self.in_force.lock();
        let prepared = read
            .map_err(|errors| errors.to_string().replace('\n', "; "))
            .and_then(|new| Ok((self.prepare_changes(&in_force, &new)?, new)));
        let result = match prepared {
            Ok((prepared, new)) => self.apply_prepared(&mut in_force, &new, prepared),
            Err(reason) => {
                tracing::error!(
                    reason,
                    "settings are not reloaded: everything stays as it was"
                );
                Reloaded::Failed
            }
        };
        self.parts.meters.record_reload(result, clock::wall_now());
    }

    fn prepare_changes(&self, old: &Settings, new: &Settings) -> Result<PreparedPart, String> {
        let mut prepared = PreparedPart::default();
        let changed = config::changes(old, new);
        let table = table_of(new)?;
        let dangers = self.parts.catalogue.current_table().unsafe_changes(&table);
        for key in changed {
            match key.as_str() {
                "auth.tokens" if new.auth.mode == old.auth.mode => {
                    let tokens = Tokens::new(&new.auth);
                    let wrong = |at| format!("auth.tokens[{at}].sha256 is not 64 hex digits");
                    prepared.tokens = Some(tokens.map_err(wrong)?);
                    prepared.taken.push(key);
                }
                "assets" | "symbols" if dangers.is_empty() => prepared.taken.push(key),
                "assets" | "symbols" => prepared.left.push(format!(
                    "{key} (amounts or names would change their meaning: {})",
                    dangers.join(", ")
                )),
                "telemetry.log" => {
                    prepared.filter = Some(Filter::new(&new.telemetry.log)?);
                    prepared.taken.push(key);
                }
                file if is_renamed(file, old, new) => prepared.taken.push(key),
                _ => prepared.left.push(key),
            }
        }
        if prepared
            .taken
            .iter()
            .any(|key| key == "assets" || key == "symbols")
        {
            prepared.table = Some(table);
        }
        self.prepare_certificates(old, new, &mut prepared)?;
        Ok(prepared)
    }

    /// Certificate files are read again even where no key changed: they are renewed in place.
    fn prepare_certificates(
        &self,
        old: &Settings,
        new: &Settings,
        prepared: &mut PreparedPart,
    ) -> Result<(), String> {
        let named = |keys: &[&str]| {
            keys.iter()
                .any(|key| prepared.taken.iter().any(|it| it == key))
        };
        let (redis_named, scylla_named, postgres_named) = (
            named(&[REDIS_FILES]),
            named(&SCYLLA_FILES),
            named(&POSTGRES_FILES),
        );
        // The settings as they will be, as far as files go.
        let mut options = old.clone();
        take_names_of_files(&mut options, new, &prepared.taken);
        if let Some(redis) = &self.parts.redis {
            prepared.authorities = redis.link.read_authorities(&options.redis)?;
            if prepared.authorities.is_some() && !redis_named {
                prepared.taken.push(format!("{REDIS_FILES} (its content)"));
            }
        }
        if let SourceDatabase::Scylla(scylla) = &self.database {
            let read = scylla.read_certificates(&options.scylla);
            prepared.certificates = read.map_err(|error| error.to_string())?;
            if prepared.certificates.is_some() && !scylla_named {
                let words = "scylla.tls_* (their content)".to_owned();
                prepared.taken.push(words);
            }
        }
        if let SourceDatabase::Postgres(postgres) = &self.database {
            let read = postgres.read_certificates(&options.postgres);
            prepared.pg_certificates = read.map_err(|error| error.to_string())?;
            if prepared.pg_certificates.is_some() && !postgres_named {
                let words = "postgres.tls_* (their content)".to_owned();
                prepared.taken.push(words);
            }
        }
        Ok(())
    }

    fn apply_prepared(
        &self,
        in_force: &mut Settings,
        new: &Settings,
        prepared: PreparedPart,
    ) -> Reloaded {
        let PreparedPart {
            tokens,
            table,
            filter,
            authorities,
            certificates,
            pg_certificates,
            taken,
            left,
        } = prepared;
        // A filter that is about to hide the line must not hide it.
        let shown_before = tracing::enabled!(tracing::Level::INFO);
        if shown_before {
            log_reload(&taken, &left);
        }
        if let Some(tokens) = tokens {
            self.auth.replace_tokens(tokens);
            in_force.auth.tokens.clone_from(&new.auth.tokens);
        }
        if let Some(table) = table {
            self.parts.catalogue.replace_table(table);
            // Bodies rendered by the table before count for nothing, and so do those being rendered.
            self.parts.change_log.start_over();
            self.parts.memory.clear_all();
            in_force.assets.clone_from(&new.assets);
            in_force.symbols.clone_from(&new.symbols);
            let described = super::describe_api(in_force, &self.parts.catalogue);
            self.documents.replace_documents(&described);
        }
        if let (Some(redis), Some(new)) = (&self.parts.redis, authorities) {
            redis.link.use_authorities(new);
        }
        if let (SourceDatabase::Scylla(scylla), Some(new)) = (&self.database, certificates) {
            scylla.use_certificates(new);
        }
        if let (SourceDatabase::Postgres(postgres), Some(new)) = (&self.database, pg_certificates) {
            postgres.use_certificates(new);
        }
        take_names_of_files(in_force, new, &taken);
        if let Some(filter) = filter {
            in_force.telemetry.log.clone_from(&new.telemetry.log);
            if let Some(log) = &self.log {
                log.replace_filter(filter);
            }
        }
        if !shown_before {
            log_reload(&taken, &left);
        }
        if left.is_empty() {
            Reloaded::Done
        } else {
            Reloaded::Partial
        }
    }
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

fn table_of(settings: &Settings) -> Result<CatalogueTable, String> {
    CatalogueTable::new(&settings.assets, &settings.symbols).map_err(|errors| {
        errors.iter().fold(String::new(), |mut all, error| {
            // A String takes whatever is written to it.
            let _ = write!(all, "{error}; ");
            all
        })
    })
}

/// The setting of a certificate file, by its key.
fn certificate_file<'a>(settings: &'a mut Settings, key: &str) -> Option<&'a mut PathBuf> {
    let Settings {
        redis,
        scylla,
        postgres,
        ..
    } = settings;
    match key {
        REDIS_FILES => Some(&mut redis.ca_file),
        "scylla.tls_ca_file" => Some(&mut scylla.tls_ca_file),
        "scylla.tls_cert_file" => Some(&mut scylla.tls_cert_file),
        "scylla.tls_key_file" => Some(&mut scylla.tls_key_file),
        "postgres.tls_ca_file" => Some(&mut postgres.tls_ca_file),
        "postgres.tls_cert_file" => Some(&mut postgres.tls_cert_file),
        "postgres.tls_key_file" => Some(&mut postgres.tls_key_file),
        _ => None,
    }
}

/// Whether the key names another certificate file, of TLS that was on and stays on.
fn is_renamed(key: &str, old: &Settings, new: &Settings) -> bool {
    let named = |settings: &Settings| {
        certificate_file(&mut settings.clone(), key)
            .is_some_and(|file| !file.as_os_str().is_empty())
    };
    named(old) && named(new)
}

fn take_names_of_files(in_force: &mut Settings, new: &Settings, taken: &[String]) {
    let mut new = new.clone();
    for key in taken {
        if let (Some(file), Some(other)) = (
            certificate_file(in_force, key),
            certificate_file(&mut new, key),
        ) {
            file.clone_from(other);
        }
    }
}

fn log_reload(taken: &[String], left: &[String]) {
    let listed = |keys: &[String]| {
        if keys.is_empty() {
            "nothing".to_owned()
        } else {
            keys.join(", ")
        }
    };
    let changed = listed(taken);
    if left.is_empty() {
        tracing::info!(changed, "settings are reloaded");
    } else {
        tracing::warn!(
            changed,
            needs_restart = listed(left),
            "settings are reloaded in part"
        );
    }
}
