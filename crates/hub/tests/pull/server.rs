//! A hub and a package index on this machine: files by path, ranges, and connections that break off.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

#[derive(Debug, Clone, Default)]
pub(crate) struct Site {
    /// Content type and bytes by path.
    pub(crate) files: BTreeMap<String, (String, Vec<u8>)>,
    /// Send no more than this of a body, then close.
    pub(crate) cut_after: Option<usize>,
    /// Answer as servers do that know nothing of ranges.
    pub(crate) ignores_ranges: bool,
    /// Path and range of each request, in order.
    pub(crate) hits: Vec<(String, String)>,
    is_closed: bool,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) site: Arc<Mutex<Site>>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let site = Arc::new(Mutex::new(Site::default()));
        let shared = site.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.lock().unwrap().is_closed {
                    return;
                }
                // A client that hangs up is the client's business.
                let _ = answer(stream.unwrap(), &shared);
            }
        });
        Self { site, address, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        self.put_as(path, "application/octet-stream", bytes);
    }

    pub(crate) fn put_as(&self, path: &str, content_type: &str, bytes: &[u8]) {
        let file = (content_type.into(), bytes.into());
        self.site.lock().unwrap().files.insert(path.into(), file);
    }

    /// Publishes a wheel of one member, as a registry does.
    pub(crate) fn publish(&self, package: &str, wheel: &str, bytes: &[u8], sha256: &str) {
        let page = serde_json::json!({"files": [
            {"filename": wheel, "url": format!("../../files/{wheel}#egg"), "size": bytes.len(),
             "hashes": {"sha256": sha256}, "yanked": false}]});
        let json = "application/vnd.pypi.simple.v1+json";
        self.put_as(&format!("/simple/{package}/"), json, page.to_string().as_bytes());
        self.put(&format!("/files/{wheel}"), bytes);
    }

    pub(crate) fn cut_after(&self, bytes: Option<usize>) {
        self.site.lock().unwrap().cut_after = bytes;
    }

    /// The ranges asked for of `path`, in order; empty for a request without one.
    pub(crate) fn ranges(&self, path: &str) -> Vec<String> {
        let site = self.site.lock().unwrap();
        let of_path = site.hits.iter().filter(|(hit, _)| hit == path);
        of_path.map(|(_, range)| range.clone()).collect()
    }

    /// Closes the port: from now on connections are refused.
    pub(crate) fn close(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.site.lock().unwrap().is_closed = true;
            drop(TcpStream::connect(self.address));
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

fn answer(mut stream: TcpStream, site: &Mutex<Site>) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let range = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("range: ").map(str::to_owned))
        .unwrap_or_default();
    let site = {
        let mut site = site.lock().unwrap();
        site.hits.push((path.clone(), range.clone()));
        site.clone()
    };
    let Some((content_type, bytes)) = site.files.get(&path) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let start = range.strip_prefix("bytes=").and_then(|range| range.trim_end_matches('-').parse().ok());
    let (status, body, extra) = match start.filter(|_| !site.ignores_ranges) {
        Some(start) if start >= bytes.len() => ("416 Range Not Satisfiable", &[][..], String::new()),
        Some(start) => {
            let extra = format!("Content-Range: bytes {start}-{}/{}\r\n", bytes.len() - 1, bytes.len());
            ("206 Partial Content", &bytes[start..], extra)
        }
        None => ("200 OK", &bytes[..], String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{extra}Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    let is_page = content_type.contains("json") || content_type.contains("html");
    let end = site.cut_after.filter(|_| !is_page).unwrap_or(usize::MAX).min(body.len());
    stream.write_all(&body[..end])
}
