//! What a node reads from programs, people and files on its own machine, and how it cuts a link's bytes into frames.

use core::fmt::Display;
use core::str::FromStr;
use std::path::{Component, Path};

use node::config::Config;
use node::control::server::fuzzing::lines;
use node::control::wire::{MAX_LINE_BYTES, Reply, Request};
use node::files::folder::safe_name;
use node::files::word::{self, Answer, MAX_WORD_BYTES, Word};
use node::invite;
use node::links::lane::fuzzing::frames;
use node::local::service::{Forward, ServiceName, Target};
use node::local::socks::protocol as socks;
use node::recovery::RecoveryKey;
use node::stack;
use overlay::io::Lane;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::script::Script;

/// What parses prints as what parses; a complaint is one line.
pub fn node_text(bytes: &[u8]) {
    match Request::parse(bytes) {
        Ok(request) => {
            let line = serde_json::to_vec(&request).expect("every request can be written");
            assert_eq!(Request::parse(&line), Ok(request));
        }
        Err(fault) => assert!(!fault.message.contains('\n'), "{}", fault.message),
    }
    if let Ok(reply) = serde_json::from_slice::<Reply>(bytes) {
        let line = reply.to_line();
        assert_eq!(line.find('\n'), Some(line.len() - 1));
        assert!(serde_json::from_str::<Reply>(&line).is_ok());
    }
    strangers(bytes);
    is_written_as_it_was_read::<Word>(bytes);
    is_written_as_it_was_read::<Answer>(bytes);
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    prints_as_it_parses::<ServiceName>(text);
    prints_as_it_parses::<Forward>(text);
    prints_as_it_parses::<Target>(text);
    if let Ok(key) = text.parse::<RecoveryKey>() {
        assert!(key.to_text().parse::<RecoveryKey>().is_ok_and(|again| again.to_text() == key.to_text()));
    }
    names_a_file_in_its_folder(text);
    if let Err(error) = Config::parse(text, Path::new("config.toml")) {
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

/// What comes by mail, from peers' stacks, and from programs that want the proxy.
fn strangers(bytes: &[u8]) {
    if let Some(invite) = invite::fuzzing::from_bytes(bytes) {
        let text = invite.to_text().expect("what was read is not too long");
        assert_eq!(text.parse(), Ok(invite));
    }
    let _ = stack::fuzzing::addresses(bytes);
    for password in [None, Some("word")] {
        let _ = socks::fuzzing::is_request(bytes, password);
    }
}

/// What peers say about files.
fn is_written_as_it_was_read<T: DeserializeOwned + Serialize + PartialEq>(mut bytes: &[u8]) {
    let Ok(Some(read)) = word::read::<T>(&mut bytes) else { return };
    let mut written = Vec::new();
    word::write(&mut written, &read).expect("memory takes all");
    // Characters may be written longer than they were read, so a long message is not always one again.
    if written.len() as u64 <= MAX_WORD_BYTES {
        assert!(word::read::<T>(&mut written.as_slice()).is_ok_and(|again| again == Some(read)));
    }
}

fn names_a_file_in_its_folder(text: &str) {
    let Some(name) = safe_name(text) else { return };
    let parts: Vec<_> = Path::new(&name).components().collect();
    assert!(matches!(parts[..], [Component::Normal(part)] if part == name.as_str()), "{name:?}");
    assert!(!name.starts_with('.') && !name.contains(char::is_control), "{name:?}");
    assert_eq!(safe_name(&name), Some(name));
}

fn prints_as_it_parses<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert!(value.to_string().parse().is_ok_and(|again: T| again == value), "{text:?}");
    }
}

/// Frames of a lane, lines of the control socket: what is taken out is what was put in, and no longer than allowed.
pub fn node_bytes(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    match script.below(3) {
        0 => cut(script.rest(), Lane::Control),
        1 => cut(script.rest(), Lane::Data),
        _ => {
            let text = script.rest();
            let lines = lines(text);
            assert!(lines.iter().all(|line| line.len() <= MAX_LINE_BYTES && !line.contains(&b'\n')));
            let again: Vec<u8> = lines.iter().flat_map(|line| [line.as_slice(), b"\n"].concat()).collect();
            assert!(text.starts_with(&again));
        }
    }
}

fn cut(bytes: &[u8], lane: Lane) {
    let frames = frames(bytes, lane);
    assert!(frames.iter().all(|frame| frame.len() <= lane.max_frame_bytes()));
    let length = |frame: &Vec<u8>| u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes();
    let again: Vec<u8> = frames.iter().flat_map(|frame| [length(frame).as_slice(), frame].concat()).collect();
    assert!(bytes.starts_with(&again));
}
