//! The observer against its limits: instructions of a store, counted by callgrind; reading beside bare loads; and in Ruby
//! beside a plain metric (metric.rb): `make bench BENCH=observer`.

#[path = "../bars.rs"]
mod bars;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use bars::median;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CALLS: u64 = 100_000;
const ROUNDS: usize = 1001;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let check = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--check"] => true,
        _ => return Err("usage: observer [--check]: fail when a bar is missed".into()),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missed = 0;

    println!("instructions of a call (callgrind)");
    let nothing = instructions(root, "nothing")?;
    let bars = [
        ("set_u64", Some(25)),
        ("set_u64_unaligned", None),
        ("set_u64_u32", None),
        ("set_by_name", Some(200)),
        ("add_u64", None),
    ];
    for (call, bar) in bars {
        // Without the loop, which the empty call has, too; that call's own instructions are two.
        let count = instructions(root, call)? - nothing + 2.0;
        missed += report(call, count, bar.map(f64::from));
    }

    println!("\nreading 1,000 segments of 8 fields, ns for a segment");
    let output =
        run(Command::new(root.join("target/bench/observer_read")).arg(scratch("read")).arg(ROUNDS.to_string()));
    for end in ["", ".sidecar"] {
        let _ = std::fs::remove_file(format!("{}{end}", scratch("read").display()));
    }
    let rounds: Vec<Vec<f64>> = output?
        .lines()
        .map(|line| line.split(' ').map(str::parse).collect::<std::result::Result<_, _>>())
        .collect::<std::result::Result<_, _>>()?;
    let median_of = |of: &dyn Fn(&[f64]) -> f64| median(rounds.iter().map(|round| of(round)));
    report("bare loads", median_of(&|round| round[0]), None);
    report("observer_store_read / bare", median_of(&|round| round[1] / round[0]), None);
    missed += report("observer_store_read_many / bare", median_of(&|round| round[2] / round[0]), Some(4.0));

    println!("\nRuby");
    let metric = Command::new("ruby").arg(root.join("benches/observer/metric.rb")).status()?;
    missed += u32::from(!metric.success());
    Ok(if check && missed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn report(what: &str, value: f64, bar: Option<f64>) -> u32 {
    let is_missed = bar.is_some_and(|bar| value > bar);
    let told = bar.map_or(String::new(), |bar| format!("at most {bar}{}", if is_missed { ", MISSED" } else { "" }));
    println!("  {what:34}{value:8.2}  {told}");
    is_missed.into()
}

/// Instructions of a call and its turn of the loop.
fn instructions(root: &Path, call: &str) -> Result<f64> {
    let total = |count: u64| -> Result<f64> {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(root.join("target/bench/observer_calls"))
            .args([call, &count.to_string()])
            .arg(scratch(call))
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().find_map(|line| line.split_once("Collected : ")).ok_or(said.to_string())?;
        Ok(line.1.trim().parse()?)
    };
    Ok((total(2 * CALLS)? - total(CALLS)?) / CALLS as f64)
}

fn scratch(name: &str) -> PathBuf {
    Path::new("/dev/shm").join(format!("shmhot-bench-{name}-{}", std::process::id()))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
