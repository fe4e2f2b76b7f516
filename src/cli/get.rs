//! `get`: what a running service shows of a user, as a table.

use std::process::ExitCode;

use anyhow::Result;
use balance_cache::{clock, config::Settings};
use serde::Serialize;

use super::{
    arguments::Get,
    client::Client,
    output::{BAD, Cell, FAINT, Table, complain, moment, painted, say, say_json, span},
    runtime,
    service_view::{self, Balance, Told},
};

/// For programs.
#[derive(Debug, Serialize)]
struct Page<'a> {
    user: i64,
    url: &'a str,
    cache_status: &'a str,
    age: Option<u64>,
    balances: &'a [Balance],
}

/// Shows the balances of a user.
pub(crate) fn run(what: &Get, settings: &Settings) -> Result<ExitCode> {
    let client = Client::new(
        what.reach.url.as_deref(),
        settings.http.listen,
        what.reach.token.as_deref(),
    )?;
    let asked = service_view::balances(&client, what.user, what.asset.as_deref());
    let told = runtime()?.block_on(asked)?;
    let balances = match &told.balances {
        Ok(balances) => balances,
        Err(reason) => {
            complain(&format!(
                "balance-cache: {} {}",
                client.base(),
                painted(BAD, reason)
            ));
            return Ok(ExitCode::FAILURE);
        }
    };
    if what.json {
        say_json(&Page {
            user: what.user.get(),
            url: client.base(),
            cache_status: &told.way,
            age: told.age,
            balances,
        })?;
    } else {
        say(&page(what, &client, &told, balances))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn page(what: &Get, client: &Client, told: &Told, balances: &[Balance]) -> String {
    let now = clock::wall().0;
    let mut table = Table::new(&["ASSET", ">AVAIL", ">FROZEN", ">SEQ", "UPDATED", ">AGE"]);
    for balance in balances {
        let asset = match &balance.unit {
            Some(unit) => format!("{} ({unit})", balance.asset),
            None => balance.asset.clone(),
        };
        let at = balance.updated_at;
        table.row(vec![
            Cell::new(asset),
            Cell::new(&balance.avail),
            Cell::new(&balance.frozen),
            Cell::new(balance.seq),
            Cell::new(at.map_or_else(|| "-".to_owned(), moment)),
            Cell::new(at.map_or_else(|| "-".to_owned(), |at| span(now.saturating_sub(at)))),
        ]);
    }
    let shown = if balances.is_empty() {
        "has nothing".to_owned()
    } else {
        table.to_string()
    };
    let age = told
        .age
        .map_or_else(String::new, |age| format!(", as of {age} s ago"));
    let way = painted(FAINT, &format!("({})", told.way));
    format!(
        "user {} at {}\n{shown}\n{}{age} {way}",
        what.user,
        client.base(),
        service_view::in_words(&told.way)
    )
}
