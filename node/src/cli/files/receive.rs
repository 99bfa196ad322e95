//! `muses receive`.

use std::io::{self, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::ask::json_line;
use super::{Patience, Screen};
use crate::control::client::Client;
use crate::control::wire::{Allowed, Arrival, Request};
use crate::exit::{Code, Fault};
use crate::files::Trouble;
use crate::files::folder::Folder;
use crate::files::receive::{Received, next_offer, receive, refusal};
use crate::words::count;

/// Streams of senders at one time; more are turned away.
const MAX_STREAMS: usize = 32;
/// Those of one sender. A stream that says nothing may be one whose session is suspended, and waits however long that takes: so there is no limit on how
/// long it may be silent, but no sender holds all places with such streams.
const MAX_STREAMS_OF_ONE: usize = MAX_STREAMS / 4;

/// The arguments of `muses receive`.
#[derive(Args, Debug)]
pub(crate) struct Receive {
    /// The folder for the files
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// From whom: node ids, petnames, claimed names, or `anyone`
    #[arg(long, value_name = "WHO", num_args = 1.., value_delimiter = ',')]
    from: Vec<String>,
    /// Let a file take the place of another one of its name
    #[arg(long)]
    force: bool,
    /// Go on until stopped, instead of ending when one sender has sent all of his files
    #[arg(long)]
    keep: bool,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

/// One file in the output of `--json`.
#[derive(Serialize)]
struct Row {
    from: String,
    path: PathBuf,
    bytes: u64,
    resumed_from: u64,
    sha256: String,
}

/// What the threads tell the first one.
enum News {
    /// The node offers to take files.
    Ready(Vec<Allowed>),
    /// Somebody is at the door.
    Arrival(Arrival),
    /// A file is here.
    File(String, Received),
    /// A file did not come, and the sender does not try again.
    Missed(String, Fault),
    /// A stream of this sender is over, whether he had more or not.
    Gone(String),
    /// Nothing can come any more.
    Over(Fault),
}

/// Takes files until one sender is done, or for ever.
pub(crate) fn run(args: Receive, data_dir: &Path, json: bool) -> Result<(), Fault> {
    if args.from.is_empty() {
        return Err(Fault::new(Code::Usage, "say whose files to take: muses receive --from alice, or --from anyone"));
    }
    let folder = Folder { path: open_dir(&args.dir)?, force: args.force };
    let screen = Arc::new(Screen::new(args.quiet, json));
    let (tell, news) = channel();
    let (data_dir, from) = (data_dir.to_owned(), args.from.clone());
    let (door, at, noisy) = (tell.clone(), data_dir.clone(), Arc::clone(&screen));
    std::thread::spawn(move || watch_door(&at, &from, &door, &noisy));
    let (mut rows, mut streams) = (Vec::new(), Streams::default());
    for event in news {
        match event {
            News::Ready(allowed) => {
                screen.note(&format!("taking files from {} into {}", names(&allowed), folder.path.display()))
            }
            News::Arrival(arrival) => {
                // Left at the door he is refused after a while.
                if !streams.come(&arrival.node) {
                    continue;
                }
                let (tell, at, folder, screen) = (tell.clone(), data_dir.clone(), folder.clone(), Arc::clone(&screen));
                std::thread::spawn(move || {
                    serve(&at, &arrival, &folder, &screen, &tell);
                    let _ = tell.send(News::Gone(arrival.node));
                });
            }
            News::File(from, received) => {
                let Received { path, bytes, resumed_from, sha256, left } = received;
                let there =
                    if resumed_from == 0 { String::new() } else { format!(", {resumed_from} of them were there") };
                let sum = sha256.as_str();
                let came = count(bytes, "byte");
                screen.done(&format!("{}: {came} from {from}{there}; sha256 {sum}", path.display()));
                rows.push(Row { from, path, bytes, resumed_from, sha256: sum.to_owned() });
                if json && (args.keep || left == 0) {
                    let line = json_line(Ok(json!({ "dir": folder.path, "files": rows })));
                    let _ = io::stdout().write_all(line.as_bytes());
                    rows.clear();
                }
                if left == 0 && !args.keep {
                    return Ok(());
                }
            }
            News::Missed(from, fault) if args.keep => screen.note(&format!("from {from}: {fault}")),
            News::Missed(from, fault) => return Err(fault.about(&format!("from {from}"))),
            News::Gone(sender) => streams.gone(&sender),
            News::Over(fault) => return Err(fault),
        }
    }
    Ok(())
}

/// Who sends now, once for each stream.
#[derive(Default)]
struct Streams(Vec<String>);

impl Streams {
    /// One more of `sender`; whether there is room for it.
    fn come(&mut self, sender: &str) -> bool {
        let his = self.0.iter().filter(|other| *other == sender).count();
        let room = self.0.len() < MAX_STREAMS && his < MAX_STREAMS_OF_ONE;
        if room {
            self.0.push(sender.to_owned());
        }
        room
    }

    /// One of `sender` is over.
    fn gone(&mut self, sender: &str) {
        if let Some(at) = self.0.iter().position(|other| other == sender) {
            self.0.swap_remove(at);
        }
    }
}

fn open_dir(dir: &Path) -> Result<PathBuf, Fault> {
    let usage = |why: &str| Fault::new(Code::Usage, format!("cannot receive in {}: {why}", dir.display()));
    let path = dir.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            usage(&format!("it does not exist; make it (mkdir {}), or choose another --dir", dir.display()))
        }
        _ => usage(&format!("{error}; choose another --dir")),
    })?;
    if path.is_dir() { Ok(path) } else { Err(usage("it is no folder; choose another --dir")) }
}

