//! Whether an instance may follow the settlement stream: each of its commands is sent with an argument that is no id or number.
//!
//! **Invariants.** Nothing is changed: rights, keys and the server's state are checked before the arguments, and an argument is
//! refused.

use super::{RedisInspector, RedisTrouble};
use crate::diagnosis::{Finding, FindingPart};

/// No id of an entry, and no number.
const NO_ID: &str = "!";
/// A consumer that no instance has.
const NOBODY: &str = "doctor";

impl RedisInspector {
    /// The findings that keep an instance from following this stream and from putting entries aside.
    /// Errors: [`RedisTrouble`]: Redis does not answer.
    pub async fn try_following(&self, stream: &str) -> Result<Vec<Finding>, RedisTrouble> {
        let (group, dead) = (self.keys.group_name(), self.keys.dead_key(stream));
        let commands: [&[&str]; 7] = [
            &["XGROUP", "CREATE", stream, &group, NO_ID],
            &[
                "XREADGROUP",
                "GROUP",
                &group,
                NOBODY,
                "STREAMS",
                stream,
                NO_ID,
            ],
            &["XACK", stream, &group, NO_ID],
            &["XAUTOCLAIM", stream, &group, NOBODY, "1000", NO_ID],
            &["XADD", &dead, NO_ID, "reason", "none"],
            &["XTRIM", &self.keys.feed_key(), "MAXLEN", NO_ID],
            &["XREAD", "STREAMS", &self.keys.feed_key(), NO_ID],
        ];
        let mut found: Vec<Finding> = Vec::new();
        for words in commands {
            let Err(trouble) = self.send_one::<redis::Value>(words).await else {
                continue;
            };
            let finding = match trouble {
                RedisTrouble::Found(finding) if finding.code.is_forbidden() => {
                    finding.with_detail(words.first().copied().unwrap_or_default())
                }
                RedisTrouble::Found(finding) if finding.code.is_refusal() => continue,
                other => return Err(other),
            };
            found.push(finding.with_part(FindingPart::Stream));
        }
        Ok(found)
    }
}
