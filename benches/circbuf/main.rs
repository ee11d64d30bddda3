//! circbuf against its limits: copies beside memcpy, instructions of a short write, waking up beside a bare futex, and
//! the Python package beside ezmsg-tools (stream.py): `make bench BENCH=circbuf`.
//!
//! The programs in C measure in rounds, in which all ways take turns. Tables show medians over the rounds, ratios are
//! medians of the rounds' ratios, and the spread is that of two ways that do the same.

#[path = "../bars.rs"]
mod bars;

use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};

use bars::{Bars, median};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Measures something, prints it, and adds to the bars.
type Part = fn(&mut Bars) -> Result<()>;

const USAGE: &str = "\
usage: circbuf [options]
  --only WHAT   copies, calls, wake, readers, python or ruby; may be repeated (all)
  --check       fail when a bar is missed by more than the spread";

/// Calls that callgrind counts.
const CALLS: u64 = 10_000;

fn main() -> Result<ExitCode> {
    let (mut only, mut check) = (Vec::new(), false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--only" => only.push(arguments.next().ok_or(USAGE)?),
            "--check" => check = true,
            "--bench" => {} // what cargo passes
            _ => return Err(format!("{argument}?\n{USAGE}").into()),
        }
    }
    let parts: [(&str, Part); 6] = [
        ("copies", copies),
        ("calls", calls),
        ("wake", wake),
        ("readers", readers),
        ("python", |bars| script(bars, "target/venv/bench/bin/python", "stream.py")),
        ("ruby", |bars| script(bars, "ruby", "stream.rb")),
    ];
    if let Some(other) = only.iter().find(|&only| parts.iter().all(|(name, _)| only != name)) {
        return Err(format!("--only {other}?\n{USAGE}").into());
    }
    let mut bars = Bars::default();
    for (name, measure) in parts {
        if only.is_empty() || only.iter().any(|only| only == name) {
            measure(&mut bars)?;
        }
    }
    bars.print();
    Ok(if check && bars.missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn copies(bars: &mut Bars) -> Result<()> {
    for (ring, chunks, rounds) in [("512 KiB", 16, 301), ("64 MiB", 2048, 31)] {
        let table = Table::measure("copies", &[chunks, rounds])?;
        println!("\n32 KiB, ring of {ring:<32} {:>9}", "ns");
        table.print(&[
            (0, "a  memcpy into an equal ring"),
            (1, "b  circbuf_write"),
            (2, "c  circbuf_reserve, memcpy, circbuf_commit"),
            (4, "d  memcpy out of an equal ring"),
            (5, "e  circbuf_mirror_read"),
            (6, "f  circbuf_mirror_view and _is_intact"),
        ]);
        let (write, reserve, read) = (table.ratio(1, 0), table.ratio(2, 0), table.ratio(5, 4));
        let (into_spread, out_spread) = (table.spread(0, 3), table.spread(4, 7));
        println!(
            "    b/a {write:.3}  c/a {reserve:.3}  spread {into_spread:.3}  e/d {read:.3}  spread {out_spread:.3}"
        );
        bars.at_most(format!("32 KiB into a ring of {ring}: write / memcpy"), write, 1.15, into_spread);
        bars.at_most(format!("32 KiB out of a ring of {ring}: read / memcpy"), read, 1.2, out_spread);
    }
    Ok(())
}

fn calls(bars: &mut Bars) -> Result<()> {
    println!("\n{:<48} {:>9}", "one frame of 32 bytes (callgrind)", "instr.");
    let write = instructions("circbuf_write")?;
    println!("    {:<44} {write:>9.1}", "circbuf_write");
    for call in ["reserve", "commit", "mirror_wait", "mirror_read", "mirror_view", "mirror_view_is_intact"] {
        let call = format!("circbuf_{call}");
        println!("    {call:<44} {:>9.1}", instructions(&call)?);
    }
    bars.at_most("32 bytes: instructions of a write", write, 150.0, 0.0);
    Ok(())
}

fn wake(bars: &mut Bars) -> Result<()> {
    let table = Table::measure("wake", &[1001])?;
    println!("\n{:<48} {:>9}", "until a sleeping process has been woken", "ns");
    table.print(&[(0, "a  futex"), (1, "b  circbuf_write, circbuf_mirror_wait")]);
    let (ratio, spread) = (table.ratio(1, 0), table.spread(0, 2));
    println!("    b/a {ratio:.3}  spread {spread:.3}");
    bars.at_most("waking up: circbuf / futex", ratio, 1.2, 0.0);
    Ok(())
}

fn readers(_: &mut Bars) -> Result<()> {
    let table = Table::measure("readers", &[31])?;
    println!("\n{:<48} {:>9}", "32 KiB, while others copy it", "ns");
    table.print(&[
        (0, "a  memcpy"),
        (1, "b  memcpy, 1 reader"),
        (2, "c  memcpy, 4 readers"),
        (3, "d  circbuf_write"),
        (4, "e  circbuf_write, 1 reader"),
        (5, "f  circbuf_write, 4 readers"),
    ]);
    println!("    d/a {:.3}  e/b {:.3}  f/c {:.3}", table.ratio(3, 0), table.ratio(4, 1), table.ratio(5, 2));
    Ok(())
}

/// A script that prints its own table, and ends with 2 when it has missed a bar.
fn script(bars: &mut Bars, interpreter: &str, name: &str) -> Result<()> {
    println!();
    let path = root().join("benches/circbuf").join(name);
    let status = Command::new(interpreter).arg(path).current_dir(root()).status()?;
    match status.code() {
        Some(0) => {}
        Some(2) => bars.missed = true,
        _ => return Err(format!("{name}: {status}").into()),
    }
    Ok(())
}

/// What a program has measured: a line for each round, in which a number for each way.
struct Table(Vec<Vec<f64>>);

impl Table {
    fn measure(program: &str, options: &[u64]) -> Result<Self> {
        let mut command = program_of(program);
        let output = run(command.args(options.iter().map(u64::to_string)).arg(scratch()))?;
        let round = |line: &str| line.split(' ').map(str::parse).collect::<std::result::Result<_, _>>();
        Ok(Self(output.lines().map(round).collect::<std::result::Result<_, _>>()?))
    }

    fn print(&self, ways: &[(usize, &str)]) {
        for &(way, name) in ways {
            println!("    {name:<44} {:>9.1}", median(self.0.iter().map(|round| round[way])));
        }
    }

    fn ratio(&self, way: usize, to: usize) -> f64 {
        median(self.0.iter().map(|round| round[way] / round[to]))
    }

    /// How far two ways that do the same are apart.
    fn spread(&self, way: usize, same: usize) -> f64 {
        median(self.0.iter().map(|round| (round[way] / round[same] - 1.0).abs()))
    }
}

/// Instructions of a call, with all that it calls.
fn instructions(call: &str) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", &format!("--toggle-collect={call}")])
        .arg(program_of("calls").get_program())
        .args([CALLS.to_string(), scratch()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find_map(|line| line.split_once("Collected : ")).filter(|_| output.status.success());
    let total: f64 = line.ok_or(said.to_string())?.1.trim().parse()?;
    Ok(total / CALLS as f64)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn program_of(name: &str) -> Command {
    Command::new(root().join(format!("target/bench/circbuf_{name}")))
}

/// Name of a stream.
fn scratch() -> String {
    format!("shmhot-bench-{}", std::process::id())
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}{}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
