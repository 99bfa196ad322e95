//! A SOCKS5 proxy for programs that are not made for this: `curl --proxy socks5h://127.0.0.1:7080 http://alice.muses/`.
//!
//! It leads to services of peers and nowhere else. A connection through it survives what any connection here survives.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::listen::Port;
use super::pipe;
use crate::driver::{Conn, Error, Handle};
use crate::stack::Failure;

pub mod name;
pub mod protocol;

use protocol::{Host, NoRequest, Reply};

/// How long a program may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may take to accept. Longer than a handshake with losses, shorter than programs wait for a proxy.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves programs at `listener` as long as the port is kept.
pub fn run(handle: Handle, listener: TcpListener) -> Port {
    Port::open(listener, "socks".to_owned(), move |socket, from| serve(handle.clone(), socket, from))
}

async fn serve(handle: Handle, mut socket: TcpStream, from: SocketAddr) {
    let _ = socket.set_nodelay(true);
    let request = match tokio::time::timeout(REQUEST_TIMEOUT, protocol::read_request(&mut socket)).await {
        Ok(Ok(request)) => request,
        Ok(Err(NoRequest::Io(error))) => return tracing::debug!("socks: {error}"),
        Ok(Err(why)) => return tracing::info!("socks: {why}"),
        Err(_) => return tracing::debug!("socks: a program did not say what it wants"),
    };
    let what = format!("socks to {:?}, port {}", request.host, request.port);
    match open(&handle, request, from.port()).await {
        Ok(conn) => {
            if protocol::reply(&mut socket, Reply::Succeeded).await.is_ok() {
                pipe::splice(conn, socket, &what).await;
            }
        }
        Err((reply, why)) => {
            tracing::info!("{what}: {why}");
            let _ = protocol::reply(&mut socket, reply).await;
        }
    }
}

async fn open(handle: &Handle, request: protocol::Request, port: u16) -> Result<Conn, (Reply, String)> {
    let Host::Name(host) = request.host else {
        let why = "names only; let the proxy resolve them (curl: socks5h://, Firefox: proxy DNS)";
        return Err((Reply::AddressTypeNotSupported, why.to_owned()));
    };
    let (peer, service) = name::target(&host, request.port)
        .map_err(|reply| (reply, format!("not PEER{0} or SERVICE.PEER{0}", name::SUFFIX)))?;
    match tokio::time::timeout(OPEN_TIMEOUT, handle.open(peer, service, port)).await {
        Ok(Ok(conn)) => Ok(conn),
        Ok(Err(Error::Failed(failure))) => Err((reply_to(failure), failure.to_string())),
        Ok(Err(Error::Stopped(stopped))) => Err((Reply::GeneralFailure, stopped.to_string())),
        Err(_) => Err((Reply::TimedOut, Failure::Timeout.to_string())),
    }
}

/// The code of RFC 1928 that is nearest to the failure.
fn reply_to(failure: Failure) -> Reply {
    match failure {
        Failure::UnknownPeer | Failure::Unreachable | Failure::Clock => Reply::HostUnreachable,
        Failure::Refused | Failure::NameChanged | Failure::Revoked | Failure::Myself => Reply::NotAllowed,
        Failure::ServiceDown => Reply::ConnectionRefused,
        Failure::Timeout => Reply::TimedOut,
        Failure::Restarted | Failure::Reset | Failure::Cut | Failure::Moved | Failure::PeerMoved | Failure::Silent => {
            Reply::GeneralFailure
        }
    }
}
