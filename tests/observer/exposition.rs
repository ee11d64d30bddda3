//! What Prometheus reads: the text, word for word, and what its own tool says of it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use shmhot::observer::*;

use crate::support::*;

fn field(name: &str, r#type: &str, kind: Kind, help: &str, unit: &str) -> Field {
    Field { kind, help: help.into(), unit: unit.into(), ..Field::new(name, crate::support::kind(r#type)) }
}

fn described(fields: Vec<Field>) -> Arc<Schema> {
    let mut schema = Schema::new(Layout::Packed);
    for field in fields {
        schema.add(field).unwrap();
    }
    Arc::new(schema)
}

fn web() -> Arc<Schema> {
    described(vec![
        field("requests_total", "u64", Kind::Counter, "Requests that were answered.", ""),
        field("requests_active", "u32", Kind::Gauge, "", ""),
        field("sent_bytes_total", "u64", Kind::Counter, "Bytes that were sent.", "bytes"),
        field("load_ratio", "f64", Kind::Gauge, "Load.", "ratio"),
        field("balance", "s64", Kind::Unknown, "May be negative.", ""),
    ])
}

/// Two workers of one service, and one of another that has a field of its own.
fn small(folder: &Folder) -> Store {
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    for number in 0..2u64 {
        let segment = store.allocate(Some(&web()), "web", 0).unwrap();
        let worker = observer(&web(), &path, segment);
        worker.set(0, Value::Unsigned(u64::MAX - number)).unwrap();
        worker.set(1, Value::Unsigned(7)).unwrap();
        worker.set(2, Value::Unsigned(1500 * number)).unwrap();
        worker.set(3, Value::Float([0.25, f64::INFINITY][number as usize])).unwrap();
        worker.set(4, Value::Signed(-3)).unwrap();
    }
    let jobs = described(vec![field("requests_active", "u8", Kind::Gauge, "Another text.", "")]);
    let segment = store.allocate(Some(&jobs), "jobs", 0).unwrap();
    observer(&jobs, &path, segment).set(0, Value::Unsigned(3)).unwrap();
    store.allocate(None, "", 0).unwrap();
    store
}

/// The text with PID in place of this process's number.
fn text(store: &Store, format: Format) -> String {
    let pid = format!("pid=\"{}\"", std::process::id());
    store.exposition(format).unwrap().replace(&pid, "pid=\"PID\"")
}

#[test]
fn word_for_word() {
    let folder = Folder::new("words");
    assert_eq!(
        text(&small(&folder), Format::Prometheus),
        r#"# HELP balance May be negative.
# TYPE balance untyped
balance{service="web",pid="PID",segment="0"} -3
balance{service="web",pid="PID",segment="1"} -3
# HELP load_ratio Load.
# TYPE load_ratio gauge
load_ratio{service="web",pid="PID",segment="0"} 0.25
load_ratio{service="web",pid="PID",segment="1"} +Inf
# HELP requests_active requests active
# TYPE requests_active gauge
requests_active{service="web",pid="PID",segment="0"} 7
requests_active{service="web",pid="PID",segment="1"} 7
requests_active{service="jobs",pid="PID",segment="2"} 3
# HELP requests_total Requests that were answered.
# TYPE requests_total counter
requests_total{service="web",pid="PID",segment="0"} 18446744073709551615
requests_total{service="web",pid="PID",segment="1"} 18446744073709551614
# HELP sent_bytes_total Bytes that were sent.
# TYPE sent_bytes_total counter
sent_bytes_total{service="web",pid="PID",segment="0"} 0
sent_bytes_total{service="web",pid="PID",segment="1"} 1500
# HELP shmhot_worker_up Whether the process of a worker runs.
# TYPE shmhot_worker_up gauge
shmhot_worker_up{service="web",pid="PID",segment="0"} 1
shmhot_worker_up{service="web",pid="PID",segment="1"} 1
shmhot_worker_up{service="jobs",pid="PID",segment="2"} 1
"#
    );
}

#[test]
fn word_for_word_as_openmetrics() {
    let folder = Folder::new("open-words");
    assert_eq!(
        text(&small(&folder), Format::OpenMetrics),
        r#"# HELP balance May be negative.
# TYPE balance unknown
balance{service="web",pid="PID",segment="0"} -3
balance{service="web",pid="PID",segment="1"} -3
# HELP load_ratio Load.
# TYPE load_ratio gauge
# UNIT load_ratio ratio
load_ratio{service="web",pid="PID",segment="0"} 0.25
load_ratio{service="web",pid="PID",segment="1"} +Inf
# HELP requests Requests that were answered.
# TYPE requests counter
requests_total{service="web",pid="PID",segment="0"} 18446744073709551615
requests_total{service="web",pid="PID",segment="1"} 18446744073709551614
# HELP requests_active requests active
# TYPE requests_active gauge
requests_active{service="web",pid="PID",segment="0"} 7
requests_active{service="web",pid="PID",segment="1"} 7
requests_active{service="jobs",pid="PID",segment="2"} 3
# HELP sent_bytes Bytes that were sent.
# TYPE sent_bytes counter
# UNIT sent_bytes bytes
sent_bytes_total{service="web",pid="PID",segment="0"} 0
sent_bytes_total{service="web",pid="PID",segment="1"} 1500
# HELP shmhot_worker_up Whether the process of a worker runs.
# TYPE shmhot_worker_up gauge
shmhot_worker_up{service="web",pid="PID",segment="0"} 1
shmhot_worker_up{service="web",pid="PID",segment="1"} 1
shmhot_worker_up{service="jobs",pid="PID",segment="2"} 1
# EOF
"#
    );
}

#[test]
fn nothing_to_tell() {
    let folder = Folder::new("empty");
    let store = create(&folder.join("metrics.shm"), 8);
    let head = "# HELP shmhot_worker_up Whether the process of a worker runs.\n# TYPE shmhot_worker_up gauge\n";
    assert_eq!(store.exposition(Format::Prometheus).unwrap(), head);
    assert_eq!(store.exposition(Format::OpenMetrics).unwrap(), format!("{head}# EOF\n"));
}

#[test]
fn what_has_to_be_escaped() {
    let folder = Folder::new("escape");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    let odd = described(vec![
        field("9 löads/s", "f32", Kind::Gauge, "A \\ and a \"quote\"\nand a line.", ""),
        field("nan", "F64", Kind::Gauge, "Not a number.", ""),
        field("low:limit", "F64", Kind::Gauge, "A limit.", "limit"),
    ]);
    let segment = store.allocate(Some(&odd), "a\"b\\c\nd", 0).unwrap();
    let worker = observer(&odd, &path, segment);
    worker.set(0, Value::Float(-0.5)).unwrap();
    worker.set(1, Value::Float(f64::NAN)).unwrap();
    worker.set(2, Value::Float(f64::NEG_INFINITY)).unwrap();
    let labels = r#"{service="a\"b\\c\nd",pid="PID",segment="0"}"#;
    let prometheus = text(&store, Format::Prometheus);
    for line in [
        r#"# HELP _9_l_ads_s A \\ and a "quote"\nand a line."#,
        &format!("_9_l_ads_s{labels} -0.5"),
        &format!("nan{labels} NaN"),
        &format!("low:limit{labels} -Inf"),
        &format!("shmhot_worker_up{labels} 1"),
    ] {
        assert!(prometheus.lines().any(|found| found == line), "no line {line} in\n{prometheus}");
    }
    let open = text(&store, Format::OpenMetrics);
    assert!(open.contains("# HELP _9_l_ads_s A \\\\ and a \\\"quote\\\"\\nand a line.\n"), "{open}");
    assert!(!open.contains("# UNIT"), "a unit is told of what ends with it: {open}");
    assert_eq!(prometheus.lines().count(), 3 * 3 + 3);
}

/// Names that become the same: no sample may come twice.
#[test]
fn no_sample_comes_twice() {
    let folder = Folder::new("twice");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    let twins = described(vec![
        field("a.b", "u8", Kind::Gauge, "", ""),
        field("a_b", "u8", Kind::Gauge, "", ""),
        field("n", "u8", Kind::Counter, "", ""),
        field("n_total", "u8", Kind::Counter, "", ""),
        field("shmhot_worker_up", "u8", Kind::Gauge, "", ""),
    ]);
    store.allocate(Some(&twins), "web", 0).unwrap();
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let text = store.exposition(format).unwrap();
        let series = |line: &str| line.rsplit_once(' ').unwrap().0.to_string();
        let mut seen: Vec<_> = text.lines().filter(|line| !line.starts_with("# EOF")).map(series).collect();
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), all, "{text}");
    }
}

