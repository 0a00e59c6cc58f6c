//! Draws groups of bars as SVG.

use std::fmt::Write;

use openconsensus_bench::{Spread, number};

/// Bars in groups, each with a line from the least to the greatest value that was measured.
pub(crate) struct Chart {
    /// What it shows.
    pub(crate) title: String,
    /// What the height of a bar is.
    pub(crate) unit: String,
    /// What the groups differ in.
    pub(crate) groups_are: String,
    /// Whose bars stand in each group, in this order.
    pub(crate) series: Vec<String>,
    /// The name of each group, and its bars; `None` where nothing was measured.
    pub(crate) groups: Vec<(String, Vec<Option<Spread>>)>,
    /// Whether each step upwards is ten times as much: where values differ much.
    pub(crate) is_logarithmic: bool,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 55.0;
const COLOURS: [&str; 8] =
    ["#1b6ca8", "#d1793b", "#5f9e4b", "#8c6bb1", "#b5485d", "#777777", "#c2a83e", "#3fa7a0"];

impl Chart {
    pub(crate) fn svg(&self) -> String {
        let mut svg = String::new();
        let scale = Scale::of(self);
        let _ = writeln!(
            svg,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
<text x="{LEFT}" y="22" font-size="15" font-weight="bold" fill="#222222">{}</text>
<text x="{LEFT}" y="{:.1}" fill="#444444">{}</text>"##,
            escaped(&self.title),
            HEIGHT - 10.0,
            escaped(&self.groups_are),
        );
        self.draw_legend(&mut svg);
        for tick in scale.ticks() {
            let y = scale.y(tick);
            let _ = writeln!(
                svg,
                r##"<line x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}" stroke="#dddddd"/>
<text x="{:.1}" y="{:.1}" text-anchor="end" fill="#444444">{}</text>"##,
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                short(tick),
            );
        }
        let _ = writeln!(
            svg,
            r##"<text x="16" y="{:.1}" transform="rotate(-90 16 {:.1})" text-anchor="middle" fill="#444444">{}</text>"##,
            (TOP + HEIGHT - BOTTOM) / 2.0,
            (TOP + HEIGHT - BOTTOM) / 2.0,
            escaped(&self.unit),
        );
        let group_width = (WIDTH - LEFT - RIGHT) / self.groups.len().max(1) as f64;
        for (at, (name, bars)) in self.groups.iter().enumerate() {
            let x = LEFT + group_width * at as f64;
            let _ = writeln!(
                svg,
                r##"<text x="{:.1}" y="{:.1}" text-anchor="middle" fill="#222222">{}</text>"##,
                x + group_width / 2.0,
                HEIGHT - BOTTOM + 18.0,
                escaped(name),
            );
            self.draw_bars(&mut svg, &scale, x, group_width, bars);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_bars(&self, svg: &mut String, scale: &Scale, x: f64, width: f64, bars: &[Option<Spread>]) {
        let bar_width = width * 0.8 / self.series.len().max(1) as f64;
        let floor = HEIGHT - BOTTOM;
        for (at, spread) in bars.iter().enumerate() {
            let Some(spread) = spread else { continue };
            let left = x + width * 0.1 + bar_width * at as f64;
            let (top, middle) = (scale.y(spread.median), left + bar_width / 2.0);
            let _ = writeln!(
                svg,
                r##"<rect x="{left:.1}" y="{top:.1}" width="{:.1}" height="{:.1}" fill="{}"><title>{}: {}</title></rect>
<line x1="{middle:.1}" x2="{middle:.1}" y1="{:.1}" y2="{:.1}" stroke="#222222"/>"##,
                bar_width * 0.92,
                (floor - top).max(0.0),
                COLOURS[at % COLOURS.len()],
                escaped(&self.series[at]),
                number(spread.median),
                scale.y(spread.max),
                scale.y(spread.min),
            );
        }
    }

    fn draw_legend(&self, svg: &mut String) {
        let mut x = LEFT;
        for (at, name) in self.series.iter().enumerate() {
            let _ = writeln!(
                svg,
                r##"<rect x="{x:.1}" y="38" width="11" height="11" fill="{}"/>
<text x="{:.1}" y="48" fill="#222222">{}</text>"##,
                COLOURS[at % COLOURS.len()],
                x + 16.0,
                escaped(name),
            );
            // Roughly as wide as the letters of the font are.
            x += 34.0 + 6.6 * name.chars().count() as f64;
        }
    }
}

/// Where which value is.
struct Scale {
    least: f64,
    most: f64,
    is_logarithmic: bool,
}

impl Scale {
    fn of(chart: &Chart) -> Self {
        let spreads = || chart.groups.iter().flat_map(|(_, bars)| bars.iter().flatten());
        let most = spreads().map(|spread| spread.max).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let positive = spreads().map(|spread| spread.min).filter(|least| 0.0 < *least);
        let least = positive.fold(most, f64::min);
        if chart.is_logarithmic {
            let power = |value: f64| 10_f64.powf(value);
            let least = power(least.log10().floor());
            Self { least, most: power(most.log10().ceil()).max(least * 10.0), is_logarithmic: true }
        } else {
            Self { least: 0.0, most, is_logarithmic: false }
        }
    }

    fn y(&self, value: f64) -> f64 {
        let part = if self.is_logarithmic {
            (value.max(self.least) / self.least).log10() / (self.most / self.least).log10()
        } else {
            value / self.most
        };
        HEIGHT - BOTTOM - part.clamp(0.0, 1.0) * (HEIGHT - BOTTOM - TOP)
    }

    /// Round values to draw lines at.
    fn ticks(&self) -> Vec<f64> {
        if self.is_logarithmic {
            let steps = (self.most / self.least).log10().round() as i32;
            return (0..=steps).map(|step| self.least * 10_f64.powi(step)).collect();
        }
        let rough = self.most / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|times| times * power).find(|step| rough <= *step);
        let step = step.unwrap_or(10.0 * power);
        (0..).map(|n| f64::from(n) * step).take_while(|tick| *tick <= self.most).collect()
    }
}

/// A number of an axis: 2.5 M rather than 2 500 000.
fn short(value: f64) -> String {
    let (divided, letter) = match value {
        value if 1e6 <= value => (value / 1e6, " M"),
        value if 1e3 <= value => (value / 1e3, " k"),
        value => (value, ""),
    };
    let text = format!("{divided:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{letter}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(is_logarithmic: bool) -> Chart {
        let bar = |median: f64| Some(Spread { median, min: median / 2.0, max: median * 2.0 });
        Chart {
            title: "a < b".into(),
            unit: "writes/s".into(),
            groups_are: "clients".into(),
            series: vec!["ours".into(), "theirs".into()],
            groups: vec![("1".into(), vec![bar(1000.0), bar(500.0)]), ("64".into(), vec![bar(9000.0), None])],
            is_logarithmic,
        }
    }

    #[test]
    fn every_bar_that_was_measured_is_drawn_within_the_frame() {
        for is_logarithmic in [false, true] {
            let svg = chart(is_logarithmic).svg();
            assert_eq!(svg.matches("<title>").count(), 3, "{svg}");
            assert!(svg.contains("a &lt; b") && !svg.contains("NaN"), "{svg}");
            let scale = Scale::of(&chart(is_logarithmic));
            assert!(scale.y(18_000.0) < scale.y(9000.0) && scale.y(9000.0) < scale.y(500.0));
            assert!(TOP <= scale.y(18_000.0) && scale.y(250.0) <= HEIGHT - BOTTOM);
        }
    }

    #[test]
    fn ticks_are_round() {
        let scale = Scale { least: 0.0, most: 18_000.0, is_logarithmic: false };
        let ticks: Vec<String> = scale.ticks().into_iter().map(short).collect();
        assert_eq!(ticks, ["0", "5 k", "10 k", "15 k"]);
        let scale = Scale { least: 100.0, most: 1e6, is_logarithmic: true };
        let ticks: Vec<String> = scale.ticks().into_iter().map(short).collect();
        assert_eq!(ticks, ["100", "1 k", "10 k", "100 k", "1 M"]);
    }
}
