//! What `muses --help` says.

use std::path::Path;

use super::muses;

/// All verbs, those of a group as `GROUP VERB`, after the group itself.
pub fn verbs() -> Vec<String> {
    let below =
        |verb: &String| subcommands(verb).into_iter().map(move |sub| format!("{verb} {sub}")).collect::<Vec<_>>();
    subcommands("").into_iter().flat_map(|verb| [vec![verb.clone()], below(&verb)].concat()).collect()
}

/// The verbs of a group; of none, those of the program.
fn subcommands(group: &str) -> Vec<String> {
    let help = of(group);
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let verbs = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    verbs.filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help").map(str::to_owned).collect()
}

/// The help of a verb.
pub fn of(verb: &str) -> String {
    let output = muses(Path::new("/nowhere"), &format!("{verb} --help"));
    String::from_utf8(output.stdout).unwrap()
}
