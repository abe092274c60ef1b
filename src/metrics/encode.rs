//! Families of samples, and their OpenMetrics text.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::scrape::number;

/// The table at the head of this module's parent, which says what each family is.
const TABLE: &str = include_str!("../metrics.rs");

/// All samples of one name. A counter's name is without `_total`, which its text has.
#[derive(Clone, Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) samples: Vec<Sample>,
}

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Counter,
    Histogram,
}

/// One value with its labels.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Number(f64),
    /// Buckets by upper bound, not cumulated.
    Histogram {
        sum: f64,
        count: u64,
        buckets: Vec<(f64, u64)>,
    },
}

impl Family {
    pub(super) const fn gauge(name: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, samples: Vec::new() }
    }

    pub(super) const fn counter(name: &'static str) -> Self {
        Self { name, kind: Kind::Counter, samples: Vec::new() }
    }

    pub(super) fn push<const N: usize>(&mut self, labels: [(&'static str, &str); N], value: f64) {
        self.samples.push(Sample::of(labels, Value::Number(value)));
    }

    pub(super) fn one(self, value: f64) -> Self {
        self.maybe(Some(value))
    }

    pub(super) fn maybe(mut self, value: Option<f64>) -> Self {
        self.samples.extend(value.map(|value| Sample::of([], Value::Number(value))));
        self
    }

    pub(super) fn by(mut self, label: &'static str, counts: &BTreeMap<&'static str, u64>) -> Self {
        self.samples
            .extend(counts.iter().map(|(word, count)| Sample::of([(label, *word)], Value::Number(number(*count)))));
        self
    }
}

impl Sample {
    pub(super) fn of<const N: usize>(labels: [(&'static str, &str); N], value: Value) -> Self {
        Self { labels: labels.map(|(name, value)| (name, value.to_owned())).into(), value }
    }
}

/// The text of a scrape, with the size of the journal's directory as it is now.
pub(super) fn text(mut families: Vec<Family>, journal: &Path) -> String {
    families.push(Family::gauge("natgw_journal_bytes").maybe(bytes_below(journal).map(number)));
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families)));
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => text,
        // Only a writer that refuses makes it fail, and a string takes everything.
        Err(fmt::Error) => String::new(),
    }
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in self.0.iter().filter(|family| !family.samples.is_empty()) {
            let kind = match family.kind {
                Kind::Gauge => MetricType::Gauge,
                Kind::Counter => MetricType::Counter,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(family.name, meaning(family), None, kind)?;
            for sample in &family.samples {
                if sample.labels.is_empty() {
                    write(&mut metric, family.kind, &sample.value)?;
                } else {
                    write(&mut metric.encode_family(&sample.labels)?, family.kind, &sample.value)?;
                }
            }
        }
        Ok(())
    }
}

fn write(metric: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> Result<(), fmt::Error> {
    match (kind, value) {
        (Kind::Counter, Value::Number(value)) => metric.encode_counter::<NoLabelSet, f64, f64>(value, None),
        (Kind::Gauge | Kind::Histogram, Value::Number(value)) => metric.encode_gauge(value),
        (Kind::Gauge | Kind::Counter | Kind::Histogram, Value::Histogram { sum, count, buckets }) => {
            metric.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
        }
    }
}

/// The meaning that the table gives.
fn meaning(family: &Family) -> &'static str {
    let suffix = if family.kind == Kind::Counter { "_total" } else { "" };
    let cells = TABLE.lines().filter_map(|line| line.strip_prefix("//! | `")?.split_once('`'));
    let mut rest = cells.filter(|(name, _)| name.strip_suffix(suffix) == Some(family.name)).map(|(_, rest)| rest);
    let row = rest.next().unwrap_or_default().trim_end().trim_end_matches(" |");
    row.rsplit(" | ").next().unwrap_or_default()
}

/// Bytes of the files below a folder; `None` where it cannot be read.
fn bytes_below(folder: &Path) -> Option<u64> {
    let mut bytes = 0_u64;
    for entry in std::fs::read_dir(folder).ok()? {
        let entry = entry.ok()?;
        let metadata = entry.metadata().ok()?;
        let below = if metadata.is_dir() { bytes_below(&entry.path()) } else { Some(metadata.len()) };
        bytes = bytes.saturating_add(below?);
    }
    Some(bytes)
}
