//! Local ports that are a peer's service (`muses connect`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::pipe;
use super::service::{Forward, Target};
use crate::driver::Handle;
use crate::exit::{Code, Fault};

/// Application sockets at one listener; more wait in the system's backlog.
const MAX_SOCKETS: usize = 1024;
/// How long to wait when the system has no descriptor left for another socket.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens at `at` until the node ends; each application that connects there gets a connection to `target`.
///
/// # Errors
/// [`Code::PortInUse`] with one clear line.
pub async fn listen(handle: Handle, target: Target, at: &Forward) -> Result<SocketAddr, Fault> {
    let listener = TcpListener::bind(at.as_str()).await.map_err(|error| cannot_listen(at.as_str(), &error))?;
    let address = listener.local_addr().map_err(|error| cannot_listen(at.as_str(), &error))?;
    tokio::spawn(accept(listener, handle, target));
    Ok(address)
}

/// The one line about an address at which nothing can listen.
pub fn cannot_listen(address: &str, error: &io::Error) -> Fault {
    let line = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("cannot listen at {address}: another program uses this port; stop it or choose another port")
        }
        _ => format!("cannot listen at {address}: {error}; choose another address or port"),
    };
    Fault::new(Code::PortInUse, line)
}

async fn accept(listener: TcpListener, handle: Handle, target: Target) {
    let room = Arc::new(Semaphore::new(MAX_SOCKETS));
    while let Ok(place) = Arc::clone(&room).acquire_owned().await {
        match listener.accept().await {
            Ok((socket, from)) => {
                let (handle, target) = (handle.clone(), target.clone());
                tokio::spawn(async move {
                    serve(handle, target, socket, from).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("accepting for {target}: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(handle: Handle, target: Target, socket: TcpStream, from: SocketAddr) {
    let what = format!("{} to {target}", from.port());
    // Bytes flow before the other side has accepted: one round trip less.
    match handle.start_open(target.peer, target.service.to_string(), from.port()).await {
        Ok(conn) => pipe::splice(conn, socket, &what).await,
        Err(stopped) => {
            tracing::info!("{what}: {stopped}");
            let _ = socket.set_zero_linger();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_one_clear_line() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = std::net::TcpListener::bind(&address).unwrap_err();
        let fault = cannot_listen(&address, &error);
        assert_eq!(fault.code, Code::PortInUse as u8);
        assert!(fault.message.contains(&address) && fault.message.contains("another program"), "{fault}");
    }
}
