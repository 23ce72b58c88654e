//! An HTTP client of a few lines: one request a connection, bodies whole or as they come.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// No request of these tests takes long; a server that hangs fails the test.
const TIMEOUT: Duration = Duration::from_mins(1);

pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A response whose body is still coming.
pub(crate) struct Streaming {
    reader: BufReader<TcpStream>,
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

impl Streaming {
    /// The next chunk of a chunked body; `None` at its end.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut size = String::new();
        self.reader.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        self.reader.read_exact(&mut chunk).unwrap();
        chunk.truncate(size);
        (size > 0).then_some(chunk)
    }

    fn finish(mut self) -> Response {
        let is_chunked = self.headers.iter().any(|(key, _)| key == "transfer-encoding");
        let mut body = Vec::new();
        if is_chunked {
            while let Some(chunk) = self.chunk() {
                body.extend(chunk);
            }
        } else {
            self.reader.read_to_end(&mut body).unwrap();
        }
        Response { status: self.status, headers: self.headers, body }
    }
}

/// Sends a request and reads the response's head.
pub(crate) fn open(address: SocketAddr, head: &str, body: &[u8]) -> Streaming {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let host =
        if head.to_lowercase().contains("\nhost:") { String::new() } else { format!("Host: {address}\r\n") };
    let length = body.len();
    write!(stream, "{head}\r\n{host}Connection: close\r\nContent-Length: {length}\r\n\r\n").unwrap();
    // A server that refuses a large body may close before it has read all of it.
    let _ = stream.write_all(body);
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status in {line:?}"));
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((key, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.push((key.to_lowercase(), value.to_owned()));
    }
    Streaming { reader, status, headers }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Response {
    open(address, &format!("GET {path} HTTP/1.1"), b"").finish()
}

/// A request with more in its head.
pub(crate) fn send(address: SocketAddr, head: &str, body: &[u8]) -> Response {
    open(address, head, body).finish()
}

pub(crate) fn post(address: SocketAddr, path: &str, body: &Value) -> Response {
    post_bytes(address, path, body.to_string().as_bytes())
}

/// With further lines in the head.
pub(crate) fn post_with(address: SocketAddr, path: &str, more: &str, body: &Value) -> Response {
    open(address, &format!("{}\r\n{more}", post_head(path)), body.to_string().as_bytes()).finish()
}

pub(crate) fn post_bytes(address: SocketAddr, path: &str, body: &[u8]) -> Response {
    open(address, &post_head(path), body).finish()
}

pub(crate) fn post_head(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nContent-Type: application/json")
}

/// The `data` of each event; the last one may be `[DONE]`.
pub(crate) fn events(response: &Response) -> Vec<String> {
    assert_eq!(response.header("content-type"), "text/event-stream");
    let text = response.text();
    let data = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    data.map(str::to_owned).collect()
}

/// Events with names: each name must be the `type` of its data.
pub(crate) fn named_events(response: &Response) -> Vec<Value> {
    assert_eq!(response.header("content-type"), "text/event-stream", "{}", response.text());
    let text = response.text();
    let mut values = Vec::new();
    for event in text.split("\n\n").filter(|event| event.starts_with("event: ")) {
        let (name, data) = event.split_once("\ndata: ").unwrap();
        let value: Value = serde_json::from_str(data).unwrap();
        assert_eq!(value["type"], name.strip_prefix("event: ").unwrap());
        values.push(value);
    }
    values
}
