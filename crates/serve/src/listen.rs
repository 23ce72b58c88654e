//! Connections: accepted, with TLS if asked for, and never waited for without end.
//!
//! A head must come within half a minute, and a client that takes nothing for a minute is let go. So idle, slow and
//! half-open connections cost a little memory for a while and nothing else.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{Error, Result};

/// For the head of a request, and for the handshake of TLS.
const MAX_HEAD: Duration = Duration::from_secs(30);
/// For a write to go on.
const MAX_WRITE: Duration = Duration::from_mins(1);
/// Of one request; more are answered by 431.
const MAX_HEADERS: usize = 100;
/// Of the head of a request.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// After a failed accept: most often there are too many open files, and time helps.
const PAUSE: Duration = Duration::from_millis(100);

/// Certificate and key as PEM files.
#[derive(Debug, Clone)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Tls {
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor> {
        fn wrong(path: &Path, reason: &dyn std::fmt::Display) -> Error {
            Error::Tls { path: path.display().to_string(), reason: reason.to_string() }
        }
        let certificates = CertificateDer::pem_file_iter(&self.certificate);
        let certificates = certificates.map_err(|error| wrong(&self.certificate, &error))?;
        let certificates: Vec<_> =
            certificates.collect::<Result<_, _>>().map_err(|error| wrong(&self.certificate, &error))?;
        if certificates.is_empty() {
            return Err(wrong(&self.certificate, &"it holds no certificate"));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| wrong(&self.key, &error))?;
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let config =
            config.with_safe_default_protocol_versions().map_err(|error| wrong(&self.key, &error))?;
        let config = config.with_no_client_auth().with_single_cert(certificates, key);
        Ok(TlsAcceptor::from(Arc::new(config.map_err(|error| wrong(&self.key, &error))?)))
    }
}

/// Serves connections until `shutdown` is over, then lets those with an answer under way go on for `grace`.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    shutdown: impl Future<Output = ()>,
    grace: Duration,
) {
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        let Ok((stream, _)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        // Tokens are small packets that shouldn't wait for each other; without this they are only later.
        let _ = stream.set_nodelay(true);
        let (router, watcher, tls) = (router.clone(), graceful.watcher(), tls.clone());
        tokio::spawn(async move {
            let stream = Patient::new(stream);
            let mut builder = Builder::new(TokioExecutor::new());
            let mut http = builder.http1();
            http.timer(TokioTimer::new()).header_read_timeout(MAX_HEAD);
            http.max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD_BYTES);
            let service = TowerToHyperService::new(router);
            // A connection that breaks is its client's affair.
            match tls {
                None => {
                    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
                    let _ = watcher.watch(connection).await;
                }
                Some(tls) => {
                    let Ok(Ok(stream)) = timeout(MAX_HEAD, tls.accept(stream)).await else { return };
                    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
                    let _ = watcher.watch(connection).await;
                }
            }
        });
    }
    drop(listener);
    let _ = timeout(grace, graceful.shutdown()).await;
}

/// A stream whose writes must go on.
#[derive(Debug)]
struct Patient {
    stream: TcpStream,
    /// Set while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream) -> Self {
        Self { stream, deadline: None }
    }

    /// Fails a write that has waited too long.
    fn watch<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(MAX_WRITE)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
