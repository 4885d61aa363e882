//! Foreign text made fit to be shown: nothing that steers a terminal, and no secrets.

/// What stands in place of a secret.
const MASK: &str = "***";

/// More of a line than this is not looked at, in bytes.
const LONGEST: usize = 8 * 1024;

/// Words whose value is a secret, in lower case, wherever in a key they stand.
const SECRET_KEYS: [&str; 16] = [
    "password",
    "passwd",
    "passphrase",
    "pass",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "access_key",
    "private_key",
    "credential",
    "signature",
    "auth",
    "cookie",
];

/// A run of letters and digits at least this long is a key, whatever it is called.
const SHORTEST_KEY: usize = 20;

/// The text without escape sequences, control characters and characters that are not seen or turn
/// the direction of others; of endless text the beginning.
pub fn clean(text: &str) -> String {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut cleaned = String::new();
    let mut chars = text.get(..end).unwrap_or_default().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                Some('[') => skip_sequence(&mut chars),
                Some(']' | 'P' | 'X' | '^' | '_') => skip_string(&mut chars),
                // One more character picks a character set.
                Some('(' | ')' | '*' | '+' | '#' | '%' | ' ') => {
                    chars.next();
                }
                _ => {}
            },
            '\u{9b}' => skip_sequence(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_string(&mut chars),
            '\t' => cleaned.push(' '),
            c if c.is_control() || is_invisible(c) => {}
            c => cleaned.push(c),
        }
    }
    cleaned
}

/// A control sequence ends with a letter or one of a few signs.
fn skip_sequence(chars: &mut impl Iterator<Item = char>) {
    for c in chars {
        if ('\u{40}'..='\u{7e}').contains(&c) {
            return;
        }
    }
}

