//! Both sides over a socket, and what a hostile one may say.

use std::fs;
use std::io::{BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use super::folder::{Folder, Partial};
use super::receive::{Received, next_offer, receive};
use super::send::{Sent, Source, send};
use super::word::{self, Answer, Why, Word};
use super::{Progress, Trouble, hex};
use sha2::{Digest as _, Sha256};

const SENDER: &str = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";

struct Place {
    there: tempfile::TempDir,
    here: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { there: tempfile::tempdir().unwrap(), here: tempfile::tempdir().unwrap() }
    }

    fn folder(&self, force: bool) -> Folder {
        Folder { path: self.here.path().to_owned(), force }
    }

    fn source(&self, name: &str, content: &[u8]) -> Source {
        let path = self.there.path().join(name);
        fs::write(&path, content).unwrap();
        Source::open(&path).unwrap()
    }

    fn partial(&self, name: &str) -> std::path::PathBuf {
        self.here.path().join(format!(".{name}.from-{}.part", &SENDER[SENDER.len() - 16..]))
    }

    /// One file from the one side to the other.
    fn transfer(&self, source: &Source, force: bool) -> (Result<Sent, Trouble>, Result<Received, Trouble>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let folder = self.folder(force);
        std::thread::scope(|scope| {
            let receiving = scope.spawn(move || serve(&folder, theirs, &mut |_| {}));
            let answers = answers(&ours);
            let sent = send(source, 0, &answers, &mut (&ours), &mut |_| {});
            drop(answers);
            ours.shutdown(std::net::Shutdown::Both).unwrap();
            (sent, receiving.join().unwrap())
        })
    }
}

fn serve(folder: &Folder, socket: UnixStream, watch: &mut dyn FnMut(Progress)) -> Result<Received, Trouble> {
    let (mut from, mut to) = (BufReader::new(socket.try_clone().unwrap()), socket);
    let offer = next_offer(&mut from, &mut to)?.unwrap();
    receive(folder, SENDER, &offer, &mut from, &mut to, watch)
}

fn answers(socket: &UnixStream) -> Receiver<Answer> {
    let (sender, answers) = channel();
    let mut from = BufReader::new(socket.try_clone().unwrap());
    std::thread::spawn(move || {
        while let Ok(Some(answer)) = word::read(&mut from) {
            let _ = sender.send(answer);
        }
    });
    answers
}

/// What the receiver answers to these bytes, which then end, and what becomes of them.
fn said(folder: &Folder, bytes: &[u8]) -> (Vec<Answer>, Result<Received, Trouble>) {
    let mut to = Vec::new();
    let mut from = bytes;
    let result = match next_offer(&mut from, &mut to) {
        Ok(offer) => receive(folder, SENDER, &offer.unwrap(), &mut from, &mut to, &mut |_| {}),
        Err(trouble) => Err(trouble),
    };
    let mut answers = Vec::new();
    let mut written = to.as_slice();
    while let Some(answer) = word::read(&mut written).unwrap() {
        answers.push(answer);
    }
    (answers, result)
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| u8::try_from(index.wrapping_mul(2_654_435_761) >> 13 & 0xff).unwrap()).collect()
}

fn offer(name: &str, bytes: u64) -> Vec<u8> {
    let mut line = Vec::new();
    word::write(&mut line, &Word::Offer { version: 1, name: name.to_owned(), bytes, left: 0 }).unwrap();
    line
}

#[test]
fn files_of_all_sizes_arrive_exactly() {
    let place = Place::new();
    for bytes in [0, 1, 256 * 1024, 256 * 1024 + 1, 3_000_000] {
        let name = format!("f{bytes}");
        let source = place.source(&name, &content(bytes));
        let (sent, received) = place.transfer(&source, false);
        let (sent, received) = (sent.unwrap(), received.unwrap());
        assert!(fs::read(&received.path).unwrap() == content(bytes));
        assert_eq!(received.path, place.here.path().join(&name));
        assert_eq!((sent.bytes, received.bytes, sent.resumed_from), (bytes as u64, bytes as u64, 0));
        assert_eq!(sent.sha256.as_str(), hex(&Sha256::digest(content(bytes))));
        assert_eq!(sent.sha256, received.sha256);
        assert!(!place.partial(&name).exists());
    }
}

