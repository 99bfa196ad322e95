//! The page's files, in the binary.

/// Type and bytes of the file at `path`.
pub(super) fn find(path: &str) -> Option<(&'static str, &'static [u8])> {
    let (_, kind, bytes) = FILES.iter().find(|(name, ..)| *name == path)?;
    Some((kind, bytes))
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! files {
    ($($path:literal $kind:ident $file:literal)*) => {
        &[$(($path, $kind, include_bytes!(concat!("page/", $file)))),*]
    };
}

const FILES: &[(&str, &str, &[u8])] = files! {
    "/" HTML "index.html"
    "/style.css" CSS "style.css"
    "/icon.svg" SVG "icon.svg"
    "/main.js" SCRIPT "main.js"
    "/api.js" SCRIPT "api.js"
    "/geometry.js" SCRIPT "geometry.js"
    "/disk.js" SCRIPT "disk.js"
    "/chart.js" SCRIPT "chart.js"
    "/lists.js" SCRIPT "lists.js"
    "/scenario.js" SCRIPT "scenario.js"
    "/words.js" SCRIPT "words.js"
};
