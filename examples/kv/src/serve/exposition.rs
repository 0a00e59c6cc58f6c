//! The port on which Prometheus finds out what a node does.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use openconsensus::export::MetricsExporter;
use openconsensus::{MetricsWatch, Raft};
use openconsensus_memstore::kv::Kv;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::outcome::{Failure, Result};

/// How long one question may take, from the first byte to the last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How many may be asked at the same time. Further ones wait until they are accepted.
const CONNECTIONS_MAX: usize = 16;

/// A port that is taken, on which nobody is answered yet.
pub(super) struct Exposition {
    listener: TcpListener,
}

/// A port on which everybody is answered until this is dropped.
pub(super) struct Exposing {
    address: SocketAddr,
    task: AbortHandle,
}

impl Exposition {
    /// Takes the port.
    pub(super) async fn bind(address: &str) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| Failure::refused(format!("cannot listen on {address} for metrics: {error}")))?;
        Ok(Self { listener })
    }

    /// Tells everybody who asks what `raft` does.
    pub(super) fn serve(self, raft: &Raft<Kv>) -> Result<Exposing> {
        let address = self.listener.local_addr()?;
        let page = Page::new(raft)?;
        let task = tokio::spawn(accept(self.listener, Arc::new(page)));
        Ok(Exposing { address, task: task.abort_handle() })
    }
}

impl Exposing {
    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Exposing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, page: Arc<Page>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let page = page.clone();
                tokio::spawn(async move {
                    let serving = tokio::time::timeout(CONNECTION_TIMEOUT, serve_connection(stream, page));
                    if let Ok(Err(error)) = serving.await {
                        tracing::debug!(%error, "a connection that asked for metrics broke off");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: asking again at once would not help.
                tracing::warn!(%error, "a connection that asks for metrics was not accepted");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, page: Arc<Page>) -> hyper::Result<()> {
    let answer = service_fn(move |request| {
        let response = page.answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

/// What is answered.
struct Page {
    watch: MetricsWatch<Kv>,
    exporter: Mutex<MetricsExporter>,
    recorder: PrometheusHandle,
}

impl Page {
    fn new(raft: &Raft<Kv>) -> Result<Self> {
        let recorder = PrometheusBuilder::new()
            .install_recorder()
            .map_err(|error| Failure::negative(format!("metrics cannot be recorded: {error}")))?;
        Ok(Self { watch: raft.metrics(), exporter: Mutex::new(MetricsExporter::new()), recorder })
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
            response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/metrics" => text(StatusCode::OK, self.render()),
            "/" => text(StatusCode::OK, "the metrics are at /metrics\n".into()),
            _ => text(StatusCode::NOT_FOUND, "the metrics are at /metrics\n".into()),
        }
    }

    /// Records when somebody asks, and not before: what is told is never older than the last publication.
    fn render(&self) -> String {
        let mut exporter = self.exporter.lock().unwrap_or_else(PoisonError::into_inner);
        exporter.record(&self.watch.latest());
        self.recorder.render()
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
