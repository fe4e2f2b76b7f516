//! The reader's use of permits and loads, for gauges and for those that give way to it.

use super::Reader;

impl Reader {
    /// More than half of the source's permits are free.
    pub fn has_spare_permits(&self) -> bool {
        self.admission.source.has_spare_half()
    }

    /// Sets the gauges of the limit and of the waiting callers.
    pub fn update_gauges(&self) {
        let (loads, waiting) = self.admission.source.current_usage();
        let (_, waiting_for_redis) = self.admission.redis.current_usage();
        let waiting = waiting.saturating_add(waiting_for_redis);
        self.recorder.meters.set_load_limits(loads, waiting);
    }
}
