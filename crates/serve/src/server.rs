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
use axum::serve::ListenerExt;
use tokio::sync::{oneshot, watch};
use tower_http::catch_panic::CatchPanicLayer;

use crate::error::{Error, Result};
use crate::fields::MAX_BODY_BYTES;
use crate::guard::{self, Guard};
use crate::state::State;
use crate::{chat, completions, embeddings, models, page, status};

/// How long answers that are under way may go on after the server was asked to stop.
const GRACE: Duration = Duration::from_secs(3);

/// A port that is taken, and nothing answered yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// A server on a thread of its own. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Server {
    /// Takes the port; a port in use is an error that says what to do. Port 0 takes any free one.
    pub fn bind(address: SocketAddr) -> Result<Self> {
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
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
        url(self.address)
    }

    /// Answers until `shutdown` is over, then lets answers under way finish for a few seconds.
    pub async fn serve(
        self,
        state: Arc<State>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        let is_loopback = self.address.ip().is_loopback();
        let listener = tokio::net::TcpListener::from_std(self.listener)?.tap_io(|stream| {
            // Tokens are small packets that shouldn't wait for each other; without this they are only later.
            let _ = stream.set_nodelay(true);
        });
        let (tell, mut told) = watch::channel(false);
        let serving = axum::serve(listener, router(state, Guard { is_loopback }));
        let serving = serving.with_graceful_shutdown(async move {
            shutdown.await;
            // Nobody listens once serving has failed.
            let _ = tell.send(true);
        });
        tokio::select! {
            result = serving.into_future() => Ok(result?),
            () = async {
                if told.wait_for(|stopping| *stopping).await.is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(GRACE).await;
            } => Ok(()),
        }
    }

    /// Serves on a thread of its own and returns at once.
    pub fn start(self, state: Arc<State>) -> Result<Running> {
        let address = self.address;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
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
        Ok(Running { address, stop: Some(stop), thread: Some(thread) })
    }
}

impl Running {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        url(self.address)
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
    Router::new()
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/embeddings", post(embeddings::embed))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*name}", get(models::one))
        .route("/healthz", get(status::health))
        .route("/api/status", get(status::status))
        .route("/api/passages/{*id}", get(status::passage))
        .route("/report", get(status::report))
        .merge(page::routes())
        .fallback(|request: Request| async move { Error::UnknownPath { path: request.uri().path().into() } })
        .method_not_allowed_fallback(|request: Request| async move {
            Error::Method { method: request.method().to_string(), path: request.uri().path().into() }
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(CatchPanicLayer::custom(|panic: Box<dyn Any + Send>| -> Response {
            bug(panic.as_ref()).into_response()
        }))
        .layer(middleware::from_fn_with_state(guard, guard::watch))
        .with_state(state)
}

fn bug(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let what = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic");
    Error::Bug { what: what.into() }
}
