//! Connections of peers to services that this node offers.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};

use super::pipe;
use super::service::unix_path;
use crate::driver::Incoming;

/// How long a local service may take to accept. A refused port answers at once; only a filtered one takes this long.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers a permitted request by a connection to the local service, for as long as that lasts.
pub async fn serve(request: Incoming) {
    let what = format!("{} from {}", request.service, request.peer.short());
    let refused = match unix_path(&request.forward) {
        Some(path) => match in_time(UnixStream::connect(path)).await {
            Ok(socket) => return pipe::splice_unix(request.accept(), socket, &what).await,
            Err(error) => error,
        },
        None => match in_time(TcpStream::connect(&request.forward)).await {
            Ok(socket) => return pipe::splice(request.accept(), socket, &what).await,
            Err(error) => error,
        },
    };
    tracing::warn!("{what}: nothing answers at {}: {refused}", request.forward);
    request.refuse();
}

/// Whether something answers at `forward`, `HOST:PORT` or `unix:/PATH`. It sees a connection without a byte.
///
/// # Errors
/// What the system says when nothing does.
pub async fn knock(forward: &str) -> io::Result<()> {
    match unix_path(forward) {
        Some(path) => in_time(UnixStream::connect(path)).await.map(drop),
        None => in_time(TcpStream::connect(forward)).await.map(drop),
    }
}

async fn in_time<T>(connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(DIAL_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
