//! A trace as a sequence diagram: one HTML file that needs nothing else.

use std::fmt::Write as _;

use super::trace::{Sight, Trace};

/// The distance between two nodes, and between two sights.
const LANE: u64 = 210;
const ROW: u64 = 22;
const LEFT: u64 = 170;
const TOP: u64 = 46;

const STYLE: &str = "body{font:13px system-ui,sans-serif;margin:1.5em;background:#fff;color:#222}\
pre{background:#f4f4f0;padding:1em;overflow-x:auto;white-space:pre-wrap}\
svg text{font:11px ui-monospace,monospace;fill:#222}svg .time{fill:#999}svg .lane{stroke:#ddd}\
svg .name{font-weight:bold;font-size:14px}svg .sent{stroke:#36c;fill:none}svg .lost{stroke:#c33;\
stroke-dasharray:4 3;fill:none}svg .on{fill:#fff6d6;stroke:#e0c860}svg .all{fill:#eef}";

impl Trace {
    /// The diagram of the last `sights_max` sights, under `title`, with `notes` before it.
    pub fn html(&self, title: &str, notes: &str, nodes: u64, sights_max: usize) -> String {
        let skipped = self.sights.len().saturating_sub(sights_max);
        let sights = &self.sights[skipped..];
        let width = LEFT + nodes * LANE + 40;
        let height = TOP + (sights.len() as u64 + 2) * ROW;
        let mut page = String::new();
        let title = escape(title);
        write!(
            page,
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
             <style>{STYLE}</style></head><body><h1>{title}</h1><pre>{}</pre>",
            escape(notes)
        )
        .expect("a string takes everything");
        if 0 < skipped {
            write!(page, "<p>{skipped} earlier sights are left out here; the text has them.</p>")
                .expect("a string takes everything");
        }
        write!(
            page,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\">\
             <defs><marker id=\"a\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
             orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#36c\"/></marker></defs>"
        )
        .expect("a string takes everything");
        for node in 1..=nodes {
            let x = x_of(node);
            write!(
                page,
                "<line class=\"lane\" x1=\"{x}\" y1=\"{TOP}\" x2=\"{x}\" y2=\"{height}\"/>\
                 <text class=\"name\" x=\"{x}\" y=\"28\" text-anchor=\"middle\">n{node}</text>"
            )
            .expect("a string takes everything");
        }
        for (row, (at_us, sight)) in sights.iter().enumerate() {
            draw(&mut page, sights, row, *at_us, sight, width);
        }
        page.push_str("</svg></body></html>\n");
        page
    }
}

fn draw(page: &mut String, sights: &[(u64, Sight)], row: usize, at_us: u64, sight: &Sight, width: u64) {
    let y = y_of(row);
    let time = at_us as f64 / 1000.0;
    let mut svg = format!("<text class=\"time\" x=\"4\" y=\"{}\">{time:.3} ms</text>", y + 4);
    match sight {
        Sight::On { node, text } => {
            let (x, text) = (x_of(*node), escape(text));
            let wide = 8 + 7 * text.chars().count().min(120) as u64;
            write!(
                svg,
                "<rect class=\"on\" x=\"{}\" y=\"{}\" width=\"{wide}\" height=\"17\" rx=\"3\"/>\
                 <text x=\"{}\" y=\"{}\">{text}</text>",
                x + 4,
                y - 9,
                x + 8,
                y + 4
            )
        }
        Sight::Letter { from, to, sent_us, arrives, text } => {
            let sent_row = sights.partition_point(|(at, _)| at < sent_us).min(row);
            let (x1, y1, x2) = (x_of(*from), y_of(sent_row), x_of(*to));
            let class = if *arrives { "sent\" marker-end=\"url(#a)" } else { "lost" };
            let x = x1.min(x2) + 10;
            let lost = if *arrives { "" } else { " (lost)" };
            write!(
                svg,
                "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y}\"/>\
                 <text x=\"{x}\" y=\"{}\">{}{lost}</text>",
                y - 3,
                escape(text)
            )
        }
        Sight::All { text } => {
            let text = escape(text);
            write!(
                svg,
                "<rect class=\"all\" x=\"{LEFT}\" y=\"{}\" width=\"{}\" height=\"17\"/>\
                 <text x=\"{}\" y=\"{}\">{text}</text>",
                y - 9,
                width - LEFT - 10,
                LEFT + 6,
                y + 4
            )
        }
    }
    .expect("a string takes everything");
    page.push_str(&svg);
}

fn x_of(node: u64) -> u64 {
    LEFT + (node - 1) * LANE
}

fn y_of(row: usize) -> u64 {
    TOP + (row as u64 + 1) * ROW
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
