//! A writer and readers of every speed, and writers that are killed at any moment.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shmhot::circbuf::*;
use shmhot::status::Failure;

use crate::support::*;

/// What the soak writes, in frames of a word of its own size.
const SOAK_WORDS: usize = 32;

fn soak_format() -> Format {
    Format { frame_shape: vec![SOAK_WORDS as u32], ..numbers(4096) }
}

#[test]
#[ignore = "the writer of nothing_torn_nothing_twice"]
fn soak_writer_child() {
    let Some((name, frames)) = name_of_child() else { return };
    let total: u64 = frames.parse().unwrap();
    let stream = CircBuf::create(&name, Options::default()).unwrap();
    stream.configure(&soak_format(), 0.0).unwrap();
    write_from(&stream, 0, 1);
    say_ready("");
    wait_for_go();
    let frames = |first, count| frames_of(SOAK_WORDS, first, count);
    let (mut next, mut random) = (1, Random(11));
    while next < total {
        // Now and then more than the ring holds, or in place; with pauses in which even the slow come after.
        let count = match random.below(1000) {
            0 => 5000,
            1..100 => 1,
            _ => 1 + random.below(128),
        };
        let count = count.min(total - next) as usize;
        if count < 100 && random.below(4) == 0 {
            let reserved = stream.reserve(count as u64).unwrap();
            let bytes = frames(next, count);
            let (begin, end) = bytes.split_at(reserved.counts[0] * SOAK_WORDS * 8);
            for (index, part) in [(reserved.index, begin), (0, end)] {
                // SAFETY: reserved.
                unsafe { std::ptr::copy(part.as_ptr(), reserved.ring.frame_address(index), part.len()) };
            }
            stream.commit(count as u64).unwrap();
        } else {
            stream.write(&Source::Contiguous(&frames(next, count)), None).unwrap();
        }
        next += count as u64;
        if random.below(200) == 0 {
            std::thread::sleep(Duration::from_micros(random.below(5000)));
        }
    }
    say_ready("");
    wait_for_go();
    stream.detach().unwrap();
}

/// Reads to the end of the stream: what was read and what was lost, and by views how much was in vain.
#[test]
#[ignore = "a reader of nothing_torn_nothing_twice"]
fn soak_reader_child() {
    let Some((name, speed)) = name_of_child() else { return };
    let mut reader = Reader::new(Mirror::open(&name, MirrorOptions::default()).unwrap());
    let speed: u64 = speed.parse().unwrap();
    let (mut next, mut random) = (0, Random(13 + speed));
    loop {
        match reader.mirror.wait(1 + random.below(64), Some(PATIENCE)).unwrap() {
            Awaited::Frames(_) | Awaited::Format => {}
            Awaited::Ended => break,
            other => panic!("{other:?} after frame {next}"),
        }
        let limit = if random.below(2) == 0 { usize::MAX } else { 1 + random.below(300) as usize };
        let span = reader.next(limit).unwrap().span;
        assert!(span.first >= next || span.count == 0, "frame {} comes again after {next}", span.first);
        if span.count > 0 {
            assert_eq!(span.first - next, span.lost, "of the frames from {next} to {}", span.first);
            next = span.first + span.count as u64;
        }
        if reader.read == span.count as u64 && span.count > 0 {
            say_ready("");
        }
        std::thread::sleep(Duration::from_micros(speed));
    }
    assert_eq!(reader.lost, reader.mirror.info().unwrap().lost);
    say_ready(format!("{} {} 0", reader.read, reader.lost));
}

/// The same in place.
#[test]
#[ignore = "a reader of nothing_torn_nothing_twice"]
fn soak_viewer_child() {
    let Some((name, _)) = name_of_child() else { return };
    let mirror = Mirror::open(&name, MirrorOptions::default()).unwrap();
    let (mut next, mut read, mut lost, mut in_vain) = (0, 0, 0, 0);
    let mut copy = Vec::new();
    loop {
        match mirror.wait(1, Some(PATIENCE)).unwrap() {
            Awaited::Frames(_) => {}
            Awaited::Format => drop(mirror.format().unwrap()),
            Awaited::Ended => break,
            other => panic!("{other:?} after frame {next}"),
        }
        let view = match mirror.view(256) {
            Ok(Some(view)) => view,
            Ok(None) => panic!("no stream any more"),
            Err(error) if error.status() == -libc::ESTALE => continue,
            Err(error) => panic!("{error}"),
        };
        if view.span.count == 0 {
            lost += view.span.lost;
            continue;
        }
        copy.clear();
        for (index, count) in [(view.index, view.counts[0]), (0, view.counts[1])] {
            // SAFETY: bytes that may change meanwhile, which is_intact tells.
            copy.extend_from_slice(unsafe {
                std::slice::from_raw_parts(view.memory.frame_address(index), count * SOAK_WORDS * 8)
            });
        }
        if mirror.is_intact(&view.span).unwrap() {
            check_frames(&copy, SOAK_WORDS, view.span.first);
            read += view.span.count;
        } else {
            in_vain += view.span.count;
        }
        lost += view.span.lost;
        if next == 0 {
            say_ready("");
        }
        next = view.span.first + view.span.count as u64;
    }
    say_ready(format!("{read} {lost} {in_vain}"));
}

