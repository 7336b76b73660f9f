//! HTTP with hyper's pooled client, as in the sandboxed host, callable from any thread.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use keyway_sdk::{
    Error,
    http::{Headers, HttpError, MAX_RESPONSE_BYTES, Request, Response, Transport},
    url::Position,
    zeroize::Zeroizing,
};
use tokio::runtime::Runtime;

/// Sends requests for some names to given addresses, in plain HTTP, and refuses all other names.
pub struct HttpTransport {
    runtime: Runtime,
    client: Client<HttpConnector, Full<Bytes>>,
    routes: HashMap<String, SocketAddr>,
}

impl HttpTransport {
    pub(crate) fn new(routes: HashMap<String, SocketAddr>) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|_| Error::other("no-threads", "The system gives no threads for the HTTP client."))?;
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Ok(Self { runtime, client, routes })
    }

    async fn exchange(&self, request: Request) -> Result<Response, HttpError> {
        let timeouts = request.timeouts;
        let request = self.to_hyper(&request)?;
        let first_byte = timeouts.connect + timeouts.first_byte;
        let answer = within(first_byte, self.client.request(request)).await?.map_err(|_| HttpError::Connection)?;
        let (parts, body) = answer.into_parts();
        let mut headers = Headers::new();
        for (name, value) in &parts.headers {
            headers.append(name.as_str(), value.as_bytes());
        }
        let body = within(first_byte, Limited::new(body, MAX_RESPONSE_BYTES).collect()).await?;
        let body = body.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() { HttpError::TooLarge } else { HttpError::Incomplete }
        })?;
        Ok(Response { status: parts.status.as_u16(), headers, body: Zeroizing::new(body.to_bytes().to_vec()) })
    }

    fn to_hyper(&self, request: &Request) -> Result<http::Request<Full<Bytes>>, HttpError> {
        let invalid = || HttpError::InvalidRequest("a header or the address is not valid".to_owned());
        let name = request.url.host_str().unwrap_or_default();
        let address = self.routes.get(name).ok_or(HttpError::Denied)?;
        let path = &request.url[Position::BeforePath..Position::AfterQuery];
        let uri: Uri = format!("http://{address}{path}").parse().map_err(|_| invalid())?;
        let mut builder = http::Request::builder().method(request.method.as_str()).uri(uri).header("host", name);
        for (name, value) in request.headers.iter() {
            builder = builder.header(name, HeaderValue::from_bytes(value).map_err(|_| invalid())?);
        }
        builder.body(Full::new(Bytes::copy_from_slice(&request.body))).map_err(|_| invalid())
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: Request) -> Result<Response, HttpError> {
        self.runtime.block_on(self.exchange(request))
    }
}

async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Result<T, HttpError> {
    tokio::time::timeout(time, future).await.map_err(|_| HttpError::Timeout)
}
