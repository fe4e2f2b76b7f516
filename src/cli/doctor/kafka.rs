//! Kafka: the topic's partitions, how far the group is behind in each, and what could not be read.

use balance_cache::{
    config::KafkaSettings,
    feed::kafka::{TopicPartition, TopicState, look_at_topic},
};

use super::DoctorReport;

/// Partitions that are shown one by one.
const SHOWN_MAX: usize = 12;

pub(super) async fn check_kafka(report: &mut DoctorReport, settings: &KafkaSettings) {
    if !settings.is_on() {
        return;
    }
    let asked = settings.clone();
    let looked = tokio::task::spawn_blocking(move || look_at_topic(&asked)).await;
    match looked {
        Ok(Ok(Ok(look))) => report_lag(report, settings, &look),
        Ok(Ok(Err(finding))) => {
            report.report_failure("kafka", finding.cause_text(), finding.remedy_text());
        }
        Ok(Err(error)) => report.report_failure("kafka", error.to_string(), "correct the setting"),
        Err(error) => report.report_failure("kafka", error.to_string(), "this is a bug: report it"),
    }
}

fn report_lag(report: &mut DoctorReport, settings: &KafkaSettings, look: &TopicState) {
    let KafkaSettings { topic, group, .. } = settings;
    let lags = look.partitions.iter().map(TopicPartition::lag);
    let lag = lags.fold(0, u64::saturating_add);
    let shown = look.partitions.iter().take(SHOWN_MAX);
    let each: Vec<_> = shown.map(|it| format!("{}: {}", it.id, it.lag())).collect();
    let more = if look.partitions.len() > SHOWN_MAX {
        ", …"
    } else {
        ""
    };
    let count = look.partitions.len();
    report.report_ok(
        "kafka.topic",
        format!(
            "{topic}: {count} partitions at {}",
            settings.brokers.join(",")
        ),
    );
    let followed = look.partitions.iter().any(|it| it.committed.is_some());
    let none = if followed {
        ""
    } else {
        "; no instance has committed an offset yet"
    };
    report.report_ok(
        "kafka.lag",
        format!(
            "group {group} is {lag} records behind ({}{more}){none}",
            each.join(", ")
        ),
    );
    match look.dead {
        Some(count) if count > 0 => report.report_warning(
            "kafka.dead",
            format!("{} holds {count} records that could not be read", settings.dead_topic()),
            "read them with the reason in their headers (kafka-console-consumer --property print.headers=true), and mend what sends them",
        ),
        Some(_) | None => {}
    }
}
