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
    let mut found = BTreeMap::new();
    flatten("data", data, &mut found);
    let mut complaints = Vec::new();
    for (path, kinds) in &found {
        let allowed = documented.get(path).map(|types| types.split(" or ").collect::<Vec<_>>()).unwrap_or_default();
        let wrong: Vec<_> = kinds.iter().filter(|kind| !allowed.contains(kind)).collect();
        if !wrong.is_empty() {
            complaints.push(format!("{path} is {wrong:?}, documented as {allowed:?}"));
        }
    }
    for path in documented.keys() {
        // A part of something that is not there cannot be there either.
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        let expected = parent.is_empty() || found.get(parent).is_some_and(|kinds| kinds.contains("object"));
        let optional = path.ends_with("[]") || documented[path].ends_with(" or absent");
        if expected && !optional && !found.contains_key(path) {
            complaints.push(format!("{path} is missing"));
        }
    }
    complaints
}

fn flatten(path: &str, value: &Value, found: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "flag",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(items) => {
            items.iter().for_each(|item| flatten(&format!("{path}[]"), item, found));
            "list"
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| flatten(&format!("{path}.{key}"), value, found));
            "object"
        }
    };
    found.entry(path.to_owned()).or_default().insert(kind);
}
