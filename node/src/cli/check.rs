//! What no start could carry out, whatever this machine's state is: `muses up` and `muses config check` say the same.

use std::net::SocketAddr;

use multiaddr::{Multiaddr, Protocol};

use crate::config::{Config, SocksGuard};
use crate::dashboard;
use crate::exit::{Code, Fault};
use crate::local::listen;
use crate::local::service::Forward;
use crate::reach::{ip_of, port_of};

/// Where `config` cannot be meant so.
///
/// # Errors
/// [`Code::Usage`], about the first thing.
pub(super) fn check(config: &Config) -> Result<(), Fault> {
    let tcp = |address: &Multiaddr| address.iter().any(|part| matches!(part, Protocol::Tcp(_)));
    if let Some(address) = config.listen.iter().find(|address| !tcp(address)) {
        let line = format!("cannot listen at {address}: links are TCP; use /ip4/ADDRESS/tcp/PORT");
        return Err(Fault::new(Code::Usage, line));
    }
    config.socks.iter().chain(&config.metrics).try_for_each(listen::check)?;
    config.dashboard.iter().try_for_each(dashboard::check)?;
    check_guard(config)?;
    check_apart(config)
}

/// A guard needs something to guard, and one's own programs can be told from others on this machine alone.
fn check_guard(config: &Config) -> Result<(), Fault> {
    match (config.socks_guard, &config.socks) {
        (Some(_), None) => Err(Fault::new(
            Code::Usage,
            "socks_guard guards the SOCKS5 proxy, and there is none; add socks = \"HOST:PORT\" (--socks), or leave it out",
        )),
        (Some(SocksGuard::Uid), Some(at)) => address_of(at).map_or(Ok(()), listen::check_mine),
        _ => Ok(()),
    }
}

/// Nothing listens where something else of this node does.
fn check_apart(config: &Config) -> Result<(), Fault> {
    let Config { socks, dashboard, metrics, .. } = config;
    let served = [("socks", socks), ("dashboard", dashboard), ("metrics", metrics)];
    let served = served.into_iter().filter_map(|(key, at)| Some((key, address_of(at.as_ref()?)?)));
    let links = config.listen.iter().filter_map(|at| Some(("listen", SocketAddr::new(ip_of(at)?, port_of(at)?))));
    let all: Vec<(&str, SocketAddr)> = served.chain(links).collect();
    for (index, (key, at)) in all.iter().enumerate() {
        if let Some((other, _)) = all.iter().skip(index + 1).find(|(_, other)| listen::same(*at, *other)) {
            let line = format!("{key} and {other} both listen at {at}; give one of them another port");
            return Err(Fault::new(Code::Usage, line));
        }
    }
    Ok(())
}

/// Where that is, if nothing has to be asked for it.
fn address_of(at: &Forward) -> Option<SocketAddr> {
    at.as_str().parse().ok()
}
