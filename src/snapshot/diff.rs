//! Shows how the host's unit files differ from a snapshot, as `diff --unified` would.

use std::borrow::Cow;

use similar::TextDiff;

use super::{Attributes, Content, Entry, Pair};

/// A unified diff for each file that is not exactly as in the snapshot; empty if all are.
pub fn diff(pairs: &[Pair]) -> String {
    pairs.iter().map(difference).collect()
}

fn difference(pair: &Pair) -> String {
    let path = &pair.path;
    let (golden, host) = (pair.golden.as_ref(), pair.host.as_ref());
    if let (Some(golden), Some(host)) = (golden, host)
        && golden.is_exactly(host)
    {
        return String::new();
    }
    let name = |side: &str, entry: Option<&Entry>| match entry {
        Some(_) => format!("{side}/{path}"),
        None => "/dev/null".to_owned(),
    };
    let mut text = format!(
        "--- {}\n+++ {}\n",
        name("snapshot", golden),
        name("host", host)
    );
    if let (Some(golden), Some(host)) = (golden, host) {
        text.push_str(&attributes(golden, host));
        if golden.means(host) && golden.content != host.content {
            text.push_str("# systemd takes both for the same\n");
        }
    }
    let (golden, host) = (golden.map(shown), host.map(shown));
    let (golden, host) = (golden.unwrap_or_default(), host.unwrap_or_default());
    let lines = TextDiff::from_lines(&*golden, &*host);
    text.push_str(&lines.unified_diff().to_string());
    text
}

/// A line for the mode and one for the owner, where they differ.
fn attributes(golden: &Entry, host: &Entry) -> String {
    let (Some(golden_has), Some(host_has)) = (golden.attributes, host.attributes) else {
        return String::new();
    };
    // The mode of a link means nothing.
    let is_text = |entry: &Entry| matches!(entry.content, Content::Text(_));
    if !is_text(golden) || !is_text(host) {
        return String::new();
    }
    let mut text = String::new();
    let mut line = |what: &str, of: fn(&Attributes) -> String| {
        let (golden, host) = (of(&golden_has), of(&host_has));
        if golden != host {
            text.push_str(&format!(
                "# {what}: {golden} in the snapshot, {host} on the host\n"
            ));
        }
    };
    line("mode", |attributes| format!("{:04o}", attributes.mode));
    line("owner", |attributes| {
        format!("{}:{}", attributes.uid, attributes.gid)
    });
    text
}

/// The text of a file; a sentence for what has none.
fn shown(entry: &Entry) -> Cow<'_, str> {
    match &entry.content {
        Content::Text(text) if text.is_empty() => "(empty: masked)\n".into(),
        Content::Text(text) => String::from_utf8_lossy(text),
        Content::Link(target) if entry.is_mask() => {
            format!("(link to {}: masked)\n", target.display()).into()
        }
        Content::Link(target) => format!("(link to {})\n", target.display()).into(),
        Content::Other => "(neither a file nor a link)\n".into(),
    }
}
