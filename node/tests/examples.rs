//! Every example in `muses help` works, and every `--json` output is what docs/reference/json.md says.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitStatus, Output, Stdio};

use common::schema::{compare, differences, documented};
use common::{Node, alice_and_bob, every_key, foreground, greeter, help, muses, stderr, until};
use node::recovery::RecoveryKey;
use overlay::id::Identity;
use overlay::record::Endorsed;
use serde_json::Value;

/// In which order the verbs are tried: what one makes another uses.
const ORDER: [&str; 39] = [
    "status",
    "peers",
    "lookup",
    "ping",
    "trace",
    "services",
    "expose",
    "invite",
    "invites",
    "uninvite",
    "connect",
    "pipe",
    "reverse",
    "send",
    "receive",
    "sessions",
    "doctor",
    "dashboard",
    "disconnect",
    "cut",
    "unexpose",
    "name claim",
    "name list",
    "name pin",
    "name unpin",
    "key show",
    "key rotate",
    "key recovery",
    "key recover",
    "config init",
    "config check",
    "config show",
    "completions",
    "man",
    "network down",
    "network up",
    "join",
    "down",
    "key revoke",
];
/// In the foreground or a stream: without `--json`.
const WITHOUT_JSON: [&str; 3] = ["up", "join", "pipe"];
/// Their examples are those of a verb in them.
const GROUPS: [&str; 4] = ["name", "key", "config", "network"];

#[test]
fn every_verb_has_an_example_that_works() {
    let examples = examples();
    let verbs: BTreeSet<&str> = examples.iter().map(|(verb, _)| verb.as_str()).collect();
    let tried: BTreeSet<&str> = ORDER.into_iter().chain(["up"]).chain(GROUPS).collect();
    assert_eq!(verbs, tried);
    let place = Place::new();
    for verb in ORDER {
        let is_ours = |of: &str, line: &str| of == verb || (GROUPS.contains(&of) && line.starts_with(verb));
        for (_, line) in examples.iter().filter(|(of, line)| is_ours(of, line)) {
            place.works(verb, &place.filled_in(line));
        }
    }
    let (_, up) = examples.iter().find(|(verb, _)| verb == "up").unwrap();
    let folder = tempfile::tempdir().unwrap();
    runs(folder.path(), &place.filled_in(up));
}

#[test]
fn every_json_output_is_as_documented() {
    let documented = documented("json.md");
    let verbs: BTreeSet<&str> = documented.keys().map(String::as_str).collect();
    let tried: BTreeSet<&str> = ORDER.into_iter().filter(|verb| !WITHOUT_JSON.contains(verb)).collect();
    assert_eq!(verbs, tried);
    let (place, examples) = (Place::new(), examples());
    let _open = place.is_busy();
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut is_as_documented = |verb: &str, line: &str, output: &Output| {
        let reply = reply(line, output);
        let complaints = differences(&reply["data"], &documented[verb], seen.entry(verb.to_owned()).or_default());
        assert!(complaints.is_empty(), "{line}: {complaints:#?}\n{reply}");
    };
    let line = format!("expose kept {} --json", greeter(b"kept"));
    is_as_documented("expose", &line, &place.bob.muses(&line));
    for (verb, line) in ORDER.iter().flat_map(|verb| examples.iter().filter(move |(of, _)| of == verb)) {
        let line = place.filled_in(line);
        if WITHOUT_JSON.contains(&verb.as_str()) {
            place.works(verb, &line);
            continue;
        }
        let output = place.output(verb, &format!("{line} --json"));
        assert_eq!(output.status.code(), Some(0), "{line}: {}", stderr(&output));
        is_as_documented(verb, &line, &output);
    }
    let (folder, line) = (tempfile::tempdir().unwrap(), "config show --config all.toml --json");
    let file = folder.path().join("all.toml");
    fs::write(&file, every_key()).unwrap();
    let line = line.replace("all.toml", &file.display().to_string());
    is_as_documented("config show", &line, &muses(folder.path(), &line));
    // What is never there is not known to be as the page says.
    for (verb, rows) in &documented {
        let unseen: Vec<&String> = rows.keys().filter(|row| !seen[verb.as_str()].contains(*row)).collect();
        assert!(unseen.is_empty(), "`{verb}` --json never had {unseen:#?}");
    }
}

