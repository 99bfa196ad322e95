//! Pages of docs/reference, compared with what a program says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

/// What a page of the reference says under each heading: path and types.
pub fn documented(page: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference").join(page)).unwrap();
    let mut verbs: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut current = Vec::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            current = heading.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            current.iter().for_each(|verb: &String| _ = verbs.insert(verb.clone(), BTreeMap::new()));
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, path, types, _, _] = cells[..]
            && let Some(path) = path.strip_prefix('`').and_then(|path| path.strip_suffix('`'))
        {
            current.iter().for_each(|verb| _ = verbs.get_mut(verb).unwrap().insert(path.to_owned(), types.to_owned()));
        }
    }
    verbs
}

/// `data` is what the page says under this heading.
pub fn holds(page: &str, heading: &str, data: &Value) {
    let complaints = compare(data, &documented(page)[heading]);
    assert!(complaints.is_empty(), "{heading}: {complaints:#?}\n{data}");
}

/// How `data` differs from what is documented.
pub fn compare(data: &Value, documented: &BTreeMap<String, String>) -> Vec<String> {
    differences(data, documented, &mut BTreeSet::new())
}

/// The same; `seen` gets the documented paths that were there.
pub fn differences(data: &Value, documented: &BTreeMap<String, String>, seen: &mut BTreeSet<String>) -> Vec<String> {
    let mut walk = Walk { documented, seen, found: BTreeMap::new(), complaints: Vec::new() };
    walk.visit("data", data);
    let Walk { found, mut complaints, .. } = walk;
    for (path, kinds) in &found {
        let allowed =
            row(documented, path).map(|(_, types)| types.split(" or ").collect::<Vec<_>>()).unwrap_or_default();
        let wrong: Vec<_> = kinds.iter().filter(|kind| !allowed.contains(kind)).collect();
        if !wrong.is_empty() {
            complaints.push(format!("{path} is {wrong:?}, documented as {allowed:?}"));
        }
    }
    for (row, types) in documented {
        let Some((parent, key)) = row.rsplit_once('.') else { continue };
        // Nobody is promised an element of a list, nor a key that others choose.
        if key.ends_with("[]") || is_any(key) || types.ends_with(" or absent") {
            continue;
        }
        // A part of something that is not there cannot be there either.
        let objects = found.iter().filter(|(path, kinds)| covers(parent, path) && kinds.contains("object"));
        let missing = objects.map(|(path, _)| format!("{path}.{key}")).filter(|path| !found.contains_key(path));
        complaints.extend(missing.map(|path| format!("{path} is missing")));
    }
    complaints
}

/// What the page says of this path.
fn row<'a>(documented: &'a BTreeMap<String, String>, path: &str) -> Option<(&'a String, &'a String)> {
    documented.get_key_value(path).or_else(|| documented.iter().find(|(row, _)| covers(row, path)))
}

/// Whether a row of the page is about this path: a part of it in capitals stands for any key.
fn covers(row: &str, path: &str) -> bool {
    let is_said = |(said, part): (&str, &str)| {
        let (name, brackets) = said.split_at(said.trim_end_matches("[]").len());
        said == part || (is_any(name) && part.strip_suffix(brackets).is_some_and(|part| !part.ends_with("[]")))
    };
    row.split('.').count() == path.split('.').count() && row.split('.').zip(path.split('.')).all(is_said)
}

fn is_any(part: &str) -> bool {
    !part.is_empty() && part.chars().all(|letter| letter.is_ascii_uppercase())
}

/// What was found on the way through a value.
struct Walk<'a> {
    documented: &'a BTreeMap<String, String>,
    seen: &'a mut BTreeSet<String>,
    found: BTreeMap<String, BTreeSet<&'static str>>,
    complaints: Vec<String>,
}

impl Walk<'_> {
    fn visit(&mut self, path: &str, value: &Value) {
        let row = row(self.documented, path);
        self.seen.extend(row.map(|(row, _)| row.clone()));
        let is_whole = row.is_some_and(|(_, types)| types.starts_with("the whole"));
        let kind = match value {
            Value::Object(_) if is_whole => {
                let complaints = differences(value, self.documented, self.seen);
                self.complaints.extend(complaints.iter().map(|complaint| format!("{path}: {complaint}")));
                "the whole"
            }
            Value::Null => "null",
            Value::Bool(_) => "flag",
            Value::Number(_) => "number",
            Value::String(_) => "text",
            Value::Array(items) => {
                items.iter().for_each(|item| self.visit(&format!("{path}[]"), item));
                "list"
            }
            Value::Object(fields) => {
                fields.iter().for_each(|(key, value)| self.visit(&format!("{path}.{key}"), value));
                "object"
            }
        };
        self.found.entry(path.to_owned()).or_default().insert(kind);
    }
}