/// A control string ends with BEL, with ESC and a backslash, or with what is both in one.
fn skip_string(chars: &mut std::iter::Peekable<impl Iterator<Item = char>>) {
    while let Some(c) = chars.next() {
        match c {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                chars.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// The text with everything masked that looks like a secret. It rather masks too much.
pub fn mask(text: &str) -> String {
    let text = mask_user_parts(text);
    let text = mask_values(&text);
    mask_keys(&text)
}

/// `user:password@` before a host, in URLs and without.
fn mask_user_parts(text: &str) -> String {
    let mut masked = String::new();
    for word in text.split_inclusive(char::is_whitespace) {
        let user_part = word.rsplit_once('@').filter(|(user, _)| {
            // Without a colon it is a name only, such as that of a mailbox; but a token in a URL.
            match user.split_once("://") {
                Some((_, user)) => user.contains(':') || !user.contains('/'),
                None => user.contains(':'),
            }
        });
        match user_part {
            Some((user, host)) => {
                if let Some((scheme, _)) = user.split_once("://") {
                    masked.push_str(scheme);
                    masked.push_str("://");
                }
                masked.push_str(MASK);
                masked.push('@');
                masked.push_str(host);
            }
            None => masked.push_str(word),
        }
    }
    masked
}

/// The values of `password=…`, `"token": "…"`, `--secret …`, `Authorization: …`, `AUTH …`.
fn mask_values(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some((before, value, after)) = next_value(rest) {
        masked.push_str(before);
        if !value.is_empty() {
            masked.push_str(MASK);
        }
        rest = after;
    }
    masked.push_str(rest);
    masked
}

/// Splits at the first secret value: what stands before it, the value, and what follows. Each call
/// takes at least a key away, so that what calls it comes to an end.
fn next_value(text: &str) -> Option<(&str, &str, &str)> {
    let lower = text.to_ascii_lowercase();
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let (start, key_end) = SECRET_KEYS
        .iter()
        .copied()
        .chain(["bearer ", "requirepass"])
        .filter_map(|key| lower.find(key).map(|at| (at, at + key.trim_end().len())))
        .min_by_key(|(at, end)| (*at, usize::MAX - end))?;
    // The key goes on to the end of its word.
    let tail = text.get(key_end..)?;
    let key_end = key_end + (tail.len() - tail.trim_start_matches(is_word).len());
    let word_start = text.get(..start)?.trim_end_matches(is_word).len();
    let word = text.get(word_start..key_end)?;

    let after_key = text.get(key_end..)?;
    let is_filler = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '\\');
    let unquoted = after_key.trim_start_matches(is_filler);
    let assigned = unquoted
        .strip_prefix("=>")
        .or_else(|| unquoted.strip_prefix(['=', ':']));
    // Commands and options give the value after a blank.
    let is_command = matches!(word, "AUTH" | "requirepass" | "masterauth")
        || word.eq_ignore_ascii_case("bearer")
        || word.starts_with("--");
    let value = match assigned {
        Some(value) => value,
        None if is_command && after_key.starts_with(' ') => after_key,
        None => return Some((text.get(..key_end)?, "", after_key)),
    };
    let opened = value.trim_start_matches(is_filler);
    let opening = value.get(..value.len() - opened.len())?;
    let to_the_end = matches!(word, "AUTH" | "requirepass" | "masterauth")
        || ["authorization", "cookie"]
            .iter()
            .any(|key| word.to_ascii_lowercase().ends_with(key));
    let end = match opening
        .chars()
        .rev()
        .find(|c| matches!(c, '"' | '\'' | '`'))
    {
        Some(quote) => end_of_quoted(opened, quote, opening.contains('\\')),
        None if to_the_end => opened.len(),
        None => opened
            .find(|c: char| {
                c.is_whitespace() || matches!(c, ',' | ';' | '&' | '"' | '\'' | ')' | ']' | '}')
            })
            .unwrap_or(opened.len()),
    };
    let at = text.len() - opened.len();
    Some((text.get(..at)?, opened.get(..end)?, opened.get(end..)?))
}

/// Where the quoted text ends. Where the opening quote is escaped, so is the closing one.
fn end_of_quoted(text: &str, quote: char, escaped: bool) -> usize {
    let mut after_backslash = false;
    for (at, c) in text.char_indices() {
        if c == quote && (escaped || !after_backslash) {
            return at;
        }
        after_backslash = c == '\\' && !after_backslash;
    }
    text.len()
}

/// Keys and digests: long runs of letters and digits, and JSON web tokens.
fn mask_keys(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let (before, run) = rest.split_at(start);
        masked.push_str(before);
        let is_web_token = run.starts_with("eyJ");
        let goes_on = |c: char| {
            c.is_ascii_alphanumeric() || (is_web_token && matches!(c, '.' | '_' | '-' | '='))
        };
        let end = run.find(|c| !goes_on(c)).unwrap_or(run.len());
        let (run, after) = run.split_at(end);
        let is_key = run.len() >= SHORTEST_KEY
            && run.contains(|c: char| c.is_ascii_digit())
            && run.contains(|c: char| c.is_ascii_alphabetic());
        masked.push_str(if is_key { MASK } else { run });
        rest = after;
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_steers_a_terminal() {
        let cases = [
            ("\u{1b}[1;31mError\u{1b}[0m: gone", "Error: gone"),
            ("\u{1b}]0;a title\u{7}after", "after"),
            ("\u{1b}]8;;http://a\u{1b}\\link", "link"),
            ("\u{9b}31mred", "red"),
            ("\u{1b}(Bplain\u{1b}c", "plain"),
            ("one\ttwo\r\u{0}\u{8}three", "one twothree"),
            ("a\u{202e}b\u{200b}c\u{feff}d", "abcd"),
            ("grün – 日本", "grün – 日本"),
            ("\u{1b}[", ""),
            ("\u{1b}", ""),
        ];
        for (text, cleaned) in cases {
            assert_eq!(clean(text), cleaned, "{text:?}");
        }
    }

    #[test]
    fn endless_text_is_cut_between_characters() {
        let text = "ä".repeat(500_000);
        assert_eq!(clean(&text).len(), LONGEST);
        let text = format!("a{}", "ä".repeat(500_000));
        assert_eq!(clean(&text).len(), LONGEST - 1);
    }

    #[test]
    fn secrets_are_masked_and_the_rest_stays() {
        let cases = [
            (
                "redis://:hunter2@quantum_redis:6379/0 refused",
                "redis://***@quantum_redis:6379/0 refused",
            ),
            (
                "dsn 'postgres://u:p@ss/w:rd@db/x', bye",
                "dsn 'postgres://***@db/x', bye",
            ),
            (
                "cloned https://ghp_hunter2@host/x",
                "cloned https://***@host/x",
            ),
            ("redis://:hun'ter2@host", "redis://***@host"),
            (
                "connect to admin:hunter2@10.0.0.1:5432",
                "connect to ***@10.0.0.1:5432",
            ),
            ("mail from root@host failed", "mail from root@host failed"),
            ("password=hunter2, user=x", "password=***, user=x"),
            ("DB_PASS: hunter2 x", "DB_PASS: *** x"),
            (
                r#"{"password": "hunter 2", "port": 6379}"#,
                r#"{"password": "***", "port": 6379}"#,
            ),
            (
                r#"{\"api_key\":\"hunter2\",\"b\":1}"#,
                r#"{\"api_key\":\"***",\"b\":1}"#,
            ),
            (r#"token="hun\"ter2" end"#, r#"token="***" end"#),
            ("{'secret_word': 'hunter2'}", "{'secret_word': '***'}"),
            (
                "run --password hunter2 --port 1",
                "run --password *** --port 1",
            ),
            ("Authorization: Basic aHVudGVyMg==", "Authorization: ***"),
            ("sent Bearer hunter2 to it", "sent Bearer *** to it"),
            ("> AUTH default hunter2", "> AUTH ***"),
            ("requirepass hunter2", "requirepass ***"),
            (
                "GET /order?signature=hunter2&x=1",
                "GET /order?signature=***&x=1",
            ),
            (
                "key vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A bad",
                "key *** bad",
            ),
            (
                "jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n bad",
                "jwt *** bad",
            ),
            (
                "WRONGPASS invalid username-password pair",
                "WRONGPASS invalid username-password pair",
            ),
            (
                "open /app/models/model_20260107_120000_final_version.bin",
                "open /app/models/model_20260107_120000_final_version.bin",
            ),
            ("ends with password=", "ends with password="),
        ];
        for (text, masked) in cases {
            assert_eq!(mask(text), masked, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "\\PC*|[\\x00-\\x7f]*|(password|token|auth|[ =:'\"\\\\@/-]|eyJ|é)*") {
            mask(&clean(&text));
            mask(&text);
        }

        #[test]
        fn a_password_never_shows(
            key in "(db_|)(password|token|secret|api_key)",
            separator in "(=|: |='|\": \"|=>)",
            before in "[a-z :,]{0,20}",
        ) {
            let masked = mask(&format!("{before} {key}{separator}hunter2"));
            prop_assert!(!masked.contains("hunter2"), "{masked}");
        }
    }
}
