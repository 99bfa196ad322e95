//! A small HTTP/1.1 server for the dashboard and for metrics: bounded in connections, time and bytes.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::local::callers;
use crate::local::listen::Port;

/// Connections to one listener at once; more are told so (503).
const MAX_CONNECTIONS: usize = 64;
/// So many more are for programs of this node's user: others on the machine can connect, too, and take all places.
const MAX_OWN_CONNECTIONS: usize = 16;
/// How long a connection without a place may take to hear that.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// A request's head has to be complete within this; so long a connection without a request stays open, too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest head of a request, in bytes; also how much of an answer waits for a slow reader.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Longest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 4 * 1024;
/// A body has to be complete within this.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The body of an answer, whole or as it comes.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;
/// An answer.
pub type Answer = Response<Body>;

/// Answers requests at `listener` until the returned port is dropped; `what` is for the log.
pub fn serve<S, F>(listener: TcpListener, what: &str, answer: S) -> Port
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let own_room = Arc::new(Semaphore::new(MAX_OWN_CONNECTIONS));
    Port::open(listener, what.to_owned(), move |socket, _| {
        let (room, own_room, answer) = (Arc::clone(&room), Arc::clone(&own_room), answer.clone());
        async move {
            if let Ok(_place) = room.try_acquire() {
                converse(socket, answer).await;
            } else if callers::is_mine(&socket).await
                && let Ok(_place) = own_room.try_acquire()
            {
                converse(socket, answer).await;
            } else {
                let refusal = |_| ready(text(StatusCode::SERVICE_UNAVAILABLE, "too many connections\n"));
                let _ = timeout(REFUSAL_TIMEOUT, converse(socket, refusal)).await;
            }
        }
    })
}

async fn converse<S, F>(socket: TcpStream, answer: S)
where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Answer>,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    if let Err(error) = http.serve_connection(TokioIo::new(socket), service).await {
        tracing::debug!("http: {error}");
    }
}

/// The whole body of a request.
///
/// # Errors
/// The answer for one that is too long, too slow or broken.
pub async fn body_of(request: Request<Incoming>) -> Result<Bytes, Answer> {
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
    match timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(text(StatusCode::PAYLOAD_TOO_LARGE, format!("at most {MAX_BODY_BYTES} bytes\n"))),
        Err(_) => Err(text(StatusCode::REQUEST_TIMEOUT, "the body did not come\n")),
    }
}

/// An answer of plain text.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    whole(status, "text/plain; charset=utf-8", text)
}

/// An answer of one piece.
pub fn whole(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Answer {
    of_body(status, kind, Full::new(bytes.into()).boxed_unsync())
}

/// An answer with this body.
pub fn of_body(status: StatusCode, kind: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // No cache keeps what was asked for with a secret, and no browser takes it for anything else than it is.
    for (name, value) in [("cache-control", "no-store"), ("x-content-type-options", "nosniff")] {
        answer.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// The first line of the answer to a request at `at`.
    async fn ask(mut socket: TcpStream) -> String {
        socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn who_holds_all_places_does_not_keep_the_owner_out_and_more_are_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let _port = serve(listener, "a test", |_| async { text(StatusCode::OK, "here\n") });
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            silent.push(TcpStream::connect(at).await.unwrap());
        }
        assert_eq!(ask(TcpStream::connect(at).await.unwrap()).await, "HTTP/1.1 200 OK", "this user's own program");
        for _ in 0..MAX_OWN_CONNECTIONS {
            silent.push(TcpStream::connect(at).await.unwrap());
        }
        // Whose each of them is, the system is asked beside the listener: this one may be the first to have its answer.
        let mut told = String::new();
        for _ in 0..1000 {
            told = ask(TcpStream::connect(at).await.unwrap()).await;
            if told != "HTTP/1.1 200 OK" {
                break;
            }
        }
        assert_eq!(told, "HTTP/1.1 503 Service Unavailable");
    }
}
