//! The short way: a balance that memory holds, from the bytes of its request to the bytes of its answer.
//!
//! **Invariants.** What is answered here is, byte for byte but for date and request id, what the router would have
//! answered. Anything unusual is not answered here: a parameter that is wrong, a token that is not good, a field that
//! comes twice, anything that memory may not show. The router finds out what it is, and says it.

use std::{
    cell::RefCell,
    time::{Duration, SystemTime},
};

use httparse::Header;

use super::{
    Api, Backend,
    answer::{self, Shown},
    head::Head,
    query::Question,
    request_id, routes,
};
use crate::{config::Scope, domain::UnixMillis, read::Ask};

/// The fields that say something about a balance read.
#[derive(Debug, Default)]
struct Fields<'b> {
    request_id: Option<&'b [u8]>,
    authorization: Option<&'b [u8]>,
    if_none_match: Option<&'b [u8]>,
    cache_control: Option<&'b [u8]>,
}

impl<'b> Fields<'b> {
    /// None if one of them comes twice.
    fn of(all: &[Header<'b>]) -> Option<Self> {
        let mut fields = Self::default();
        for field in all {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            let place = match field.name.len() {
                12 if is("x-request-id") => &mut fields.request_id,
                13 if is("if-none-match") => &mut fields.if_none_match,
                13 if is("authorization") => &mut fields.authorization,
                13 if is("cache-control") => &mut fields.cache_control,
                _ => continue,
            };
            if place.replace(field.value).is_some() {
                return None;
            }
        }
        Some(fields)
    }
}

/// Characters that mean in a query what they look like. Others are the router's business, or hyper's.
fn is_plain(query: &str) -> bool {
    query.bytes().all(|byte| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'=' | b'&' | b'_' | b':' | b',' | b'.' | b'-' | b'%' | b'+'
            )
    })
}

impl<B: Backend> Api<B> {
    /// Appends the whole answer to `out`, if this request has one that needs no waiting. With `last` it tells the client
    /// that the connection is closed behind it.
    pub fn at_once(&self, head: &Head<'_, '_>, last: bool, out: &mut Vec<u8>) -> Option<()> {
        let (path, query) = head.target.split_once('?')?;
        if head.method != "GET" || !routes::BALANCE.contains(&path) || !is_plain(query) {
            return None;
        }
        let fields = Fields::of(head.fields)?;
        self.auth
            .check(fields.authorization.into_iter(), Scope::Read)
            .ok()?;
        if answer::wants_ledger(fields.cache_control.into_iter()) {
            return None;
        }
        let mut question = Question::parse(Some(query), &self.catalogue).ok()?;
        let ask = Ask {
            min_seq: std::mem::take(&mut question.min_seq),
            no_cache: false,
        };
        let answer = self.backend.held(question.user, &ask)?;
        let now = (self.wall)();
        let known = fields.if_none_match.into_iter();
        let shown = Shown::new(&question, known, &answer, &self.catalogue, now);
        shown.write_fields(out);
        out.extend_from_slice(b"\r\nx-request-id: ");
        match fields.request_id.filter(|id| request_id::is_fit(id)) {
            Some(id) => out.extend_from_slice(id),
            None => out.extend_from_slice(&self.ids.next()),
        }
        if last {
            out.extend_from_slice(b"\r\nconnection: close");
        }
        write_date(now, out);
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(shown.body());
        Some(())
    }
}

/// The second that was spelled last on this thread.
struct Spelled {
    second: i64,
    text: String,
}

thread_local! {
    static DATE: RefCell<Spelled> = const { RefCell::new(Spelled { second: i64::MIN, text: String::new() }) };
}

fn write_date(now: UnixMillis, out: &mut Vec<u8>) {
    let second = now.0.div_euclid(1000);
    DATE.with_borrow_mut(|date| {
        if date.second != second {
            date.second = second;
            date.text = http_date(second);
        }
        out.extend_from_slice(b"\r\ndate: ");
        out.extend_from_slice(date.text.as_bytes());
    });
}

/// As RFC 9110 spells it; 1970 for what is before.
fn http_date(second: i64) -> String {
    let since = Duration::from_secs(u64::try_from(second).unwrap_or(0));
    let at = SystemTime::UNIX_EPOCH.checked_add(since);
    httpdate::fmt_http_date(at.unwrap_or(SystemTime::UNIX_EPOCH))
}