fn names(allowed: &[Allowed]) -> String {
    let name = |one: &Allowed| match &one.node {
        Some(node) if *node != one.name => format!("{} ({node})", one.name),
        _ => one.name.clone(),
    };
    allowed.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// Tells who comes. When the node ends, it waits for the next one: a transfer goes on when the node is back.
fn watch_door(data_dir: &Path, from: &[String], tell: &Sender<News>, screen: &Screen) {
    let (mut patience, mut before) = (Patience::new(), false);
    loop {
        let fault = match offer(data_dir, from, tell, &mut before) {
            Ok(()) => {
                patience.renew();
                Fault::new(Code::NotRunning, "the node has ended")
            }
            Err(fault) if !before => {
                let _ = tell.send(News::Over(fault));
                return;
            }
            Err(fault) => fault,
        };
        if patience.is_fresh() {
            screen.note(&format!("{fault}; waiting for it"));
        }
        if let Err(fault) = patience.wait(&format!("{fault}, and did not come back")) {
            let _ = tell.send(News::Over(fault));
            return;
        }
    }
}

fn offer(data_dir: &Path, from: &[String], tell: &Sender<News>, before: &mut bool) -> Result<(), Fault> {
    let mut client = Client::connect(data_dir)?;
    let mut data = client.ask(&Request::Receive { from: from.to_vec() })?;
    let allowed = data.get_mut("allow").map(Value::take).unwrap_or_default();
    if !*before {
        let _ = tell.send(News::Ready(serde_json::from_value(allowed).unwrap_or_default()));
    }
    *before = true;
    while let Ok(Some(data)) = client.next_reply() {
        if let Ok(arrival) = serde_json::from_value(data) {
            let _ = tell.send(News::Arrival(arrival));
        }
    }
    Ok(())
}

/// Takes what one sender sends.
fn serve(data_dir: &Path, arrival: &Arrival, folder: &Folder, screen: &Screen, tell: &Sender<News>) {
    let stream = Client::connect(data_dir).and_then(|mut client| {
        client.ask(&Request::Take { transfer: arrival.transfer })?;
        client.into_stream().map_err(|error| Fault::new(Code::Failed, error.to_string()))
    });
    let sender = &arrival.node;
    let result = match stream {
        Ok((mut from, mut to)) => files(sender, folder, &mut from, &mut to, screen, tell),
        Err(fault) => Err(Trouble::Broken(fault.message)),
    };
    match result {
        Ok(()) => {}
        Err(Trouble::Broken(why)) => {
            screen.note(&format!("from {sender}: broken off ({why}); what has arrived is kept"))
        }
        Err(Trouble::Refused(why)) => screen.note(&format!("from {sender}: refused a file: {}", refusal(why))),
        Err(Trouble::Here(fault)) => _ = tell.send(News::Missed(sender.clone(), fault)),
    }
}

fn files(
    sender: &str,
    folder: &Folder,
    from: &mut BufReader<UnixStream>,
    to: &mut UnixStream,
    screen: &Screen,
    tell: &Sender<News>,
) -> Result<(), Trouble> {
    while let Some(offer) = next_offer(from, to)? {
        let mut bar = screen.bar(&offer.name, offer.bytes);
        let received = receive(folder, sender, &offer, from, to, &mut |progress| bar.show(progress))?;
        drop(bar);
        let _ = tell.send(News::File(sender.to_owned(), received));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_many_streams_leaves_room_for_others() {
        let mut streams = Streams::default();
        assert_eq!((0..100).filter(|_| streams.come("mallory")).count(), MAX_STREAMS_OF_ONE);
        assert!(streams.come("alice"), "she finds no room");
        streams.gone("mallory");
        assert!(streams.come("mallory") && !streams.come("mallory"));
        let others = (0..100).filter(|n| streams.come(&n.to_string())).count();
        assert_eq!(others, MAX_STREAMS - MAX_STREAMS_OF_ONE - 1, "all of them together");
    }
}
