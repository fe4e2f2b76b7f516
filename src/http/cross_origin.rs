//! Changes that a web page of another origin asks for.
//!
//! A page can send a POST to any address without a preflight (`no-cors`, `sendBeacon`). Browsers name the page's origin in
//! `Origin` and the relation in `Sec-Fetch-Site`, and no page can forge either; other clients send neither.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{HOST, ORIGIN},
};

use super::hosts::HostAndPort;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a request that may change something comes from a page of another origin. GET and its like change nothing.
pub fn is_refused(method: &Method, headers: &HeaderMap) -> bool {
    !method.is_safe() && is_cross_origin(headers)
}

/// Another port of the same host is another origin, and so is `null`.
fn is_cross_origin(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST);
    let mut origins = headers.get_all(ORIGIN).iter();
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
    sites.any(|site| site != "same-origin" && site != "none")
        || origins.any(|origin| !is_origin_of(origin, host).unwrap_or(false))
}

fn is_origin_of(origin: &HeaderValue, host: Option<&HeaderValue>) -> Option<bool> {
    let (scheme, origin) = origin.to_str().ok()?.split_once("://")?;
    let usual_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let origin = HostAndPort::parse_host(origin.as_bytes())?;
    let host = HostAndPort::parse_host(host?.as_bytes())?;
    Some(
        origin.name.eq_ignore_ascii_case(host.name)
            && origin.port.unwrap_or(usual_port) == host.port.unwrap_or(usual_port),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuses_request(method: &Method, fields: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        is_refused(method, &headers)
    }

    /// Fields of requests, each request in a line, that come from no page or from one of ours.
    const OWN: &str = "
host: 127.0.0.1:3001
host: 127.0.0.1:3001, origin: http://127.0.0.1:3001
host: 127.0.0.1:3001, sec-fetch-site: same-origin
host: 127.0.0.1:3001, sec-fetch-site: none
host: a.test, origin: https://A.test
host: a.test:443, origin: https://a.test
host: [::1]:1, origin: http://[::1]:1
";
    /// Fields of requests from pages of other origins.
    const FOREIGN: &str = "
host: a.test:80, origin: https://a.test
host: 127.0.0.1:3001, origin: http://127.0.0.1:3002
host: 127.0.0.1:3001, origin: http://localhost:3001
host: 127.0.0.1:3001, origin: null
host: 127.0.0.1:3001, origin:
host: 127.0.0.1:3001, origin: http://evil.test
host: 127.0.0.1:3001, origin: file://127.0.0.1:3001
host: 127.0.0.1:3001, origin: http://127.0.0.1:3001, origin: http://evil.test
origin: http://127.0.0.1:3001
host: 127.0.0.1:3001, sec-fetch-site: cross-site
host: 127.0.0.1:3001, sec-fetch-site: same-site
host: 127.0.0.1:3001, origin: http://127.0.0.1:3001, sec-fetch-site: cross-site
";

    #[test]
    fn only_the_own_origin_may_change_something() {
        for (all, foreign) in [(OWN, false), (FOREIGN, true)] {
            for line in all.trim().lines() {
                let fields: Vec<_> = line
                    .split(", ")
                    .map(|field| field.split_once(':').unwrap())
                    .map(|(name, value)| (name, value.trim()))
                    .collect();
                assert_eq!(refuses_request(&Method::POST, &fields), foreign, "{line}");
                assert!(!refuses_request(&Method::GET, &fields), "{line}");
            }
        }
    }
}
