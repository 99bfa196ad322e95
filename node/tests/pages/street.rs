//! Where the people of a page live: what it says is typed at their homes, with ports that are free here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use super::home::Home;
use super::page::Step;
use crate::ssh::Sshd;

#[derive(Default)]
pub struct Street {
    homes: BTreeMap<String, Home>,
    /// Documented port and the free one in its place.
    pub ports: BTreeMap<String, String>,
    invite: String,
}

impl Street {
    pub fn take(&mut self, step: &Step) {
        // Without an address it means its default one.
        let written = step
            .command
            .strip_suffix("--dashboard")
            .map_or_else(|| step.command.clone(), |before| format!("{before}--dashboard 127.0.0.1:7070"));
        self.find_ports(&written);
        let mut command = self.filled_in(&written);
        if !self.invite.is_empty() {
            command = command.replace("muses1...", &self.invite);
        }
        let shown: Vec<String> = step.shown.iter().map(|line| self.filled_in(line)).collect();
        let alice = self.home("alice").work();
        let said = self.home(&step.who).obey(&command, &alice, &shown);
        assert!(shows(&said, &shown), "{command}\nshould show\n{}\nbut says\n{said}", shown.join("\n"));
        if let Some(invite) = said.split_whitespace().find(|word| word.starts_with("muses1")) {
            self.invite = invite.to_owned();
        }
    }

    pub fn home(&mut self, who: &str) -> &mut Home {
        self.homes.entry(who.to_owned()).or_insert_with(Home::new)
    }

    /// `who` reaches this server by ssh and scp as it is, and has `config` in `~/.ssh/config`.
    pub fn give_ssh(&mut self, who: &str, sshd: &Sshd, config: &str) {
        let config = format!(
            "{config}\nHost *\n    IdentityFile {}\n    BatchMode yes\n    StrictHostKeyChecking no\n    UserKnownHostsFile /dev/null\n    LogLevel ERROR\n",
            sshd.folder.path().join("user").display()
        );
        self.ports.insert("22".to_owned(), sshd.address.port().to_string());
        let home = self.home(who).folder.path().to_owned();
        fs::write(home.join("ssh-config"), config).unwrap();
        // OpenSSH finds its configuration by the user's entry in /etc/passwd, whatever HOME says.
        for program in ["ssh", "scp"] {
            let script = format!("#!/bin/sh\nexec /usr/bin/{program} -F \"$HOME/ssh-config\" \"$@\"\n");
            let path = home.join("bin").join(program);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    pub fn find_ports(&mut self, command: &str) {
        for found in command.split("127.0.0.1:").skip(1) {
            let port: String = found.chars().take_while(char::is_ascii_digit).collect();
            self.ports
                .entry(port)
                .or_insert_with(|| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string());
        }
        // python3's server has it in another form.
        if let Some(port) = command.split("http.server ").nth(1).and_then(|rest| rest.split(' ').next()) {
            self.find_ports(&format!("127.0.0.1:{port}"));
        }
    }

    /// With the ports that are in use here.
    fn filled_in(&self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some(start) = rest.find(|char: char| char.is_ascii_digit()) {
            let length = rest[start..].find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len() - start);
            let number = &rest[start..start + length];
            let _ = write!(filled, "{}{}", &rest[..start], self.ports.get(number).map_or(number, String::as_str));
            rest = &rest[start + length..];
        }
        filled.push_str(rest);
        filled
    }
}

/// Whether `said` has the `shown` lines in their order; `...` stands for anything within a line.
pub fn shows(said: &str, shown: &[String]) -> bool {
    let mut lines = said.lines();
    shown.iter().all(|wanted| lines.any(|line| fits(line.trim_end(), wanted)))
}

fn fits(line: &str, wanted: &str) -> bool {
    let mut parts = wanted.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut open = false;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        open = part.is_empty();
    }
    open || rest.is_empty()
}

#[test]
fn shown_lines_are_compared() {
    for (line, wanted) in [("a b", "a b"), ("a b", "a ..."), ("a b c", "a ... c"), ("", "")] {
        assert!(fits(line, wanted), "{line} {wanted}");
    }
    for (line, wanted) in [("a b", "a"), ("a b", "b ..."), ("a b c", "a ... d"), ("a bb", "a ... b.")] {
        assert!(!fits(line, wanted), "{line} {wanted}");
    }
    let shown = ["first".to_owned(), "second".to_owned()];
    assert!(shows("first\nbetween\nsecond\n", &shown));
    assert!(!shows("second\nfirst\n", &shown) && !shows("first\n", &shown));
}
