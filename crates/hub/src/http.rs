//! Blocking downloads that go on where they broke off.
//!
//! Certificates come from the operating system, proxies from the environment; a proxy is never asked for this
//! machine itself. Addresses in messages lose their user names and passwords.

use std::io::Read;
use std::time::Duration;

use ureq::config::Config;
use ureq::http::{HeaderMap, Response, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::fetch::Watch;
use crate::partial::Partial;
use crate::{Error, Result};

/// Long enough for a slow line, short enough that the next source is tried while the user watches.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the first byte of an answer; a server that takes the connection and says nothing is as good as down.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
/// A server that stops sending for so long is taken for gone.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often in a row a download may break off without a byte of progress.
const MAX_STALLS: u32 = 3;
/// Bytes between two looks at the cancel flag.
const CHUNK_BYTES: usize = 1 << 18;

#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    /// For this machine: without a proxy.
    loopback: Agent,
}

impl Client {
    pub(crate) fn new() -> Self {
        let config = |direct: bool| {
            let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
            let config = Config::builder()
                .tls_config(tls)
                .user_agent(concat!("hearth/", env!("CARGO_PKG_VERSION")))
                .http_status_as_error(false)
                .timeout_resolve(Some(CONNECT_TIMEOUT))
                .timeout_connect(Some(CONNECT_TIMEOUT))
                .timeout_recv_response(Some(RESPONSE_TIMEOUT))
                .timeout_per_read(Some(SILENCE_TIMEOUT));
            let config = if direct { config.proxy(None) } else { config };
            Agent::new_with_config(config.build())
        };
        Self { agent: config(false), loopback: config(true) }
    }

    /// A body of at most a few megabytes and its content type.
    pub(crate) fn text(&self, url: &str, accept: &str) -> Result<(String, String)> {
        let mut response = self.get(url, &[(header::ACCEPT.as_str(), accept)])?;
        check_status(url, &response)?;
        let content_type = header_text(response.headers(), "content-type").to_owned();
        let body = response.body_mut().read_to_string();
        let body = body.map_err(|error| unreachable(url, &error))?;
        Ok((body, content_type))
    }

    /// Appends to `partial` what it doesn't hold of `url` yet. The bytes stay there on an error.
    pub(crate) fn download(&self, url: &str, partial: &mut Partial, watch: &mut Watch<'_>) -> Result<()> {
        let mut stalls = 0;
        loop {
            let before = partial.bytes();
            let error = match self.download_rest(url, partial, watch) {
                Err(error @ Error::BrokeOff { .. }) => error,
                done => return done,
            };
            stalls = if partial.bytes() > before { 0 } else { stalls + 1 };
            if stalls == MAX_STALLS {
                return Err(error);
            }
        }
    }

    fn download_rest(&self, url: &str, partial: &mut Partial, watch: &mut Watch<'_>) -> Result<()> {
        let range = format!("bytes={}-", partial.bytes());
        let headers: &[_] = match partial.bytes() {
            0 => &[],
            _ => &[(header::RANGE.as_str(), range.as_str())],
        };
        let mut response = self.get(url, headers)?;
        if response.status() == 416 {
            // There is nothing after what we have, or what we have is of another file: begin anew.
            partial.restart()?;
            response = self.get(url, &[])?;
        }
        check_status(url, &response)?;
        let goes_on = response.status() == 206
            && header_text(response.headers(), "content-range")
                .starts_with(&format!("bytes {}-", partial.bytes()));
        if !goes_on {
            partial.restart()?;
        }
        let total = response.body().content_length().map(|rest| partial.bytes() + rest);
        watch.check()?;
        let mut reader = response.into_body().into_reader();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) if total.is_none_or(|total| total == partial.bytes()) => return Ok(()),
                Ok(0) | Err(_) => {
                    return Err(Error::BrokeOff {
                        url: redact(url),
                        received: partial.bytes(),
                        expected: total.unwrap_or(partial.bytes()),
                    });
                }
                Ok(n) => partial.write(&chunk[..n])?,
            }
            watch.advance(partial.bytes())?;
        }
    }

    /// The status of an answer whose body isn't read.
    pub(crate) fn answer(&self, url: &str) -> Result<u16> {
        Ok(self.get(url, &[])?.status().as_u16())
    }

    fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Response<Body>> {
        let agent = if is_loopback(url) { &self.loopback } else { &self.agent };
        let request =
            headers.iter().fold(agent.get(url), |request, (name, value)| request.header(*name, *value));
        request.call().map_err(|error| unreachable(url, &error))
    }
}