#[test]
fn nothing_torn_nothing_twice() {
    let name = Name::new("soak");
    let total = soak(1_000_000_000, 60_000_000) / (SOAK_WORDS as u64 * 8);
    let mut writer = Process::start("race::soak_writer_child", format!("{} {total}", &*name));
    writer.ready();
    let readers = [("reader", 0), ("reader", 300), ("reader", 20_000), ("viewer", 0)];
    let mut readers = readers.map(|(kind, speed)| {
        (kind, speed, Process::start(&format!("race::soak_{kind}_child"), format!("{} {speed}", &*name)))
    });
    readers.iter_mut().for_each(|(_, _, reader)| drop(reader.ready()));
    let begin = Instant::now();
    writer.go();
    writer.ready();
    println!("{total} frames of {} bytes in {:?}", SOAK_WORDS * 8, begin.elapsed());
    writer.go();
    writer.finish();
    for (kind, speed, mut reader) in readers {
        let told = reader.ready();
        let numbers: Vec<u64> = told.split(' ').map(|number| number.parse().unwrap()).collect();
        let [read, lost, in_vain] = numbers[..] else { panic!("{told}") };
        assert_eq!(read + lost + in_vain, total, "{kind} {speed}: {read} read, {lost} lost, {in_vain} in vain");
        reader.finish();
        println!("  a {kind} with pauses of {speed} us: {read} read, {lost} lost, {in_vain} viewed in vain");
    }
}

