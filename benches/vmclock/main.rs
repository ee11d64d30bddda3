//! The clock page against the crate clock-bound-vmclock, its parts, and the kernel's clock: `make bench`.
//!
//! The rows of a table take turns within every round, so that whatever the machine does beside hits all of them. A table
//! shows medians over the rounds, ratios are medians of the rounds' ratios, and the spread is that of two rows that do
//! the same.

#[path = "../bars.rs"]
mod bars;
mod machine;

use std::env;
use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use clock_bound_vmclock::shm::{VMClockClockStatus, VMClockShmBody};
use clock_bound_vmclock::shm_reader::VMClockShmReader;
use clock_bound_vmclock::shm_writer::{VMClockShmWrite, VMClockShmWriter};
use shmhot::vmclock::{self, Calibrator, Clock, Snapshot, Writer};

use bars::{Bars, median, percentile};
use machine::{CClock, clock_gettime, copy, counter, counter_period_ns};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
usage: vmclock [options]
  --rounds N    rounds of a table (9)
  --only WHAT   still, busy, now, open or write; may be repeated (all)
  --check       fail when a bar is missed by more than the spread
  --target DIR  where release/libshmhot.so was built (target)";

struct Options {
    rounds: usize,
    only: Vec<String>,
    check: bool,
    target: PathBuf,
    /// Be the writer that others are read beside: whose, of which page, on which processor.
    writer: Option<(String, PathBuf, usize)>,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut options = Options { rounds: 9, only: Vec::new(), check: false, target: "target".into(), writer: None };
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value\n{USAGE}"));
            match argument.as_str() {
                "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
                "--only" => options.only.push(value()?),
                "--check" => options.check = true,
                "--target" => options.target = value()?.into(),
                "--writer" => options.writer = Some((value()?, value()?.into(), value()?.parse()?)),
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

/// A folder in shared memory for the pages.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = Path::new("/dev/shm").join(format!("shmhot-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Opens with the crate.
fn peer(path: &Path) -> Result<VMClockShmReader> {
    let path = path.to_str().ok_or("a path that is no text")?;
    VMClockShmReader::new(path).map_err(|error| format!("{path}, opened by the crate: {error:?}").into())
}

/// A page of this machine: calibrated, or at least with a counter that runs.
fn page() -> Result<Snapshot> {
    match Calibrator::new().and_then(|calibrator| calibrator.measure()) {
        Ok(measurement) => Ok(measurement.page),
        Err(error) => Err(format!("a page to measure with: {error}").into()),
    }
}

/// What is measured: a loop of that many calls.
type Row<'a> = (&'a str, Box<dyn FnMut(u64) + 'a>);

/// How long a row runs in a round.
const TURN: Duration = Duration::from_millis(20);

struct Table {
    /// Nanoseconds per call, by row and round.
    samples: Vec<Vec<f64>>,
}

impl Table {
    fn measure(options: &Options, title: &str, mut rows: Vec<Row>) -> Self {
        let time = |row: &mut Row, calls: u64| {
            let begin = Instant::now();
            row.1(calls);
            begin.elapsed()
        };
        let calls: Vec<u64> = rows
            .iter_mut()
            .map(|row| {
                let mut calls = 1;
                while time(row, calls) < TURN / 4 {
                    calls *= 2;
                }
                calls * 4
            })
            .collect();
        let mut samples = vec![Vec::new(); rows.len()];
        for round in 0..options.rounds {
            for turn in 0..rows.len() {
                let row = (round + turn) % rows.len(); // nobody is always the first
                samples[row].push(time(&mut rows[row], calls[row]).as_nanos() as f64 / calls[row] as f64);
            }
        }
        println!("\n{title:<48} {:>9}", "ns/call");
        let table = Self { samples };
        for (row, (name, _)) in rows.iter().enumerate() {
            println!("    {name:<44} {:>9.2}", median(table.samples[row].iter().copied()));
        }
        table
    }

    /// Of a row to the sum of others.
    fn ratio(&self, row: usize, to: &[usize]) -> f64 {
        let rounds = self.samples[row].iter().enumerate();
        median(rounds.map(|(round, ns)| ns / to.iter().map(|&other| self.samples[other][round]).sum::<f64>()))
    }

    /// How far two rows that do the same are apart.
    fn spread(&self, row: usize, same: usize) -> f64 {
        median(self.samples[row].iter().zip(&self.samples[same]).map(|(a, b)| (a / b - 1.0).abs()))
    }
}

/// The C library, unless it is not there.
fn c_clock(options: &Options, page: &Path) -> Option<CClock> {
    let library = fs::canonicalize(options.target.join("release/libshmhot.so"));
    match library.map_err(|error| error.to_string()).and_then(|library| CClock::open(&library, page)) {
        Ok(clock) => Some(clock),
        Err(error) => {
            println!("\nSKIPPED: the C ABI, because of libshmhot.so: {error}");
            None
        }
    }
}

/// A page that nobody writes at the moment.
fn quiet_page(folder: &Folder, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    Writer::create(&path, Writer::DEFAULT_MODE)?.write(&page()?)?;
    Ok(path)
}

type SnapshotOfCrate = extern "C" fn(&mut VMClockShmReader, &mut VMClockShmBody) -> i32;

/// What a C library around the crate would have to be.
extern "C" fn snapshot_of_crate(reader: &mut VMClockShmReader, out: &mut VMClockShmBody) -> i32 {
    match reader.snapshot() {
        Ok(body) => {
            *out = *body;
            0
        }
        Err(_) => -1,
    }
}

fn still(options: &Options, folder: &Folder, bars: &mut Bars) -> Result<()> {
    let path = quiet_page(folder, "still")?;
    let (clock, mut peer, c_clock) = (Clock::open(&path, Default::default())?, peer(&path)?, c_clock(options, &path));
    let (from, mut to, mut out) = ([1; 12], [0; 12], Snapshot::default());
    let (mut wrapped_peer, mut body) = (self::peer(&path)?, VMClockShmBody::default());
    let ours = |calls| {
        let mut page = Snapshot::default();
        for _ in 0..calls {
            clock.snapshot_into(&mut page).expect("a snapshot");
            black_box(&page);
        }
    };
    let theirs = |calls| {
        for _ in 0..calls {
            black_box(peer.snapshot().expect("a snapshot"));
        }
    };
    let wrapped = |calls| {
        for _ in 0..calls {
            assert_eq!(black_box(snapshot_of_crate as SnapshotOfCrate)(&mut wrapped_peer, &mut body), 0);
            black_box(&body);
        }
    };
    let copying = |calls| {
        for _ in 0..calls {
            copy(&from, &mut to);
        }
    };
    let mut rows: Vec<Row> = vec![
        ("a  shmhot", Box::new(ours)),
        ("b  the crate, a reference to its last copy", Box::new(theirs)),
        ("c  a copy of 96 bytes", Box::new(copying)),
        ("a  again", Box::new(ours)),
    ];
    if let Some(clock) = &c_clock {
        let row = |calls| {
            for _ in 0..calls {
                assert_eq!(clock.snapshot(&mut out), 0);
                black_box(&out);
            }
        };
        rows.push(("d  shmhot through the C ABI", Box::new(row)));
        rows.push(("e  the crate through a function like that", Box::new(wrapped)));
    }
    let has_c = rows.len() > 4;
    let table = Table::measure(options, "snapshot, nothing changes", rows);
    let (ratio, spread) = (table.ratio(0, &[1, 2]), table.spread(0, 3));
    print!("    a/(b+c) {ratio:.3}");
    if has_c {
        print!("  d/e {:.3}", table.ratio(4, &[5]));
    }
    println!("  spread {spread:.3}");
    bars.at_most("snapshot, nothing changes: shmhot / (crate + copy)", ratio, 1.0, spread);
    Ok(())
}

/// A process that writes a page, each time with another number, and never pauses.
struct WriterProcess(Child);

impl WriterProcess {
    fn start(whose: &str, path: &Path, processor: usize) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        let process = Self(command.args(["--writer", whose]).arg(path).arg(processor.to_string()).spawn()?);
        let begin = Instant::now();
        while !Clock::open(path, Default::default())
            .is_ok_and(|clock| clock.wait(0, Some(Duration::ZERO)).unwrap_or(false))
        {
            if begin.elapsed() > Duration::from_secs(10) {
                return Err(format!("{}: nobody writes it", path.display()).into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(process)
    }
}

impl Drop for WriterProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Who writes while others read.
const WRITERS: [(&str, &str); 3] = [
    ("crate", "the crate's writer"),
    ("crate-counter", "the crate's writer, which reads its counter for each update"),
    ("shmhot", "shmhot's writer"),
];

/// What such a process does.
fn write_forever(whose: &str, path: &Path, processor: usize) -> Result<()> {
    machine::end_with_parent();
    machine::stay_on(&[processor])?;
    if whose == "shmhot" {
        let writer = Writer::create(path, Writer::DEFAULT_MODE)?;
        let mut page = Snapshot::default();
        loop {
            page.disruption_marker += 1;
            writer.write(&page)?;
        }
    }
    let mut writer = VMClockShmWriter::new(path)?;
    let mut page = VMClockShmBody::default();
    loop {
        page.disruption_marker += 1;
        if whose == "crate-counter" {
            page.counter_value = counter();
        }
        writer.write(&page);
    }
}

#[derive(Clone, Copy)]
struct Latency {
    p50: f64,
    p99: f64,
}

impl Latency {
    /// Of snapshots beside a writer, in nanoseconds, by readers that take turns in no order. Only those count that show
    /// another update than the one before: while the writer's processor does something else, they are snapshots of a
    /// page that nothing changes, and a reader takes thousands of them in the time of one. One that gave up counts
    /// with its time.
    fn measure<const N: usize>(period_ns: f64, readers: [&mut dyn FnMut() -> Option<u64>; N]) -> [Self; N] {
        let mut times = [(); N].map(|()| Vec::new());
        let (begin, mut last, mut random) = (Instant::now(), None, 1u64);
        let enough = |times: &[Vec<f64>; N]| times.iter().all(|times| times.len() >= 300);
        while begin.elapsed() < Duration::from_millis(300)
            || (!enough(&times) && begin.elapsed() < Duration::from_secs(2))
        {
            for _ in 0..16 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let reader = (random >> 33) as usize % N;
                let before = counter();
                let number = readers[reader]();
                let ticks = counter() - before;
                if number != last || number.is_none() {
                    times[reader].push(ticks as f64 * period_ns);
                }
                last = number;
            }
        }
        times.map(|times| {
            let of = |part| percentile(times.iter().copied(), part);
            Self { p50: of(0.5), p99: of(0.99) }
        })
    }
}

/// Of each round.
#[derive(Default)]
struct Latencies(Vec<Latency>);

impl Latencies {
    fn median(&self) -> Latency {
        Latency { p50: median(self.0.iter().map(|l| l.p50)), p99: median(self.0.iter().map(|l| l.p99)) }
    }

    fn ratio(&self, to: &Self) -> Latency {
        let rounds = || self.0.iter().zip(&to.0);
        Latency { p50: median(rounds().map(|(a, b)| a.p50 / b.p50)), p99: median(rounds().map(|(a, b)| a.p99 / b.p99)) }
    }
}

fn busy(options: &Options, folder: &Folder, bars: &mut Bars) -> Result<()> {
    let processors = machine::processors();
    let [here, there, ..] = processors[..] else {
        println!("\nSKIPPED: beside a writer, which takes two processors");
        return Ok(());
    };
    let mut passing = Vec::new();
    let period_ns = counter_period_ns();
    let path = folder.join("busy");
    let readers = ["a  shmhot", "b  the crate", "a  again"];
    let mut tables = [(); WRITERS.len()].map(|()| [(); 3].map(|()| Latencies::default()));
    for _ in 0..options.rounds {
        passing.push(machine::passing_ns(here, there)?);
        for ((writer, _), latencies) in WRITERS.iter().zip(&mut tables) {
            let _writer = WriterProcess::start(writer, &path, there)?;
            let clock = Clock::open(&path, Default::default())?;
            let mut peer = peer(&path)?;
            let (mut page, mut page_again) = (Snapshot::default(), Snapshot::default());
            let mut ours = || clock.snapshot_into(&mut page).ok().map(|()| page.disruption_marker);
            let mut theirs = || peer.snapshot().ok().map(|page| page.disruption_marker);
            let mut again = || clock.snapshot_into(&mut page_again).ok().map(|()| page_again.disruption_marker);
            let measured = Latency::measure(period_ns, [&mut ours, &mut theirs, &mut again]);
            latencies.iter_mut().zip(measured).for_each(|(latencies, measured)| latencies.0.push(measured));
            fs::remove_file(&path)?;
        }
    }
    let [nothing] = Latency::measure(period_ns, [&mut || None]);
    machine::stay_on(&processors)?;

    for ((_, writer), latencies) in WRITERS.iter().zip(&tables) {
        println!("\n{:<62} {:>9} {:>11}", format!("snapshot beside {writer}"), "p50 ns", "p99 ns");
        for (reader, latencies) in readers.iter().zip(latencies) {
            let Latency { p50, p99 } = latencies.median();
            println!("    {reader:<58} {p50:>9.0} {p99:>11.0}");
        }
        let [ours, theirs, again] = latencies;
        let (ratio, same) = (theirs.ratio(ours), again.ratio(ours));
        println!(
            "    b/a {:.2} at the median, {:.2} at p99; a/a {:.2}, {:.2}",
            ratio.p50, ratio.p99, same.p50, same.p99
        );
    }
    let passing = median(passing.into_iter());
    println!(
        "    the measurement itself takes {:.0} ns, a cache line from processor to processor {passing:.0} ns",
        nothing.p50
    );
    let [[beside_theirs, theirs, _], _, [ours, ..]] = &tables;
    let ratio = theirs.ratio(beside_theirs);
    bars.at_least("beside the crate's writer, median: crate / shmhot", ratio.p50, 1.0);
    bars.at_least("beside the crate's writer, p99: crate / shmhot", ratio.p99, 1.0);
    // A seqlock has two ends. The crate's hardly ever shows an even sequence to whomever, ours does.
    let ratio = theirs.ratio(ours);
    bars.at_least("each beside its own writer, median: crate / shmhot", ratio.p50, 3.0);
    bars.at_least("each beside its own writer, p99: crate / shmhot", ratio.p99, 3.0);
    Ok(())
}

fn now(options: &Options, folder: &Folder, bars: &mut Bars) -> Result<()> {
    let path = quiet_page(folder, "now")?;
    let (clock, c_clock) = (Clock::open(&path, Default::default())?, c_clock(options, &path));
    let mut out = clock.now()?;
    let ours = |calls| {
        let mut time = clock.now().expect("a time");
        for _ in 0..calls {
            clock.now_into(&mut time).expect("a time");
            black_box(&time);
        }
    };
    let parts = |calls| {
        let mut page = Snapshot::default();
        for _ in 0..calls {
            clock.snapshot_into(&mut page).expect("a snapshot");
            let ticks = u128::from(counter().wrapping_sub(page.counter_value));
            black_box([
                ticks * u128::from(page.counter_period_frac_sec),
                ticks * u128::from(page.counter_period_esterror_rate_frac_sec),
                ticks * u128::from(page.counter_period_maxerror_rate_frac_sec),
            ]);
        }
    };
    let gettime = |calls| {
        for _ in 0..calls {
            black_box(clock_gettime());
        }
    };
    let reading = |calls| {
        for _ in 0..calls {
            black_box(counter());
        }
    };
    let mut rows: Vec<Row> = vec![
        ("a  shmhot: time, bound, TAI, UTC", Box::new(ours)),
        ("b  its parts: snapshot, counter, 3 products", Box::new(parts)),
        ("   clock_gettime(CLOCK_REALTIME): no bound", Box::new(gettime)),
        ("   the counter alone", Box::new(reading)),
        ("a  again", Box::new(ours)),
    ];
    if let Some(clock) = &c_clock {
        let row = |calls| {
            for _ in 0..calls {
                assert_eq!(clock.now(&mut out), 0);
                black_box(&out);
            }
        };
        rows.push(("d  shmhot through the C ABI", Box::new(row)));
    }
    let has_c = rows.len() > 5;
    let table = Table::measure(options, "now", rows);
    let (ratio, spread) = (table.ratio(0, &[1]), table.spread(0, 4));
    println!("    a/b {ratio:.3}  a/clock_gettime {:.3}  spread {spread:.3}", table.ratio(0, &[2]));
    bars.at_most("now: shmhot / its parts", ratio, 1.5, spread);
    if has_c {
        bars.at_most("now: shmhot in C / its parts", table.ratio(5, &[1]), 1.5, spread);
    }
    Ok(())
}

fn open(options: &Options, folder: &Folder) -> Result<()> {
    let path = quiet_page(folder, "open")?;
    let ours = |checked| {
        let path = &path;
        move |calls| {
            let options = vmclock::Options { checked, ..Default::default() };
            for _ in 0..calls {
                black_box(Clock::open(path, options).expect("a clock"));
            }
        }
    };
    let theirs = |calls| {
        for _ in 0..calls {
            black_box(peer(&path).expect("a reader"));
        }
    };
    let rows: Vec<Row> = vec![
        ("a  shmhot", Box::new(ours(false))),
        ("a  shmhot, checked", Box::new(ours(true))),
        ("b  the crate", Box::new(theirs)),
    ];
    let table = Table::measure(options, "open and close", rows);
    println!("    a/b {:.3}", table.ratio(0, &[2]));
    Ok(())
}

fn write(options: &Options, folder: &Folder) -> Result<()> {
    let (ours_path, theirs_path) = (folder.join("ours"), folder.join("theirs"));
    let writer = Writer::create(&ours_path, Writer::DEFAULT_MODE)?;
    let mut peer = VMClockShmWriter::new(&theirs_path)?;
    let mut page = page()?;
    let mut body = VMClockShmBody { clock_status: VMClockClockStatus::Synchronized, ..Default::default() };
    let ours = |calls| {
        for _ in 0..calls {
            page.counter_value += 1;
            writer.write(&page).expect("an update");
        }
    };
    let theirs = |calls| {
        for _ in 0..calls {
            body.counter_value += 1;
            peer.write(&body);
        }
    };
    let rows: Vec<Row> = vec![
        ("a  shmhot, whose threads take turns", Box::new(ours)),
        ("b  the crate, of one thread", Box::new(theirs)),
    ];
    let table = Table::measure(options, "write", rows);
    println!("    a/b {:.3}", table.ratio(0, &[1]));
    Ok(())
}

fn run() -> Result<bool> {
    let options = Options::parse()?;
    if let Some((whose, path, processor)) = &options.writer {
        return write_forever(whose, path, *processor).map(|()| true);
    }
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!("Linux {}; {} rounds", kernel.trim(), options.rounds);
    let (folder, mut bars) = (Folder::new()?, Bars::default());
    if options.wants("still") {
        still(&options, &folder, &mut bars)?;
    }
    if options.wants("busy") {
        busy(&options, &folder, &mut bars)?;
    }
    if options.wants("now") {
        now(&options, &folder, &mut bars)?;
    }
    if options.wants("open") {
        open(&options, &folder)?;
    }
    if options.wants("write") {
        write(&options, &folder)?;
    }
    bars.print();
    Ok(!(options.check && bars.missed))
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vmclock: {error}");
            ExitCode::from(2)
        }
    }
}
