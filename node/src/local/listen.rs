//! Local ports: those that are a peer's service (`muses connect`), and the SOCKS proxy's.

use std::fs;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use multiaddr::{Multiaddr, Protocol};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::callers::Callers;
use super::door::Door;
use super::pipe;
use super::service::{Forward, Target};
use super::socket_file::SocketFile;
use crate::driver::Handle;
use crate::exit::{Code, Fault};

/// Application sockets at one listener; more wait in the system's backlog.
const MAX_SOCKETS: usize = 1024;

/// A local port or unix socket that is served. Nobody can connect to it any more once this is dropped; connections that were made go on.
pub struct Port {
    accepting: JoinHandle<()>,
    /// Of a unix socket.
    _file: Option<SocketFile>,
}

impl Port {
    /// Hands each application that connects at `listener` to `serve`; `what` is for the log.
    pub fn open<S, F>(listener: TcpListener, what: String, serve: S) -> Self
    where
        S: Fn(TcpStream, SocketAddr) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let serve = move |(socket, from)| serve(socket, from);
        Self { accepting: tokio::spawn(accept(move |cx| listener.poll_accept(cx), what, serve)), _file: None }
    }

    /// Closes it; when this returns, the port is free.
    pub async fn close(mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A listener at `at`, and where that is.
///
/// # Errors
/// [`Code::PortInUse`] with one clear line.
pub async fn bind(at: &Forward) -> Result<(TcpListener, SocketAddr), Fault> {
    check(at)?;
    let listener = TcpListener::bind(at.as_str()).await.map_err(|error| cannot_listen(at.as_str(), &error))?;
    let address = listener.local_addr().map_err(|error| cannot_listen(at.as_str(), &error))?;
    Ok((listener, address))
}

/// What [`bind`] refuses whatever this machine's state is.
///
/// # Errors
/// [`Code::Usage`] when that is no TCP port.
pub fn check(at: &Forward) -> Result<(), Fault> {
    if at.unix().is_some() || at.is_place() {
        return Err(Fault::new(Code::Usage, format!("cannot listen at {at} here: use HOST:PORT")));
    }
    Ok(())
}

/// Each application of `callers` that connects at `listener` gets a connection to `target`.
pub fn connect(handle: Handle, target: Target, listener: TcpListener, callers: Callers) -> Port {
    Port::open(listener, target.to_string(), move |socket, from| {
        serve(handle.clone(), target.clone(), socket, from, callers)
    })
}

/// The same at a new unix socket, which only this user can open. It replaces one that nobody serves any more.
///
/// # Errors
/// [`Code::PortInUse`] when something is there already, or the folder does not let us.
pub fn connect_unix(handle: Handle, target: Target, path: &Path) -> Result<Port, Fault> {
    let (listener, file) =
        bind_unix(path).map_err(|error| cannot_listen(&format!("unix:{}", path.display()), &error))?;
    let what = target.to_string();
    let serve = move |(socket, _)| serve_unix(handle.clone(), target.clone(), socket);
    let accepting = tokio::spawn(accept(move |cx| listener.poll_accept(cx), what, serve));
    Ok(Port { accepting, _file: Some(file) })
}

fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    match knock(path) {
        // Whoever lets others wait is there, too.
        Ok(()) | Err(Errno::AGAIN) => return Err(io::ErrorKind::AddrInUse.into()),
        // Nobody serves this socket: its process has died.
        Err(Errno::CONNREFUSED) if is_socket(path) => fs::remove_file(path)?,
        Err(_) => {}
    }
    let folder = path.with_file_name(format!(".muses-{}", std::process::id()));
    // A name that is taken stays with who has it.
    bind_hidden(&folder, path, |hidden, path| fs::hard_link(hidden, path))
}

/// Binds a socket that only this user can open, and moves it to `path` by `place`. At first it is in `folder`, which is made for that and goes again: nobody
/// else can enter it, and so nobody connects before the mode is right.
///
/// # Errors
/// When `folder` is there already, or what the system says.
pub fn bind_hidden(
    folder: &Path,
    path: &Path,
    place: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> io::Result<(UnixListener, SocketFile)> {
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    let hidden = folder.join("s");
    let bound = bind_within(folder, &hidden).and_then(|listener| {
        fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600))?;
        let file = SocketFile::new(&hidden, path)?;
        place(&hidden, path)?;
        Ok((listener, file))
    });
    let _ = fs::remove_dir_all(folder);
    bound
}

