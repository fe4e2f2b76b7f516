//! The Lua scripts: each in a file of its own, called by digest, sent whole only where Redis does not know it. Those that write
//! to the feed stand behind `append.lua`.

use std::sync::LazyLock;

use redis::Cmd;

#[derive(Debug)]
pub struct Script {
    code: &'static str,
    digest: String,
}

macro_rules! scripts {
    ($($name:ident = $($file:literal),+;)*) => {
        $(
            #[doc = concat!("Made of ", $("`scripts/", $file, "` ",)+ "in this order; what it does, takes and gives stands at their tops.")]
            pub static $name: LazyLock<Script> = LazyLock::new(|| {
                Script::new(concat!($(include_str!(concat!("scripts/", $file)),)+))
            });
        )*
    };
}

scripts! {
    LEASE = "entry.lua", "lease.lua";
    FILL = "entry.lua", "fill.lua";
    APPLY = "entry.lua", "append.lua", "apply.lua";
    DROP = "entry.lua", "append.lua", "drop.lua";
    FORGET = "entry.lua", "append.lua", "forget.lua";
    RELEASE = "release.lua";
    ANNOUNCE = "append.lua", "announce.lua";
    ANNOUNCED = "entry.lua", "announced.lua";
    EPOCH = "epoch.lua";
    REMOVE_CONSUMER = "remove_consumer.lua";
    TRIAL = "trial.lua";
    TOTALS = "totals.lua";
    TOTAL = "total.lua";
    RATES = "rates.lua";
}

impl Script {
    fn new(code: &'static str) -> Self {
        Self {
            code,
            digest: redis::Script::new(code).get_hash().to_owned(),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Call {
    script: &'static Script,
    keys: Vec<String>,
    args: Vec<String>,
}

impl Call {
    /// A call without keys and arguments yet.
    pub const fn new(script: &'static Script) -> Self {
        Self {
            script,
            keys: Vec::new(),
            args: Vec::new(),
        }
    }

    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// One more argument.
    #[must_use]
    pub fn with_arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn by_digest(&self) -> Cmd {
        self.eval_command("EVALSHA", &self.script.digest)
    }

    pub fn by_code(&self) -> Cmd {
        self.eval_command("EVAL", self.script.code)
    }

    fn eval_command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command
            .arg(script)
            .arg(self.keys.len())
            .arg(&self.keys)
            .arg(&self.args);
        command
    }
}
