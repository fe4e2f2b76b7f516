//! Runs scripts: by digest, by code where Redis does not know them, and once more where a connection was replaced.

use std::{pin::pin, sync::Arc};

use redis::{RedisResult, Value};

use super::{RedisLink, WRITER_TIMEOUT};
use crate::{
    cache::redis::{script::Call, server::Server, session::RedisSession},
    config::RedisMode,
    diagnosis::Code,
    telemetry::{Fault, Op},
};

impl RedisLink {
    /// Scripts in one round trip; those that Redis does not know are sent once more, whole.
    ///
    /// An application counts only if the server was still a master afterwards: a replica that takes writes loses them.
    pub(in crate::cache::redis) async fn run_scripts(
        &self,
        session: &Arc<RedisSession>,
        op: Op,
        calls: &[Call],
    ) -> Result<Vec<RedisResult<Value>>, Fault> {
        let mut replies = self.run_once(session, op, calls).await?;
        let unknown = |reply: &RedisResult<Value>| matches!(reply, Err(error) if error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::NoScript));
        if replies.iter().any(unknown) {
            let again: Vec<_> = calls
                .iter()
                .zip(&replies)
                .filter(|(_, reply)| unknown(reply))
                .map(|(call, _)| call.by_code())
                .collect();
            let mut answers = self.send_commands(session, op, again).await?.into_iter();
            for reply in replies.iter_mut().filter(|reply| unknown(reply)) {
                if let Some(answer) = answers.next() {
                    *reply = answer;
                }
            }
        }
        Ok(replies)
    }

    /// Scripts by digest; what is applied is tried once more if its connection ended and was replaced.
    async fn run_once(
        &self,
        session: &Arc<RedisSession>,
        op: Op,
        calls: &[Call],
    ) -> Result<Vec<RedisResult<Value>>, Fault> {
        let vouched = op == Op::Apply && self.options.mode != RedisMode::Cluster;
        let commands = || {
            let mut commands: Vec<_> = calls.iter().map(Call::by_digest).collect();
            if vouched {
                let mut role = redis::cmd("INFO");
                role.arg("replication");
                commands.push(role);
            }
            commands
        };
        let slot = session.slot_for(op);
        let mut mended = pin!(self.mended.notified());
        mended.as_mut().enable();
        let mut asked = self.ask_on(session, slot, op, commands()).await;
        if op == Op::Apply && asked.as_ref().is_err_and(|failure| failure.gone) {
            let _ = tokio::time::timeout(WRITER_TIMEOUT, mended).await;
            if !session.is_over() && !slot.health().is_broken() {
                asked = self.ask_on(session, slot, op, commands()).await;
            }
        }
        let mut replies = asked.map_err(|failure| failure.fault)?;
        if vouched && let Some(role) = replies.pop() {
            let text = role.and_then(|text| Ok(redis::from_redis_value::<String>(text)?));
            if let Ok(server) = text.map(|text| Server::parse_info(&text))
                && !server.master
            {
                self.end_session(
                    session,
                    self.finding_here(Code::RedisReplica)
                        .with_detail(server.link),
                );
                return Err(Fault::Error);
            }
        }
        Ok(replies)
    }
}
