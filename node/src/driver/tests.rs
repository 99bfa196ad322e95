//! What the loop makes of a machine that slept, in virtual time.

use std::sync::atomic::{AtomicU64, Ordering};

use overlay::id::Identity;
use overlay::time::WallTime;

use super::*;
use crate::stack::Config;
use crate::store::Nowhere;

const BOB: &str = "/ip4/192.0.2.1/tcp/4001";
const MS: Duration = Duration::from_millis(1);

/// A node that wants to join an overlay, and never reaches anybody: the driver does not carry out what the stack asks for.
struct Machine {
    driver: Driver,
    suspended_ms: Arc<AtomicU64>,
    now: Now,
    _started: Started,
}

impl Machine {
    fn new() -> Self {
        let now = Now { wall: WallTime::from_unix_micros(1_800_000_000_000_000), ..Now::default() };
        let config = Config { joins: vec![BOB.parse().unwrap()], ..Config::default() };
        let stack = Stack::new(config, Identity::from_secret(&[1; 32]), [2; 32], [3; 32], now).unwrap();
        let secret = Zeroizing::new([1; 32]);
        let (store, snapshot) = (Arc::new(Nowhere), Snapshot::new());
        let setup = Setup { stack, secret, listen: Vec::new(), bulk: false, store, snapshot };
        // It slept before, too: long enough to be noticed if that counted.
        let suspended_ms = Arc::new(AtomicU64::new(50_000));
        let read = Arc::clone(&suspended_ms);
        let suspended = move || Duration::from_millis(read.load(Ordering::Relaxed));
        let (driver, _, started) = Driver::new(setup, Box::new(suspended), now).unwrap();
        Self { driver, suspended_ms, now, _started: started }
    }

    /// One turn of the loop, a millisecond later; whether Bob is dialled.
    fn dials(&mut self, mut inputs: Vec<links::Input>) -> bool {
        self.now = self.now.after(MS);
        self.driver.take_in(&mut inputs, self.now);
        let commands = std::iter::from_fn(|| self.driver.stack.poll_command());
        commands.filter(|command| *command == Command::Dial(BOB.parse().unwrap())).count() > 0
    }

    /// Until Bob was dialled in vain so often that the next time is a while away.
    fn wait_in_vain(&mut self) {
        for _ in 0..12 {
            while !self.dials(Vec::new()) {}
            let failed = links::Input::DialFailed { address: BOB.parse().unwrap() };
            assert!(!self.dials(vec![failed]));
        }
        assert!((0..50).all(|_| !self.dials(Vec::new())), "it is not dialled all the time");
    }

    fn sleep_ms(&self, ms: u64) {
        self.suspended_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

/// Backoffs begin anew, and whoever asks the local network for neighbours asks the new one: as when an address changes.
#[tokio::test]
async fn a_machine_that_slept_does_what_it_does_when_an_address_changes() {
    let (mut moved, mut slept) = (Machine::new(), Machine::new());
    moved.wait_in_vain();
    slept.wait_in_vain();
    assert!(moved.dials(vec![links::Input::AddressChanged]));
    slept.sleep_ms(2_000);
    assert!(slept.dials(Vec::new()));
    for machine in [&mut moved, &mut slept] {
        assert_eq!(machine.driver.stack.networks(), 1);
        assert!((0..50).all(|_| !machine.dials(Vec::new())), "once");
        assert_eq!(machine.driver.stack.networks(), 1);
        // Later failures count from the beginning.
        let failed = links::Input::DialFailed { address: BOB.parse().unwrap() };
        assert!(!machine.dials(vec![failed]));
        assert!((0..200).any(|_| machine.dials(Vec::new())));
    }
    slept.sleep_ms(3_600_000);
    slept.dials(Vec::new());
    assert_eq!(slept.driver.stack.networks(), 2, "the next time, too");
}

#[tokio::test]
async fn clocks_that_differ_a_little_are_no_sleep() {
    let mut machine = Machine::new();
    machine.wait_in_vain();
    // Up and down: nothing adds up.
    for turn in 0..40 {
        if turn % 2 == 0 {
            machine.sleep_ms(900);
        } else {
            machine.suspended_ms.fetch_sub(900, Ordering::Relaxed);
        }
        assert!(!machine.dials(Vec::new()));
    }
    assert_eq!(machine.driver.stack.networks(), 0);
}
