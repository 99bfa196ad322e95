//! A file over one stream: it may take all day, and both machines may travel meanwhile.
//!
//! ```sh
//! cargo run -p node --example download -- serve FILE
//! cargo run -p node --example download -- fetch ADDRESS FILE
//! ```
//!
//! The length comes first (8 bytes, big endian): a stream that ends too soon is no file.

use std::io::{self, ErrorKind};
use std::path::Path;

use node::{MobileStream, Node, Offer, Who};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The name of the service.
pub const SERVICE: &str = "file";

/// Sends the file to everybody who comes, until the node ends.
pub async fn serve(mut offer: Offer, path: &Path) -> io::Result<()> {
    loop {
        let stream = offer.accept().await?;
        let file = File::open(path).await?;
        tokio::spawn(async move {
            let peer = stream.peer();
            match send(stream, file).await {
                Ok(bytes) => eprintln!("{peer}: {bytes} bytes"),
                Err(error) => eprintln!("{peer}: {error}"),
            }
        });
    }
}

async fn send(mut stream: MobileStream, mut file: File) -> io::Result<u64> {
    stream.activate_mobility().await?;
    let bytes = file.metadata().await?.len();
    stream.write_u64(bytes).await?;
    tokio::io::copy(&mut file, &mut stream).await?;
    stream.shutdown().await?;
    // The peer ends its direction when it has everything.
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(bytes)
}

/// Fetches it from `server`; how many bytes came.
pub async fn fetch(node: &Node, server: &str, path: &Path) -> io::Result<u64> {
    let mut stream = node.open(server, SERVICE).await?;
    stream.activate_mobility().await?;
    let expected = stream.read_u64().await?;
    let mut file = File::create(path).await?;
    let bytes = tokio::io::copy(&mut stream, &mut file).await?;
    if bytes != expected {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("{bytes} bytes of {expected}")));
    }
    file.sync_all().await?;
    stream.shutdown().await?;
    Ok(bytes)
}

#[allow(dead_code, reason = "the tests have a main of their own")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", file] => {
            let node = Node::builder().start().await?;
            for address in node.addresses().await? {
                println!("cargo run -p node --example download -- fetch {address} FILE");
            }
            Ok(serve(node.offer(SERVICE, [Who::Anyone]).await?, Path::new(file)).await?)
        }
        ["fetch", address, file] => {
            let server = address.rsplit('/').next().unwrap_or_default();
            let node = Node::builder().join(address.parse()?).start().await?;
            println!("{} bytes", fetch(&node, server, Path::new(file)).await?);
            Ok(())
        }
        _ => Err("usage: download serve FILE | download fetch ADDRESS FILE".into()),
    }
}
