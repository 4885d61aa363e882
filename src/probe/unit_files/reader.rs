//! Unit files as text, taken apart as systemd does (systemd.syntax(7)).

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The section, without its brackets; empty before the first one.
    pub section: String,
    /// What stands before the `=`.
    pub key: String,
    /// What stands after it, blanks around it removed; continued lines joined by a blank.
    pub value: String,
    /// The line on which it begins, from 1.
    pub line: usize,
}

/// Every assignment, in the order of the text. Bytes that are no UTF-8 are replaced; lines that mean
/// nothing are skipped, as systemd skips them with a warning.
pub fn read(bytes: &[u8]) -> Vec<Entry> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut entries = Vec::new();
    let mut section = String::new();
    // The line that is being continued, and where it began.
    let mut pending: Option<(String, usize)> = None;
    // A carriage return ends a line as well, and so does a zero.
    let text = text.replace("\r\n", "\n");
    for (number, line) in text.split(['\n', '\r', '\0']).enumerate() {
        let line = line.trim_start_matches(BLANKS);
        // A comment amid a continuation does not end it.
        if line.starts_with(['#', ';']) {
            continue;
        }
        let (begun, at) = pending.take().unwrap_or((String::new(), number + 1));
        let whole = begun + line;
        match continued(&whole) {
            Some(without) => pending = Some((format!("{without} "), at)),
            None => take(&whole, at, &mut section, &mut entries),
        }
    }
    if let Some((whole, at)) = pending {
        take(&whole, at, &mut section, &mut entries);
    }
    entries
}

/// Words of a list: parted by blanks, quotes removed.
pub fn words(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in value.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if BLANKS.contains(&c) => words.extend(word.take()),
            // In the name of a unit a backslash is a part of it: `\x2d`.
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// The line without the backslash at its end; `None` if none stands there, or an escaped one.
fn continued(line: &str) -> Option<&str> {
    let escaped = line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1;
    escaped.then(|| line.strip_suffix('\\')).flatten()
}

fn take(line: &str, at: usize, section: &mut String, entries: &mut Vec<Entry>) {
    let line = line.trim_matches(BLANKS);
    if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
        name.clone_into(section);
    } else if let Some((key, value)) = line.split_once('=') {
        entries.push(Entry {
            section: section.clone(),
            key: key.trim_matches(BLANKS).to_owned(),
            value: value.trim_matches(BLANKS).to_owned(),
            line: at,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<(String, String, String, usize)> {
        let entries = read(text.as_bytes()).into_iter();
        entries
            .map(|entry| (entry.section, entry.key, entry.value, entry.line))
            .collect()
    }

    fn entry(
        section: &str,
        key: &str,
        value: &str,
        line: usize,
    ) -> (String, String, String, usize) {
        (section.to_owned(), key.to_owned(), value.to_owned(), line)
    }

    #[test]
    fn assignments_have_their_section_and_line() {
        let text = "\u{feff}stray=1\r\n[Unit]\r\n# c\r\n;c\r\nAfter = a.service  b.service\r\n\r\n[X-Own]\r\nk=\r\nnonsense";
        assert_eq!(
            of(text),
            [
                entry("", "stray", "1", 1),
                entry("Unit", "After", "a.service  b.service", 5),
                entry("X-Own", "k", "", 8),
            ]
        );
    }

    #[test]
    fn a_line_is_continued_over_comments_and_up_to_the_end() {
        let text = "[Unit]\nWants=a.service \\\n# b.service \\\n; c.service\n  d.service\\\n e.service\nAfter=f.service \\";
        assert_eq!(
            of(text),
            [
                entry("Unit", "Wants", "a.service  d.service e.service", 2),
                entry("Unit", "After", "f.service", 7),
            ]
        );
        assert_eq!(of("a=b\\\\\nc=d").len(), 2, "an escaped backslash");
        assert_eq!(of("a=b\\\n\nc=d").len(), 2, "an empty line ends it");
    }

    #[test]
    fn a_carriage_return_alone_ends_a_line() {
        let text = "[Unit]\rAfter=a.service\0After=b.service\r\nAfter=c.service";
        assert_eq!(
            of(text),
            [
                entry("Unit", "After", "a.service", 2),
                entry("Unit", "After", "b.service", 3),
                entry("Unit", "After", "c.service", 4),
            ]
        );
    }

    #[test]
    fn a_comment_behind_a_value_is_a_part_of_it() {
        assert_eq!(of("a=b # c"), [entry("", "a", "b # c", 1)]);
    }

    #[test]
    fn words_are_parted_by_blanks_and_quoted_ones_kept() {
        let all = r#"a.service  "b c.service"	'd'e\x2df "" "open"#;
        assert_eq!(
            words(all),
            ["a.service", "b c.service", r"de\x2df", "", "open"]
        );
    }

    #[test]
    fn the_seeds_of_the_fuzzer_are_read() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/unit_file");
        for seed in std::fs::read_dir(seeds).unwrap() {
            let text = std::fs::read(seed.unwrap().path()).unwrap();
            assert!(!read(&text).is_empty());
        }
    }
}
