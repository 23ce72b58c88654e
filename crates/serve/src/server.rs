//! Bind, serve, stop.

use std::any::Any;
use std::future::Future;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;

use crate::access::{self, Access};
use crate::error::{Error, Result};
use crate::fields::MAX_BODY_BYTES;
use crate::guard::{self, Guard};
use crate::listen::{self, Tls};
use crate::state::State;
use crate::{
    anthropic, chat, completions, embeddings, knowledge, models, openapi, page, rerank, responses, status,
    tokens,
};

/// How long answers that are under way may go on after the server was asked to stop.
const GRACE: Duration = Duration::from_secs(3);

/// Between two parts of a request's body.
const MAX_BODY_PAUSE: Duration = Duration::from_secs(30);

/// Answers that are read from the engine at once, a thread each; more wait.
const MAX_ANSWERS: usize = 4096;

/// A port that is taken, and nothing answered yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    options: Options,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

/// How the server is reached.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Origins besides the server's own whose pages may use it, as browsers spell them: `https://app.example`.
    pub allowed_origins: Vec<String>,
    pub tls: Option<Tls>,
}

/// A server on a thread of its own. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Server {
    /// Takes the port; a port in use is an error that says what to do. Port 0 takes any free one.
    pub fn bind(address: SocketAddr) -> Result<Self> {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address, tls: None, options: Options::default() })
        });
        bound.map_err(|source| match source.kind() {
            ErrorKind::AddrInUse => Error::PortInUse { address },
            _ => Error::Bind { address, source },
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        let url = url(self.address);
        if self.tls.is_some() { url.replacen("http:", "https:", 1) } else { url }
    }

    /// TLS, and the pages of other sites that may use the server.
    pub fn with(mut self, options: Options) -> Result<Self> {
        self.tls = options.tls.as_ref().map(Tls::acceptor).transpose()?;
        self.options = options;
        Ok(self)
    }

    /// Answers until `shutdown` is over, then lets answers under way finish for a few seconds.
    pub async fn serve(
        self,
        state: Arc<State>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        let is_loopback = self.address.ip().is_loopback();
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let guard = Guard { is_loopback, allowed_origins: self.options.allowed_origins.into() };
        let router = router(Arc::clone(&state), guard);
        let shutdown = async move {
            shutdown.await;
            state.set_stopping();
        };
        listen::serve(listener, self.tls, router, shutdown, GRACE).await;
        Ok(())
    }

    /// Serves on a thread of its own and returns at once.
    pub fn start(self, state: Arc<State>) -> Result<Running> {
        let (address, url) = (self.address, self.url());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(MAX_ANSWERS)
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let result = runtime.block_on(self.serve(state, async {
                // A dropped sender stops the server as well.
                let _ = stopped.await;
            }));
            // Threads that wait for the engine end with their generation; nobody waits for them here.
            runtime.shutdown_background();
            result
        });
        Ok(Running { address, url, stop: Some(stop), thread: Some(thread) })
    }
}

impl Running {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Stops and waits for the end; what had gone wrong while serving comes out here.
    pub fn stop(mut self) -> Result<()> {
        drop(self.stop.take());
        self.join()
    }

    /// Waits until the server ends by itself, which it only does when it fails.
    pub fn wait(mut self) -> Result<()> {
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        thread.join().unwrap_or_else(|panic| Err(bug(panic.as_ref())))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Errors are for those who call `stop`.
        let _ = self.join();
    }
}

/// An address to click on: a server on all interfaces is reached on this machine by loopback.
fn url(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        return format!("http://localhost:{}", address.port());
    }
    format!("http://{address}")
}

fn router(state: Arc<State>, guard: Guard) -> Router {
    let access = Access { state: Arc::clone(&state), is_loopback: guard.is_loopback };
    Router::new()
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/embeddings", post(embeddings::embed))
        .route("/v1/rerank", post(rerank::rerank))
        .route("/v1/knowledge", get(knowledge::list).post(knowledge::create))
        .route("/v1/knowledge/{name}", axum::routing::delete(knowledge::delete))
        .route("/v1/knowledge/{name}/documents", get(knowledge::documents).post(knowledge::add))
        .route("/v1/knowledge/{name}/documents/{*document}", axum::routing::delete(knowledge::remove))
        .route("/v1/knowledge/{name}/search", post(knowledge::search))
        .route("/v1/responses", post(responses::respond))
        .route("/v1/messages", post(anthropic::message))
        .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/tokenizer_info", get(tokens::info))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*name}", get(models::one))
        .route("/healthz", get(status::health))
        .route("/readyz", get(status::ready))
        .route("/metrics", get(status::metrics))
        .route("/openapi.json", get(openapi::document))
        .route("/api/status", get(status::status))
        .route("/api/passages/{*id}", get(status::passage))
        .route("/report", get(status::report))
        .merge(page::routes())
        .fallback(|request: Request| async move { Error::UnknownPath { path: request.uri().path().into() } })
        .method_not_allowed_fallback(|request: Request| async move {
            Error::Method { method: request.method().to_string(), path: request.uri().path().into() }
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(RequestBodyTimeoutLayer::new(MAX_BODY_PAUSE))
        .layer(CatchPanicLayer::custom(|panic: Box<dyn Any + Send>| -> Response {
            bug(panic.as_ref()).into_response()
        }))
        .layer(middleware::from_fn_with_state(access, access::admit))
        .layer(middleware::from_fn_with_state(guard, guard::watch))
        .with_state(state)
}

fn bug(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let what = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic");
    Error::Bug { what: what.into() }
}