/// The one line that was printed.
fn reply(line: &str, output: &Output) -> Value {
    let mut lines = output.stdout.split(|byte| *byte == b'\n');
    let reply: Value = serde_json::from_slice(lines.next().unwrap()).unwrap();
    assert!(lines.all(<[u8]>::is_empty), "{line}: more than one line");
    assert_eq!((&reply["status"], reply.as_object().unwrap().len()), (&"ok".into(), 2), "{line}");
    reply
}

#[test]
fn who_has_no_json_does_not_offer_it() {
    for verb in help::verbs() {
        let offers = help::of(&verb).contains("--json");
        assert_eq!(offers, !WITHOUT_JSON.contains(&verb.as_str()), "{verb}");
    }
    let nobody = tempfile::tempdir().unwrap();
    for line in ["--json up", "join --json", "pipe --json alice/ssh"] {
        let refused: Value = serde_json::from_slice(&muses(nobody.path(), line).stdout).unwrap();
        assert_eq!(refused["code"], 2, "{line}: {refused}");
    }
}

/// What the doctor finds is no error; its own is that it cannot ask.
#[test]
fn a_layer_that_fails_is_named() {
    let (_alice, bob) = alice_and_bob();
    let output = bob.muses("doctor nobody --json");
    let data = &reply("doctor nobody", &output)["data"];
    assert!(compare(data, &documented("json.md")["doctor"]).is_empty(), "{data}");
    assert_eq!((&data["failed"], data["code"].as_i64()), (&"record".into(), output.status.code().map(i64::from)));
    assert_eq!(data["code"], 3);
}

#[test]
fn errors_are_the_documented_envelope() {
    // The page shows a good answer and a bad one, to the same question.
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/json.md")).unwrap();
    let shown = page.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let (good, bad) = shown.split_once('\n').unwrap();
    let good: Value = serde_json::from_str(good).unwrap();
    assert_eq!((&good["status"], good.as_object().unwrap().len()), (&"ok".into(), 2));
    assert_eq!(compare(&good["data"], &documented("json.md")["ping"]), Vec::<String>::new());
    let alone = Node::start(&[]);
    alone.json_when("status", |status| status["address"].is_string());
    assert_eq!(String::from_utf8(alone.muses("ping alice --json").stdout).unwrap(), bad);
    let bad: Value = serde_json::from_str(bad).unwrap();
    let keys: Vec<&String> = bad.as_object().unwrap().keys().collect();

    let nobody = tempfile::tempdir().unwrap();
    for line in [
        "fly",
        "connect",
        "status",
        "ping alice",
        "connect alice/ssh --listen 127.0.0.1:0",
        "config check /nowhere/x",
        "receive",
        "send /nowhere/x alice",
        "pipe alice/ssh",
        "up",
        "join",
    ] {
        let output = muses(nobody.path(), &format!("{line} --json"));
        let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(reply.as_object().unwrap().keys().collect::<Vec<_>>(), keys, "{line}");
        assert_eq!((&reply["status"], reply["code"].as_i64()), (&"error".into(), output.status.code().map(i64::from)));
        assert!(stderr(&output).contains(reply["message"].as_str().unwrap()), "{line}: {}", stderr(&output));
    }
}

