//! A node that starts from a damaged disk.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use node::stack::{Config, Stack};
use overlay::io::{Command, Snapshot};
use overlay::time::{Now, WallTime};

use crate::messages::identity;
use crate::script::Script;
use crate::sessions::{Store, WALL_US};

/// Timers that a started node runs before it is let go.
const MAX_TURNS: usize = 20;

/// What a founder that has a session has on disk after a while.
static DISK: LazyLock<Snapshot> = LazyLock::new(|| {
    let mut disk = Store::made().disk(0);
    let mut stack = stack();
    let mut now = start();
    stack.start(&Snapshot::new(), now).expect("an empty disk is none");
    for _ in 0..100 {
        while let Some(command) = stack.poll_command() {
            if let Command::Persist { key, bytes } = command {
                stack.handle_persisted(&key, now);
                disk.insert(key, bytes);
            }
        }
        now = now.after(Duration::from_secs(1));
        stack.handle_timeout(now);
    }
    // What a node has only after meeting others: empty lists, for the fuzzer to fill.
    let others =
        ["overlay/slots/0", "overlay/slots/1", "overlay/known", "overlay/parents", "overlay/titles", "stack/pins"];
    others.into_iter().for_each(|key| {
        disk.entry(key.to_owned()).or_insert_with(|| vec![0].into());
    });
    disk
});

fn start() -> Now {
    Now { wall: WallTime::from_unix_micros(WALL_US), ..Now::default() }
}

fn stack() -> Stack {
    Stack::new(Config::default(), identity(1), [51; 32], [1; 32], start()).expect("the default makes sense")
}

/// The start succeeds, or says in one line what is damaged; and a node that started works.
pub fn node_store(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let disk: BTreeMap<_, _> =
        DISK.iter().map(|(key, value)| (key.clone(), damaged(value, &mut script).into())).collect();
    let (mut stack, mut now) = (stack(), start());
    if let Err(line) = stack.start(&disk, now) {
        assert!(!line.contains('\n'), "{line}");
        return;
    }
    for _ in 0..MAX_TURNS {
        while stack.poll_command().is_some() || stack.poll_event().is_some() || stack.poll_transmit().is_some() {}
        let Some((at, _)) = stack.poll_timeout() else { return };
        now = now.after(at.since(now.instant));
        stack.handle_timeout(now);
    }
}

/// The value as it was, changed, or another one.
fn damaged(value: &[u8], script: &mut Script<'_>) -> Vec<u8> {
    let mut value = value.to_vec();
    match script.below(4) {
        0 => {}
        1 => {
            let (at, bits) = (script.below(256), script.byte());
            if let Some(byte) = value.get_mut(at) {
                *byte ^= bits;
            }
        }
        2 => value.truncate(script.below(256)),
        _ => value = script.chunk().to_vec(),
    }
    value
}
