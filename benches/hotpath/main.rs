//! The ring against the limit and against the usual: the same HTTP work on libshmhot (a), straight on liburing (b)
//! and on epoll (c), an echo of large messages, and servers in Ruby. `make bench` builds the programs and runs this.
//!
//! Every server has core 0 for itself, the load core 1. The programs of a table take turns within every round, so that
//! whatever the machine does beside hits all of them. CPU time is what the scheduler charged the server, to the
//! nanosecond; system calls are counted in runs of their own, because counting costs time. A table shows medians over
//! the rounds, ratios are medians of the rounds' ratios, and the spread is that of two instances of (a).

#[path = "../bars.rs"]
mod bars;

use std::env;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use bars::{Bars, median};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
usage: hotpath [options]
  --seconds N   length of a run (2)
  --rounds N    rounds of a table (5)
  --only WHAT   keep-alive, once, echo or ruby; may be repeated (all)
  --check       fail when a bar is missed by more than the spread
  --target DIR  where examples/ and bench/ were built (target)";

struct Options {
    seconds: u32,
    rounds: usize,
    only: Vec<String>,
    check: bool,
    target: String,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut options = Options { seconds: 2, rounds: 5, only: Vec::new(), check: false, target: "target".into() };
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value\n{USAGE}"));
            match argument.as_str() {
                "--seconds" => options.seconds = value()?.parse()?,
                "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
                "--only" => options.only.push(value()?),
                "--check" => options.check = true,
                "--target" => options.target = value()?,
                "--bench" => {} // what cargo passes
                _ => return Err(format!("{argument}?\n{USAGE}").into()),
            }
        }
        Ok(options)
    }

    fn wants(&self, what: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == what)
    }
}

/// A server process on core 0.
struct Server {
    process: Child,
    stdout: BufReader<ChildStdout>,
    port: u16,
}

impl Server {
    fn start(command: &[&str]) -> Result<Self> {
        let mut process = Command::new("taskset")
            .args(["-c", "0"])
            .args(command)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("taskset: {error}"))?;
        let stdout = process.stdout.take().ok_or("no standard output")?;
        let mut server = Server { process, stdout: BufReader::new(stdout), port: 0 };
        let mut line = String::new();
        server.stdout.read_line(&mut line)?;
        let port = line.trim().strip_prefix("listening on 127.0.0.1:").and_then(|port| port.parse().ok());
        server.port =
            port.ok_or_else(|| format!("{} did not say where it listens, but {line:?}", command.join(" ")))?;
        server.signal(libc::SIGSTOP);
        Ok(server)
    }

    /// CPU time of all its threads until now, in nanoseconds.
    fn cpu(&self) -> Result<u64> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let stat = fs::read_to_string(task?.path().join("schedstat"))?;
            sum += stat.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(sum)
    }

    /// Ends it, and returns what it had still to say.
    fn stop(mut self) -> Result<String> {
        self.terminate();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest)?;
        self.process.wait()?;
        Ok(rest)
    }

    /// Lets it run while it is measured, and no longer: servers share a core.
    fn awake<R>(&self, measure: impl FnOnce(&Self) -> R) -> R {
        self.signal(libc::SIGCONT);
        let result = measure(self);
        self.signal(libc::SIGSTOP);
        result
    }

    fn terminate(&self) {
        self.signal(libc::SIGTERM);
        self.signal(libc::SIGCONT);
    }

    #[allow(unsafe_code)]
    fn signal(&self, signal: i32) {
        // SAFETY: kill touches no memory of ours, and the child was not waited for, so the number is still its own.
        unsafe { libc::kill(self.process.id() as i32, signal) };
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            self.terminate();
            let _ = self.process.wait();
        }
    }
}

/// What drives a server, on core 1.
#[derive(Clone, Copy)]
enum Load<'a> {
    KeepAlive,
    Once,
    Echo { program: &'a str },
}

