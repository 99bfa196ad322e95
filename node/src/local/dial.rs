//! Connections of peers to services that this node offers.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

use super::pipe;
use crate::driver::Incoming;

/// How long a local service may take to accept. A refused port answers at once; only a filtered one takes this long.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers a permitted request by a connection to the local service, for as long as that lasts.
pub async fn serve(request: Incoming) {
    let what = format!("{} from {}", request.service, request.peer.short());
    match dial(&request.forward).await {
        Ok(socket) => pipe::splice(request.accept(), socket, &what).await,
        Err(error) => {
            tracing::warn!("{what}: nothing answers at {}: {error}", request.forward);
            request.refuse();
        }
    }
}

async fn dial(forward: &str) -> io::Result<TcpStream> {
    let connecting = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(forward));
    connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
