//! Parses a record: its value is a notification or an array of them. Without a value, its key is the user.

use crate::domain::{FieldMap, Notification, NotifiedChange, UserId};

/// Parses the notifications of a record. The error says why it cannot be read and goes to the dead topic.
pub(super) fn read_record(
    fields: &FieldMap,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<Vec<Notification>, String> {
    let Some(value) = value else {
        return Ok(vec![of_user(key)?]);
    };
    let text = std::str::from_utf8(value).map_err(|_| "the value is not UTF-8".to_owned())?;
    fields.parse_all(text)
}

/// A record without a value, as compaction leaves it: all of the user's assets are read again.
fn of_user(key: Option<&[u8]>) -> Result<Notification, String> {
    let key = key.and_then(|key| std::str::from_utf8(key).ok());
    let user = key.and_then(|key| key.parse::<UserId>().ok());
    let user =
        user.ok_or("a record without a value needs a user id in decimal digits as its key")?;
    Ok(Notification {
        user,
        said: NotifiedChange::User,
        created_at: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record_users(key: Option<&str>, value: Option<&str>) -> Result<Vec<u64>, String> {
        let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
        let read = read_record(&FieldMap::default(), key, value)?;
        Ok(read
            .iter()
            .map(|one| one.user.get().unsigned_abs())
            .collect())
    }

    #[test]
    fn a_value_is_one_notification_or_an_array() {
        assert_eq!(record_users(None, Some(r#"{"user_id":7}"#)), Ok(vec![7]));
        let both = r#"[{"user_id":7},{"user_id":8}]"#;
        assert_eq!(record_users(Some("x"), Some(both)), Ok(vec![7, 8]));
        assert_eq!(record_users(Some("9"), Some("[]")), Ok(vec![]));
    }

    #[test]
    fn no_value_is_the_user_of_the_key_and_an_empty_one_is_malformed() {
        assert_eq!(record_users(Some("1001"), None), Ok(vec![1001]));
        for key in [
            None,
            Some(""),
            Some("0"),
            Some("01"),
            Some("+1"),
            Some("1001 "),
            Some("BTC"),
        ] {
            assert!(
                record_users(key, None).unwrap_err().contains("key"),
                "{key:?}"
            );
        }
        assert!(record_users(Some("1001"), Some("")).is_err());
        assert!(read_record(&FieldMap::default(), None, Some(&[0xff])).is_err());
    }
}
