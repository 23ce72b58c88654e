//! What a browser may ask, and what pages may do.
//!
//! There are no accounts, so two doors are shut: pages of other sites (their `Origin` isn't this server), and names
//! that another site points at this machine to pass as itself (DNS rebinding: on loopback only loopback's names count).

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{
    CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::{Error, Result};

const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

/// Whether the server listens on this machine only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard {
    pub(crate) is_loopback: bool,
}

pub(crate) async fn watch(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut response = match guard.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

impl Guard {
    fn check(self, headers: &HeaderMap) -> Result<()> {
        let text =
            |name: HeaderName| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let host = text(HOST).unwrap_or_default();
        if self.is_loopback && !host.is_empty() && !is_loopback_name(&host) {
            return Err(Error::ForeignHost { host: host.into_owned() });
        }
        let Some(origin) = text(ORIGIN) else {
            return Ok(());
        };
        let own =
            origin.split_once("://").is_some_and(|(_, origin_host)| origin_host.eq_ignore_ascii_case(&host));
        if own { Ok(()) } else { Err(Error::ForeignOrigin { origin: origin.into_owned() }) }
    }
}

/// A `Host` header with or without a port.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_servers_own_pages_pass() {
        for (host, origin, is_loopback, passes) in [
            ("127.0.0.1:8686", None, true, true),
            ("localhost:8686", Some("http://localhost:8686"), true, true),
            ("[::1]:8686", Some("http://[::1]:8686"), true, true),
            ("", None, true, true),
            ("evil.example:8686", Some("http://evil.example:8686"), true, false),
            ("evil.example:8686", None, true, false),
            ("127.0.0.1.evil.example", None, true, false),
            ("localhost:8686", Some("http://evil.example"), true, false),
            ("localhost:8686", Some("http://localhost:3000"), true, false),
            ("localhost:8686", Some("null"), true, false),
            ("assistant.lan:8686", Some("http://assistant.lan:8686"), false, true),
            ("assistant.lan:8686", Some("http://evil.example"), false, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(Guard { is_loopback }.check(&headers).is_ok(), passes, "{host} {origin:?}");
        }
    }
}
