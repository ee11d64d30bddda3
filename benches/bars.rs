//! Medians, and what was promised of them: of all benches.
#![allow(dead_code)] // not every bench needs all of it

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// The value that this part of the values does not exceed.
pub(crate) fn percentile(values: impl Iterator<Item = f64>, part: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len => values[((len - 1) as f64 * part).round() as usize],
    }
}

/// What was promised, and what came of it.
#[derive(Default)]
pub(crate) struct Bars {
    lines: Vec<String>,
    pub(crate) missed: bool,
}

impl Bars {
    /// `noise`: by how much a measured value may lie on the wrong side without saying anything.
    fn add(&mut self, name: String, measured: f64, limit: f64, at_least: bool, noise: f64) {
        let excess = if at_least { limit - measured } else { measured - limit };
        let verdict = match excess {
            excess if excess <= 0.0 => "ok",
            excess if excess <= noise => "ok, within the spread",
            _ => "MISSED",
        };
        self.missed |= verdict == "MISSED";
        let sign = if at_least { ">=" } else { "<=" };
        self.lines.push(format!("{name:<66} {measured:>7.3} {sign} {limit:<6} {verdict}"));
    }

    pub(crate) fn at_most(&mut self, name: impl Into<String>, measured: f64, limit: f64, noise: f64) {
        self.add(name.into(), measured, limit, false, noise);
    }

    pub(crate) fn at_least(&mut self, name: impl Into<String>, measured: f64, limit: f64) {
        self.add(name.into(), measured, limit, true, 0.0);
    }

    pub(crate) fn print(&self) {
        println!("\n{:<66} {:>7}    limit", "bar", "here");
        for line in &self.lines {
            println!("{line}");
        }
    }
}
