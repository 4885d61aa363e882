//! HTML in the making.

/// Markup comes in as literals of this program only, everything else as text.
#[derive(Debug)]
pub struct Html(String);

impl Html {
    /// An empty one with room for so many bytes.
    pub fn with_capacity(room: usize) -> Self {
        Self(String::with_capacity(room))
    }

    /// Adds markup.
    pub fn markup(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Adds text as it is to be read, in an element or in a quoted attribute. What no reader would
    /// see, or what would turn the text around it, is shown as its number.
    pub fn text(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c if is_unseen(c) => self.0.extend(c.escape_unicode()),
                c => self.0.push(c),
            }
        }
        self
    }

    /// What was made.
    pub fn finish(self) -> String {
        self.0
    }
}

/// Control characters; characters that have no width, or set the direction of what follows; and
/// those that no text may hold.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
        || u32::from(c) & 0xfffe == 0xfffe
        || ('\u{fdd0}'..='\u{fdef}').contains(&c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut html = Html::with_capacity(0);
        html.text(text);
        html.finish()
    }

    /// What a browser shows of it.
    fn shown(html: &str) -> String {
        html.replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&#39;", "'")
            .replace("&amp;", "&")
    }

    #[test]
    fn markup_in_a_text_is_shown_not_obeyed() {
        assert_eq!(
            escaped("<b title='\"'>a & b"),
            "&lt;b title=&#39;&quot;&#39;&gt;a &amp; b"
        );
        assert_eq!(
            escaped("a\n\u{1b}[31m\u{202e}b"),
            r"a\u{a}\u{1b}[31m\u{202e}b"
        );
    }

    proptest! {
        #[test]
        fn no_text_is_ever_markup(
            text in prop_oneof!["\\PC*", "(<|>|&|\"|'|;|lt|#39|amp|\\PC){0,40}", any::<String>()]
        ) {
            let html = escaped(&text);
            prop_assert!(!html.contains(['<', '>', '"', '\'']), "{html}");
            prop_assert!(!html.contains(is_unseen), "{html:?}");
            let entities = ["amp;", "lt;", "gt;", "quot;", "#39;"];
            let all_known = html
                .split('&')
                .skip(1)
                .all(|rest| entities.iter().any(|entity| rest.starts_with(entity)));
            prop_assert!(all_known, "{html}");
            let plain: String = text
                .chars()
                .map(|c| if is_unseen(c) { c.escape_unicode().to_string() } else { c.to_string() })
                .collect();
            prop_assert_eq!(shown(&html), plain);
        }
    }
}
