use super::*;

fn matches_pattern(pattern: &str, text: &str) -> bool {
    let schema = json!({"type": "string", "pattern": format!("^({pattern})$")});
    jsonschema::is_valid(&schema, &json!(text))
}

#[test]
fn a_pattern_takes_the_numbers_up_to_its_greatest_and_no_other() {
    for (max, good, bad) in [
        ("7", vec!["1", "7"], vec!["0", "8", "10", ""]),
        (
            "10",
            vec!["1", "9", "10"],
            vec!["0", "01", "11", "20", "100"],
        ),
        (
            "2147483647",
            vec!["1", "999999999", "1999999999", "2147483647", "2147483640"],
            vec!["2147483648", "2200000000", "3000000000"],
        ),
        (
            "9223372036854775807",
            vec![
                "8999999999999999999",
                "9223372036854775807",
                "999999999999999999",
            ],
            vec![
                "9223372036854775808",
                "9999999999999999999",
                "10000000000000000000",
            ],
        ),
    ] {
        let pattern = up_to(max);
        for text in good {
            assert!(matches_pattern(&pattern, text), "{max}: {text}");
        }
        for text in bad {
            assert!(!matches_pattern(&pattern, text), "{max}: {text}");
        }
    }
    let all = up_to("123");
    for number in 0..2_000 {
        let text = number.to_string();
        assert_eq!(
            matches_pattern(&all, &text),
            (1..=123).contains(&number),
            "{number}"
        );
    }
}
