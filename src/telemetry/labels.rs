//! The values that labels have: enumerations, each with its word.

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The label's value.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

label! {
    /// What a tier was asked for.
    Op {
        /// To answer.
        Get = "get",
        /// To keep what was loaded.
        Fill = "fill",
        /// To take a notification.
        Apply = "apply",
        /// To load from the source.
        Load = "load",
    }
}

label! {
    /// How a tier failed.
    Fault {
        /// Silence.
        Timeout = "timeout",
        /// It said no, or the connection broke.
        Error = "error",
        /// It held something that cannot be ours.
        Corrupt = "corrupt",
        /// It was not asked: the breaker is open.
        Open = "open",
    }
}

label! {
    /// How a notification came.
    Via {
        /// `POST /api/v1/settlements`.
        Http = "http",
        /// The stream.
        Stream = "stream",
        /// Our own ledger entries.
        Ledger = "ledger",
    }
}

label! {
    /// What a notification did.
    Applied {
        /// It was news.
        News = "applied",
        /// It was known.
        Old = "old",
        /// It could not be read.
        Invalid = "invalid",
        /// It could not be given its promise.
        Failed = "failed",
    }
}

label! {
    /// What became of a transaction or trade.
    Settled {
        /// It stands since now.
        Written = "written",
        /// It stood already.
        Repeated = "repeated",
        /// A balance refused it.
        Refused = "refused",
        /// It contradicts what stands.
        Conflict = "conflict",
        /// The source or Redis failed: it may stand.
        Failed = "failed",
    }
}

label! {
    /// Why what was loaded was not kept.
    Refused {
        /// The right to fill was gone.
        Lease = "lease",
        /// Below a floor.
        Floor = "floor",
        /// Redis is not the one that it was.
        Epoch = "epoch",
        /// An asset with a floor is missing.
        Incomplete = "incomplete",
    }
}

label! {
    /// Why memory let go of something.
    Evicted {
        /// The bytes are limited.
        Size = "size",
        /// Its time was over.
        Expired = "expired",
    }
}

label! {
    /// What is wrong while answers go on.
    Degraded {
        /// Redis cannot be used.
        Redis = "redis",
        /// Redis drops keys when its memory is full.
        Evicting = "evicting",
        /// The source fails.
        Source = "source",
        /// Freshness is not proven.
        Feed = "feed",
        /// The settlement stream cannot be followed.
        Stream = "stream",
        /// Redis answers and takes no settlements.
        Settlements = "settlements",
    }
}

label! {
    /// How long after an answer it is compared with the ledger.
    Window {
        /// 0.1 s.
        Tenth = "0.1",
        /// 1 s.
        One = "1",
        /// 10 s.
        Ten = "10",
        /// 300 s.
        FiveMinutes = "300",
    }
}
