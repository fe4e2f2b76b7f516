//! Settings: three layers, merged by key, checked whole before anything starts.
//!
//! `config/default.toml` (compiled in, the only place of defaults) → the file of `--config` → the environment. The interface to the
//! `config` crate and the reading of the environment are localized here.
//!
//! **Invariants.** [`Settings`] from [`load_settings`] can work together. Every mistake of every layer is in the one [`Errors`], with its key
//! and origin. No message, no `Debug` and no output of [`shown()`] contains a secret.
//!
//! **Limits.** A file of at most [`FILE_BYTES_MAX`] bytes. Lists of tables (`assets`, `symbols`, `auth.tokens`) are set by a file only.
//!
//! **Deliberately absent**: checks of what settings point to (files, hosts). The component that needs it makes them.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

mod accepted;
mod advice;
mod bad_setting;
mod changes;
mod check;
mod errors;
mod judge;
mod layers;
pub mod log_filter;
mod places;
mod postgres_url;
mod redis_url;
mod settings;
mod shown;
mod suggest;
pub mod token;

pub use advice::{Advice, advice, advice_block};
pub use bad_setting::BadSetting;
pub use changes::changes;
pub use check::{CQL_NAME_RULE, TOKEN_NAME_RULE, is_cql_name, is_token_name};
pub use errors::{Errors, Mistake, ValueOrigin};
pub use postgres_url::PostgresAddress;
pub use settings::*;
pub use shown::shown;

use layers::Layers;

/// Every setting with its default and what it means.
pub const DEFAULT: &str = include_str!("../config/default.toml");

/// The prefix of variables that set a key. Two underscores: `BALANCE_CACHE_PORT` and the like are set by
/// Kubernetes for a service of that name, and are none of ours. One that can only be meant for a key is refused.
pub const PREFIX: &str = "BALANCE_CACHE__";

/// The largest file that is read.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The settings of this process: defaults, overridden by `file`, overridden by `env` (see [`read_environment`]).
/// Errors: everything that is wrong with any layer and with what they come to together.
pub fn load_settings<N, V>(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (N, V)>,
) -> Result<Settings, Errors>
where
    N: Into<OsString>,
    V: Into<OsString>,
{
    let mut layers = Layers::new()?;
    if let Some(path) = file {
        match read_file(path) {
            Ok(text) => layers.add_file(path, &text),
            Err(reason) => layers.refuse_file(path, reason),
        }
    }
    layers.add_environment(
        env.into_iter()
            .map(|(name, value)| (name.into(), value.into())),
    );
    let (mut settings, told) = layers.merge_layers()?;
    check::check_settings(&settings, told)?;
    settings.separate_kafka_group();
    Ok(settings)
}

/// Variables that begin like ours and set nothing: not refused, for another program may read them, but worth a line.
pub fn unknown_variables<N, V>(env: impl IntoIterator<Item = (N, V)>) -> Vec<String>
where
    N: Into<OsString>,
    V: Into<OsString>,
{
    let Ok(schema) = DEFAULT.parse() else {
        return Vec::new();
    };
    let names = env.into_iter().filter_map(|(name, value)| {
        let (name, value) = (name.into().into_string().ok()?, value.into());
        let ours = suggest::is_like_ours(&name) && !name.starts_with(PREFIX);
        let value = value.to_string_lossy();
        (ours && suggest::judge_stray(&schema, &name, &value) == suggest::StrayVariable::Unknown)
            .then_some(name)
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// The settings without a file and an environment.
/// Errors: none, as long as `config/default.toml` passes its tests.
pub fn default_settings() -> Result<Settings, Errors> {
    load_settings(None, std::iter::empty::<(OsString, OsString)>())
}

/// The environment of this process, for [`load_settings`].
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub fn read_environment() -> std::env::VarsOs {
    std::env::vars_os()
}

fn read_file(path: &Path) -> Result<String, String> {
    use std::io::Read as _;

    let read = || -> std::io::Result<Vec<u8>> {
        let file = std::fs::File::open(PathBuf::from(path))?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX.saturating_add(1))
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(format!("is larger than {FILE_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}

#[cfg(test)]
mod tests;
