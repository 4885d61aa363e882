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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Snapshot;
    use crate::snapshot::tests::Host;

    #[track_caller]
    fn shown_of(host: &Host, snapshot: &str) -> String {
        let snapshot = Snapshot::read(&host.path(snapshot)).unwrap();
        diff(&snapshot.compare(&host.units(), host.scope()).unwrap())
    }

    #[test]
    fn every_kind_of_difference_is_shown() {
        let host = Host::new();
        for name in ["changed", "gone", "masked", "mode", "same", "windows"] {
            host.write(
                &format!("host/quantum-{name}.service"),
                "[Unit]\nDescription=A\n[Service]\nExecStart=/bin/a\n",
            );
        }
        host.link("/x/a", "host/quantum-trader.target");
        host.take("taken");
        assert_eq!(shown_of(&host, "taken"), "");

        host.write(
            "host/quantum-changed.service",
            "[Unit]\nDescription=A\n[Service]\nExecStart=/bin/b",
        );
        host.remove("host/quantum-gone.service");
        host.remove("host/quantum-masked.service");
        host.link("/dev/null", "host/quantum-masked.service");
        host.set_mode("host/quantum-mode.service", 0o666);
        host.write("host/quantum-new.service", "");
        host.remove("host/quantum-trader.target");
        host.link("/x/b", "host/quantum-trader.target");
        host.write(
            "host/quantum-windows.service",
            "[Unit]\nDescription=A\n[Service]\nExecStart=/bin/a\r\n",
        );
        assert_eq!(
            shown_of(&host, "taken"),
            "\
--- snapshot/quantum-changed.service
+++ host/quantum-changed.service
@@ -1,4 +1,4 @@
 [Unit]
 Description=A
 [Service]
-ExecStart=/bin/a
+ExecStart=/bin/b
\\ No newline at end of file
--- snapshot/quantum-gone.service
+++ /dev/null
@@ -1,4 +0,0 @@
-[Unit]
-Description=A
-[Service]
-ExecStart=/bin/a
--- snapshot/quantum-masked.service
+++ host/quantum-masked.service
@@ -1,4 +1 @@
-[Unit]
-Description=A
-[Service]
-ExecStart=/bin/a
+(link to /dev/null: masked)
--- snapshot/quantum-mode.service
+++ host/quantum-mode.service
# mode: 0644 in the snapshot, 0666 on the host
--- /dev/null
+++ host/quantum-new.service
@@ -0,0 +1 @@
+(empty: masked)
--- snapshot/quantum-trader.target
+++ host/quantum-trader.target
@@ -1 +1 @@
-(link to /x/a)
+(link to /x/b)
--- snapshot/quantum-windows.service
+++ host/quantum-windows.service
# systemd takes both for the same
@@ -1,4 +1,4 @@
 [Unit]
 Description=A
 [Service]
-ExecStart=/bin/a
+ExecStart=/bin/a\r
"
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_too() {
        let host = Host::new();
        host.write("snapshot/quantum-a.service", "[Unit]\n");
        std::fs::write(host.path("host/quantum-a.service"), b"\xff\xfe\0\n").unwrap();
        let shown = shown_of(&host, "snapshot");
        assert!(
            shown.ends_with("-[Unit]\n+\u{fffd}\u{fffd}\0\n"),
            "{shown:?}"
        );
    }
}
