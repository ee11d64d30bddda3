//! Beside ezmsg-tools as it was released, of each of the three layouts, in processes of its own: its writers under our
//! mirror, our writer under its mirrors.

use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::{Value, json};
use shmhot::circbuf::*;

use crate::support::*;

/// A release, and the layout that it writes and reads.
#[derive(Clone, Copy, Debug)]
struct Release(&'static str, Layout);

const RELEASES: [Release; 3] =
    [Release("0.10.0", Layout::V2), Release("0.9.0", Layout::V1), Release("0.3.2", Layout::V0)];

/// A process of a peer, which does as it is told: `peers/peer.py`.
struct Peer {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

/// The Python that has a release installed; `None` when it cannot be had.
fn python_with(release: &'static str) -> Option<String> {
    static FOUND: OnceLock<Vec<Option<String>>> = OnceLock::new();
    let all = FOUND.get_or_init(|| RELEASES.iter().map(|release| make_python_with(release.0)).collect());
    let at = RELEASES.iter().position(|known| known.0 == release).expect("a release");
    all[at].clone()
}

fn make_python_with(release: &str) -> Option<String> {
    // Both are read relative to the package's folder, in which cargo runs tests.
    let requirements = format!("tests/circbuf/peers/{release}.txt");
    let made = ["python3", "python3.13", "python3.12", "python3.11"].into_iter().find_map(|python| {
        let is_new = "import sys; sys.exit(sys.version_info < (3, 11))";
        Command::new(python)
            .args(["-c", is_new])
            .stderr(Stdio::null())
            .status()
            .ok()
            .filter(|status| status.success())?;
        let venv = ["300", "tools/venv", &format!("ezmsg-tools-{release}"), &requirements, python];
        let made = Command::new("timeout").args(venv).stderr(Stdio::null()).output().ok()?;
        made.status.success().then(|| String::from_utf8(made.stdout).expect("a path").trim().to_owned() + "/bin/python")
    });
    if made.is_none() {
        println!("SKIP ezmsg-tools {release}: it needs Python 3.11 and the packages of {requirements}");
    }
    made
}

/// One of the scripts of `peers`, run by a release. It does not outlive us.
fn script(release: &'static str, script: &str) -> Option<Command> {
    let mut command = Command::new(python_with(release)?);
    command.args(["-B", &format!("tests/circbuf/peers/{script}")]).stderr(Stdio::null());
    // SAFETY: prctl is a system call and nothing more.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    Some(command)
}

impl Peer {
    fn start(release: Release) -> Option<Self> {
        let mut command = script(release.0, "peer.py")?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a peer");
        let to = child.stdin.take();
        let from = BufReader::new(child.stdout.take().expect("its output"));
        Some(Self { child, to, from })
    }

    /// One that writes a stream.
    fn writer(release: Release, name: &str, seconds: f64) -> Option<Self> {
        let mut peer = Self::start(release)?;
        peer.ask("write", json!({"name": name, "seconds": seconds}));
        Some(peer)
    }

    /// One that reads a stream, and lets it live when it ends.
    fn reader(release: Release, name: &str) -> Option<Self> {
        let mut peer = Self::start(release)?;
        peer.ask("let_live", json!({}));
        peer.ask("mirror", json!({"name": name}));
        Some(peer)
    }

    #[track_caller]
    fn ask(&mut self, what: &str, arguments: Value) -> Value {
        self.begin(what, arguments);
        self.answer()
    }

    #[track_caller]
    fn begin(&mut self, what: &str, arguments: Value) {
        writeln!(self.to.as_mut().expect("its input"), "{}", json!([what, arguments])).expect("its input");
    }

    #[track_caller]
    fn answer(&mut self) -> Value {
        let mut line = String::new();
        // ezmsg prints what it likes, too.
        while !line.starts_with("answer ") {
            line.clear();
            assert_ne!(self.from.read_line(&mut line).expect("its output"), 0, "the peer has ended");
        }
        let answer: Value = serde_json::from_str(&line["answer ".len()..]).expect("JSON");
        if let Some(error) = answer.get("error") {
            panic!("{}", error.as_str().unwrap_or("an error without words"));
        }
        answer
    }

    /// Asks for frames of these numbers, all of them at once, and none beside them.
    #[track_caller]
    fn read(&mut self, numbers: Range<u64>) -> Value {
        let read = self.ask("read", json!({"count": numbers.end - numbers.start}));
        assert_eq!(read["runs"], json!([[numbers.start, numbers.end]]));
        assert_eq!(read["overflows"], json!(0));
        read
    }

    fn exit(mut self) {
        self.to = None;
        assert!(self.child.wait().expect("its end").success());
    }

    fn kill(mut self) {
        self.child.kill().expect("killing the peer");
        self.child.wait().expect("its end");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Peers are slow to start: a few tests of theirs at once would only keep the others of this program waiting.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a foreign stream until frames of all these numbers were there, each once; their times.
#[track_caller]
fn read_theirs(reader: &mut Reader, numbers: Range<u64>) -> Vec<f64> {
    let mut times = Vec::new();
    let mut next = numbers.start;
    while next < numbers.end {
        let awaited = reader.mirror.wait(1, Some(PATIENCE)).unwrap();
        let is_over = [Awaited::Nothing, Awaited::Absent].contains(&awaited);
        assert!(!is_over, "{awaited:?} instead of frame {next}");
        let read = reader.read(usize::MAX).unwrap();
        if read.span.count > 0 {
            assert_eq!(read.span.lost, 0);
            check_frames(read.bytes, read.words, next);
            next += read.span.count as u64;
            times.extend_from_slice(read.times);
        }
    }
    assert_eq!(next, numbers.end);
    assert_eq!(reader.read(usize::MAX).unwrap().span.count, 0, "frames came twice");
    times
}

#[test]
fn their_writers() {
    let _turn = one_at_a_time();
    for release @ Release(version, layout) in RELEASES {
        let name = Name::new("their-writer");
        let Some(mut peer) = Peer::writer(release, &name, 0.5) else { continue };
        let mut reader = Reader::new(name.mirror());
        assert_eq!(reader.mirror.wait(1, Some(std::time::Duration::ZERO)).unwrap(), Awaited::Nothing);
        let mut next = 0;
        for (round, (dtype, shape, rate, key, moved)) in [
            ("f", vec![64], 1000.0, "a", false),
            ("f", vec![64], 1000.0, "b", false),
            ("f", vec![64], 500.0, "b", false),
            ("d", vec![64], 500.0, "b", true),
            ("l", vec![1], 500.0, "", false),
            ("B", vec![8], 1000.0, "µ", false),
            ("h", vec![3, 4, 2], 1000.0, "c", true),
            ("D", vec![2, 2, 1, 1, 2], 1000.0, "c", false),
        ]
        .into_iter()
        .enumerate()
        {
            let begin = next;
            // Never more at once than the ring holds; it is filled exactly now and then, and by single frames, too.
            for (count, chunk) in [(125, 25), (125, 125), (130, 13), (5, 1), (120, 7), (250, 50), (245, 35), (3, 1)] {
                peer.begin(
                    "send",
                    json!({"first": next, "count": count, "chunk": chunk, "dtype": dtype, "shape": shape, "rate": rate,
                           "key": key, "moved": moved, "pause": 0.0001}),
                );
                for (number, time) in (next..).zip(read_theirs(&mut reader, next..next + count)) {
                    let expected = if layout == Layout::V2 { number } else { number - begin } as f64 / rate;
                    assert!((time - expected).abs() < 1e-6, "frame {number} at {time}");
                }
                peer.answer();
                next += count;
            }
            let (format, found) = reader.mirror.format().unwrap();
            assert_eq!((found, format.rate, format.key.as_str()), (layout, rate, key));
            assert_eq!((format.frame_shape, format.frames), (shape, (rate * 0.5) as u32));
            assert_eq!(format.dtype.character(), dtype.as_bytes()[0]);
            let info = reader.mirror.info().unwrap();
            assert_eq!((info.state, info.is_ours, info.pid), (State::Unknown, false, None));
            assert_eq!((u64::from(info.generation), reader.formats), (round as u64, round as u64 + 1));
            assert_eq!(info.metadata_generation > 0, layout.has_metadata());
        }
        // What is overwritten is counted.
        let (read, lost) = (reader.read, reader.lost);
        for first in (next..next + 1500).step_by(100) {
            let frames = json!({"first": first, "count": 100, "chunk": 100, "dtype": "D", "shape": [2, 2, 1, 1, 2],
                                "rate": 1000.0, "key": "c"});
            peer.ask("send", frames);
        }
        while reader.read(usize::MAX).unwrap().span.count > 0 {}
        assert_eq!((reader.read - read, reader.lost - lost), (500, 1000));
        peer.ask("shutdown", json!({}));
        until("the end", || (reader.mirror.info().unwrap().state == State::Ended).then_some(()));
        println!("ezmsg-tools {version}: {} frames", reader.read);
    }
}

/// In their own runtime, from a unit of theirs to the one that writes.
#[test]
fn their_graph() {
    let _turn = one_at_a_time();
    for Release(version, _) in [RELEASES[0], RELEASES[2]] {
        let name = Name::new("their-graph");
        let Some(mut command) = script(version, "graph.py") else { continue };
        let mut graph = command.args([&*name, "30"]).stdout(Stdio::null()).spawn().expect("a graph");
        let mut reader = Reader::new(name.mirror());
        until("the first frame", || (reader.mirror.wait(1, Some(PATIENCE)).unwrap() == Awaited::Format).then_some(()));
        read_theirs(&mut reader, 0..300);
        // SAFETY: our own process.
        done(unsafe { libc::kill(graph.id() as i32, libc::SIGINT) });
        graph.wait().expect("its end");
        until("the end", || (reader.mirror.info().unwrap().state == State::Ended).then_some(()));
    }
}

/// Frames at times that are given, which are irregular.
#[test]
fn their_irregular_frames() {
    let _turn = one_at_a_time();
    for release @ Release(_, layout) in RELEASES {
        let name = Name::new("their-irregular");
        let Some(mut peer) = Peer::writer(release, &name, 0.5) else { continue };
        let mut reader = Reader::new(name.mirror());
        peer.ask(
            "send",
            json!({"first": 0, "count": 40, "chunk": 20, "dtype": "d", "shape": [2], "rate": 64.0, "times": 1000.0}),
        );
        let read = until("frames", || {
            let read = reader.read(usize::MAX).unwrap();
            (read.span.count > 0).then(|| (read.span.count, read.times.to_vec()))
        });
        assert_eq!(read.0, 32, "a ring of half a second holds the newest");
        assert_eq!(reader.format().unwrap().rate, 0.0);
        for (number, time) in (8..).zip(read.1) {
            let as_given = layout == Layout::V2 && time == 1000.0 + f64::from(number) / 64.0;
            assert!(as_given || layout != Layout::V2 && time.is_nan(), "frame {number} of time {time}");
        }
    }
}

#[test]
fn their_writers_end_and_begin_again() {
    let _turn = one_at_a_time();
    for release in RELEASES {
        let (name, other) = (Name::new("their-restart"), Name::new("their-rename"));
        let Some(mut peer) = Peer::writer(release, &name, 0.5) else { continue };
        let mut reader = Reader::new(name.mirror());
        let frames = |first: u64, key: &str| json!({"first": first, "count": 100, "chunk": 20, "dtype": "f", "shape": [8], "rate": 1000.0, "key": key});
        peer.ask("send", frames(0, "a"));
        read_theirs(&mut reader, 0..100);
        // Another name: the stream goes on there, in another format, for which they make a new ring.
        let mut renamed = Reader::new(other.mirror());
        peer.ask("settings", json!({"name": &*other, "seconds": 0.5}));
        peer.ask("send", frames(100, "b"));
        read_theirs(&mut renamed, 100..200);
        until("the end", || (reader.mirror.info().unwrap().state == State::Ended).then_some(()));
        // Ended and begun again, under both names.
        peer.ask("shutdown", json!({}));
        until("the end", || (renamed.mirror.info().unwrap().state == State::Ended).then_some(()));
        peer.ask("write", json!({"name": &*name, "seconds": 0.5}));
        peer.ask("send", frames(200, "a"));
        read_theirs(&mut reader, 200..300);
        // Killed, and begun again by another process.
        peer.kill();
        let mut peer = Peer::writer(release, &name, 0.25).expect("there was one before");
        peer.ask("send", frames(300, "a"));
        read_theirs(&mut reader, 300..400);
        assert_eq!(reader.format().unwrap().frames, 250);
        assert_eq!((reader.lost, renamed.lost), (0, 0));
        peer.ask("shutdown", json!({}));
    }
}

fn ours(name: &Name, layout: Layout) -> CircBuf {
    name.create(Options { layout, ..Options::default() })
}

/// Bytes of the header's file behind the header, where their readers must not look, and must not write.
fn extension_of(name: &Name, layout: Layout) -> Vec<u8> {
    let header = if layout == Layout::V0 { 1318 } else { 1334 };
    std::fs::read(name.header()).expect("a header")[header..].to_vec()
}

#[test]
fn our_writer() {
    let _turn = one_at_a_time();
    for release @ Release(version, layout) in RELEASES {
        let name = Name::new("our-writer");
        let Some(mut peer) = Peer::reader(release, &name) else { continue };
        let stream = ours(&name, layout);
        let mut next = 0;
        for (round, (dtype, shape, rate, key)) in [
            (b'f', vec![64], 1000.0, "a"),
            (b'f', vec![64], 1000.0, "b"),
            (b'f', vec![64], 500.0, "b"),
            (b'd', vec![64], 500.0, "b"),
            (b'q', vec![1], 500.0, ""),
            (b'B', vec![8], 1000.0, "µ"),
            (b'h', vec![3, 4, 2], 1000.0, "c"),
            (b'D', vec![2, 2, 1, 1, 2], 0.0, "c"),
        ]
        .into_iter()
        .enumerate()
        {
            let dtype_of = |character| Dtype::new(character).unwrap();
            let format =
                Format { dtype: dtype_of(dtype), frame_shape: shape.clone(), frames: 500, rate, key: key.into() };
            let start = next as f64;
            stream.configure(&format, start).unwrap();
            // Their mirror attaches to a ring when it is asked, gives single frames never, and an exact fill for ever.
            for count in [2, 123, 130, 499, 7, 400, 250] {
                for first in (next..next + count).step_by(50) {
                    let count = (next + count - first).min(50);
                    let frames = frames_of(format.frame_size() / 8, first, count as usize);
                    let times: Vec<f64> = (first..first + count).map(|number| number as f64).collect();
                    let times = (rate == 0.0).then_some(&times[..]);
                    stream.write(&Source::Contiguous(&frames), times).unwrap();
                }
                let before = extension_of(&name, layout);
                let read = peer.read(next..next + count);
                assert_eq!(extension_of(&name, layout), before, "their reader has written to the extension");
                assert_eq!(read["dtype"], json!(char::from(dtype).to_string()));
                assert_eq!((&read["shape"], &read["changes"]), (&json!(shape), &json!(round + 1)));
                if layout == Layout::V2 {
                    let period = if rate > 0.0 { 1.0 / rate } else { 1.0 };
                    let time = |number: u64| start + (number as f64 - start) * period;
                    let found = &read["times"];
                    assert!((found[0].as_f64().unwrap() - time(next)).abs() < 1e-6, "{found}");
                    assert!((found[1].as_f64().unwrap() - time(next + count - 1)).abs() < 1e-6, "{found}");
                }
                next += count;
            }
            let header = peer.ask("header", json!({}));
            assert_eq!((&header["rate"], &header["key"]), (&json!(rate), &json!(key)));
            let shape: Vec<u32> = [500].into_iter().chain(shape).collect();
            assert_eq!((&header["shape"], &header["generation"]), (&json!(shape), &json!(round)));
            assert_eq!((&header["index"], &header["wraps"]), (&json!(411), &json!(2)));
        }
        // What they miss they are told.
        let frames = |first| frames_of(16, first, 500);
        let times: Vec<f64> = (0..500).map(f64::from).collect();
        for _ in 0..3 {
            stream.write(&Source::Contiguous(&frames(next)), Some(&times)).unwrap();
            next += 500;
        }
        let read = peer.ask("read", json!({"count": 499}));
        assert_eq!((&read["overflows"], &read["runs"]), (&json!(1), &json!([[next - 499, next]])));
        stream.close().unwrap();
        assert!(name.files().is_empty());
        println!("ezmsg-tools {version}: {next} frames");
    }
}

/// A stream that is live while it is read, in a ring that holds all of it.
#[test]
fn our_live_writer() {
    let _turn = one_at_a_time();
    for release @ Release(_, layout) in RELEASES {
        let name = Name::new("our-live");
        let Some(mut peer) = Peer::reader(release, &name) else { continue };
        let stream = ours(&name, layout);
        stream.configure(&numbers(100_000), 0.0).unwrap();
        peer.begin("read", json!({"count": 10_000}));
        for _ in 0..1000 {
            write(&stream, 10);
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        assert_eq!(peer.answer()["runs"], json!([[0, 10_000]]));
    }
}

/// Whatever lies behind the header, they do not see it.
#[test]
fn their_readers_ignore_the_extension() {
    let _turn = one_at_a_time();
    for release @ Release(_, layout) in RELEASES {
        let name = Name::new("ignored");
        let Some(mut peer) = Peer::reader(release, &name) else { continue };
        let stream = ours(&name, layout);
        stream.configure(&numbers(100), 0.0).unwrap();
        write(&stream, 50);
        let behind = extension_of(&name, layout);
        let mut random = Random(1);
        let noise: Vec<u8> = behind.iter().map(|_| random.next() as u8).collect();
        let file = std::fs::OpenOptions::new().write(true).open(name.header()).unwrap();
        let at = std::fs::metadata(name.header()).unwrap().len() - behind.len() as u64;
        std::os::unix::fs::FileExt::write_all_at(&file, &noise, at).unwrap();
        peer.read(0..50);
        assert_eq!(extension_of(&name, layout), noise);
    }
}

#[test]
#[ignore = "a writer of our_writers_end_and_begin_again"]
fn dying_writer_child() {
    let Some((name, layout)) = name_of_child() else { return };
    let layout = [Layout::V0, Layout::V1, Layout::V2][layout.parse::<usize>().unwrap()];
    let stream = CircBuf::create(&name, Options { layout, ..Options::default() }).unwrap();
    stream.configure(&numbers(100), 0.0).unwrap();
    write(&stream, 50);
    say_ready("");
    sleep_for_good();
}

/// Their mirror keeps the header that it has found, for ever: so the next writer goes on in the same one.
#[test]
fn our_writers_end_and_begin_again() {
    let _turn = one_at_a_time();
    for release @ Release(_, layout) in RELEASES {
        let (name, other) = (Name::new("our-restart"), Name::new("our-rename"));
        let Some(mut peer) = Peer::reader(release, &name) else { continue };
        let mut writer = Process::start("interop::dying_writer_child", format!("{} {}", &*name, layout.number()));
        writer.ready();
        peer.read(0..50);
        writer.kill();
        for first in [50, 110] {
            let stream = ours(&name, layout);
            stream.configure(&numbers(100), 0.0).unwrap();
            write(&stream, 60);
            peer.read(first..first + 60);
            stream.detach().unwrap();
        }
        let stream = ours(&other, layout);
        stream.configure(&numbers(100), 0.0).unwrap();
        write(&stream, 20);
        peer.ask("connect", json!({"name": &*other}));
        peer.read(0..20);
    }
}

/// Python's resource tracker removes what an independent reader has looked at, as soon as that ends. The writer does not
/// notice; readers that are there go on.
#[test]
fn their_reader_takes_the_files_with_it() {
    let _turn = one_at_a_time();
    let release @ Release(_, layout) = RELEASES[0];
    let name = Name::new("taken");
    let Some(mut peer) = Peer::start(release) else { return };
    let stream = ours(&name, layout);
    stream.configure(&numbers(100), 0.0).unwrap();
    let mut reader = Reader::new(name.mirror());
    write(&stream, 50);
    reader.drain();
    peer.ask("mirror", json!({"name": &*name}));
    peer.read(0..50);
    peer.exit();
    until("the tracker", || (!name.header().exists() && !name.ring(0).exists()).then_some(()));
    for first in (50..1050).step_by(100) {
        write(&stream, 100);
        reader.drain();
        assert_eq!(reader.read, first + 100);
    }
    assert_eq!((reader.lost, reader.mirror.info().unwrap().state), (0, State::Alive));
    assert_eq!(name.mirror().info().unwrap().state, State::Absent);
    expect(CircBuf::create(&name, Options::default()), libc::EBUSY);
    stream.close().unwrap();
    assert!(name.files().is_empty(), "{:?}", name.files());
}

/// Their writers take a name without asking.
#[test]
fn their_writer_takes_our_name() {
    let _turn = one_at_a_time();
    for release @ Release(_, layout) in RELEASES {
        let name = Name::new("both");
        let Some(mut peer) = Peer::start(release) else { continue };
        let stream = ours(&name, layout);
        stream.configure(&numbers(100), 0.0).unwrap();
        let mut reader = Reader::new(name.mirror());
        write(&stream, 10);
        assert_eq!(reader.numbers(), (0..10).collect::<Vec<_>>());
        peer.ask("write", json!({"name": &*name, "seconds": 0.5}));
        write(&stream, 10);
        assert_eq!(reader.numbers(), (10..20).collect::<Vec<_>>(), "what is left of ours comes first");
        peer.ask(
            "send",
            json!({"first": 500, "count": 100, "chunk": 50, "dtype": "d", "shape": [2], "rate": 1000.0, "key": ""}),
        );
        read_theirs(&mut reader, 500..600);
        let files = name.files();
        stream.close().unwrap();
        assert_eq!(name.files().len(), files.len() - 1, "of theirs something was removed, or our lock was not");
        // Ours replaces what theirs has left, or still writes.
        let stream = ours(&name, layout);
        stream.configure(&numbers(100), 0.0).unwrap();
        write(&stream, 10);
        until("our stream", || reader.mirror.info().unwrap().is_ours.then_some(()));
        assert_eq!(reader.numbers(), (0..10).collect::<Vec<_>>());
    }
}

/// What is read of their metadata, and what they read of ours.
#[test]
fn metadata_both_ways() {
    let _turn = one_at_a_time();
    for release @ Release(_, layout) in RELEASES {
        if !layout.has_metadata() {
            continue;
        }
        let name = Name::new("metadata");
        let Some(mut peer) = Peer::writer(release, &name, 0.5) else { continue };
        let reader = name.mirror();
        let told = |labels: Value, attrs: Value, peer: &mut Peer| {
            peer.ask(
                "send",
                json!({"first": 0, "count": 2, "chunk": 2, "dtype": "d", "shape": [2], "rate": 1000.0, "key": "k",
                       "labels": labels, "attrs": attrs}),
            );
            serde_json::from_str::<Value>(&reader.metadata().unwrap().to_json()).unwrap()
        };
        let found = told(json!(["C3", "C4"]), json!({"a": [1, {"b": null}], "µ": 0.5}), &mut peer);
        assert_eq!(found["dims"], json!(["time", "d0"]));
        assert_eq!(found["axes"]["time"], json!({"kind": "linear", "unit": "s", "gain": 0.001}));
        assert_eq!(
            found["axes"]["d0"],
            json!({"kind": "coord", "unit": "", "dims": ["d0"], "dtype": "<U2", "shape": [2], "data": ["C3", "C4"]})
        );
        assert_eq!(found["attrs"], json!({"a": [1, {"b": null}], "µ": 0.5}));
        assert_eq!((&found["key"], &found["buffered_axis"]), (&json!("k"), &json!("time")));
        let found = told(json!([1.5, -2.0]), json!({}), &mut peer);
        assert_eq!(found["axes"]["d0"]["data"], json!([1.5, -2.0]));
        peer.ask("shutdown", json!({}));

        let stream = ours(&name, layout);
        stream.configure(&numbers(100), 0.0).unwrap();
        let mut peer = Peer::reader(release, &name).expect("there was one before");
        assert_eq!(peer.ask("metadata", json!({})), Value::Null);
        for (news, (ours, theirs)) in [
            (
                json!({"dims": ["time", "ch"], "buffered_axis": "time", "stream_dim": "time", "key": "k",
                       "axes": {"time": {"kind": "linear", "unit": "s", "gain": 0.5},
                                "ch": {"kind": "coord", "unit": "", "dims": ["ch"], "data": ["C3", "Fp1"]},
                                "f": {"kind": "linear", "unit": "Hz", "gain": 2.0, "offset": 1.0}},
                       "attrs": {"n": 7, "x": [true, null, 0.5, "µ"]}}),
                json!({"dims": ["time", "ch"], "buffered_axis": "time", "stream_dim": "time", "news": 1,
                       "axes": {"time": {"kind": "linear", "unit": "s", "gain": 0.5},
                                "ch": {"kind": "coord", "unit": "", "dims": ["ch"],
                                       "data": ["ndarray", "<U3", [2], ["C3", "Fp1"]]},
                                "f": {"kind": "linear", "unit": "Hz", "gain": 2.0, "offset": 1.0}},
                       "attrs": {"n": 7, "x": [true, null, 0.5, "µ"]}}),
            ),
            (
                json!({"dims": ["time"], "buffered_axis": "time",
                       "axes": {"time": {"kind": "coord", "unit": "s", "dims": ["time"]},
                                "ch": {"kind": "coord", "unit": "", "dims": ["ch"],
                                       "dtype": [["label", "<U4"], ["x", "<f4"]], "shape": [2],
                                       "data": [["a", 0.5], ["b", 1.5]]}},
                       "attrs": {"t": {"$tuple": [1, {"$bytes": "AP8="}]}, "z": {"$complex": [1.0, -2.0]},
                                 "a": {"$array": {"dtype": ">i2", "shape": [2, 2], "data": [1, 2, 3, 4]}},
                                 "empty": {"$array": {"dtype": "<f8", "shape": [0, 3], "data": []}}}}),
                json!({"dims": ["time"], "buffered_axis": "time", "stream_dim": null, "news": 2,
                       "axes": {"time": {"kind": "coord", "unit": "s", "dims": ["time"]},
                                "ch": {"kind": "coord", "unit": "", "dims": ["ch"],
                                       "data": ["ndarray", "|V20", [2], [["a", 0.5], ["b", 1.5]]]}},
                       "attrs": {"t": ["tuple", 1, ["bytes", "b'\\x00\\xff'"]], "z": ["complex", "(1-2j)"],
                                 "a": ["ndarray", ">i2", [2, 2], [[1, 2], [3, 4]]],
                                 "empty": ["ndarray", "<f8", [0, 3], []]}}),
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let ours = Metadata::from_json(&ours.to_string()).unwrap();
            assert!(stream.set_metadata(Some(&ours)).unwrap());
            assert!(!stream.set_metadata(Some(&ours)).unwrap(), "the same");
            until("our metadata", || reader.metadata().ok().filter(|found| *found == ours));
            assert_eq!(peer.ask("metadata", json!({})), theirs, "number {news}");
            assert!(!name.metadata(news as u32).exists(), "the old metadata is there");
        }
        // A new format leaves it; the next writer begins without, and its first has a number that they have not seen.
        stream.configure(&numbers(200), 0.0).unwrap();
        assert!(reader.metadata().is_ok());
        stream.detach().unwrap();
        let stream = ours(&name, layout);
        expect(reader.metadata(), libc::ENODATA);
        stream.detach().unwrap();
        let stream = self::ours(&name, layout);
        stream.configure(&numbers(200), 0.0).unwrap();
        stream.set_metadata(Some(&Metadata::from_json(r#"{"dims": ["x"]}"#).unwrap())).unwrap();
        let found = peer.ask("metadata", json!({}));
        assert_eq!((&found["dims"], &found["news"]), (&json!(["x"]), &json!(3)));
        stream.set_metadata(None).unwrap();
        expect(reader.metadata(), libc::ENODATA);
        stream.set_metadata(Some(&Metadata::from_json(r#"{"dims": ["y"]}"#).unwrap())).unwrap();
        let found = peer.ask("metadata", json!({}));
        assert_eq!((&found["dims"], &found["news"]), (&json!(["y"]), &json!(4)));
        stream.close().unwrap();
        assert!(name.files().is_empty(), "{:?}", name.files());
    }
}
