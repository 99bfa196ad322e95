//! Whose programs a local port serves.
//!
//! A TCP port on loopback is open to every user of the machine. Whose socket is at the other end is known to the system, which says it in `/proc/net/tcp`
//! (proc(5)) to everybody: the user who made it.

use std::net::SocketAddr;

use procfs::net::TcpNetEntry;
use tokio::net::TcpStream;

/// The system tells its sockets piece by piece, and may miss one when others come and go.
const TRIES: usize = 3;

/// Who may use a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Callers {
    /// Whoever can connect.
    Anybody,
    /// Programs of the user as whom this node runs.
    OnlyMe,
}

impl Callers {
    /// Whether the program that has just connected is served.
    pub async fn admit(self, socket: &TcpStream) -> bool {
        if self == Self::Anybody {
            return true;
        }
        let Ok(server) = socket.local_addr() else { return false };
        match whose(socket).await {
            Some(uid) if uid == me() => true,
            Some(uid) => {
                tracing::warn!("a program of user {uid} was turned away at {server}");
                false
            }
            None => {
                tracing::warn!("a program was turned away at {server}: the system does not say whose it is");
                false
            }
        }
    }
}

/// Whether the program at the other end is of the user as whom this node runs. What is not known is no.
pub async fn is_mine(socket: &TcpStream) -> bool {
    whose(socket).await == Some(me())
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

async fn whose(socket: &TcpStream) -> Option<u32> {
    let (client, server) = (socket.peer_addr().ok()?, socket.local_addr().ok()?);
    tokio::task::spawn_blocking(move || owner(client, server)).await.ok().flatten()
}

/// The user who made the socket at `client` that is connected to `server`, both on this machine.
fn owner(client: SocketAddr, server: SocketAddr) -> Option<u32> {
    let (client, server) = (canonical(client), canonical(server));
    let its = |entry: &TcpNetEntry| {
        // A socket that its program has closed belongs to nobody, and is said to be root's.
        entry.inode != 0 && canonical(entry.local_address) == client && canonical(entry.remote_address) == server
    };
    let look = || {
        let tables = [procfs::net::tcp(), procfs::net::tcp6()];
        tables.into_iter().flatten().flatten().find(its).map(|entry| entry.uid)
    };
    (0..TRIES).find_map(|_| look())
}

/// An IPv4 socket as such, whatever the family of the socket at the other end.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_socket_is_its_users_until_it_is_closed() {
        let me = me();
        for listener in [TcpListener::bind("127.0.0.1:0"), TcpListener::bind((Ipv6Addr::LOCALHOST, 0))] {
            // A machine without IPv6.
            let Ok(listener) = listener else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, from) = listener.accept().unwrap();
            let at = server.local_addr().unwrap();
            assert_eq!(owner(from, at), Some(me));
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(owner(from, at), Some(me), "it has said all, and listens");
            drop(client);
            assert_eq!(owner(from, at), None, "nobody's, although the connection is not over");
            assert_eq!(owner("127.0.0.1:1".parse().unwrap(), at), None);
        }
    }
}
