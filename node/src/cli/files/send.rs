//! `muses send`.

use std::io::{BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::super::ask::json_line;
use super::{Patience, Screen};
use crate::control::client::Client;
use crate::control::wire::Request;
use crate::exit::{Code, Fault};
use crate::files::send::{Sent, Source, last_word, refusal, send};
use crate::files::word::{self, Answer, Why};
use crate::files::{Progress, Trouble};
use crate::words::count;

/// The arguments of `muses send`.
#[derive(Args, Debug)]
pub(crate) struct Send {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// To whom: petname, claimed name or node id
    #[arg(value_name = "PEER")]
    peer: String,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

/// One file in the output of `--json`.
#[derive(Serialize)]
struct Row {
    file: PathBuf,
    stored_as: String,
    bytes: u64,
    resumed_from: u64,
    sha256: String,
}

/// Sends the files, and says what became of them.
pub(crate) fn run(args: Send, data_dir: &Path, json: bool) -> Result<(), Fault> {
    let mut rows = Vec::new();
    send_all(&args, data_dir, json, &mut rows).map_err(|fault| match u64::try_from(rows.len()) {
        Ok(there @ 1..) => {
            let message = format!("{}; {} before it arrived", fault.message, count(there, "file"));
            Fault { message, ..fault }
        }
        _ => fault,
    })?;
    if json {
        let data = json!({ "peer": args.peer, "files": rows });
        let _ = std::io::stdout().write_all(json_line(Ok(data)).as_bytes());
    }
    Ok(())
}

/// One after another; goes on where it was when the connection, or a node, breaks. `rows` has those that arrived, whatever becomes of the rest.
fn send_all(args: &Send, data_dir: &Path, json: bool, rows: &mut Vec<Row>) -> Result<(), Fault> {
    let screen = Screen::new(args.quiet, json);
    // All of them, before the first is sent: a misspelt name shows at once.
    let sources: Vec<Source> = args.files.iter().map(|path| Source::open(path)).collect::<Result<_, _>>()?;
    let mut patience = Patience::new();
    let mut line: Option<Line> = None;
    while let Some((source, path)) = sources.get(rows.len()).zip(args.files.get(rows.len())) {
        let left = u32::try_from(sources.len().saturating_sub(rows.len()).saturating_sub(1)).unwrap_or(u32::MAX);
        let connection = match line.take() {
            Some(connection) => Ok(connection),
            None => Line::open(data_dir, &args.peer),
        };
        let trouble = match connection {
            Ok(mut connection) => match one(source, left, &mut connection, &screen, &mut patience) {
                Ok(sent) => {
                    let Sent { stored_as, bytes, resumed_from, sha256 } = sent;
                    let there =
                        if resumed_from == 0 { String::new() } else { format!(", {resumed_from} of them were there") };
                    let sum = sha256.as_str();
                    screen.done(&format!(
                        "{}: {} sent to {}{there}; sha256 {sum}",
                        path.display(),
                        count(bytes, "byte"),
                        args.peer
                    ));
                    rows.push(Row { file: path.clone(), stored_as, bytes, resumed_from, sha256: sum.to_owned() });
                    line = Some(connection);
                    continue;
                }
                Err(Trouble::Here(fault)) => return Err(fault),
                Err(Trouble::Refused(Why::Busy)) if !patience.is_fresh() => "the receiver is busy with it".to_owned(),
                Err(Trouble::Refused(why)) => return Err(refusal(why).about(source.name())),
                Err(Trouble::Broken(why)) => connection.why(data_dir).unwrap_or(why),
            },
            // Whoever was there once comes back; who was not is told at once.
            Err(fault) if patience.is_fresh() => return Err(fault),
            Err(fault) => fault.message,
        };
        if patience.is_fresh() {
            screen.note(&format!("{}: broken off ({trouble}); trying to go on", source.name()));
        }
        patience.wait(&format!(
            "{}: broken off ({trouble}), and nothing helped since; the same command goes on where it was",
            source.name()
        ))?;
    }
    if let Some(line) = line {
        line.close();
    }
    Ok(())
}

fn one(source: &Source, left: u32, line: &mut Line, screen: &Screen, patience: &mut Patience) -> Result<Sent, Trouble> {
    let mut bar = screen.bar(source.name(), source.bytes());
    let mut watch = |progress| {
        if let Progress::At(_) = progress {
            patience.renew();
        }
        bar.show(progress);
    };
    let result = send(source, left, &line.answers, &mut line.to, &mut watch);
    result.map_err(|trouble| match trouble {
        Trouble::Broken(_) => last_word(&line.answers, trouble),
        other => other,
    })
}

/// A stream to the receiver.
struct Line {
    /// Its number at the node.
    pipe: u64,
    to: UnixStream,
    answers: Receiver<Answer>,
}

impl Line {
    fn open(data_dir: &Path, peer: &str) -> Result<Self, Fault> {
        let mut client = Client::connect(data_dir)?;
        let data = client.ask(&Request::Send { peer: peer.to_owned() })?;
        let pipe = data.get("pipe").and_then(Value::as_u64).unwrap_or_default();
        let stream = client.into_stream();
        let (mut from, to) = stream.map_err(|error| Fault::new(Code::Failed, format!("{peer}: {error}")))?;
        let (sender, answers) = channel();
        let listen = move |from: &mut BufReader<UnixStream>| {
            while let Ok(Some(answer)) = word::read(from) {
                if sender.send(answer).is_err() {
                    return;
                }
            }
        };
        std::thread::spawn(move || listen(&mut from));
        Ok(Self { pipe, to, answers })
    }

    /// Why it broke, as the node knows: here it only ends.
    fn why(&self, data_dir: &Path) -> Option<String> {
        let _ = self.to.shutdown(Shutdown::Both);
        let end = Client::connect(data_dir).ok()?.ask(&Request::PipeEnd { pipe: self.pipe });
        end.err().map(|fault| fault.message)
    }

    /// All was said.
    fn close(self) {
        let _ = self.to.shutdown(Shutdown::Write);
    }
}