/// What a load says at its end.
struct Answers {
    requests: f64,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Load<'_> {
    fn run(self, port: u16, connections: u32, seconds: u32) -> Result<Answers> {
        let mut command = Command::new("taskset");
        command.args(["-c", "1"]);
        match self {
            Load::KeepAlive | Load::Once => {
                command.args(["wrk", "--latency", "-t1", &format!("-c{connections}"), &format!("-d{seconds}s")]);
                if let Load::Once = self {
                    command.args(["-H", "Connection: close"]);
                }
                command.arg(format!("http://127.0.0.1:{port}/"));
            }
            Load::Echo { program } => {
                let (port, connections, seconds) = (port.to_string(), connections.to_string(), seconds.to_string());
                command.args([program, "-p", &port, "-c", &connections, "-d", &seconds, "-s", "16384"]);
            }
        }
        let output = command.stderr(Stdio::inherit()).output()?;
        let text = String::from_utf8(output.stdout)?;
        if !output.status.success() || text.contains("Non-2xx") {
            return Err(format!("the load failed:\n{text}").into());
        }
        // "Socket errors: connect 0, read 0, write 0, timeout 3": only late answers are no fault.
        if let Some(errors) = text.lines().find(|line| line.contains("Socket errors"))
            && !errors.contains("connect 0, read 0, write 0")
        {
            return Err(format!("the load failed:{errors}").into());
        }
        let word_after = |mark: &str| text.split_once(mark).and_then(|(_, rest)| rest.split_whitespace().next());
        let word_before = |mark: &str| text.split_once(mark).and_then(|(rest, _)| rest.split_whitespace().last());
        let answers = (|| {
            Some(Answers {
                requests: word_before(" requests in")?.parse().ok()?,
                per_second: word_after("Requests/sec:")?.parse().ok()?,
                p50_us: microseconds(word_after(" 50%")?)?,
                p99_us: microseconds(word_after(" 99%")?)?,
            })
        })();
        answers
            .filter(|answers| answers.requests > 0.0)
            .ok_or_else(|| format!("no request came through:\n{text}").into())
    }
}

/// "1.50ms" is 1500.
fn microseconds(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 6e7,
        _ => return None,
    };
    Some(digits.parse::<f64>().ok()? * unit)
}

#[derive(Clone, Copy)]
struct Sample {
    cpu_us: f64,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

fn sample(server: &Server, load: Load, connections: u32, seconds: u32) -> Result<Sample> {
    let before = server.cpu()?;
    let Answers { requests, per_second, p50_us, p99_us } = load.run(server.port, connections, seconds)?;
    let cpu_us = (server.cpu()? - before) as f64 / 1e3 / requests;
    Ok(Sample { cpu_us, per_second, p50_us, p99_us })
}

/// System calls per request, as perf or else strace counts them; None when neither can.
fn system_calls(server: &Server, load: Load, connections: u32) -> Result<Option<f64>> {
    let pid = server.process.id().to_string();
    let report = env::temp_dir().join(format!("hotpath-calls-{pid}"));
    let perf = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &pid, "-o"];
    let strace = ["strace", "-fcq", "-p", &pid, "-o"];
    for command in [&perf[..], &strace[..]] {
        let Ok(mut counter) = Command::new(command[0]).args(&command[1..]).arg(&report).stderr(Stdio::null()).spawn()
        else {
            continue;
        };
        thread::sleep(Duration::from_millis(300)); // it attaches
        let answers = load.run(server.port, connections, 1);
        interrupt(&counter);
        counter.wait()?;
        let text = fs::read_to_string(&report).unwrap_or_default();
        let _ = fs::remove_file(&report);
        // perf: "123,,raw_syscalls:sys_enter,..."; strace: "100.00    0.5    4    123    2 total"
        let count = text.lines().find_map(|line| match command[0] {
            "perf" => line.contains("sys_enter").then(|| line.split(',').next())?,
            _ => line.ends_with("total").then(|| line.split_whitespace().nth(3))?,
        });
        if let Some(count) = count.and_then(|count| count.parse::<f64>().ok()) {
            return Ok(Some(count / answers?.requests));
        }
    }
    Ok(None)
}

#[allow(unsafe_code)]
fn interrupt(process: &Child) {
    // SAFETY: as in Server::terminate.
    unsafe { libc::kill(process.id() as i32, libc::SIGINT) };
}

/// The programs of one table and what was measured of them.
struct Table<'a> {
    rows: &'a [(&'a str, Vec<&'a str>)],
    samples: Vec<Vec<Sample>>,
    calls: Vec<Option<f64>>,
}

