//! Plans of PostgreSQL: the tables that a statement has to read whole, and the index that would serve it.

use serde_json::Value;
use tokio_postgres::SimpleQueryMessage;

use crate::ledger::{
    LedgerError,
    postgres::{faults, pool::PgPool},
};

/// A part of a statement that no index serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnservedPart {
    /// The table, with its schema.
    pub table: String,
    /// The statement that makes the index; none where the condition has no key that can be read.
    pub create_index: Option<String>,
}

/// The tables that a statement of one or two parameters reads whole.
pub(super) async fn explain_query(
    pool: &PgPool,
    text: &str,
) -> Result<Vec<UnservedPart>, LedgerError> {
    let mut connection = pool.take_connection().await?;
    let client = connection.cached_client()?;
    let values = if text.contains("$2") {
        "NULL, NULL"
    } else {
        "NULL"
    };
    let batch = format!(
        "SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan; PREPARE explained AS {text}; \
         EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE explained ({values})"
    );
    let told = client.simple_query(&batch).await;
    let told = told.map_err(|error| faults::map_error(&error))?;
    let plan = told.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    // The connection has settings of its own now: it is closed, and not given back.
    let plan: Value = plan
        .and_then(|text| serde_json::from_str(text).ok())
        .ok_or_else(|| LedgerError::unavailable("the database shows no plan"))?;
    Ok(find_unserved(&plan))
}

/// The tables that the plan reads whole. `plan` is of `EXPLAIN (VERBOSE, FORMAT JSON)`, made with `enable_seqscan = off`: then a
/// table is read whole only where no index serves.
fn find_unserved(plan: &Value) -> Vec<UnservedPart> {
    let mut found = Vec::new();
    let mut nodes: Vec<&Value> = plan
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| &one["Plan"])
        .collect();
    while let Some(node) = nodes.pop() {
        nodes.extend(node["Plans"].as_array().into_iter().flatten());
        let kind = node["Node Type"].as_str().unwrap_or_default();
        let whole = match kind {
            "Seq Scan" | "Parallel Seq Scan" => true,
            "Index Scan" | "Index Only Scan" | "Bitmap Index Scan" => node["Index Cond"].is_null(),
            _ => false,
        };
        if whole {
            found.push(read_node(node));
        }
    }
    found.sort_by(|one, other| one.table.cmp(&other.table));
    found
}

fn read_node(node: &Value) -> UnservedPart {
    let text = |key: &str| node[key].as_str().unwrap_or_default();
    let table = format!(
        "{}.{}",
        quoted(text("Schema")),
        quoted(text("Relation Name"))
    );
    let keys = equal_keys(text("Filter"), text("Alias"));
    let create_index = (!keys.is_empty())
        .then(|| format!("CREATE INDEX CONCURRENTLY ON {table} ({})", keys.join(", ")));
    UnservedPart {
        table,
        create_index,
    }
}

/// The left sides of `(a = x) AND (b = y)`, without the table's alias.
fn equal_keys(filter: &str, alias: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for part in filter.split(" AND ") {
        let Some((left, _)) = part.split_once(" = ") else {
            continue;
        };
        let left = left
            .trim_start_matches('(')
            .replace(&format!("{alias}."), "");
        // An expression lost its opening parenthesis, or more of them, with those of the condition.
        let missing = left
            .matches(')')
            .count()
            .saturating_sub(left.matches('(').count());
        let key = format!("{}{left}", "(".repeat(missing));
        let is_column = key
            .chars()
            .all(|letter| letter.is_alphanumeric() || letter == '_' || letter == '"');
        keys.push(if is_column { key } else { format!("({key})") });
    }
    keys
}

/// An identifier as SQL takes it.
fn quoted(name: &str) -> String {
    let plain = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if plain {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scan(kind: &str, filter: &str) -> Value {
        json!([{"Plan": {"Node Type": "Subquery Scan", "Plans": [{
            "Node Type": kind, "Schema": "public", "Relation Name": "Wallets", "Alias": "w", "Filter": filter
        }]}}])
    }

    #[test]
    fn a_table_that_is_read_whole_is_named_with_the_index_that_would_serve() {
        for (filter, keys) in [
            ("(w.customer = $1)", "customer"),
            (
                "((w.customer = $1) AND (w.currency = 'BTC'::text))",
                "customer, currency",
            ),
            ("((w.customer)::text = ($1)::text)", "((customer)::text)"),
        ] {
            let found = find_unserved(&scan("Seq Scan", filter));
            let create = format!("CREATE INDEX CONCURRENTLY ON public.\"Wallets\" ({keys})");
            assert_eq!(found[0].create_index.as_ref(), Some(&create), "{filter}");
        }
        let found = find_unserved(&scan("Index Scan", "(w.customer = $1)"));
        assert_eq!(
            found.len(),
            1,
            "an index read from end to end serves nothing"
        );
        let found = find_unserved(&scan("Seq Scan", ""));
        assert_eq!(found[0].create_index, None);
    }

    #[test]
    fn an_index_with_a_condition_serves() {
        let mut plan = scan("Index Scan", "");
        plan[0]["Plan"]["Plans"][0]["Index Cond"] = json!("(w.customer = $1)");
        assert_eq!(find_unserved(&plan), []);
    }
}