/// Two nodes and what the examples name.
struct Place {
    alice: Node,
    bob: Node,
    port: u16,
    invite: String,
    /// Alice's.
    id: String,
    /// Bob's, with a secret, and its id.
    open: (String, String),
    /// Of somebody who is not there.
    recovery: String,
    files: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let (alice, bob) = alice_and_bob();
        alice.json(&format!("expose ssh {} --allow bob", greeter(b"SSH-2.0-nothing")));
        alice.json("expose door listen:127.0.0.1:0 --allow bob");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let invite = alice.json("invite")["invite"].as_str().unwrap().to_owned();
        let id = alice.json("status")["node"].as_str().unwrap().to_owned();
        bob.json(&format!("expose guests {}", greeter(b"guests")));
        let open = bob.json("invite --allow guests --uses 2");
        let open = ["invite", "id"].map(|field| open[field].as_str().unwrap().to_owned()).into();
        let nobody = Identity::from_secret(&[77; 32]);
        let recovery = RecoveryKey::new(nobody.id(), [78; 32].into(), |key| Endorsed::make(&nobody, key));
        let recovery = recovery.to_text().as_str().to_owned();
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("big.iso"), b"not so big").unwrap();
        Self { alice, bob, port, invite, id, open, recovery, files }
    }

    /// Bob offers something, too, has a guest, and a port at Alice's service and a connection through it, which lives as long as what this returns.
    fn is_busy(&self) -> (TcpListener, TcpStream, Node) {
        let guest = Node::join(&self.open.0, &["--name", "carol"]);
        self.bob.json_when("invites", |open| open[0]["guests"][0].is_string());
        let service = TcpListener::bind("127.0.0.1:0").unwrap();
        self.bob.json(&format!("expose kept {} --allow alice,anyone", service.local_addr().unwrap()));
        self.alice.json(&format!("expose silent {} --allow bob", service.local_addr().unwrap()));
        let port =
            self.bob.json("connect alice/silent --listen 127.0.0.1:0 --keep")["listen"].as_str().unwrap().to_owned();
        let program = TcpStream::connect(port).unwrap();
        let is_busy = |session: &Value| session["streams"].as_array().is_some_and(|all| !all.is_empty());
        self.bob.json_when("sessions", |all| all.as_array().is_some_and(|all| all.iter().any(is_busy)));
        (service, program, guest)
    }

    /// The example with what stands for something put in its place.
    fn filled_in(&self, line: &str) -> String {
        let line = line.replace("muses1...", &self.invite).replace("12D3KooW...", &self.id);
        let line = line.replace("musesr1...", &self.recovery).replace("1a2b3c4d", &self.open.1);
        let line = line.replace("big.iso", &self.files.path().join("big.iso").display().to_string());
        let line = line.replace("receive", &format!("receive --dir {}", self.inbox("bob")));
        line.replace("127.0.0.1:2222", &format!("127.0.0.1:{}", self.port))
    }

    /// An empty folder for received files.
    fn inbox(&self, whose: &str) -> String {
        let inbox = self.files.path().join(whose);
        let _ = fs::remove_dir_all(&inbox);
        fs::create_dir(&inbox).unwrap();
        inbox.display().to_string()
    }

    /// What Bob's line does, while Alice does what it takes.
    fn output(&self, verb: &str, line: &str) -> Output {
        std::thread::scope(|scope| match verb {
            "send" => {
                scope.spawn(|| self.alice.muses(&format!("receive --from bob --dir {}", self.inbox("alice"))));
                let mut output = self.bob.muses(line);
                until("alice takes files", || {
                    // 4: she does not yet.
                    output.status.code() != Some(4) || {
                        output = self.bob.muses(line);
                        false
                    }
                });
                output
            }
            "receive" => {
                let send = format!("send {} bob", self.files.path().join("big.iso").display());
                scope.spawn(move || until("bob takes files", || self.alice.muses(&send).status.success()));
                self.bob.muses(line)
            }
            // It would stay for ever.
            "reverse" => first_line(self.bob.folder.path(), line),
            // Bob's own end would spoil the rest.
            "key revoke" => self.alice.muses(line),
            _ => self.bob.muses(line),
        })
    }

    fn works(&self, verb: &str, line: &str) {
        if verb == "join" {
            let folder = tempfile::tempdir().unwrap();
            return runs(folder.path(), line);
        }
        let output = self.output(verb, line);
        assert_eq!(output.status.code(), Some(0), "{line}: {}", stderr(&output));
        let silent = ["pipe"].contains(&verb);
        assert!(!output.stdout.is_empty() || silent, "{line} says nothing");
    }
}

/// What a verb prints first that stays until it is ended.
fn first_line(folder: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
    command.arg("--data-dir").arg(folder).args(line.split_whitespace()).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut stdout = Vec::new();
    BufReader::new(process.stdout.take().unwrap()).read_until(b'\n', &mut stdout).unwrap();
    assert_eq!(process.try_wait().unwrap(), None, "{line} has ended");
    process.kill().unwrap();
    process.wait().unwrap();
    Output { status: ExitStatus::default(), stdout, stderr: Vec::new() }
}

/// A node in the foreground that can be talked to and ended.
fn runs(folder: &Path, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut process = foreground(folder, words[0], &words[1..]).spawn().unwrap();
    until(line, || muses(folder, "status").status.success());
    assert_eq!(muses(folder, "down").status.code(), Some(0));
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

/// Verb and example, without the program's name, from the help texts.
fn examples() -> Vec<(String, String)> {
    let mut examples = Vec::new();
    for verb in help::verbs() {
        let help = help::of(&verb);
        let lines = help.lines().skip_while(|line| !line.starts_with("Example")).skip(1);
        examples.extend(lines.filter_map(|line| Some((verb.clone(), line.strip_prefix("  muses ")?.to_owned()))));
    }
    examples
}
