//! The pace of clients and faults. Nothing here is waited for: what is waited for has `eventually`.

use std::time::Duration;

/// Thinks, or lets a fault last.
pub async fn pace(time: Duration) {
    tokio::time::sleep(time).await;
}
