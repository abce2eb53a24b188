//! Plots as SVG, drawn here so that a report is one file and needs nothing from elsewhere.

use std::fmt::Write;

/// One plot over time.
pub(super) struct Plot {
    pub(super) title: &'static str,
    pub(super) lines: Vec<Line>,
    /// How a value is written beside the axis.
    pub(super) show: fn(f64) -> String,
    /// Steps of ten instead of equal ones, for what spans several orders of magnitude.
    pub(super) logarithmic: bool,
    /// From the first second to the last.
    pub(super) seconds: f64,
    /// Where the full load begins.
    pub(super) full_from: f64,
}

/// One line of a plot.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) color: &'static str,
    /// Time in seconds and value; a second without a value interrupts the line.
    pub(super) points: Vec<(f64, Option<f64>)>,
    /// Bars instead of a line.
    pub(super) bars: bool,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 86.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 34.0;

impl Plot {
    /// The plot as an `<svg>` element.
    pub(super) fn svg(&self) -> String {
        let mut out = String::new();
        // Writing into a String does not fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        write!(
            out,
            "<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{}'>\
             <text x='0' y='16' class='title'>{}</text>",
            self.title, self.title
        )?;
        self.write_legend(out)?;
        let ticks = self.ticks();
        let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
        for tick in &ticks {
            let y = self.y(*tick, low, high);
            write!(
                out,
                "<line x1='{LEFT}' x2='{}' y1='{y:.1}' y2='{y:.1}' class='grid'/>\
                 <text x='{}' y='{:.1}' class='tick' text-anchor='end'>{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                // Round numbers need no decimals.
                (self.show)(*tick).replace(".00 ", " ").replace(".0 ", " ")
            )?;
        }
        let step = nice_step(self.seconds / 8.0).max(1.0);
        let mut second = 0.0;
        while second <= self.seconds {
            let x = self.x(second);
            write!(
                out,
                "<text x='{x:.1}' y='{}' class='tick' text-anchor='middle'>{second:.0} s</text>",
                HEIGHT - BOTTOM + 18.0
            )?;
            second += step;
        }
        if self.full_from > 0.0 && self.full_from < self.seconds {
            let x = self.x(self.full_from);
            write!(
                out,
                "<line x1='{x:.1}' x2='{x:.1}' y1='{TOP}' y2='{}' class='mark'/>\
                 <text x='{:.1}' y='{}' class='tick'>full load</text>",
                HEIGHT - BOTTOM,
                x - 2.0,
                TOP - 6.0
            )?;
        }
        for (place, line) in self.lines.iter().enumerate() {
            if line.bars {
                self.write_bars(out, line, place, low, high)?;
            } else {
                self.write_line(out, line, low, high)?;
            }
        }
        let is_nothing =
            |line: &Line| line.bars && line.points.iter().all(|(_, v)| *v <= Some(0.0));
        if self.lines.iter().all(is_nothing) {
            let (x, y) = ((LEFT + WIDTH - RIGHT) / 2.0, (TOP + HEIGHT - BOTTOM) / 2.0);
            write!(out, "<text x='{x}' y='{y}' class='tick' text-anchor='middle'>none</text>")?;
        }
        out.write_str("</svg>")
    }

    /// Behind the title, where it is seen however narrow the window is.
    fn write_legend(&self, out: &mut String) -> std::fmt::Result {
        let mut x = self.title.chars().count() as f64 * 7.6 + 28.0;
        for line in &self.lines {
            write!(
                out,
                "<rect x='{x:.1}' y='7' width='12' height='10' fill='{}'/>\
                 <text x='{:.1}' y='16' class='tick'>{}</text>",
                line.color,
                x + 17.0,
                line.name
            )?;
            x += line.name.chars().count() as f64 * 6.8 + 34.0;
        }
        Ok(())
    }

    fn write_line(&self, out: &mut String, line: &Line, low: f64, high: f64) -> std::fmt::Result {
        let mut pen_down = false;
        write!(out, "<path fill='none' stroke='{}' class='line' d='", line.color)?;
        for (second, value) in &line.points {
            let Some(value) = value else {
                pen_down = false;
                continue;
            };
            let (x, y) = (self.x(*second), self.y(*value, low, high));
            // A point between two gaps is a line of no length, which round ends make a dot.
            let letter = if pen_down { 'L' } else { 'M' };
            write!(out, "{letter}{x:.1} {y:.1}")?;
            if !pen_down {
                write!(out, "h0.01")?;
            }
            pen_down = true;
        }
        out.write_str("'/>")
    }

    /// Bars of several lines stand side by side.
    fn write_bars(
        &self,
        out: &mut String,
        line: &Line,
        place: usize,
        low: f64,
        high: f64,
    ) -> std::fmt::Result {
        let second = (WIDTH - LEFT - RIGHT) / self.seconds.max(1.0);
        let count = self.lines.len() as f64;
        let width = (second * 0.8).min(36.0) / count;
        for (at, value) in &line.points {
            let Some(value) = value.filter(|value| *value > 0.0) else { continue };
            let y = self.y(value, low, high);
            write!(
                out,
                "<rect x='{:.1}' y='{y:.1}' width='{width:.1}' height='{:.1}' fill='{}'/>",
                self.x(*at) + width * (place as f64 - count / 2.0),
                HEIGHT - BOTTOM - y,
                line.color
            )?;
        }
        Ok(())
    }

    fn x(&self, second: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (second / self.seconds.max(1.0)).min(1.0)
    }

    fn y(&self, value: f64, low: f64, high: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(low).log10() - low.log10()) / (high.log10() - low.log10())
        } else {
            (value - low) / (high - low)
        };
        HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share.clamp(0.0, 1.0)
    }

    /// Values beside the axis, the lowest first; at least two.
    fn ticks(&self) -> Vec<f64> {
        let values = self.lines.iter().flat_map(|line| &line.points);
        let values: Vec<f64> = values.filter_map(|(_, value)| *value).collect();
        let largest = values.iter().copied().fold(0.0, f64::max);
        if self.logarithmic {
            let positive = values.iter().copied().filter(|value| *value > 0.0);
            let smallest = positive.fold(f64::INFINITY, f64::min).min(largest.max(1.0));
            let lowest = 10_f64.powf(smallest.max(1.0).log10().floor());
            let decades = (largest.max(lowest * 10.0) / lowest).log10().ceil();
            // Of one or two powers of ten there is room for steps between.
            let factors: &[f64] = if decades <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let mut power = lowest;
            let mut ticks = Vec::new();
            while ticks.len() < 2 || ticks[ticks.len() - 1] < largest {
                ticks.extend(factors.iter().map(|factor| factor * power));
                power *= 10.0;
            }
            // The last step is the first that holds the largest value.
            let first_above = ticks.iter().position(|tick| *tick >= largest).unwrap_or_default();
            ticks.truncate(first_above.max(1) + 1);
            return ticks;
        }
        let step = nice_step((largest / 4.0).max(0.25));
        let mut ticks = vec![0.0];
        while ticks.len() < 2 || ticks[ticks.len() - 1] < largest {
            ticks.push(step * ticks.len() as f64);
        }
        ticks
    }
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn nice_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-9).log10().floor());
    let factors = [1.0, 2.0, 5.0];
    factors
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least)
        .unwrap_or(power * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(values: &[Option<f64>], logarithmic: bool) -> Plot {
        let points = values.iter().enumerate().map(|(second, value)| (second as f64, *value));
        let line = Line { name: "x", color: "#000", points: points.collect(), bars: false };
        Plot {
            title: "t",
            lines: vec![line],
            show: |value| format!("{value}"),
            logarithmic,
            seconds: 10.0,
            full_from: 3.0,
        }
    }

    #[test]
    fn ticks_enclose_the_values() {
        let check = |values: &[Option<f64>], logarithmic: bool, expected: &[f64]| {
            assert_eq!(plot(values, logarithmic).ticks(), expected, "{values:?}");
        };
        check(&[], false, &[0.0, 0.5]);
        check(&[Some(0.0)], false, &[0.0, 0.5]);
        check(&[Some(7.0), None, Some(19.0)], false, &[0.0, 5.0, 10.0, 15.0, 20.0]);
        check(&[Some(450.0), Some(12_000.0)], true, &[100.0, 1_000.0, 10_000.0, 100_000.0]);
        check(&[Some(12.0), Some(70.0)], true, &[10.0, 20.0, 50.0, 100.0]);
        check(&[Some(12.0), Some(30.0)], true, &[10.0, 20.0, 50.0]);
        check(&[], true, &[1.0, 2.0]);
    }

    #[test]
    fn every_number_in_a_plot_is_one() {
        for values in [&[][..], &[Some(0.0)], &[None], &[Some(1.0), None, Some(1e9)]] {
            for logarithmic in [false, true] {
                let svg = plot(values, logarithmic).svg();
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{values:?}: {svg}");
                assert!(svg.ends_with("</svg>"));
            }
        }
    }
}
