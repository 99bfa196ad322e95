//! `/metrics` in Prometheus' text format, version 0.0.4, for `muses up --metrics HOST:PORT`.
//!
//! It needs no token: scrapers have none by default, and there are only sums here, no ids, names or addresses; whoever may connect learns how much this
//! node does, and can change nothing. So it is off unless asked for, and where it listens is the owner's choice.
//! docs/reference/metrics.md lists all of them.

use std::fmt::Write as _;
use std::net::SocketAddr;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, StatusCode};
use tokio::net::TcpListener;

use crate::clock;
use crate::driver::Handle;
use crate::local::listen::Port;
use crate::stack::figures::Figures;
use crate::web::{self, Answer};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics that are served.
pub struct Metrics {
    /// Where.
    pub address: SocketAddr,
    _port: Port,
}

/// Serves the metrics of the node behind `handle` at `listener`.
pub fn serve(handle: &Handle, listener: TcpListener, address: SocketAddr) -> Metrics {
    let started_unix_s = clock::now().wall.as_unix_secs();
    let handle = handle.clone();
    let port = web::serve(listener, "metrics", move |request| answer(request, handle.clone(), started_unix_s));
    Metrics { address, _port: port }
}

async fn answer(request: Request<Incoming>, handle: Handle, started_unix_s: u64) -> Answer {
    if request.uri().path() != "/metrics" {
        return web::text(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = web::text(StatusCode::METHOD_NOT_ALLOWED, "not by this method\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let figures = async { Ok((handle.with(|stack, _| stack.figures()).await?, handle.network_is_up().await?)) };
    match figures.await {
        Ok((figures, network_up)) => web::whole(StatusCode::OK, TEXT, text(&figures, network_up, started_unix_s)),
        Err(stopped) => {
            let stopped: crate::driver::Stopped = stopped;
            web::text(StatusCode::SERVICE_UNAVAILABLE, format!("{stopped}\n"))
        }
    }
}

/// A metric of one or more values, told apart by one label.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str, values: &[(&str, u64)]) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (label, value) in values {
            let _ = writeln!(self.0, "{name}{label} {value}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help, &[("", value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help, &[("", value)]);
    }
}

fn text(figures: &Figures, network_up: bool, started_unix_s: u64) -> String {
    let mut page = Page(String::new());
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    page.family("muses_build_info", "gauge", "The program's version.", &[(&version, 1)]);
    page.gauge("muses_start_time_seconds", "When the process began, since the Unix epoch.", started_unix_s);
    page.gauge("muses_network_up", "0 in flight mode.", network_up.into());
    overlay(&mut page, figures);
    records(&mut page, figures);
    sessions(&mut page, figures);
    page.0
}

fn overlay(page: &mut Page, figures: &Figures) {
    let Figures { attached, depth, nodes, links: [parent, child, shortcut], overlay, .. } = *figures;
    page.gauge("muses_attached", "Whether the node has a place in the overlay.", attached.into());
    page.gauge("muses_address_depth_edges", "Edges from the first tree's root to this node.", depth);
    page.gauge("muses_overlay_nodes", "Nodes in the overlay as its root counts them.", nodes);
    let roles = [("{role=\"parent\"}", parent), ("{role=\"child\"}", child), ("{role=\"shortcut\"}", shortcut)];
    page.family("muses_links", "gauge", "Live links, by the neighbour's part in the first tree.", &roles);
    page.counter("muses_packets_forwarded_total", "Packets passed on for others.", overlay.forwarded);
    page.counter("muses_packets_delivered_total", "Packets that were for this node.", overlay.delivered);
    page.counter("muses_packets_sent_total", "Packets that this node sent.", overlay.sent);
    let drops = [
        ("{reason=\"no_route\"}", overlay.dropped_no_route),
        ("{reason=\"ttl\"}", overlay.dropped_ttl),
        ("{reason=\"full\"}", overlay.dropped_full),
        ("{reason=\"unchecked\"}", overlay.dropped_unchecked),
        ("{reason=\"forged\"}", overlay.dropped_forged),
    ];
    page.family("muses_packets_dropped_total", "counter", "Packets and frames dropped, by why.", &drops);
    page.counter("muses_links_bad_total", "Links closed for a bad frame, overlay or version.", overlay.bad_links);
    page.counter(
        "muses_frames_bad_total",
        "Frames that were malformed, oversized, out of place or forged.",
        overlay.bad_frames,
    );
    page.gauge("muses_state_bytes", "About how much is kept of neighbours, trees and records.", figures.state_bytes);
}

fn records(page: &mut Page, figures: &Figures) {
    let dht = figures.dht;
    page.gauge("muses_records", "Records held for others.", figures.records);
    page.counter(
        "muses_record_walks_total",
        "Walks of the record table begun, carried or answered here.",
        figures.overlay.walks,
    );
    page.counter("muses_record_requests_answered_total", "Requests for records answered.", dht.answered_requests);
    page.counter("muses_record_puts_refused_total", "Records that were not taken.", dht.refused_puts);
    page.counter("muses_records_invalid_total", "Records with a wrong signature or key.", dht.invalid_records);
    page.counter("muses_records_handed_over_total", "Records that another node took over.", dht.handed_over);
}

fn sessions(page: &mut Page, figures: &Figures) {
    let Figures { sessions: [handshake, established, suspended], packets, .. } = *figures;
    let states = [
        ("{state=\"handshake\"}", handshake),
        ("{state=\"established\"}", established),
        ("{state=\"suspended\"}", suspended),
    ];
    page.family("muses_sessions", "gauge", "Sessions, by state.", &states);
    page.gauge("muses_streams", "Application connections in all sessions.", figures.streams);
    page.gauge("muses_in_flight_bytes", "Bytes that were sent and not acknowledged yet.", figures.in_flight_bytes);
    page.counter("muses_application_sent_bytes_total", "Bytes taken from applications.", figures.sent_bytes);
    page.counter("muses_application_received_bytes_total", "Bytes handed to applications.", figures.received_bytes);
    page.counter("muses_resumes_total", "Sessions that went on after an outage or a move.", figures.resumes);
    page.counter(
        "muses_public_key_operations_total",
        "Operations with public keys in the session layer.",
        figures.public_key_ops,
    );
    let bad = [
        ("{reason=\"unknown\"}", packets.unknown),
        ("{reason=\"forged\"}", packets.forged),
        ("{reason=\"violation\"}", packets.violations),
        ("{reason=\"limited\"}", packets.limited),
    ];
    page.family("muses_session_packets_bad_total", "counter", "Session packets that were not used, by why.", &bad);
    page.counter("muses_cookies_total", "Handshakes answered with a cookie, under load.", packets.cookies);
}
