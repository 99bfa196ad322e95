//! What packages install beside the program: completions and manual pages, made from the command's own description.

use std::fs;
use std::path::Path;

use clap::CommandFactory as _;
use serde_json::json;

use super::ask::json_line;
use super::out::print;
use crate::advice;
use crate::exit::{Code, Fault};

pub(super) fn completions(shell: clap_complete::Shell, json: bool) -> Result<(), Fault> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::Cli::command(), "muses", &mut script);
    say(&script, json)
}

/// The page of `muses` on stdout, or those of all verbs as files in `folder`.
pub(super) fn man(folder: Option<&Path>, json: bool) -> Result<(), Fault> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(super::Cli::command()).render(&mut page);
        rendered.map_err(|error| Fault::new(Code::Failed, format!("cannot write the page: {error}")))?;
        return say(&page, json);
    };
    let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(super::Cli::command(), folder));
    written.map_err(|error| {
        let try_this = advice::after(&error, "choose another folder");
        Fault::new(Code::Failed, format!("cannot write pages into {}: {error}; {try_this}", folder.display()))
    })?;
    say(format!("manual pages are in {}\n", folder.display()).as_bytes(), json)
}

fn say(text: &[u8], json: bool) -> Result<(), Fault> {
    let line = json_line(Ok(json!({ "text": String::from_utf8_lossy(text) })));
    print(if json { line.as_bytes() } else { text })
}
