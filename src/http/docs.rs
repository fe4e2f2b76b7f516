//! The page that shows `/openapi.json` and lets one try it.
//!
//! **Invariants.** All of it is in the binary and comes from this listener: no other host is asked, and the content policy
//! forbids it. A token that is typed in is kept by the page alone, until it is closed. Bodies are shown as they came:
//! a number above 2^53 is never read as a floating one.
//!
//! **Deliberately absent**: a third-party viewer. Those weigh from a quarter of a megabyte (packed), need a policy that allows
//! inline styles beside a typed token, and show 64-bit numbers rounded.

use axum::{
    body::Body,
    http::{
        HeaderName, HeaderValue, Response,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
};

/// Nothing but what comes from here, and no code in the page itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(Debug, Clone, Copy)]
pub struct File {
    pub path: &'static str,
    pub name: &'static str,
    /// A description in a few words.
    pub about: &'static str,
    /// Its content type.
    pub kind: &'static str,
    text: &'static str,
}

/// All files of the page.
pub const FILES: [File; 3] = [
    File {
        path: "/docs",
        name: "docs",
        about: "A page to read and try this",
        kind: "text/html; charset=utf-8",
        text: include_str!("docs/page.html"),
    },
    File {
        path: "/docs/page.css",
        name: "docs_style",
        about: "The page's style",
        kind: "text/css; charset=utf-8",
        text: include_str!("docs/page.css"),
    },
    File {
        path: "/docs/page.js",
        name: "docs_script",
        about: "The page's script",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("docs/page.js"),
    },
];

impl File {
    /// It, as it is sent.
    pub fn make_response(&self) -> Response<Body> {
        with_headers(self.kind, self.text)
    }
}

/// Something of ours that stays the same while the process lives, and may be another after the next deployment.
pub fn with_headers(kind: &'static str, body: impl Into<Body>) -> Response<Body> {
    let headers: [(HeaderName, HeaderValue); 5] = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    let mut response = Response::new(body.into());
    response.headers_mut().extend(headers);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_names_another_host() {
        for file in FILES {
            for foreign in ["http://", "https://", "src=\"//", "@import"] {
                let text = file.text.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(foreign), "{}: {foreign}", file.path);
            }
        }
    }

    #[test]
    fn the_page_keeps_to_its_own_policy() {
        let html = FILES[0].text;
        for inline in [" style=", "<style", " onclick=", "javascript:"] {
            assert!(!html.contains(inline), "{inline}");
        }
        assert_eq!(html.matches("<script").count(), 1);
        assert!(html.contains("<script defer src=\"docs/page.js\">"));
        assert!(!FILES[2].text.contains("innerHTML"));
    }
}
