//! TLS with a client that checks certificates. Each test makes a key and a certificate of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use hearth_serve::{Options, Running, Server, Tls};
use hearth_testkit::Scratch;
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::serving::{Serving, chat_body};

/// A key and a certificate for `localhost` in a folder of their own.
struct Identity {
    folder: Scratch,
    certificate: CertificateDer<'static>,
}

impl Identity {
    fn new() -> Self {
        let folder = Scratch::new("tls").unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs_err::write(folder.join("certificate.pem"), made.cert.pem()).unwrap();
        fs_err::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Self { folder, certificate: made.cert.der().clone() }
    }

    fn start(&self, serving: &Serving) -> Running {
        let certificate = self.folder.join("certificate.pem");
        let tls = Some(Tls { certificate, key: self.folder.join("key.pem") });
        let server = Server::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let server = server.with(Options { tls, ..Options::default() }).unwrap();
        server.start(Arc::clone(&serving.state)).unwrap()
    }

    /// A client that trusts this certificate, or nothing.
    fn client(&self, trusts: bool) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        if trusts {
            roots.add(self.certificate.clone()).unwrap();
        }
        let provider = tokio_rustls::rustls::crypto::ring::default_provider();
        let config = ClientConfig::builder_with_provider(Arc::new(provider));
        let config = config.with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    stream
}

fn post(config: Arc<ClientConfig>, address: SocketAddr, body: &Value) -> std::io::Result<String> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(config, name).unwrap(), connect(address));
    let body = body.to_string();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}

#[test]
fn a_client_that_checks_the_certificate_gets_its_answer_and_its_stream() {
    let serving = Serving::start();
    let identity = Identity::new();
    let running = identity.start(&serving);
    assert!(running.url().starts_with("https://"), "{}", running.url());
    // Half a handshake, none, and words without TLS: none of them holds the others up.
    let mut half = connect(running.address());
    half.write_all(b"\x16\x03\x01\x02\x00").unwrap();
    let _silent = connect(running.address());
    let mut plain = connect(running.address());
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));

    let expected = serving.chat(&json!({})).json()["choices"].clone();
    let response = post(identity.client(true), running.address(), &chat_body(&json!({}))).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{response}");
    assert_eq!(serde_json::from_str::<Value>(body).unwrap()["choices"], expected);
    let streamed =
        post(identity.client(true), running.address(), &chat_body(&json!({ "stream": true }))).unwrap();
    assert!(streamed.contains("data: [DONE]"), "{streamed}");
    let error =
        post(identity.client(false), running.address(), &chat_body(&json!({}))).unwrap_err().to_string();
    assert!(error.to_lowercase().contains("certificate"), "{error}");
}
