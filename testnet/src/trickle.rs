//! Something to look at: a download that goes on for as long as its overlay, from one node to another, through both nodes' local ports.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::network::Network;
use crate::process::NodeProcess;
use crate::wait::{Result, Trouble, io};

const SERVICE: &str = "trickle";
/// So much each [`PERIOD`] is about 400 kB/s.
const PIECE_BYTES: usize = 20_000;
const PERIOD: Duration = Duration::from_millis(50);

/// Begins. It ends with the processes; when a node dies, it is over.
///
/// # Errors
/// What a node answered, or no socket.
pub fn start(network: &dyn Network, from: &NodeProcess, to: &NodeProcess) -> Result<()> {
    let listener = network.hosts().listen(&from.name)?;
    let address = listener.local_addr().map_err(io("the trickle's server"))?;
    std::thread::spawn(move || {
        listener.incoming().flatten().for_each(|socket| _ = std::thread::spawn(move || serve(socket)))
    });
    let expose = json!({"verb": "expose", "service": SERVICE, "forward": address.to_string(), "allow": [to.id]});
    from.ask::<Value>(expose)?;
    let target = format!("{}/{SERVICE}", from.id);
    let port: Value = to.ask(json!({"verb": "connect", "target": target, "listen": "127.0.0.1:0"}))?;
    let port = port.get("listen").and_then(Value::as_str).and_then(|text| text.parse::<SocketAddr>().ok());
    let port = port.ok_or_else(|| Trouble::new(format!("node {} gave no port", to.name)))?;
    let mut socket = network.hosts().connect(&to.name, port)?;
    std::thread::spawn(move || {
        let mut buffer = vec![0; PIECE_BYTES];
        while socket.read(&mut buffer).is_ok_and(|length| length > 0) {}
    });
    Ok(())
}

fn serve(mut socket: TcpStream) {
    while socket.write_all(&[0x5a; PIECE_BYTES]).is_ok() {
        std::thread::sleep(PERIOD);
    }
}
