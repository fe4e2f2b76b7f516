//! The file beside a map that is written in the same way.

use super::*;

#[derive(Debug, Clone)]
enum TestStep {
    Write(Vec<(i64, i32, i64, i64)>),
    Read(i64),
    Reopen,
}

fn any_step() -> impl Strategy<Value = TestStep> {
    let row = (1..4_i64, 1..4_i32, 1..6_i64, 0..2_i64);
    prop_oneof![
        4 => vec(row, 0..6).prop_map(TestStep::Write),
        2 => (1..4_i64).prop_map(TestStep::Read),
        1 => Just(TestStep::Reopen),
    ]
}

/// (user, asset, seq) → avail.
type Model = BTreeMap<(i64, i32, i64), i64>;

fn model_write(model: &mut Model, rows: &[(i64, i32, i64, i64)]) -> Result<WrittenCounts, usize> {
    let (mut next, mut done) = (model.clone(), WrittenCounts::default());
    for (index, (user, asset, seq, avail)) in rows.iter().enumerate() {
        match next.insert((*user, *asset, *seq), *avail) {
            None => done.written += 1,
            Some(stands) if stands == *avail => done.repeated += 1,
            Some(_) => return Err(index),
        }
    }
    *model = next;
    Ok(done)
}

fn model_newest(model: &Model, user: i64) -> Vec<(i32, i64, i64, i64, Option<i64>)> {
    let rows = model.iter().filter(|((of, ..), _)| *of == user);
    let newest: BTreeMap<_, _> = rows
        .map(|((_, asset, seq), avail)| (*asset, (*asset, *seq, *avail, -avail, Some(*seq))))
        .collect();
    newest.into_values().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn it_does_what_a_map_would_do(steps in vec(any_step(), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (mut ledger, mut model) = (open_ledger(&folder), Model::new());
        for step in steps {
            match step {
                TestStep::Write(rows) => {
                    let entries: Vec<_> = rows
                        .iter()
                        .map(|(user, asset, seq, avail)| test_entry(*user, *asset, *seq, *avail))
                        .collect();
                    let done = match runtime.block_on(ledger.write_entries(&entries)) {
                        Ok(done) => Ok(done),
                        Err(WriteError::Conflict { index }) => Err(index),
                        Err(WriteError::Source(error)) => panic!("{error}"),
                    };
                    prop_assert_eq!(done, model_write(&mut model, &rows));
                }
                TestStep::Read(id) => {
                    let all = test_assets(&[1, 2, 3, 4]);
                    let loaded = runtime.block_on(ledger.load_snapshot(test_user(id))).unwrap();
                    let latest = runtime.block_on(ledger.load_latest(test_user(id), &all)).unwrap();
                    prop_assert_eq!(plain_balances(&loaded), model_newest(&model, id));
                    prop_assert_eq!(plain_balances(&latest), model_newest(&model, id));
                }
                TestStep::Reopen => {
                    drop(ledger);
                    ledger = open_ledger(&folder);
                }
            }
        }
    }
}
