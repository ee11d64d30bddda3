//! The numbers of a store as Prometheus reads them: the text format 0.0.4, and OpenMetrics 1.0.0.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;

use super::sidecar::{Description, Record};
use crate::observer::schema::{Field, Kind};
use crate::observer::value::Value;

/// Which text it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`
    OpenMetrics,
}

/// A worker: its segment, what is known of it, and its numbers, none if they could not be read.
type Worker = (u32, Arc<Record>, Vec<Value>);

/// What goes by one name.
struct Family<'a> {
    kind: Kind,
    /// The one that had the name first.
    field: &'a Field,
    /// Which worker's, and which of its numbers.
    samples: Vec<(&'a Worker, &'a Description, usize)>,
}

/// The name of what is told of every worker.
const UP: &str = "shmhot_worker_up";

pub(super) fn write(workers: &[Worker], format: Format) -> String {
    let mut text = String::new();
    let described = workers.iter().filter_map(|worker| Some((worker, worker.1.description.as_ref()?)));
    // Not all who have a field need to say what it means.
    let mut kinds = BTreeMap::new();
    for (field, _) in described.clone().flat_map(|(_, found)| found.schema.fields()) {
        let kind = kinds.entry(field.name.as_str()).or_insert(field.kind);
        *kind = if *kind == Kind::Unknown { field.kind } else { *kind };
    }
    let mut families = BTreeMap::new();
    for (worker, found) in described.clone() {
        for (index, (field, _)) in found.schema.fields().enumerate().take(worker.2.len()) {
            let kind = kinds[field.name.as_str()];
            let name = family_name(&field.name, kind, format);
            if name == UP {
                continue;
            }
            let family = families.entry(name).or_insert(Family { kind, field, samples: Vec::new() });
            // Two names may become one; the first has it.
            if family.kind == kind && family.samples.last().is_none_or(|(last, ..)| last.0 != worker.0) {
                family.samples.push((worker, found, index));
            }
        }
    }
    let is_counter = |name| families.get(name).is_some_and(|family| family.kind == Kind::Counter);
    for (name, Family { kind, field, samples }) in &families {
        if format == Format::OpenMetrics && name.strip_suffix("_total").is_some_and(is_counter) {
            continue; // the samples of that counter have this name
        }
        let told = match (kind, format) {
            (Kind::Counter, _) => "counter",
            (Kind::Gauge, _) => "gauge",
            (Kind::Unknown, Format::Prometheus) => "untyped",
            (Kind::Unknown, Format::OpenMetrics) => "unknown",
        };
        let help = if field.help.is_empty() { field.name.replace('_', " ") } else { field.help.clone() };
        let unit = if ends_with_unit(name, &field.unit) { field.unit.as_str() } else { "" };
        head(&mut text, name, told, unit, &help, format);
        let suffix = if *kind == Kind::Counter && format == Format::OpenMetrics { "_total" } else { "" };
        for (worker, found, index) in samples {
            let _ = writeln!(text, "{name}{suffix}{} {}", labels(worker, found), Number(worker.2[*index]));
        }
    }
    head(&mut text, UP, "gauge", "", "Whether the process of a worker runs.", format);
    for (worker, found) in described {
        let up = u8::from(!worker.1.process.is_dead());
        let _ = writeln!(text, "{UP}{} {up}", labels(worker, found));
    }
    if format == Format::OpenMetrics {
        text += "# EOF\n";
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, unit: &str, help: &str, format: Format) {
    let _ = writeln!(text, "# HELP {name} {}", escape(help, format == Format::OpenMetrics));
    let _ = writeln!(text, "# TYPE {name} {kind}");
    if format == Format::OpenMetrics && !unit.is_empty() {
        let _ = writeln!(text, "# UNIT {name} {unit}");
    }
}

/// A name of `[a-zA-Z_:][a-zA-Z0-9_:]*`. OpenMetrics adds `_total` to the samples of a counter.
fn family_name(name: &str, kind: Kind, format: Format) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == ':' { c } else { '_' };
    let mut name: String = name.chars().map(legal).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    match name.strip_suffix("_total") {
        Some(stem) if !stem.is_empty() && kind == Kind::Counter && format == Format::OpenMetrics => stem.into(),
        _ => name,
    }
}

/// OpenMetrics tells a unit only of what has it at the end of its name.
fn ends_with_unit(name: &str, unit: &str) -> bool {
    name.strip_suffix(unit).is_some_and(|stem| stem.ends_with('_')) && !unit.is_empty()
}

fn labels((segment, record, _): &Worker, found: &Description) -> String {
    format!("{{service=\"{}\",pid=\"{}\",segment=\"{segment}\"}}", escape(&found.service, true), record.process.pid)
}

fn escape(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

struct Number(Value);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Unsigned(value) => value.fmt(f),
            Value::Signed(value) => value.fmt(f),
            Value::Float(value) if value.is_nan() => f.write_str("NaN"),
            Value::Float(value) if value.is_infinite() => f.write_str(if value > 0.0 { "+Inf" } else { "-Inf" }),
            Value::Float(value) => value.fmt(f),
        }
    }
}
