//! Listens, and can close connections without an answer, which an ordinary handler cannot.
//!
//! Each connection is a task of the emulator's own runtime. When that runtime ends, all connections
//! end with it, even in the middle of an answer: nothing outlives the emulator.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tower_service::Service;

/// Marks an answer in whose place the connection is closed.
#[derive(Clone, Copy)]
pub(crate) struct EndConnection;

impl EndConnection {
    pub(crate) fn response() -> Response {
        let mut response = ().into_response();
        response.extensions_mut().insert(Self);
        response
    }
}

/// The error that makes hyper close a connection.
#[derive(Debug, thiserror::Error)]
#[error("the connection is ended on purpose")]
struct Ended;

/// Serves `router` until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, router: Router) -> Infallible {
    let router = Arc::new(router);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                continue;
            }
        };
        // Answers are small and sent in one piece; waiting for more data would only delay them.
        let _ = stream.set_nodelay(true);
        let router = Arc::clone(&router);
        tokio::spawn(async move {
            let service = service_fn(|request: hyper::Request<Incoming>| {
                let mut router = Router::clone(&router);
                async move {
                    let Ok(response) = router.call(request.map(Body::new)).await;
                    if response.extensions().get::<EndConnection>().is_some() { Err(Ended) } else { Ok(response) }
                }
            });
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a connection ended early");
            }
        });
    }
}
