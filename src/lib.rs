//! balance-cache: a read-through caching proxy for user balances. The modules in reading order.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::float_arithmetic
    )
)]

pub mod domain;

pub mod cache_status;
pub mod clock;
pub mod config;
pub mod diagnosis;
pub mod fail_points;
pub mod telemetry;

pub mod cache;
pub mod protocol;
pub mod render;

pub mod ledger;

pub mod audit;
pub mod rates;
pub mod totals;

pub mod admission;
pub mod read;

pub mod apply;
pub mod settle;

pub mod feed;

pub mod http;
pub mod ops;

pub mod service;