/// Binds `hidden`, which is in `folder`. Its name may be longer than a socket's can be, although the one that it gets afterwards is not: then it is bound by
/// way of the open folder.
fn bind_within(folder: &Path, hidden: &Path) -> io::Result<UnixListener> {
    if SocketAddrUnix::new(hidden).is_ok() {
        return UnixListener::bind(hidden);
    }
    let folder = fs::File::open(folder)?;
    UnixListener::bind(format!("/proc/self/fd/{}/s", folder.as_raw_fd()))
}

/// Connects to the unix socket at `path` for a moment. One that accepts nobody would have a blocking call wait for good, and the node with it.
fn knock(path: &Path) -> rustix::io::Result<()> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

/// Whether `address` can be for this user's programs alone.
///
/// # Errors
/// [`Code::Usage`] when programs of other machines reach it: nobody knows whose these are.
pub fn check_mine(address: SocketAddr) -> Result<(), Fault> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    let line = format!(
        "{address} is reached from other machines, and whose programs these are nobody knows; use 127.0.0.1:PORT"
    );
    Err(Fault::new(Code::Usage, line))
}

/// Whether who listens at `one` keeps `other` from being listened at.
pub fn same(one: SocketAddr, other: SocketAddr) -> bool {
    let ips = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && one.is_ipv4() == other.is_ipv4() && ips
}

/// The one line about an address at which nothing can listen.
pub fn cannot_listen(address: &str, error: &io::Error) -> Fault {
    let line = match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::AlreadyExists if address.starts_with("unix:") => {
            format!("cannot listen at {address}: something is there already; choose another path")
        }
        io::ErrorKind::AddrInUse => {
            format!("cannot listen at {address}: another program uses this port; stop it or choose another port")
        }
        _ => format!("cannot listen at {address}: {error}; choose another address or port"),
    };
    Fault::new(Code::PortInUse, line)
}

/// Links listen with `SO_REUSEPORT`, so that dials can leave from the same port; two nodes could then share a port without an
/// error, and neither would be reached reliably. A socket without it finds out.
///
/// # Errors
/// [`Code::PortInUse`], or [`Code::Usage`] for what is no TCP address.
pub fn check_free(address: &Multiaddr) -> Result<(), Fault> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Err(not_tcp(address)),
    };
    let Some(Protocol::Tcp(port)) = parts.next() else { return Err(not_tcp(address)) };
    std::net::TcpListener::bind(SocketAddr::new(ip, port))
        .map(drop)
        .map_err(|error| cannot_listen(&address.to_string(), &error))
}

fn not_tcp(address: &Multiaddr) -> Fault {
    Fault::new(Code::Usage, format!("cannot listen at {address}: use /ip4/ADDR/tcp/PORT or /ip6/ADDR/tcp/PORT"))
}

async fn accept<T, S, F>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>, what: String, serve: S)
where
    S: Fn(T) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MAX_SOCKETS));
    let mut door = Door::new(what);
    while let Ok(place) = Arc::clone(&room).acquire_owned().await {
        match poll_fn(&mut poll).await {
            Ok(accepted) => {
                door.works();
                let serving = serve(accepted);
                tokio::spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => door.fails(&error).await,
        }
    }
}

async fn serve(handle: Handle, target: Target, socket: TcpStream, from: SocketAddr, callers: Callers) {
    if !callers.admit(&socket).await {
        let _ = socket.set_zero_linger();
        return;
    }
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

async fn serve_unix(handle: Handle, target: Target, socket: UnixStream) {
    let what = format!("a unix socket to {target}");
    // No source port: 0.
    match handle.start_open(target.peer, target.service.to_string(), 0).await {
        Ok(conn) => pipe::splice_unix(conn, socket, &what).await,
        Err(stopped) => tracing::info!("{what}: {stopped}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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

    #[tokio::test]
    async fn a_path_may_be_as_long_as_the_system_lets_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut path = folder.path().to_owned();
        // unix(7): 108 bytes with the zero at the end.
        let left = 107 - path.as_os_str().len() - "//s".len();
        path.push("x".repeat(left));
        fs::create_dir(&path).unwrap();
        path.push("s");
        assert_eq!(path.as_os_str().len(), 107);
        let (_listener, file) = bind_unix(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(knock(&path).is_ok());
        drop(file);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_unix_socket_that_accepts_nobody_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        while knock(&path).is_ok() {}
        let (told, hears) = std::sync::mpsc::channel();
        let runtime = tokio::runtime::Handle::current();
        // Not joined: without an answer it would hang for good.
        std::thread::spawn(move || {
            let _in = runtime.enter();
            told.send(bind_unix(&path).err().map(|error| error.kind()))
        });
        assert_eq!(hears.recv_timeout(Duration::from_secs(30)), Ok(Some(io::ErrorKind::AddrInUse)));
        drop(socket);
    }
}
