//! The baseline: a chain of plain TCP relays, one process for each, that copy what they are given and know nothing.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use super::service::{Look, download};
use crate::process::die_with_parent;
use crate::wait::{Result, Trouble, io, until};

/// The hidden subcommand under which our binary is one relay.
pub const RELAY_PROCESS: &str = "bench-relay";

/// What a relay takes at once in each direction, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;
/// A relay of `socat` is listening within this time.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A chain of relays; they end when it is dropped.
pub struct Chain {
    relays: Vec<Relay>,
    address: SocketAddr,
}

struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Chain {
    /// Starts `relays` of our own in a row, `binary` each, the last of which connects to `server`. Call it on the main thread, as
    /// [`NodeProcess::start`](crate::process::NodeProcess::start).
    ///
    /// # Errors
    /// When one does not start.
    pub fn start(binary: &Path, relays: usize, server: SocketAddr) -> Result<Self> {
        let mut chain = Self { relays: Vec::new(), address: server };
        for _ in 0..relays {
            let mut command = Command::new(binary);
            command.arg(RELAY_PROCESS).arg(chain.address.to_string());
            let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(io("starting a relay"))?;
            let mut relay = Relay(child);
            let mut line = String::new();
            if let Some(stdout) = relay.0.stdout.take() {
                BufReader::new(stdout).read_line(&mut line).map_err(io("relay"))?;
            }
            let unexpected = |_| Trouble::new(format!("a relay listens at {line:?}"));
            chain.address = line.trim().parse().map_err(unexpected)?;
            chain.relays.push(relay);
        }
        Ok(chain)
    }

    /// The same of `socat`, with the buffers that ours have; none where it is not installed.
    ///
    /// # Errors
    /// When it is, and yet does not start.
    pub fn start_socat(relays: usize, server: SocketAddr) -> Result<Option<Self>> {
        let mut chain = Self { relays: Vec::new(), address: server };
        for _ in 0..relays {
            let port = free_port()?;
            let mut command = Command::new("socat");
            command.arg("-b").arg(BUFFER_BYTES.to_string());
            command.arg(format!("TCP-LISTEN:{},bind={},reuseaddr,fork", port.port(), port.ip()));
            command.arg(format!("TCP:{}", chain.address));
            match command.stdin(Stdio::null()).stderr(Stdio::null()).spawn() {
                Ok(child) => chain.relays.push(Relay(child)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(io("starting socat")(error)),
            }
            chain.address = port;
        }
        until("a chain of socat", START_LIMIT, || Ok(download(chain.address, 1, Look::Every).ok()))?;
        Ok(Some(chain))
    }

    /// Where it is entered.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its processes.
    pub fn pids(&self) -> Vec<u32> {
        self.relays.iter().map(|relay| relay.0.id()).collect()
    }
}

/// Another program could take it before it is used; then that start fails.
fn free_port() -> Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(io("a free port"))
}

/// Is one relay to `target`: says on stdout where it listens, and ends with the harness.
pub fn main(target: SocketAddr) -> ExitCode {
    die_with_parent();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(serve(target))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{RELAY_PROCESS}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(target: SocketAddr) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    crate::command::print_line(&listener.local_addr()?.to_string());
    loop {
        let (mut from, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut to = tokio::net::TcpStream::connect(target).await?;
            from.set_nodelay(true)?;
            to.set_nodelay(true)?;
            tokio::io::copy_bidirectional_with_sizes(&mut from, &mut to, BUFFER_BYTES, BUFFER_BYTES).await
        });
    }
}
