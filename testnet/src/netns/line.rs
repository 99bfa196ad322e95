//! A long line between two namespaces: each packet is as long under way as is said. Not every kernel has netem, which would do the same.
//!
//! Both ends are TUN interfaces, and threads here carry the packets from one to the other.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tun_rs::{DeviceBuilder, SyncDevice};

use super::spaces::{Spaces, ip};
use crate::wait::{Result, io};

/// What the interface is called at either end.
pub const LINE: &str = "line";
/// What fits into one packet, in bytes.
const MTU: u16 = 1500;
/// Packets under way, each way; when there are more the kernel queues, and drops, those that follow.
const MAX_UNDER_WAY: usize = 4096;
/// Packets that the kernel keeps for a thread that is late.
const KERNEL_QUEUE: usize = 2000;

/// A packet, and when it arrives.
type UnderWay = (Instant, Vec<u8>);

/// The line; it is removed when it is dropped, which has to be before its namespaces are.
pub struct Line {
    ends: Vec<String>,
    carriers: Vec<JoinHandle<()>>,
}

impl Line {
    /// Lays one between two nodes' namespaces, each of which gets an address and a way to that of the other. A packet takes `one_way`.
    ///
    /// # Errors
    /// When the system has no TUN interfaces; what was made is removed again.
    pub fn lay(spaces: &Spaces, ends: [(&str, Ipv4Addr); 2], one_way: Duration) -> Result<Self> {
        let mut line = Self { ends: Vec::new(), carriers: Vec::new() };
        let [(left, left_address), (right, right_address)] = ends;
        let left = Arc::new(line.end(spaces, left, left_address, right_address)?);
        let right = Arc::new(line.end(spaces, right, right_address, left_address)?);
        line.carry(&left, &right, one_way);
        line.carry(&right, &left, one_way);
        Ok(line)
    }

    fn end(&mut self, spaces: &Spaces, node: &str, own: Ipv4Addr, other: Ipv4Addr) -> Result<SyncDevice> {
        let make = || DeviceBuilder::new().name(LINE).mtu(MTU).build_sync();
        let device = spaces.inside(node, make)?.map_err(io("a TUN interface"))?;
        let space = spaces.of(node);
        self.ends.push(space.clone());
        ip(&format!("-n {space} addr add {own}/32 peer {other} dev {LINE}"))?;
        ip(&format!("-n {space} link set {LINE} txqueuelen {KERNEL_QUEUE} up"))?;
        Ok(device)
    }

    /// The threads end with the interfaces.
    fn carry(&mut self, from: &Arc<SyncDevice>, to: &Arc<SyncDevice>, one_way: Duration) {
        let (begins, arrives) = sync_channel(MAX_UNDER_WAY);
        let (from, to) = (Arc::clone(from), Arc::clone(to));
        self.carriers.push(std::thread::spawn(move || pick_up(&from, &begins, one_way)));
        self.carriers.push(std::thread::spawn(move || hand_over(&to, &arrives)));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for space in &self.ends {
            if let Err(trouble) = ip(&format!("-n {space} link delete {LINE}")) {
                eprintln!("testnet: {trouble}");
            }
        }
        for carrier in self.carriers.drain(..) {
            let _ = carrier.join();
        }
    }
}

/// Until the interface is gone.
fn pick_up(from: &SyncDevice, begins: &SyncSender<UnderWay>, one_way: Duration) {
    let mut buffer = vec![0; usize::from(MTU)];
    while let Ok(length) = from.recv(&mut buffer) {
        let packet = buffer.get(..length).unwrap_or_default().to_vec();
        if begins.send((Instant::now() + one_way, packet)).is_err() {
            return;
        }
    }
}

/// Until nothing more can come. Packets arrive in order, for all are as long under way.
fn hand_over(to: &SyncDevice, arrives: &Receiver<UnderWay>) {
    for (at, packet) in arrives {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        // An interface that is down, or gone, takes none: they are lost, as on a line that is cut.
        let _ = to.send(&packet);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};

    use super::super::missing;
    use super::super::spaces::output;
    use super::*;

    #[test]
    fn a_line_carries_both_ways_and_leaves_nothing_behind() {
        if let Some(why) = missing() {
            eprintln!("skipped: {why}");
            return;
        }
        let (near, far) = (Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2));
        let mut spaces = Spaces::new();
        spaces.add("near").unwrap();
        spaces.add("far").unwrap();
        let line = Line::lay(&spaces, [("near", near), ("far", far)], Duration::from_millis(30)).unwrap();
        let listener = spaces.inside("far", || TcpListener::bind((far, 0)).unwrap()).unwrap();
        let address = SocketAddr::from((far, listener.local_addr().unwrap().port()));
        let echo = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut bytes = vec![0; 100_000];
            socket.read_exact(&mut bytes).unwrap();
            socket.write_all(&bytes).unwrap();
        });
        let mut socket = spaces.inside("near", || std::net::TcpStream::connect(address).unwrap()).unwrap();
        let said: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[usize::from(n % 7 == 0)]).collect();
        socket.write_all(&said).unwrap();
        let mut heard = vec![0; said.len()];
        socket.read_exact(&mut heard).unwrap();
        assert!(said == heard);
        echo.join().unwrap();
        let space = spaces.of("near");
        drop(line);
        assert!(!output(&format!("-n {space} -o link")).unwrap().contains(LINE));
    }
}
