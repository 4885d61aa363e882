//! The page on `/`: what this is, and where the rest is.

use super::Server;

/// A page of its own: no script, nothing loaded from elsewhere.
pub fn page(server: &Server, paths: [&str; 3]) -> String {
    let baseline = server.host.baseline();
    let links: String = paths
        .iter()
        .map(|path| escaped(path))
        .map(|path| format!("<li><a href=\"{path}\">{path}</a></li>\n"))
        .collect();
    format!(
        "<!DOCTYPE html>\n\
         <html lang=\"en\">\n\
         <head>\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>baseline-exporter: {deployment}</title>\n\
         <style>body {{ font-family: sans-serif; margin: 2em; color-scheme: light dark }}</style>\n\
         </head>\n\
         <body>\n\
         <h1>baseline-exporter</h1>\n\
         <p>Version {version}, deployment {deployment}, baseline {source}</p>\n\
         <ul>\n{links}</ul>\n\
         </body>\n\
         </html>\n",
        deployment = escaped(&baseline.deployment),
        version = env!("CARGO_PKG_VERSION"),
        source = escaped(&baseline.source),
    )
}

/// Text as HTML shows it, in elements and in quoted attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_name_is_shown_not_obeyed() {
        assert_eq!(
            escaped("<b title='\"'>a & b"),
            "&lt;b title=&#39;&quot;&#39;&gt;a &amp; b"
        );
    }
}