/// Two formats, and chunks of all lengths, until it is killed.
#[test]
#[ignore = "a writer of writers_are_killed"]
fn mortal_writer_child() {
    let Some((name, seed)) = name_of_child() else { return };
    let mut random = Random(seed.parse().unwrap());
    let stream = CircBuf::create(&name, Options::default()).unwrap();
    let formats = [numbers(300), Format { frame_shape: vec![2, WORDS as u32], ..numbers(200) }];
    stream.configure(&formats[0], 0.0).unwrap();
    say_ready(stream.info().unwrap().written);
    loop {
        write(&stream, 1 + random.below(40) as usize);
        match random.below(100) {
            0 => drop(stream.configure(&formats[random.below(2) as usize], 0.0).unwrap()),
            1 => {
                let text = format!(r#"{{"attrs": {{"n": {}}}}}"#, random.below(1000));
                stream.set_metadata(Some(&Metadata::from_json(&text).unwrap())).unwrap();
            }
            2 => {
                stream.reserve(1 + random.below(100)).unwrap();
                stream.commit(0).unwrap();
            }
            3..10 => std::thread::sleep(Duration::from_micros(random.below(1000))),
            _ => {}
        }
    }
}

/// Readers know that it has died, read what it has left, and follow the next one; nothing stays behind.
#[test]
fn writers_are_killed() {
    let name = Name::with_generations("mortal", 20_000);
    let mut random = Random(17);
    let mut reader = Reader::new(name.mirror());
    let mut killed = 0;
    for round in 0..soak(100, 12) {
        let mut writer = Process::start("race::mortal_writer_child", format!("{} {}", &*name, random.next() | 1));
        let first: u64 = writer.ready().parse().unwrap();
        let begin = Instant::now();
        let life = Duration::from_micros(random.below(20_000));
        let mut last = 0;
        while begin.elapsed() < life {
            let span = reader.next(usize::MAX).unwrap().span;
            last = last.max(span.first + span.count as u64);
        }
        expect(CircBuf::create(&name, Options::default()), libc::EBUSY);
        let pid = writer.id();
        writer.kill();
        killed += 1;
        until("the word that it has died", || {
            reader.drain();
            (reader.mirror.wait(1, Some(Duration::from_millis(1))).unwrap() == Awaited::Dead).then_some(())
        });
        let info = reader.mirror.info().unwrap();
        assert_eq!((info.state, info.pid, info.position), (State::Dead, Some(pid), info.written), "round {round}");
        assert!(info.written >= last.max(first), "{} frames after {last}", info.written);
        // Somebody who comes now reads what is left.
        let mut late = Reader::new(name.mirror());
        late.drain();
        assert_eq!(late.mirror.wait(1, Some(PATIENCE)).unwrap(), Awaited::Dead);
        assert_eq!(late.mirror.info().unwrap().written, info.written);
    }
    let stream = name.numbered(10);
    write(&stream, 5);
    let first = stream.info().unwrap().written - 5;
    assert_eq!(reader.numbers(), (first..first + 5).collect::<Vec<_>>());
    stream.close().unwrap();
    assert!(name.files().is_empty(), "{:?}", name.files());
    println!("{killed} writers killed: {} frames read, {} lost", reader.read, reader.lost);
}

/// Formats and metadata that change all the time, under readers who look when they like.
#[test]
fn changes_without_a_pause() {
    let name = Name::with_generations("changes", 100_000);
    let stream = name.numbered(10);
    let (is_over, total) = (AtomicBool::new(false), AtomicU64::new(0));
    let reading = |limit: usize| {
        let mut reader = Reader::new(name.mirror());
        let (mut next, mut changes) = (None, 0);
        // The last frames come after the end of the writing.
        for is_last in std::iter::repeat_with(|| is_over.load(Ordering::Acquire)) {
            match reader.mirror.wait(1, Some(Duration::from_millis(if is_last { 0 } else { 50 }))).unwrap() {
                Awaited::Format => changes += 1,
                Awaited::Nothing if is_last => break,
                _ => {}
            }
            let (first, count, _) = told(reader.next(limit).unwrap().span);
            if count > 0 {
                let before = next.replace(first + count as u64).unwrap_or(first);
                assert!(before <= first, "frame {first} after {before}");
                assert_eq!(std::mem::take(&mut reader.lost), first - before);
            }
            if let Ok(metadata) = reader.mirror.metadata() {
                assert_eq!(metadata.dims.len(), metadata.attrs.len());
            }
        }
        assert_eq!(next, Some(total.load(Ordering::Relaxed)));
        assert!(changes > 0);
    };
    std::thread::scope(|scope| {
        let readers = [1, 7, usize::MAX].map(|limit| scope.spawn(move || reading(limit)));
        let over = Over(&is_over);
        let mut random = Random(23);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(soak(20_000, 700)) {
            let frame_shape = vec![1 + random.below(4) as u32, WORDS as u32];
            stream.configure(&Format { frame_shape, ..numbers(5 + random.below(20) as u32) }, 0.0).unwrap();
            (0..random.below(4)).for_each(|_| write(&stream, random.below(8) as usize));
            let names: Vec<_> = (0..random.below(4)).map(|i| format!("\"{i}\"")).collect();
            let attrs: Vec<_> = names.iter().map(|name| format!("{name}: 0")).collect();
            let text = format!(r#"{{"dims": [{}], "attrs": {{{}}}}}"#, names.join(", "), attrs.join(", "));
            stream.set_metadata(Some(&Metadata::from_json(&text).unwrap())).unwrap();
        }
        write(&stream, 1);
        total.store(stream.info().unwrap().written, Ordering::Relaxed);
        drop(over);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    println!("{} formats", stream.info().unwrap().generation);
    stream.close().unwrap();
}

/// Threads share handles of either kind.
#[test]
fn threads_take_turns() {
    let name = Name::new("threads");
    let stream = name.numbered(1 << 16);
    let mirror = name.mirror();
    mirror.format().unwrap();
    let total = soak(2_000_000, 60_000);
    let read: Vec<_> = std::thread::scope(|scope| {
        for _ in 0..3 {
            // Whose turn comes when, nobody knows: so all frames are the same.
            scope.spawn(|| {
                for _ in 0..total / 3 {
                    stream.write(&Source::Contiguous(&frames_of(WORDS, 7, 1)), None).unwrap();
                }
            });
        }
        let reading = || {
            let mut bytes = vec![0; 100 * WORDS * 8];
            let (mut read, mut begin) = (Vec::new(), Instant::now());
            while begin.elapsed() < Duration::from_millis(300) {
                let span = mirror.read(room(&mut bytes), None, 100).unwrap();
                for i in 0..span.count {
                    check_frames(&bytes[i * WORDS * 8..(i + 1) * WORDS * 8], WORDS, 7);
                }
                if span.count > 0 {
                    read.push((span.first, span.count as u64, span.lost));
                    begin = Instant::now();
                }
            }
            read
        };
        let readers: Vec<_> = (0..3).map(|_| scope.spawn(reading)).collect();
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
    });
    let mut read = read;
    read.sort();
    let mut next = 0;
    for (first, count, lost) in read {
        assert!(first >= next, "frame {first} came twice");
        assert_eq!(first - next, lost);
        next = first + count;
    }
    assert_eq!((next, stream.info().unwrap().written), (total / 3 * 3, total / 3 * 3));
}
