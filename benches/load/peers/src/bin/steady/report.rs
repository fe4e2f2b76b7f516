//! What came back, in numbers.

use serde_json::{Value, json};

use crate::Class;

/// An answer: when it came, in seconds since the start, how long after its request was due, and its status.
#[derive(Clone, Copy)]
pub struct Record {
    pub done: f64,
    pub took: f64,
    pub status: u16,
}

/// Milliseconds.
fn percentile(sorted: &[f64], part: f64) -> f64 {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted
        .get(rank.max(1) - 1)
        .map_or(0.0, |seconds| seconds * 1e3)
}

fn summary(records: &[Record]) -> Value {
    let mut good: Vec<f64> = records
        .iter()
        .filter(|one| one.status == 200)
        .map(|one| one.took)
        .collect();
    good.sort_by(f64::total_cmp);
    let count = |status: u16| records.iter().filter(|one| one.status == status).count();
    json!({
        "ok": good.len(), "shed": count(429), "other": records.len() - good.len() - count(429),
        "p50": percentile(&good, 0.5), "p99": percentile(&good, 0.99),
        "p999": percentile(&good, 0.999), "max": percentile(&good, 1.0),
    })
}

/// A class, as a whole and in windows of so many seconds.
pub fn report(class: &Class, window: f64) -> Value {
    let mut whole = summary(&class.records);
    let last = class.records.iter().map(|one| one.done).fold(0.0, f64::max);
    whole["name"] = json!(class.name);
    whole["sent"] = json!(class.sent);
    whole["broken"] = json!(class.broken);
    whole["unsent"] = json!(class.waiting.len());
    whole["unanswered"] = json!(class.sent - class.records.len() - class.broken);
    whole["seconds"] = json!(last.min(class.until) - class.from);
    if window > 0.0 {
        let mut windows = vec![Vec::new(); (last / window) as usize + 1];
        for one in &class.records {
            windows[(one.done / window) as usize].push(*one);
        }
        whole["windows"] = windows.iter().map(|records| summary(records)).collect();
    }
    whole
}
