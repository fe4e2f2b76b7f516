//! Every rule of the protocol that can be taken out, one at a time.

/// A rule. The numbers are those of the protocol; the functions are those of the code that hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// 3: a fill needs the lease of its miss, an application revokes it (`fill.lua`, `apply.lua`).
    Lease,
    /// 2, 3: floors stand in Redis.
    RedisFloors,
    /// 15: `floor_ttl` is longer than everything held or under way (`config::check::times`).
    FloorsOutlive,
    /// 5, 8: what this instance was told (`ChangeLog`).
    LocalMarks,
    /// 4: what Redis refused is not kept (`Reader::load_from_source`).
    RefusedIsNotKept,
    /// 4: what was shown raises the floors of the change log (`ChangeLog::note_shown`).
    ShownRaises,
    /// 5: a follower compares what landed with what it was told (`Reader::fly`).
    FollowersCompare,
    /// 5: a load from before a notification without a seq is not followed (`Start::may_be_followed`), accepted or kept.
    RereadCompared,
    /// 6: loads in flight count for nothing after a gap (`ChangeLog::generation` in `Reader::keep`).
    Generation,
    /// 6: a break in the chain of the feed is noticed (`Follower::take_page`).
    Chain,
    /// 7: memory serves only with a proof (`Reader::ask_memory`).
    ProofForMemory,
    /// 7: a proof is dated when it was asked for (`Page::sent`).
    ProofDatedWhenSent,
    /// 12: the view is asked only with a proof (`Start::proven`).
    ProofForView,
    /// 12: nor while changes may have been missed (`ChangeLog::distrusts_view`).
    NotBlind,
    /// 13: nor for a user that changed lately (`UserMark::changed`).
    NotChangedLately,
    /// 13: an absent key in a Redis that evicts is no word (`Redis::ask_lease`).
    AbsentIsUnknown,
    /// Values make no snapshot where nothing is held (`apply.lua`, `Memory::forward`).
    ValuesAreNoSnapshot,
    /// An entry is served only if it is whole.
    Whole,
    /// An entry of another life of Redis is a miss, and its feed another feed.
    EpochCompared,
    /// Announced by the last seq that was announced, not by whether the entry changed.
    AnnouncedBySeq,
    /// The mark is made before memory is told (`Applier::take_news`).
    MarkBeforeMemory,
    /// Memory asks for the mark under its own lock (`Memory::keep_merged`).
    GuardedKeep,
    /// Redis first, then this instance (`Applier::apply_notifications`).
    RedisFirst,
    /// What Redis holds is compared with what this instance was told (`Reader::accept`).
    AcceptCompares,

    /// P10: one script takes all changes of a user that one request carries (`apply.lua`).
    OneScript,
    /// P10: the change log, then memory, take them in one step each (`Applier::take_changes`).
    OneStep,

    /// What was shown and not kept moves what memory holds.
    ShownMovesMemory,
    /// The connection that the feed is read on leads to the server that the session was opened to.
    TapIsTheSessions,
    /// A feed that is gone, or went back, is a gap.
    FeedGoneIsAGap,
    /// A gap is acted upon before anything else can fail.
    GapFirst,
    /// What a new instance held before its first session counts for nothing.
    FirstSessionTurns,
    /// A load in a young epoch reads the ledger, whatever the follower has done yet.
    YoungSession,
    /// Redis' hits are for those who can prove freshness.
    ProofForRedis,
    /// Nor for those who missed changes (`ChangeLog::doubts_redis`).
    SightForRedis,
    /// Freshness is proven only by a server that is a master after the feed was read (`BlockingConnection::vouches_for`).
    MasterVouches,
    /// A step of Redis' clock ends the epoch (`RedisLink::look_at_server`, `epoch.lua`).
    ClockStepEndsEpoch,
    /// Redis' hits are not for those who were told of a change without its seq and did not read the ledger since (`UserMark::ledger_required`).
    RereadForRedis,
    /// A stale answer consults what is to be read again (`Reader::stale_or`).
    RereadForStale,

    /// A read that began before the user's floors were forgotten raises none (`ChangeLog::may_raise`).
    ForgottenRaisesNothing,
    /// Redis is filled with nothing that this instance alone knows (`ReachedSnapshot::fills_redis`).
    FillKnownElsewhere,
}

/// The rules that hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules(u64);

impl Rules {
    /// Those of the code.
    pub const CODE: Self = Self(u64::MAX);

    #[must_use]
    pub const fn without(self, rule: Rule) -> Self {
        Self(self.0 & !(1 << rule as u32))
    }

    /// That rule too.
    #[must_use]
    pub const fn with(self, rule: Rule) -> Self {
        Self(self.0 | (1 << rule as u32))
    }

    pub const fn holds(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u32) != 0
    }
}
