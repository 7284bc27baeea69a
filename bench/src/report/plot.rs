//! Line charts as inline SVG, drawn here so that a report needs no script and no other file.

use std::fmt::Write;

/// How values are placed along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Proportional, from zero.
    Linear,
    /// By decades.
    Log,
}

/// One line of a chart.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Points in ascending order of x.
    pub points: Vec<(f64, f64)>,
}

/// One chart.
pub struct Chart<'a> {
    /// Heading.
    pub title: &'a str,
    /// What the x axis counts.
    pub x_label: &'a str,
    /// The lines.
    pub series: Vec<Series>,
    /// Scale of the y axis.
    pub y_scale: Scale,
    /// Scale of the x axis.
    pub x_scale: Scale,
    /// Text of a tick on the x axis.
    pub x_text: fn(f64) -> String,
    /// Text of a tick on the y axis.
    pub y_text: fn(f64) -> String,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 32.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 40.0;

/// One axis: a range of values onto a range of pixels.
struct Axis {
    low: f64,
    high: f64,
    scale: Scale,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, scale: Scale, from: f64, to: f64) -> Axis {
        let usable = |v: &f64| v.is_finite() && (scale == Scale::Linear || *v > 0.0);
        let (low, high) = values
            .filter(usable)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low > high { (1.0, 10.0) } else { (low, high) };
        let (low, high) = match scale {
            Scale::Linear => (0.0, if high <= 0.0 { 1.0 } else { high * 1.05 }),
            Scale::Log => {
                let (low, high) = (10f64.powf(low.log10().floor()), 10f64.powf(high.log10().ceil()));
                (low, if high <= low { low * 10.0 } else { high })
            }
        };
        Axis { low, high, scale, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(self.low) / self.low).log10() / (self.high / self.low).log10(),
        };
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Log => {
                let mut ticks = Vec::new();
                let mut tick = self.low;
                while tick <= self.high * 1.0001 {
                    ticks.push(tick);
                    tick *= 10.0;
                }
                ticks
            }
            Scale::Linear => {
                let rough = self.high / 6.0;
                let magnitude = 10f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0]
                    .into_iter()
                    .map(|factor| factor * magnitude)
                    .find(|step| *step >= rough)
                    .unwrap_or(rough);
                (0..).map(|n| f64::from(n) * step).take_while(|tick| *tick <= self.high).collect()
            }
        }
    }
}

impl Chart<'_> {
    /// The chart as one `<svg>` element, labelled for screen readers. Colours are CSS classes `s0`, `s1`, ….
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| series.points.iter());
        let x = Axis::over(points().map(|p| p.0), self.x_scale, LEFT, WIDTH - RIGHT);
        let y = Axis::over(points().map(|p| p.1), self.y_scale, HEIGHT - BOTTOM, TOP);
        let mut out = String::new();
        let title = escape(self.title);
        let _ = write!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\"><text class=\"title\" x=\"{LEFT}\" y=\"16\">{title}</text>"
        );
        for tick in y.ticks() {
            let at = y.place(tick);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"y\" x=\"{}\" y=\"{:.1}\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                escape(&(self.y_text)(tick))
            );
        }
        for tick in x.ticks() {
            let _ = write!(
                out,
                "<text class=\"x\" x=\"{:.1}\" y=\"{}\">{}</text>",
                x.place(tick),
                HEIGHT - BOTTOM + 16.0,
                escape(&(self.x_text)(tick))
            );
        }
        let _ = write!(
            out,
            "<text class=\"x\" x=\"{}\" y=\"{}\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 6.0,
            escape(self.x_label)
        );
        let mut legend_at = WIDTH - RIGHT;
        for (number, series) in self.series.iter().enumerate().rev() {
            let _ = write!(out, "<polyline class=\"s{number}\" points=\"");
            for (px, py) in &series.points {
                let _ = write!(out, "{:.1},{:.1} ", x.place(*px), y.place(*py));
            }
            let _ = write!(
                out,
                "\"/><text class=\"legend s{number}\" x=\"{legend_at}\" y=\"16\">{}</text>",
                escape(&series.name)
            );
            legend_at -= 12.0 + 8.0 * series.name.chars().count() as f64;
        }
        out.push_str("</svg>\n");
        out
    }
}

/// Makes text safe inside HTML and SVG, attribute values included.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>, scale: Scale) -> String {
        Chart {
            title: "t",
            x_label: "x",
            series: vec![Series { name: "a".to_owned(), points }],
            y_scale: scale,
            x_scale: Scale::Linear,
            x_text: |v| format!("{v}"),
            y_text: |v| format!("{v}"),
        }
        .svg()
    }

    #[test]
    fn empty_flat_and_infinite_data_still_give_a_chart() {
        for points in [
            vec![],
            vec![(0.0, 0.0)],
            vec![(0.0, f64::NAN), (1.0, f64::INFINITY)],
            vec![(3.0, 5.0), (3.0, 5.0)],
        ] {
            for scale in [Scale::Linear, Scale::Log] {
                let svg = chart(points.clone(), scale);
                assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
                assert!(!svg.contains("inf"), "{svg}");
            }
        }
    }

    #[test]
    fn larger_values_are_drawn_higher() {
        let axis = Axis::over([1.0, 1000.0].into_iter(), Scale::Log, 100.0, 0.0);
        assert!(axis.place(1000.0) < axis.place(10.0) && axis.place(10.0) < axis.place(1.0));
        assert_eq!(axis.ticks().len(), 4);
    }
}
