//! Turns errors of Redis, or of the connection to it, into findings.

use std::{error::Error as _, io};

use redis::{ErrorKind, RedisError};

use crate::diagnosis::{Code, Finding, FindingPart};

/// The finding of a failed command or connection to the Redis at this address.
pub(super) fn finding_of(error: &RedisError, at: &str) -> Finding {
    let of = |code| Finding::new(FindingPart::Redis, code, at);
    if let Some(code) = error.code() {
        return of_reply(code, error.detail().unwrap_or_default(), "", at);
    }
    if error.is_timeout() {
        return of(Code::RedisSilent).with_detail("time");
    }
    if error.is_connection_refusal() {
        return of(Code::RedisRefused);
    }
    if error.kind() == ErrorKind::MasterNameNotFoundBySentinel {
        return of(Code::RedisNoMaster).with_detail(error.detail().unwrap_or_default());
    }
    if error.kind() == ErrorKind::AuthenticationFailed {
        return match error.detail() {
            Some(detail) if detail.contains("NOAUTH") => of(Code::RedisAuthMissing),
            Some(_) | None => of(Code::RedisAuthWrong),
        };
    }
    if error.kind() == ErrorKind::InvalidClientConfig {
        return of(Code::RedisUnexpected).with_detail(error.to_string());
    }
    let kind = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    match kind {
        Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => of(Code::RedisTls),
        Some(
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown,
        ) => of(Code::RedisUnreachable).with_detail("no route leads there"),
        _ if error.is_connection_dropped() || error.is_unrecoverable_error() => {
            of(Code::RedisClosed)
        }
        _ if error.is_io_error() => {
            of(Code::RedisUnreachable).with_detail("its name is not known, the network fails, or TLS asks for a client's certificate (redis.cert_file)")
        }
        _ => of(Code::RedisUnexpected).with_detail("not a reply of the Redis protocol"),
    }
}

/// The finding of an error reply: its code, the words behind it, and the command, where it is known.
pub(super) fn of_reply(code: &str, words: &str, command: &str, at: &str) -> Finding {
    let of = |code| Finding::new(FindingPart::Redis, code, at);
    let command = match (command, quoted_command(words)) {
        ("", Some(named)) => named,
        ("", None) => "that it got".to_owned(),
        (command, _) => command.to_owned(),
    };
    let in_script = |part: &str| words.contains("executing the script") && words.contains(part);
    match code {
        "NOAUTH" => of(Code::RedisAuthMissing),
        "WRONGPASS" => of(Code::RedisAuthWrong),
        "NOPERM" if words.contains(" key") || words.contains(" channel") => {
            of(Code::RedisKeyForbidden).with_detail(command)
        }
        "NOPERM" => of(Code::RedisForbidden).with_detail(command),
        "ERR" if in_script("run this command") => of(Code::RedisForbidden).with_detail(command),
        "ERR" if in_script("keys") => of(Code::RedisKeyForbidden).with_detail(command),
        // Valkey's words for both.
        "ERR" if words.starts_with("ACL failure in script") && words.contains(" key") => {
            of(Code::RedisKeyForbidden).with_detail(command)
        }
        "ERR" if words.starts_with("ACL failure in script") => {
            of(Code::RedisForbidden).with_detail(command)
        }
        "ERR"
            if words.starts_with("unknown command") || words.contains("Unknown Redis command") =>
        {
            of(Code::RedisUnknownCommand).with_detail(command)
        }
        "ERR" if words.contains("unknown subcommand") || words.contains("Unknown subcommand") => {
            of(Code::RedisUnknownCommand).with_detail(command)
        }
        // A command that waited for a stream: its data or its role changed meanwhile, and the keeper finds out how.
        "UNBLOCKED" => of(Code::RedisChanged),
        "WRONGTYPE" => of(Code::RedisWrongType).with_detail("that was asked for"),
        "READONLY" => of(Code::RedisReadOnly),
        "MASTERDOWN" => of(Code::RedisMasterDown),
        "NOREPLICAS" => of(Code::RedisNoReplicas),
        "MISCONF" => of(Code::RedisDisk),
        "OOM" => of(Code::RedisFull),
        "LOADING" => of(Code::RedisLoading),
        "BUSY" => of(Code::RedisBusy),
        "CROSSSLOT" => of(Code::RedisIsCluster),
        "MOVED" => of(Code::RedisMoved),
        "ASK" | "TRYAGAIN" => of(Code::RedisMigrating).with_detail(code),
        "CLUSTERDOWN" => of(Code::RedisClusterDown),
        other => of(Code::RedisUnexpected).with_detail(other),
    }
}

