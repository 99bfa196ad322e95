//! Flight mode, and the addresses at which a node listens and is reached.

use std::net::IpAddr;

use multiaddr::Multiaddr;
use overlay::io::LinkId;

use super::{Input, Links};

impl Links {
    /// Flight mode. Returns the links that are gone now; no [`Input::Down`] follows for them.
    pub fn network_down(&mut self) -> Vec<LinkId> {
        self.listeners.close(&mut self.swarm);
        self.silence()
    }

    fn silence(&mut self) -> Vec<LinkId> {
        self.gate.close();
        self.changes.forget();
        self.ready.retain(|input| matches!(input, Input::DialFailed { .. } | Input::Down { .. }));
        self.ready.push(Input::Listening(Vec::new()));
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for gone in links.iter().filter_map(|link| self.take(*link)).collect::<Vec<_>>() {
            gone.control.writer.abort();
            gone.data.writer.abort();
        }
        links
    }

    /// False in flight mode.
    pub fn network_is_up(&self) -> bool {
        !self.gate.is_closed()
    }

    /// Ends flight mode. Listeners open again with their ports: on `bind` if given, else where they were at the start.
    ///
    /// # Errors
    /// One line when an address cannot be bound; nothing has changed then.
    pub fn network_up(&mut self, bind: Option<IpAddr>) -> Result<(), String> {
        bind.map_or(Ok(()), is_of_this_machine)?;
        self.listeners.reopen(&mut self.swarm, bind)?;
        if !self.gate.is_closed() {
            self.silence().into_iter().for_each(|link| self.ready.push(Input::Down { link }));
        }
        self.gate.reopen(bind);
        self.changes.note_reopened();
        Ok(())
    }

    /// Links are made from `ip` from now on, and neighbours find this node there, too; links and listeners that there are stay. Ends flight
    /// mode.
    ///
    /// # Errors
    /// One line when the address cannot be bound; nothing has changed then.
    pub fn also_at(&mut self, ip: IpAddr) -> Result<(), String> {
        if self.gate.is_closed() {
            return self.network_up(Some(ip));
        }
        self.listeners.also_at(&mut self.swarm, ip)?;
        self.gate.reopen(Some(ip));
        self.changes.note_listening();
        Ok(())
    }

    /// The concrete addresses at which this node listens now.
    pub fn listening(&self) -> Vec<Multiaddr> {
        self.listeners.addresses(self.changes.addresses().as_deref())
    }

    /// The same, and those of its router.
    pub fn reachable_at(&self) -> Vec<Multiaddr> {
        let mut addresses = self.listeners.addresses(self.changes.addresses().as_deref());
        // In flight mode, or between two networks, the router leads nowhere.
        if !addresses.is_empty() {
            addresses.extend(self.outside.iter().cloned());
        }
        addresses
    }

    /// At `outside` a router leads to this node, and no longer where another call said.
    pub fn set_outside(&mut self, outside: Vec<Multiaddr>) {
        if outside != self.outside {
            self.outside = outside;
            self.changes.note_listening();
        }
    }
}

/// Whether `ip` is an address of this machine.
///
/// # Errors
/// One line when nothing can be bound to it.
pub(super) fn is_of_this_machine(ip: IpAddr) -> Result<(), String> {
    let bound = std::net::UdpSocket::bind((ip, 0));
    bound.map(drop).map_err(|error| format!("cannot use {ip}: {error}; choose an address of this machine"))
}