#[test]
fn a_part_that_is_there_is_not_sent_again_and_a_wrong_part_is() {
    let place = Place::new();
    let all = content(2_000_000);
    let source = place.source("x", &all);
    let wrong: Vec<u8> = all[..700_000].iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 699_999)).collect();
    let longer = [all.as_slice(), b"more"].concat();
    for (there, resumed_from) in [(&all[..700_000], 700_000), (&all[..], 2_000_000), (&wrong, 0), (&longer, 0)] {
        fs::write(place.partial("x"), there).unwrap();
        let (sent, received) = place.transfer(&source, true);
        assert_eq!((sent.unwrap().resumed_from, received.unwrap().resumed_from), (resumed_from, resumed_from));
        assert!(fs::read(place.here.path().join("x")).unwrap() == all);
    }
}

#[test]
fn a_connection_that_breaks_leaves_what_has_arrived() {
    let place = Place::new();
    let all = content(100_000);
    let bytes = [offer("x", 100_000), b"{\"go\":{\"from\":0}}\n".to_vec(), all[..40_000].to_vec()].concat();
    let (answers, result) = said(&place.folder(false), &bytes);
    assert!(matches!(result, Err(Trouble::Broken(_))) && matches!(answers[..], [Answer::Have { bytes: 0, .. }]));
    assert!(fs::read(place.partial("x")).unwrap() == all[..40_000] && !place.here.path().join("x").exists());
    let (sent, _) = place.transfer(&place.source("x", &all), false);
    assert_eq!(sent.unwrap().resumed_from, 40_000);
}

#[test]
fn a_wrong_checksum_gives_no_file() {
    let place = Place::new();
    let sum = "0".repeat(64);
    let tail = format!("{{\"go\":{{\"from\":0}}}}\nhello{{\"sum\":{{\"sha256\":\"{sum}\"}}}}\n");
    let (answers, result) = said(&place.folder(false), &[offer("x", 5), tail.into_bytes()].concat());
    assert!(matches!(result, Err(Trouble::Refused(Why::Damaged))));
    assert_eq!(answers.last(), Some(&Answer::Refused { why: Why::Damaged }));
    assert!(!place.here.path().join("x").exists());
    assert_eq!(place.transfer(&place.source("x", b"right"), false).0.unwrap().resumed_from, 0);
    assert_eq!(fs::read(place.here.path().join("x")).unwrap(), b"right");
}

#[test]
fn names_from_outside_stay_in_the_folder() {
    let place = Place::new();
    let folder = Folder { path: place.here.path().join("inner"), force: true };
    fs::create_dir(&folder.path).unwrap();
    fs::write(place.here.path().join("victim"), b"mine").unwrap();
    let sum = hex(&Sha256::digest(b"hello"));
    let tail = format!("{{\"go\":{{\"from\":0}}}}\nhello{{\"sum\":{{\"sha256\":\"{sum}\"}}}}\n");
    for name in ["../victim", "/victim", "..", ".", "", "a/../../victim", "\0", ".bashrc"] {
        let (answers, result) = said(&folder, &[offer(name, 5), tail.clone().into_bytes()].concat());
        match result {
            Ok(received) => assert_eq!(received.path.parent(), Some(folder.path.as_path()), "{name}"),
            Err(trouble) => {
                assert!(matches!(trouble, Trouble::Refused(Why::Name)), "{name}: {trouble:?}");
                assert_eq!(answers, [Answer::Refused { why: Why::Name }]);
            }
        }
    }
    assert_eq!(fs::read(place.here.path().join("victim")).unwrap(), b"mine");
    let names = |folder: &Path| {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(place.here.path()), ["inner", "victim"]);
    assert_eq!(names(&folder.path), ["_._victim", "_bashrc", "_victim", "a_.._.._victim"]);
}

/// How many descriptors of this process lead to the file at `path`.
fn descriptors(path: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    open.filter(|target| target == path).count()
}

/// What `second` comes to, who has to wait for `first`, which becomes the file "x" meanwhile.
fn after_waiting_for<T: Send>(first: Partial, folder: &Folder, second: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(second);
        // It has opened the file, and the first one has it.
        while descriptors(&first.path) < 2 {
            assert!(!waiting.is_finished(), "it did not wait");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        folder.finish(&first, "x").unwrap();
        drop(first);
        waiting.join().unwrap()
    })
}