impl<'a> Table<'a> {
    fn measure(
        options: &Options,
        title: &str,
        rows: &'a [(&'a str, Vec<&'a str>)],
        load: Load,
        connections: u32,
    ) -> Result<Self> {
        println!("\n{title}, {connections} connection{}", if connections == 1 { "" } else { "s" });
        let servers = rows.iter().map(|(_, command)| Server::start(command)).collect::<Result<Vec<_>>>()?;
        let mut samples = vec![Vec::new(); rows.len()];
        for round in 0..options.rounds {
            for turn in 0..rows.len() {
                let row = (round + turn) % rows.len(); // nobody is always the first
                samples[row].push(servers[row].awake(|server| sample(server, load, connections, options.seconds))?);
            }
        }
        let mut calls = Vec::new();
        for server in &servers {
            let counts: Option<Vec<f64>> = (0..options.rounds.min(3))
                .map(|_| server.awake(|server| system_calls(server, load, connections)))
                .collect::<Result<_>>()?;
            calls.push(counts.map(|counts| median(counts.into_iter())));
        }
        let table = Table { rows, samples, calls };
        table.print();
        Ok(table)
    }

    fn print(&self) {
        println!(
            "    {:<34} {:>8} {:>10} {:>11} {:>9} {:>9}",
            "", "CPU us/r", "calls/r", "requests/s", "p50 us", "p99 us"
        );
        for (row, (name, _)) in self.rows.iter().enumerate() {
            let of = |field: fn(&Sample) -> f64| median(self.samples[row].iter().map(field));
            let calls = self.calls[row].map_or("-".into(), |calls| format!("{calls:.2}"));
            let (cpu, per_second) = (of(|s| s.cpu_us), of(|s| s.per_second));
            let (p50, p99) = (of(|s| s.p50_us), of(|s| s.p99_us));
            println!("    {name:<34} {cpu:>8.2} {calls:>10} {per_second:>11.0} {p50:>9.0} {p99:>9.0}");
        }
    }

    fn ratio(&self, row: usize, to: usize, field: fn(&Sample) -> f64) -> f64 {
        median(self.samples[row].iter().zip(&self.samples[to]).map(|(a, b)| field(a) / field(b)))
    }

    fn cpu_ratio(&self, row: usize, to: usize) -> f64 {
        self.ratio(row, to, |sample| sample.cpu_us)
    }

    /// How far two instances of one program are apart.
    fn spread(&self, row: usize, same: usize) -> f64 {
        median(self.samples[row].iter().zip(&self.samples[same]).map(|(a, b)| (a.cpu_us / b.cpu_us - 1.0).abs()))
    }
}

const CONNECTIONS: [u32; 4] = [1, 16, 100, 1000];

fn http(options: &Options, bars: &mut Bars, once: bool) -> Result<()> {
    let (title, load) = match once {
        false => ("keep-alive", Load::KeepAlive),
        true => ("one request per connection", Load::Once),
    };
    let example = format!("{}/examples/http_server", options.target);
    let (uring, epoll) =
        (format!("{}/bench/http_uring", options.target), format!("{}/bench/http_epoll", options.target));
    let receive = if once { "own" } else { "multishot" };
    let rows = [
        ("a  libshmhot", vec![example.as_str(), "-p", "0"]),
        ("b  liburing", vec![uring.as_str(), "-r", receive]),
        ("c  epoll", vec![epoll.as_str()]),
        ("a  again", vec![example.as_str(), "-p", "0"]),
    ];
    for connections in CONNECTIONS {
        let table = Table::measure(options, title, &rows, load, connections)?;
        let (a_b, a_c, b_c) = (table.cpu_ratio(0, 1), table.cpu_ratio(0, 2), table.cpu_ratio(1, 2));
        let spread = table.spread(0, 3);
        println!("    CPU a/b {a_b:.3}  a/c {a_c:.3}  b/c {b_c:.3}  spread {spread:.3}");
        if connections > 1 {
            bars.at_most(format!("{title}, {connections}: CPU, libshmhot / liburing"), a_b, 1.05, spread);
            if !once {
                bars.at_most(format!("{title}, {connections}: CPU, libshmhot / epoll"), a_c, 1.05, spread);
                bars.at_most(format!("{title}, {connections}: CPU, liburing / epoll"), b_c, 1.0, spread);
            }
        }
        if let (100, Some(calls)) = (connections, table.calls[0]) {
            let limit = if once { 1.5 } else { 0.35 };
            bars.at_most(format!("{title}, 100: system calls per request"), calls, limit, 0.0);
        }
    }
    Ok(())
}

