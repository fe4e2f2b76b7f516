//! Numbers of a simulation that look random and follow from its seed.

/// Numbers that look random (`SplitMix64`, Steele et al. 2014).
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below `end`.
    pub(super) fn next_below(&mut self, end: u32) -> u32 {
        let wide = (self.next_u64() >> 32).saturating_mul(u64::from(end)) >> 32;
        u32::try_from(wide).unwrap_or_default()
    }

    /// From `first` to `last`.
    pub(super) fn next_between(&mut self, first: u32, last: u32) -> i64 {
        let width = last.saturating_sub(first).saturating_add(1);
        i64::from(self.next_below(width).saturating_add(first))
    }
}

/// Seats by Zipf's law: the first is taken most.
#[derive(Debug)]
pub(super) struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    #[expect(
        clippy::float_arithmetic,
        reason = "shares of users; no amount is a float"
    )]
    pub(super) fn new(seats: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let cumulative = (1..=seats).map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        });
        Self {
            cumulative: cumulative.collect(),
        }
    }

    #[expect(
        clippy::float_arithmetic,
        reason = "a draw of users; no amount is a float"
    )]
    pub(super) fn draw_seat(&self, random: &mut Random) -> u32 {
        let all = self.cumulative.last().copied().unwrap_or_default();
        let share = f64::from(random.next_below(u32::MAX)) / f64::from(u32::MAX);
        let seat = self.cumulative.partition_point(|sum| *sum <= share * all);
        u32::try_from(seat).unwrap_or_default()
    }
}