/// The command that an error names between quotes, in capitals.
fn quoted_command(words: &str) -> Option<String> {
    let mut parts = words.split(['\'', '`']);
    let named = parts.nth(1)?;
    let short = !named.is_empty() && named.len() <= 64;
    short.then(|| named.to_ascii_uppercase())
}

/// Whether a connection on which this was answered leads to a server that must not be used any more.
pub(super) fn ends_session(code: Code) -> bool {
    matches!(code, Code::RedisReadOnly | Code::RedisMasterDown)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code and words of a reply, the command that is known (-: none), what is found, and a part of its sentence.
    const REPLIES: &str = "\
NOAUTH | Authentication required. | - | redis_auth_missing | NOAUTH
WRONGPASS | invalid username-password pair | - | redis_auth_wrong | WRONGPASS
NOPERM | this user has no permissions to run the 'xautoclaim' command | - | redis_forbidden | +XAUTOCLAIM
NOPERM | User x has no permissions to run the 'config|get' command | - | redis_forbidden | CONFIG|GET
NOPERM | this user has no permissions to access one of the keys used as arguments | HSET | redis_key_forbidden | HSET
ERR | The user executing the script can't run this command or subcommand | XADD | redis_forbidden | XADD
ERR | ACL failure in script: User u has no permissions to run the 'xadd' command | - | redis_forbidden | +XADD
ERR | unknown command 'XINFO', with args beginning with: 'STREAM' | - | redis_unknown_command | XINFO
ERR | unknown command `EVALSHA`, with args beginning with:  | - | redis_unknown_command | EVALSHA
UNBLOCKED | the stream key no longer exists | - | redis_changed | another Redis than before
OOM | command not allowed | - | redis_full | OOM
NOREPLICAS | Not enough good replicas | - | redis_no_replicas | NOREPLICAS
READONLY | You can't write | - | redis_read_only | READONLY
MISCONF | Redis is configured to save | - | redis_disk | MISCONF
LOADING | Redis is loading | - | redis_loading | LOADING
CROSSSLOT | Keys in request | - | redis_is_cluster | redis.mode
ASK | 5 127.0.0.1:7000 | - | redis_migrating | ASK
CLUSTERDOWN | Hash slot not served | - | redis_cluster_down | CLUSTERDOWN
SOMETHING | new | - | redis_unexpected | SOMETHING
";

    #[test]
    fn each_error_reply_has_its_finding_with_the_command_where_it_is_said() {
        for reply in REPLIES.lines() {
            let mut columns = reply.split(" | ");
            let [code, words, command, expected, part] =
                std::array::from_fn(|_| columns.next().unwrap());
            let found = of_reply(code, words, command.trim_matches('-'), "h:1");
            assert_eq!(found.code.label_value(), expected, "{reply}");
            let sentence = found.to_string();
            assert!(
                sentence.contains(part) && sentence.contains("h:1"),
                "{sentence}"
            );
        }
    }

    #[test]
    fn what_the_connection_says_has_a_finding_too() {
        let of =
            |kind: io::ErrorKind| finding_of(&RedisError::from(io::Error::from(kind)), "h:1").code;
        assert_eq!(of(io::ErrorKind::ConnectionRefused), Code::RedisRefused);
        assert_eq!(of(io::ErrorKind::TimedOut), Code::RedisSilent);
        assert_eq!(of(io::ErrorKind::BrokenPipe), Code::RedisClosed);
        assert_eq!(of(io::ErrorKind::HostUnreachable), Code::RedisUnreachable);
        let refused = RedisError::from((ErrorKind::AuthenticationFailed, "no"));
        assert_eq!(finding_of(&refused, "h:1").code, Code::RedisAuthWrong);
        let misled = RedisError::from((ErrorKind::InvalidClientConfig, "two passwords"));
        let said = finding_of(&misled, "h:1").to_string();
        assert!(said.contains("two passwords"), "{said}");
    }
}
