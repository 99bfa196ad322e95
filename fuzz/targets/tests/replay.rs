//! Everything that the fuzzer found interesting, and every input that once broke something, on the stable compiler.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use targets::{ALL, Target};

/// `fuzz/corpus`
fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus")
}

fn replay(name: &str, target: Target) {
    let folder = corpora().join(name);
    let mut inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} holds nothing", folder.display());
    for input in inputs {
        println!("{}", input.display());
        target(&fs::read(&input).unwrap());
    }
}

macro_rules! replay {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            replay(stringify!($name), targets::$name);
        }
    )*

        /// The names that have a test.
        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
    };
}

replay! {
    muses_frames muses_handshakes muses_messages muses_peer muses_replay muses_sessions
    node_bulk node_bytes node_store node_text
    overlay_addresses overlay_frames overlay_node overlay_packets overlay_signed
}

#[test]
fn each_target_is_fuzzed_and_replayed() {
    let manifest = fs::read_to_string(corpora().join("../Cargo.toml")).unwrap();
    for (name, _) in ALL {
        assert!(REPLAYED.contains(&name), "{name} is not replayed");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
    }
    let mut folders: Vec<_> =
        fs::read_dir(corpora()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    folders.sort();
    assert_eq!(folders, ALL.map(|(name, _)| name), "one corpus for each target, and none besides");
}

/// Any bytes are a list of things to do: targets have to get along with those that no fuzzer has chosen.
#[test]
fn arbitrary_bytes_break_nothing() {
    let mut rng = overlay::rng::Rng::from_seed([9; 32]);
    for (name, target) in ALL {
        println!("{name}");
        for _ in 0..200 {
            let bytes: Vec<u8> = (0..rng.below(300)).map(|_| rng.bytes::<1>()[0]).collect();
            target(&bytes);
        }
    }
}
