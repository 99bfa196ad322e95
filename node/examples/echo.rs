//! Says back what it hears, through every move of either end.
//!
//! ```sh
//! cargo run -p node --example echo
//! cargo run -p node --example echo -- ADDRESS
//! ```
//!
//! The first serves, and prints the second, which joins through it, sends the lines of its stdin and prints what comes back.

use std::io;

use node::{MobileStream, Node, Offer, Who};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

/// The name of the service.
pub const SERVICE: &str = "echo";

/// Serves everybody who comes, until the node ends.
pub async fn serve(mut offer: Offer) -> io::Result<()> {
    loop {
        let stream = offer.accept().await?;
        tokio::spawn(async move {
            let peer = stream.peer();
            if let Err(error) = say_back(stream).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

async fn say_back(stream: MobileStream) -> io::Result<()> {
    stream.activate_mobility().await?;
    let (mut from, mut to) = tokio::io::split(stream);
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}

/// A conversation of lines.
pub struct Lines(BufReader<MobileStream>);

impl Lines {
    /// With the one who serves.
    pub async fn open(node: &Node, server: &str) -> io::Result<Self> {
        let stream = node.open(server, SERVICE).await?;
        stream.activate_mobility().await?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a line and waits for its echo.
    pub async fn exchange(&mut self, line: &str) -> io::Result<String> {
        self.0.write_all(format!("{line}\n").as_bytes()).await?;
        let mut back = String::new();
        self.0.read_line(&mut back).await?;
        Ok(back.trim_end().to_owned())
    }
}

#[allow(dead_code, reason = "the tests have a main of their own")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(address) = std::env::args().nth(1) else {
        let node = Node::builder().start().await?;
        for address in node.addresses().await? {
            println!("cargo run -p node --example echo -- {address}");
        }
        return Ok(serve(node.offer(SERVICE, [Who::Anyone]).await?).await?);
    };
    let server = address.rsplit('/').next().unwrap_or_default().to_owned();
    let node = Node::builder().join(address.parse()?).start().await?;
    let mut lines = Lines::open(&node, &server).await?;
    // On a thread of its own: whoever thinks about the next line must not hold up the node.
    let (typed_in, mut typed) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || io::stdin().lines().try_for_each(|line| typed_in.blocking_send(line)));
    while let Some(line) = typed.recv().await {
        println!("{}", lines.exchange(&line?).await?);
    }
    Ok(())
}