fn check_status(url: &str, response: &Response<Body>) -> Result<()> {
    match response.status().as_u16() {
        200 | 206 => Ok(()),
        status => Err(Error::Status { url: redact(url), status }),
    }
}

fn unreachable(url: &str, error: &ureq::Error) -> Error {
    Error::Unreachable {
        url: redact(url),
        reason: match error {
            ureq::Error::HostNotFound => "the host name isn't known".into(),
            ureq::Error::Timeout(_) => "no answer in time".into(),
            ureq::Error::Io(error) => error.to_string(),
            other => other.to_string(),
        },
    }
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The part between `://` and the next `/`.
fn authority(url: &str) -> &str {
    let after = url.split_once("://").map_or("", |(_, after)| after);
    after.split(['/', '?', '#']).next().unwrap_or_default()
}

fn is_loopback(url: &str) -> bool {
    let host = authority(url);
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    host.starts_with("127.") || host.starts_with("localhost") || host.starts_with("[::1]")
}

/// `url` without user name and password.
pub(crate) fn redact(url: &str) -> String {
    match authority(url).rsplit_once('@') {
        Some((user, _)) => url.replacen(&format!("{user}@"), "", 1),
        None => url.into(),
    }
}

/// `link` as it stands on the page `base`: absolute, from the root, or relative. Fragments are dropped.
pub(crate) fn join(base: &str, link: &str) -> String {
    let link = link.split('#').next().unwrap_or_default();
    if link.contains("://") {
        return link.into();
    }
    let (scheme, _) = base.split_once("://").unwrap_or(("https", ""));
    if link.starts_with("//") {
        return format!("{scheme}:{link}");
    }
    let root = format!("{scheme}://{}", authority(base));
    if link.starts_with('/') {
        return root + link;
    }
    let path = base.strip_prefix(&root).unwrap_or_default();
    let mut pieces: Vec<_> = path.split('/').skip(1).collect();
    // What follows the last slash is the page itself.
    pieces.pop();
    for piece in link.split('/') {
        match piece {
            "." => {}
            ".." => drop(pieces.pop()),
            piece => pieces.push(piece),
        }
    }
    format!("{root}/{}", pieces.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_an_index_page() {
        let base = "https://u:p@mirror:8443/root/simple/pkg/";
        for (link, expected) in [
            ("https://files/a.whl#sha256=0", "https://files/a.whl"),
            ("//files/a.whl", "https://files/a.whl"),
            ("/files/a.whl", "https://u:p@mirror:8443/files/a.whl"),
            ("a.whl", "https://u:p@mirror:8443/root/simple/pkg/a.whl"),
            ("../../packages/./a.whl", "https://u:p@mirror:8443/root/packages/a.whl"),
            ("../../../../../a.whl", "https://u:p@mirror:8443/a.whl"),
        ] {
            assert_eq!(join(base, link), expected);
        }
    }

    #[test]
    fn passwords_stay_out_of_messages() {
        assert_eq!(redact("https://user:p@ss@host/a@b"), "https://host/a@b");
        assert_eq!(redact("https://host/a@b"), "https://host/a@b");
    }

    #[test]
    fn this_machine_is_known() {
        assert!(is_loopback("http://127.0.0.1:80/x") && is_loopback("http://localhost"));
        assert!(!is_loopback("https://example.org/127.0.0.1"));
    }
}