#[test]
fn the_dead_are_down() {
    let folder = Folder::new("down");
    let path = folder.join("metrics.shm");
    let store = create(&path, 8);
    let worker = Process::start("store::silent_child", &path);
    let pid = worker.id();
    let segment = store.allocate(Some(&web()), "web", pid).unwrap();
    observer(&web(), &path, segment).set(1, Value::Unsigned(5)).unwrap();
    let labels = format!("{{service=\"web\",pid=\"{pid}\",segment=\"0\"}}");
    let up = |value| format!("shmhot_worker_up{labels} {value}\n");
    assert!(store.exposition(Format::Prometheus).unwrap().contains(&up(1)));
    worker.kill();
    let text = store.exposition(Format::Prometheus).unwrap();
    assert!(text.contains(&up(0)) && text.contains(&format!("requests_active{labels} 5\n")), "{text}");
    store.reap().unwrap();
    assert!(!store.exposition(Format::Prometheus).unwrap().contains("service"));
}

#[test]
fn promtool_has_nothing_to_complain_of() {
    let folder = Folder::new("promtool");
    let text = small(&folder).exposition(Format::Prometheus).unwrap();
    let tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = tool else {
        println!("SKIP promtool check metrics: there is no promtool (Debian: prometheus)");
        return;
    };
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let run = tool.wait_with_output().unwrap();
    let told = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(run.status.success() && told.iter().all(String::is_empty), "{told:?}\n{text}");
}
