//! The text that the encoder writes, on its way to the string: with what was kept of units, and as
//! text 0.0.4 where that was asked for.

use std::fmt::{self, Write};

use super::Format;
use super::kept::Texts;

/// Adds the kept samples to their families, and turns OpenMetrics into text 0.0.4: there a counter's
/// `_total` belongs to the family's name too, and there is neither a unit nor an end mark.
pub struct Writer<'a> {
    out: &'a mut String,
    format: Format,
    kept: &'a Texts,
    /// The comment that is being written; `None` within a sample.
    comment: Option<String>,
    at_line_start: bool,
    /// HELP comes before TYPE, which decides the name.
    help: String,
}

impl<'a> Writer<'a> {
    /// A writer of OpenMetrics that puts text of this format at the end of `out`.
    pub fn new(out: &'a mut String, format: Format, kept: &'a Texts) -> Self {
        Self {
            out,
            format,
            kept,
            comment: None,
            at_line_start: true,
            help: String::new(),
        }
    }

    fn comment(&mut self, line: &str) -> fmt::Result {
        if self.format == Format::OpenMetrics {
            writeln!(self.out, "{line}")?;
        } else if let Some(help) = line.strip_prefix("# HELP ") {
            help.clone_into(&mut self.help);
        }
        if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|line| line.split_once(' '))
        {
            if self.format == Format::Text {
                let total = if kind == "counter" { "_total" } else { "" };
                let help = self.help.strip_prefix(name).unwrap_or("");
                writeln!(
                    self.out,
                    "# HELP {name}{total}{help}\n# TYPE {name}{total} {kind}"
                )?;
            }
            self.kept.add_samples(name, self.out);
        }
        Ok(())
    }
}

impl Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Nearly all that comes is a part of a sample: of those a line ends where the part does, for the
        // encoder escapes what is within a label's value.
        if self.comment.is_none() && !(self.at_line_start && text.starts_with('#')) {
            if let Some(last) = text.as_bytes().last() {
                self.at_line_start = *last == b'\n';
                self.out.push_str(text);
            }
            return Ok(());
        }
        for part in text.split_inclusive('\n') {
            if self.at_line_start && part.starts_with('#') {
                self.comment = Some(String::new());
            }
            self.at_line_start = part.ends_with('\n');
            let Some(mut comment) = self.comment.take() else {
                self.out.push_str(part);
                continue;
            };
            comment.push_str(part);
            if self.at_line_start {
                self.comment(comment.trim_end())?;
            } else {
                self.comment = Some(comment);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_named_as_their_samples_and_the_end_mark_goes() {
        let openmetrics = "# HELP a Starts.\n# TYPE a counter\na_total{name=\"#x\"} 1\n\
                           # HELP b Now.\n# TYPE b gauge\n# UNIT b seconds\nb 2\n# EOF\n";
        let classic = "# HELP a_total Starts.\n# TYPE a_total counter\na_total{name=\"#x\"} 1\n\
                       # HELP b Now.\n# TYPE b gauge\nb 2\n";
        let mut whole = String::new();
        let kept = Texts::default();
        Writer::new(&mut whole, Format::Text, &kept)
            .write_str(openmetrics)
            .unwrap();
        assert_eq!(whole, classic);
        let mut by_character = String::new();
        let mut writer = Writer::new(&mut by_character, Format::Text, &kept);
        for character in openmetrics.chars() {
            writer.write_char(character).unwrap();
        }
        assert_eq!(by_character, classic);
    }
}
