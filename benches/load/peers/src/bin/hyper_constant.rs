//! The floor: bare hyper, which answers the same bytes to everybody. Two headers: the type, and one that makes the answer
//! as long as the service's.

use std::{convert::Infallible, fs, net::SocketAddr};

use balance_cache_load::Arguments;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments = Arguments::read();
    let listener = TcpListener::bind(arguments.need::<SocketAddr>("listen"))
        .await
        .expect("the address is free");
    let body = Bytes::from(fs::read(arguments.need::<String>("body")).expect("the body is there"));
    let pad = HeaderValue::from_str(&"x".repeat(arguments.need("pad"))).expect("letters");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("it is TCP");
        let (body, pad) = (body.clone(), pad.clone());
        let service = service_fn(move |_: Request<Incoming>| {
            let mut response = Response::new(Full::new(body.clone()));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            if !pad.is_empty() {
                headers.insert(HeaderName::from_static("x-pad"), pad.clone());
            }
            async { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(async move {
            let _ = http1::Builder::new()
                .pipeline_flush(true)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
