//! Figures as they are printed, and the statistics in them.

use std::time::Duration;

/// What a figure is to reach.
pub enum Reach {
    AtMost(f64),
    AtLeast(f64),
    Told,
}

pub fn figure(name: &str, value: f64, unit: &str, yardstick: Option<f64>, reach: &Reach) -> String {
    let yardstick = yardstick.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    let (bound, met) = match reach {
        Reach::AtMost(bound) => (bound.to_string(), value <= *bound),
        Reach::AtLeast(bound) => (bound.to_string(), value >= *bound),
        Reach::Told => ("-".to_owned(), true),
    };
    format!("figure {name} {value:.3} {unit} yardstick {yardstick} reach {bound} {}", if met { "ok" } else { "short" })
}

pub fn percentile(values: &[f64], hundredths: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[(values.len() * hundredths / 100).min(values.len() - 1)]
}

pub fn ns(took: Duration) -> f64 {
    took.as_nanos() as f64
}