#[test]
fn who_waited_for_a_file_that_was_finished_meanwhile_gets_a_new_one() {
    let place = Place::new();
    // As /proc says it.
    let folder = Folder { path: place.here.path().canonicalize().unwrap(), force: false };
    let mut first = folder.partial("x", SENDER, &mut |_| {}).unwrap();
    first.file.write_all(b"hello").unwrap();
    let mut second = after_waiting_for(first, &folder, || folder.partial("x", SENDER, &mut |_| {}).unwrap());
    assert_eq!(second.bytes, 0, "it has what the first one wrote");
    second.file.write_all(b"other").unwrap();
    second.clear().unwrap();
    assert_eq!(fs::read(place.here.path().join("x")).unwrap(), b"hello");
}

/// His first connection broke when all had arrived, and he came again.
#[test]
fn who_waited_for_a_file_that_is_whole_now_does_not_send_it_again() {
    let place = Place::new();
    let folder = Folder { path: place.here.path().canonicalize().unwrap(), force: false };
    let mut first = folder.partial("x", SENDER, &mut |_| {}).unwrap();
    first.file.write_all(b"hello").unwrap();
    let sum = format!("{{\"sum\":{{\"sha256\":\"{}\"}}}}\n", hex(&Sha256::digest(b"hello")));
    let words = [offer("x", 5), sum.into_bytes()].concat();
    let (answers, result) = after_waiting_for(first, &folder, || said(&folder, &words));
    assert_eq!(answers, [Answer::Exists {}, Answer::Stored { name: "x".to_owned() }]);
    assert_eq!(result.unwrap().resumed_from, 5);
    assert_eq!(fs::read_dir(place.here.path()).unwrap().count(), 1, "something is left over");
}

#[test]
fn a_file_that_is_there_stays_unless_forced() {
    let place = Place::new();
    let at = place.here.path().join("x");
    for there in [&b"mine"[..], b"longer than theirs"] {
        fs::write(&at, there).unwrap();
        let (sent, received) = place.transfer(&place.source("x", b"ours"), false);
        assert!(matches!(sent, Err(Trouble::Refused(Why::Exists))), "{sent:?}");
        assert!(matches!(received, Err(Trouble::Refused(Why::Exists))));
        assert_eq!(fs::read(&at).unwrap(), there);
    }
    let (sent, _) = place.transfer(&place.source("x", b"ours"), true);
    assert_eq!((sent.unwrap().bytes, fs::read(&at).unwrap()), (4, b"ours".to_vec()));
    // The same again: the sender did not hear that it had arrived.
    let (sent, received) = place.transfer(&place.source("x", b"ours"), false);
    assert_eq!((sent.unwrap().resumed_from, received.unwrap().bytes), (4, 4));
}

#[test]
fn what_makes_no_sense_ends_it() {
    let place = Place::new();
    let folder = place.folder(false);
    let with = |tail: &[u8]| said(&folder, &[offer("x", 5), tail.to_vec()].concat()).1;
    for tail in ["{\"go\":{\"from\":3}}\n", "{\"go\":{\"from\":0}}\nhello{\"go\":{\"from\":0}}\n", "nonsense\n", ""] {
        assert!(matches!(with(tail.as_bytes()), Err(Trouble::Broken(_))), "{tail}");
    }
    let newer = b"{\"offer\":{\"version\":2,\"name\":\"x\",\"bytes\":1,\"left\":0}}\n";
    assert!(matches!(said(&folder, newer).1, Err(Trouble::Refused(Why::Version))));
    let giant = said(&folder, &offer("giant", u64::MAX));
    assert_eq!(giant.0, [Answer::Refused { why: Why::Full }], "{:?}", giant.1);
}

#[test]
fn a_file_that_changes_meanwhile_is_not_sent_as_a_mixture() {
    let place = Place::new();
    let source = place.source("x", &content(1_000_000));
    fs::OpenOptions::new().append(true).open(place.there.path().join("x")).unwrap().write_all(b"more").unwrap();
    let (sent, received) = place.transfer(&source, false);
    assert!(matches!(sent, Err(Trouble::Here(_))) && received.is_err());
    assert!(!place.here.path().join("x").exists());
    assert!(Source::open(place.there.path()).is_err(), "a folder");
}
