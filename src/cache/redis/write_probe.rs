//! Whether a settlement can succeed: every command of one is tried each second, and nothing is changed by it.

use redis::RedisError;
use tokio::time::timeout;

use super::{
    client::{RedisLink, WRITER_TIMEOUT},
    connection::SharedConnection,
    faults,
    keys::Keys,
    script::{self, Call},
    session::RedisSession,
};
use crate::{
    config::RedisMode,
    diagnosis::{Finding, FindingPart},
};

impl RedisLink {
    /// Tries every command of a settlement without changing anything, and shows what does not work.
    pub(super) async fn try_settling(&self, session: &RedisSession) {
        let conn = session.writer.get();
        let tried = try_settling(&conn, &self.keys, self.options.mode, &self.address);
        let finding = match timeout(WRITER_TIMEOUT, tried).await {
            Ok(Ok(())) => None,
            Ok(Err(finding)) => Some(finding.with_part(FindingPart::Settlements)),
            // The next check says what is the matter with the connection.
            Err(_) => return,
        };
        let mut unsettled = self.unsettled.lock();
        let code = |finding: &Option<Finding>| finding.as_ref().map(|finding| finding.code);
        if code(&unsettled) != code(&finding) && !session.is_over() {
            if let Some(finding) = &finding {
                tracing::warn!(reason = %finding, "redis takes no settlements");
            } else {
                tracing::info!("redis takes settlements again");
            }
        }
        *unsettled = finding;
    }
}

/// Tries every command of a settlement, in a script as there, without changing anything. (An id that no entry can have, a key that
/// no user has, and a type that is not right are refused after everything else was checked.)
pub(super) async fn try_settling(
    conn: &SharedConnection,
    keys: &Keys,
    mode: RedisMode,
    at: &str,
) -> Result<(), Finding> {
    let mut call = Call::new(&script::TRIAL).with_key(keys.feed_key());
    if mode != RedisMode::Cluster {
        call = call.with_key(keys.nobody_key());
    }
    let mut asked = conn.send_one::<Vec<String>>(call.by_digest()).await;
    let unknown = |error: &RedisError| {
        error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::NoScript)
    };
    if asked.as_ref().is_err_and(unknown) {
        asked = conn.send_one(call.by_code()).await;
    }
    let reply = asked.map_err(|error| faults::finding_of(&error, at))?;
    match reply.as_slice() {
        [command, error] => {
            let (code, words) = error.split_once(' ').unwrap_or((error.as_str(), ""));
            Err(faults::of_reply(code, words, command, at))
        }
        _ => Ok(()),
    }
}
