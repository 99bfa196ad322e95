//! Verbs that a running node answers.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::out::print;
use super::up::Up;
use super::{join, show};
use crate::control::client::Client;
use crate::control::wire::{Reply, Request};
use crate::exit::{Code, Fault};
use crate::folder::is_running;
use crate::local::service::{Forward, ServiceName, Target};

/// How long a node that has left may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the node on `data_dir` and prints its answer, for people or as it came.
pub(super) fn verb(data_dir: &Path, request: &Request, json: bool) -> Result<(), Fault> {
    let answer = Client::connect(data_dir)?.ask(request);
    // It may have left and not stored all: it ends all the same.
    let has_left = |fault: &Fault| fault.code == Code::State as u8;
    if *request == (Request::Down {}) && answer.as_ref().err().is_none_or(has_left) {
        wait_for_end(data_dir);
    }
    let data = answer?;
    let text = if json { json_line(Ok(data)) } else { show::answer(request, data, data_dir)? };
    print(text)
}

/// Examines the layers to `target`, PEER or PEER/NAME; the exit code is that of the one that fails.
pub(super) fn doctor(data_dir: &Path, target: Option<String>, json: bool) -> Result<ExitCode, Fault> {
    let (peer, service) = match target.as_deref().map(peer_or_service).transpose()? {
        Some((peer, service)) => (Some(peer), service),
        None => (None, None),
    };
    let request = Request::Doctor { peer, service };
    let data = Client::connect(data_dir)?.ask(&request)?;
    let text = if json { json_line(Ok(data.clone())) } else { show::answer(&request, data.clone(), data_dir)? };
    print(text)?;
    if let Some(layer) = data.get("failed").and_then(Value::as_str) {
        let _ = writeln!(std::io::stderr(), "muses: this layer fails: {layer}");
    }
    let code = data.get("code").and_then(Value::as_u64).and_then(|code| u8::try_from(code).ok());
    Ok(code.unwrap_or(Code::Failed as u8).into())
}

/// `PEER`, or `PEER/NAME`.
pub(super) fn peer_or_service(text: &str) -> Result<(String, Option<ServiceName>), Fault> {
    if !text.contains('/') {
        return Ok((text.to_owned(), None));
    }
    let target: Target = text.parse().map_err(|line: String| Fault::new(Code::Usage, line))?;
    Ok((target.peer, Some(target.service)))
}

/// Has an invite written and shows it; as a QR code, too, where somebody can scan it. To a program goes the invite alone: what there is to say about it is on stderr then.
pub(super) fn invite(data_dir: &Path, request: &Request, json: bool, qr: bool) -> Result<(), Fault> {
    let data = Client::connect(data_dir)?.ask(request)?;
    if json {
        return print(json_line(Ok(data)));
    }
    let invite = data.get("invite").and_then(Value::as_str).unwrap_or_default().to_owned();
    let text = show::answer(request, data, data_dir)?;
    if qr || std::io::stdout().is_terminal() {
        print(text + &show::qr_code(&invite)?)?;
    } else {
        print(format!("{invite}\n"))?;
        let about = text.strip_prefix(invite.as_str()).unwrap_or(&text).trim_start();
        let _ = std::io::stderr().write_all(about.as_bytes());
    }
    Ok(())
}

/// Gives the node that runs on `data_dir` the ways into its overlay that were typed.
pub(super) fn join(data_dir: &Path, mut up: Up) -> Result<(), Fault> {
    let ways = std::mem::take(&mut up.join);
    if up != Up::from_environment()? {
        let line = format!(
            "a node runs on {} already, and other flags than a way in are for its start; without them this is done at once, without an interruption",
            data_dir.display()
        );
        return Err(Fault::new(Code::AlreadyRunning, line));
    }
    for way in ways {
        let way = join::typed_or_read(&way)?.trim().to_owned();
        verb(data_dir, &Request::Join { way }, false)?;
    }
    Ok(())
}

/// Prints the dashboard's URL, and opens it in a browser if asked to.
pub(super) fn dashboard(data_dir: &Path, json: bool, open: bool) -> Result<(), Fault> {
    let request = Request::Dashboard {};
    let data = Client::connect(data_dir)?.ask(&request)?;
    let url = data.get("url").and_then(Value::as_str).unwrap_or_default().to_owned();
    if json {
        // A failure is the one line then.
        if open {
            open_privately(data_dir, &url)?;
        }
        return print(json_line(Ok(data)));
    }
    print(show::answer(&request, data, data_dir)?)?;
    if open { open_privately(data_dir, &url) } else { Ok(()) }
}

/// A page that only leads to `url`, in a file of this user's alone: what is on a command line every user of the machine can read.
fn open_privately(data_dir: &Path, url: &str) -> Result<(), Fault> {
    let path = data_dir.join("dashboard.html");
    let page = format!("<!doctype html><meta http-equiv=\"refresh\" content=\"0;url={url}\"><title>muses</title>\n");
    let write = || {
        let _ = std::fs::remove_file(&path);
        File::options().write(true).create_new(true).mode(0o600).open(&path)?.write_all(page.as_bytes())
    };
    write().map_err(|error| Fault::new(Code::State, format!("cannot write {}: {error}", path.display())))?;
    let browser = Command::new("xdg-open").arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).status();
    if browser.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(Fault::new(
        Code::Failed,
        "no browser could be opened (xdg-open); open by hand what this prints: muses dashboard",
    ))
}

/// Connects stdin and stdout to `target`.
pub(super) fn pipe(data_dir: &Path, target: Target) -> Result<(), Fault> {
    let what = target.to_string();
    let mut client = Client::connect(data_dir)?;
    let data = client.ask(&Request::Pipe { target })?;
    let copied = client.copy(std::io::stdin(), std::io::stdout());
    copied.map_err(|error| Fault::new(Code::Failed, format!("{what}: the connection broke: {error}")))?;
    // That the service has said all does not mean that all input was sent, and the socket's end does not tell a reset from a
    // proper end: the node knows.
    let pipe = data.get("pipe").and_then(Value::as_u64).unwrap_or_default();
    let mut client = Client::connect(data_dir)?;
    while client.ask(&Request::PipeEnd { pipe })?.get("ended") == Some(&Value::Bool(false)) {}
    Ok(())
}

/// Has a port at a peer's lead to `forward`, and stays.
pub(super) fn reverse(data_dir: &Path, target: Target, forward: Forward, json: bool) -> Result<ExitCode, Fault> {
    if forward.is_place() {
        return Err(Fault::new(Code::Usage, format!("{forward} is no service; use HOST:PORT or unix:/PATH")));
    }
    let what = target.to_string();
    let request = Request::Reverse { target, forward };
    let mut client = Client::connect(data_dir)?;
    let data = client.ask(&request)?;
    let text = if json { json_line(Ok(data)) } else { show::answer(&request, data, data_dir)? };
    print(text)?;
    // Nothing more is said: this waits for the end.
    let _ = client.next_reply();
    Err(Fault::new(
        Code::Failed,
        format!("{what}: the port is closed; one of the two nodes has ended, or cut the session"),
    ))
}

/// The node answers `down` when it has left; its folder is free when its process is gone, a moment later.
fn wait_for_end(data_dir: &Path) {
    let deadline = Instant::now() + END_TIMEOUT;
    while is_running(data_dir) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What `--json` prints.
pub(super) fn json_line(result: Result<Value, Fault>) -> String {
    Reply::from(result).to_line()
}
