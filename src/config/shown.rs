//! The settings in force, for people.

use super::{Settings, postgres_url, redis_url};

/// TOML of the settings, with every secret as `***`: it can be read back, and the check refuses a secret that is the mark.
pub fn shown(settings: &Settings) -> String {
    let mut settings = settings.clone();
    settings.redis.url = redis_url::hide_secrets(&settings.redis);
    let postgres = &mut settings.postgres;
    for url in std::iter::once(&mut postgres.url).chain(&mut postgres.read_urls) {
        *url = postgres_url::hide_secrets(url);
    }
    let redis = &mut settings.redis;
    for secret in [
        &mut redis.password,
        &mut redis.sentinel_password,
        &mut settings.scylla.password,
        &mut settings.postgres.password,
    ] {
        if !secret.is_empty() {
            redis_url::HIDDEN.clone_into(secret);
        }
    }
    let kafka = &mut settings.settlement.kafka;
    if !kafka.password.is_empty() {
        redis_url::HIDDEN.clone_into(&mut kafka.password);
    }
    for token in &mut settings.auth.tokens {
        redis_url::HIDDEN.clone_into(&mut token.sha256);
    }
    toml::to_string(&settings).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
}
