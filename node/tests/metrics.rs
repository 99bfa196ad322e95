//! `/metrics` is Prometheus' text format, and docs/reference/metrics.md lists what is in it.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{alice_and_bob, greeter, http};

/// What a gauge's name may end with.
const UNITS: [&str; 3] = ["_seconds", "_bytes", "_edges"];
/// Gauges that say yes or no, or how many of what they are named for.
const WITHOUT_UNIT: [&str; 8] = [
    "muses_build_info",
    "muses_network_up",
    "muses_attached",
    "muses_overlay_nodes",
    "muses_links",
    "muses_records",
    "muses_sessions",
    "muses_streams",
];

/// Name, type and labels of a metric.
type Metrics = BTreeMap<String, (String, Vec<String>)>;

#[test]
fn every_metric_is_documented_and_every_documented_one_is_there() {
    let (alice, bob) = alice_and_bob();
    alice.json(&format!("expose hello {} --allow bob", greeter(b"hello")));
    let before = scrape(&bob);
    assert_eq!(bob.muses("pipe alice/hello").stdout, b"hello");
    let (text, values) = scrape(&bob);
    assert_eq!(said(&text), documented());
    for value in
        ["muses_network_up", "muses_attached", "muses_links{role=\"parent\"}", "muses_sessions{state=\"established\"}"]
    {
        assert_eq!(values[value], 1, "{value}");
    }
    let received = |values: &BTreeMap<String, u64>| values["muses_application_received_bytes_total"];
    assert_eq!(received(&values) - received(&before.1), 5);
    assert!(!text.contains("12D3KooW"), "no ids");
    bob.json("network down");
    let (_, values) = scrape(&bob);
    assert_eq!((values["muses_network_up"], values["muses_links{role=\"parent\"}"]), (0, 0));
}

#[test]
fn only_metrics_are_there() {
    let (_, bob) = alice_and_bob();
    let address = bob.json("status")["metrics"].as_str().unwrap().to_owned();
    for (method, path, status) in
        [("GET", "/", 404), ("GET", "/api/state", 404), ("POST", "/metrics", 405), ("HEAD", "/metrics", 200)]
    {
        assert_eq!(http::request(&address, method, path, &[("Host", "x")], "").status, status, "{method} {path}");
    }
}

fn scrape(node: &common::Node) -> (String, BTreeMap<String, u64>) {
    let address = node.json("status")["metrics"].as_str().unwrap().to_owned();
    let reply = http::request(&address, "GET", "/metrics", &[("Host", &address)], "");
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/plain; version=0.0.4; charset=utf-8"));
    let samples = reply.body.lines().filter(|line| !line.starts_with('#'));
    let values = samples
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()));
    (reply.body.clone(), values.collect())
}

/// What a scrape holds; each metric has its help and type before it, and a unit or `_total` where one is due.
fn said(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    let (mut helped, mut current) = (String::new(), String::new());
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["#", "HELP", name, ..] => helped = name.to_owned(),
            ["#", "TYPE", name, kind] => {
                assert_eq!(helped, name, "help comes first");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
                let has_unit = UNITS.iter().any(|unit| name.ends_with(unit));
                assert!(kind == "counter" || has_unit != WITHOUT_UNIT.contains(&name), "{name}: in what?");
                current = name.to_owned();
                assert!(metrics.insert(current.clone(), (kind.to_owned(), Vec::new())).is_none(), "{name} twice");
            }
            _ => {
                let series = line.rsplit_once(' ').unwrap().0;
                let (name, label) = series.split_once('{').unwrap_or((series, ""));
                assert_eq!(name, current);
                let label = label.trim_end_matches('}');
                let label = if label.starts_with("version=") { "version=..." } else { label }.replace('"', "");
                metrics.get_mut(name).unwrap().1.extend((!label.is_empty()).then_some(label));
            }
        }
    }
    metrics
}

/// The table of the reference: `| name | type | labels | what |`.
fn documented() -> Metrics {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| match line.split('|').map(str::trim).collect::<Vec<_>>()[..] {
        ["", name, kind, labels, what, ""] if name.starts_with('`') => {
            assert!(!what.is_empty(), "{name}");
            let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned());
            Some((
                name.trim_matches('`').to_owned(),
                (kind.to_owned(), labels.filter(|label| !label.is_empty()).collect()),
            ))
        }
        _ => None,
    });
    rows.collect()
}
