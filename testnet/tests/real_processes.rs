//! Real node processes, real sockets: what the simulator cannot show.

#![allow(clippy::unwrap_used)]

#[path = "../../node/tests/common/schema.rs"]
mod schema;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testnet::cluster::Cluster;
use testnet::experiment::{expose, local_port};
use testnet::network::{Loopback, Network as _};
use testnet::sink::Sink;
use testnet::source::{Content, Source};
use testnet::topology::{ALICE, BOB, Topology};
use testnet::wait::{Result, until};

const BINARY: &str = env!("CARGO_BIN_EXE_testnet");
/// Enough for a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The first milestone, kept green: three nodes (and the relay moved to), one session, one move, bytes exact.
#[test]
fn a_download_survives_a_move() {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(BINARY);
    command.args("--topology minimal --bytes 16777216 --outage 2 --runs 2 --json --out".split(' ')).arg(out.path());
    let done = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{stdout}\n{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    schema::holds("testnet.md", "testnet", &report);
    assert_eq!(report["sha256_match"], true, "{report}");
    assert_eq!((&report["app_reconnects"], &report["public_key_ops_in_resume"]), (&Value::from(0), &Value::from(0)));
    assert_eq!(report["svg"], out.path().join("throughput.svg").canonicalize().unwrap().to_str().unwrap());
    assert_eq!(report["csv"], out.path().join("throughput.csv").canonicalize().unwrap().to_str().unwrap());
}

/// A relay that carries the transfer is killed with SIGKILL; the transfer goes on by the other one.
#[test]
fn a_download_survives_kill_9_of_a_relay() -> Result<()> {
    let logs = tempfile::tempdir().unwrap();
    let network = Loopback::with_binary(Topology::doubled(), BINARY);
    let mut cluster = Cluster::start(&network, &network.topology(), logs.path(), |_| {})?;
    cluster.wait_names(PATIENCE)?;

    let content = Content { seed: 9, bytes: 16 << 20 };
    let source = Source::start(network.hosts().listen(ALICE)?, content, 2e6)?;
    expose(&cluster, source.address())?;
    let sink = Sink::on(network.hosts().connect(BOB, local_port(&cluster)?)?)?;
    let reached = |bytes: u64| {
        until(&format!("{bytes} bytes"), PATIENCE, || {
            sink.must_run()?;
            Ok((sink.bytes() > bytes).then_some(()))
        })
    };
    reached(1 << 20)?;
    let before = forwarded(&cluster)?;
    reached(4 << 20)?;
    let after = forwarded(&cluster)?;
    let busiest = after.keys().max_by_key(|name| after[*name] - before[*name]).unwrap().clone();
    assert!(after[&busiest] - before[&busiest] > 100, "no relay carries the transfer: {before:?} {after:?}");
    cluster.kill(&busiest)?;
    let held = sink.bytes();
    assert!(held < content.bytes, "killed too late to show anything");

    let end = until("the end", PATIENCE, || {
        cluster.must_run()?;
        Ok(sink.end())
    })
    .map_err(|trouble| trouble.see(logs.path()))?;
    assert_eq!(end, Ok(content.digest()));
    assert_eq!(source.accepts(), 1);
    Ok(())
}

/// What `testnet bench` prints of one part: one object, and nothing else on stdout.
fn quick_benchmark(part: &str) -> Value {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(BINARY);
    command.arg("--out").arg(out.path()).args(["bench", "--quick", "--only", part, "--json"]);
    let done = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{stdout}\n{stderr}");
    let figures = serde_json::from_str(&stdout).unwrap();
    schema::holds("testnet.md", "testnet bench", &figures);
    figures
}

/// Whoever reads the object finds null for what was left out, and nothing beside the object.
#[test]
fn a_benchmark_prints_one_object_and_null_for_what_it_left_out() {
    let figures = quick_benchmark("rtt");
    assert!(figures["rtt_over_baseline_us"].is_f64() && figures["rtt_us"].is_f64(), "{figures}");
    for left_out in ["throughput_ratio_1hop", "stream_open_us", "bytes_per_idle_session", "resume_by_outage_s"] {
        assert!(figures.get(left_out).is_some_and(Value::is_null), "{left_out}: {figures}");
    }
}

/// Of a thousand sessions that peers set up over a few links at a time, the node has every one.
#[test]
fn many_peers_behind_few_links_all_get_a_session() {
    let figures = quick_benchmark("handshakes");
    assert!(figures["handshakes_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{figures}");
}

/// Forged Hellos get cookies and no session, and whoever means it gets one all the same. How fast is for benchmarks to say.
#[test]
fn a_flood_of_forged_hellos_gets_no_session() {
    let figures = quick_benchmark("flood");
    let flood = &figures["hello_flood"];
    assert_eq!((&flood["sessions_of_flood"], &flood["failed"]), (&Value::from(0), &Value::from(0)), "{flood}");
    assert!(flood["cookies"].as_u64().is_some_and(|cookies| cookies > 0), "{flood}");
    assert_eq!((&flood["quiet_s"]["n"], &flood["flooded_s"]["n"]), (&Value::from(100), &Value::from(100)));
}

/// Two movers, there and back twice: the applications at both ends notice nothing, and the nodes have open what they had.
#[test]
fn movers_that_move_again_and_again_leave_nothing_behind() {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(BINARY);
    command.arg("--out").arg(out.path()).args("soak --rounds 4 --movers 2 --json".split(' '));
    let done = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{stdout}\n{stderr}");
    let soak: Value = serde_json::from_str(&stdout).unwrap();
    schema::holds("testnet.md", "testnet soak", &soak);
    assert_eq!((&soak["ok"], &soak["rounds"], &soak["moves"]), (&true.into(), &4.into(), &8.into()));
    assert_eq!((&soak["app_resets"], &soak["wrong_bytes"], &soak["lost_bytes"]), (&0.into(), &0.into(), &0.into()));
    assert!(soak["bytes_exact"].as_u64().is_some_and(|bytes| bytes > 0), "{soak}");
}

#[test]
fn the_rest_find_each_other_when_one_is_killed() {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(BINARY);
    command.arg("--out").arg(out.path()).args("up -n 4 --kill 1 --json".split(' '));
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let drill: Value = serde_json::from_slice(&done.stdout).unwrap();
    schema::holds("testnet.md", "testnet up --kill", &drill);
    assert_eq!((&drill["ok"], drill["killed"].as_array().unwrap().len()), (&true.into(), 1));
}

/// Who wants one object gets one, whatever comes of it.
#[test]
fn what_cannot_be_carried_through_prints_an_object_too() {
    // A file is where the logs would be.
    let out = tempfile::NamedTempFile::new().unwrap();
    for words in ["--topology minimal --json", "up -n 4 --kill 1 --json"] {
        let mut command = Command::new(BINARY);
        command.arg("--out").arg(out.path()).args(words.split(' '));
        let done = command.output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{words}");
        let object: Value = serde_json::from_slice(&done.stdout).unwrap();
        schema::holds("testnet.md", "error", &object);
        assert_eq!(object["ok"], false, "{words}");
    }
}

/// Whoever looks for namespaces where there is no `ip` is told so, in an object, too.
#[test]
fn what_cannot_be_had_prints_an_object_too() {
    for words in ["--netns --json", "up -n 4 --netns --kill 1 --json"] {
        let done = Command::new(BINARY).args(words.split(' ')).env("PATH", "/nowhere").output().unwrap();
        assert_eq!(done.status.code(), Some(77), "{words}");
        let object: Value = serde_json::from_slice(&done.stdout).unwrap();
        schema::holds("testnet.md", "skipped", &object);
        assert_eq!(object["ok"], false, "{words}");
    }
    let too_many = Command::new(BINARY).args("up -n 4 --kill 3 --json".split(' ')).output().unwrap();
    assert_eq!((too_many.status.code(), too_many.stdout.len()), (Some(2), 0), "a wrong command line");
}

/// How many packets each relay has forwarded.
fn forwarded(cluster: &Cluster) -> Result<BTreeMap<String, u64>> {
    let relays = cluster.nodes().iter().filter(|node| node.name != ALICE && node.name != BOB);
    relays.map(|node| Ok((node.name.clone(), node.status()?.counters.forwarded))).collect()
}