fn echo(options: &Options, bars: &mut Bars) -> Result<()> {
    let example = format!("{}/examples/echo_server", options.target);
    let (epoll, load) = (format!("{}/bench/echo_epoll", options.target), format!("{}/bench/echo_load", options.target));
    let large = |port| vec![example.as_str(), "-p", port, "-b", "32768"];
    let rows =
        [("a  libshmhot, buffers of 32 KiB", large("0")), ("c  epoll", vec![epoll.as_str()]), ("a  again", large("0"))];
    let table = Table::measure(options, "echo of 16 KiB", &rows, Load::Echo { program: &load }, 100)?;
    let (a_c, spread) = (table.cpu_ratio(0, 1), table.spread(0, 2));
    println!("    CPU a/c {a_c:.3}  spread {spread:.3}");
    bars.at_most("echo of 16 KiB, 100: CPU, libshmhot / epoll", a_c, 1.15, spread);
    Ok(())
}

fn ruby(options: &Options, bars: &mut Bars) -> Result<()> {
    let missing = |what: &str| println!("\nSKIPPED: servers in Ruby, because {what} is not here");
    if Command::new("ruby").arg("-v").stdout(Stdio::null()).status().is_err() {
        missing("ruby");
        return Ok(());
    }
    let servers = [
        "ruby/examples/http_server.rb",
        "benches/hotpath/http_ruby_select.rb",
        "benches/hotpath/http_ruby_per_call.rb",
    ];
    if let Some(absent) = servers.iter().find(|server| !Path::new(server).exists()) {
        missing(absent);
        return Ok(());
    }
    let example = format!("{}/examples/http_server", options.target);
    let library = format!("SHMHOT_LIBRARY={}/release/libshmhot.so", options.target);
    let server = |index: usize| vec!["env", &library, "ruby", "-Iruby/lib", servers[index], "-p", "0"];
    let rows = [
        ("a  libshmhot in C", vec![example.as_str(), "-p", "0"]),
        ("r  libshmhot in Ruby", server(0)),
        ("s  plain Ruby, IO.select", server(1)),
        ("h  Ruby, call and Hash for each", server(2)),
        ("r  again", server(0)),
    ];
    let table = Table::measure(options, "Ruby, keep-alive", &rows, Load::KeepAlive, 100)?;
    let (r_a, r_s, r_h, spread) =
        (table.cpu_ratio(1, 0), table.cpu_ratio(1, 2), table.cpu_ratio(1, 3), table.spread(1, 4));
    println!("    CPU r/a {r_a:.3}  r/s {r_s:.3}  r/h {r_h:.3}  spread {spread:.3}");
    bars.at_most("Ruby, 100: CPU, Ruby / C", r_a, 1.3, spread);
    bars.at_most("Ruby, 100: CPU, turns / call and Hash for each", r_h, 0.6, spread);

    let mut counting = server(0);
    counting.push("--objects");
    let counting = Server::start(&counting)?;
    counting.awake(|server| Load::KeepAlive.run(server.port, 100, options.seconds))?;
    let said = counting.stop()?;
    let line = said.lines().find(|line| line.contains("objects per request")).unwrap_or_default();
    let objects = line.split_whitespace().find_map(|word| word.parse().ok());
    let objects = objects.ok_or_else(|| format!("{} --objects did not tell, but {said:?}", servers[0]))?;
    bars.at_most("Ruby, 100: objects per request", objects, 2.0, 0.0);

    let spinning = |index: usize| [server(index), vec!["--spin"]].concat();
    let rows = [("r  libshmhot in Ruby", spinning(0)), ("s  plain Ruby, IO.select", spinning(1))];
    let table = Table::measure(options, "beside a Ruby thread that computes", &rows, Load::KeepAlive, 100)?;
    let faster = table.ratio(0, 1, |sample| sample.per_second);
    println!("    requests/s r/s {faster:.1}");
    bars.at_least("beside a computing Ruby thread, 100: requests/s, ours / plain", faster, 8.0);
    Ok(())
}

fn run() -> Result<bool> {
    let options = Options::parse()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!("Linux {}; {} rounds of {} s", kernel.trim(), options.rounds, options.seconds);
    let mut bars = Bars::default();
    if options.wants("keep-alive") {
        http(&options, &mut bars, false)?;
    }
    if options.wants("once") {
        http(&options, &mut bars, true)?;
    }
    if options.wants("echo") {
        echo(&options, &mut bars)?;
    }
    if options.wants("ruby") {
        ruby(&options, &mut bars)?;
    }
    bars.print();
    Ok(!(options.check && bars.missed))
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hotpath: {error}");
            ExitCode::from(2)
        }
    }
}
