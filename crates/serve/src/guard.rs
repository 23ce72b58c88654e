//! What a browser may ask, and what pages may do.
//!
//! Whoever may ask without a key is told apart by two doors that are shut: pages of other sites (their `Origin` isn't this server), and names
//! that another site points at this machine to pass as itself (DNS rebinding: on loopback only loopback's names count).

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::{Error, Result};

const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

/// Whether the server listens on this machine only.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub(crate) is_loopback: bool,
    /// Other sites whose pages may use the server.
    pub(crate) allowed_origins: Arc<[String]>,
}

pub(crate) async fn watch(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let allowed = guard.allowed(request.headers());
    let mut response = match guard.check(request.headers()) {
        Ok(()) if allowed.is_some() && request.method() == Method::OPTIONS => {
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    if let Some(origin) = allowed {
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_ORIGIN, origin),
            (ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST")),
            (
                ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static(
                    "authorization, content-type, x-api-key, x-hearth-app, x-request-id, anthropic-version",
                ),
            ),
            (ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("x-request-id, retry-after")),
            (VARY, HeaderValue::from_static("origin")),
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                HeaderValue::from_static("cross-origin"),
            ),
        ] {
            response.headers_mut().insert(name, value);
        }
    }
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
    /// The request's origin, if it is another site's that may use the server.
    fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        let is_allowed = self.allowed_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
        is_allowed.then(|| origin.clone())
    }

    fn check(&self, headers: &HeaderMap) -> Result<()> {
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
        if own || self.allowed(headers).is_some() {
            Ok(())
        } else {
            Err(Error::ForeignOrigin { origin: origin.into_owned() })
        }
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
            ("localhost:8686", Some("https://app.example"), true, true),
            ("localhost:8686", Some("https://app.example.evil"), true, false),
            ("assistant.lan:8686", Some("http://assistant.lan:8686"), false, true),
            ("assistant.lan:8686", Some("http://evil.example"), false, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            let guard = Guard { is_loopback, allowed_origins: vec!["https://app.example".into()].into() };
            assert_eq!(guard.check(&headers).is_ok(), passes, "{host} {origin:?}");
        }
    }
}
