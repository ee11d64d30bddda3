//! Headers, rings and metadata that are cut, changed, or noise: an error that says so, or something harmless; never a
//! crash, never a wait without end.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shmhot::circbuf::*;
use shmhot::status::Failure;

use crate::support::*;

const LAYOUTS: [Layout; 3] = [Layout::V0, Layout::V1, Layout::V2];
const FRAMES: u32 = 10;
/// Where the extension begins, and what of it is used.
const EXTENSION: usize = 4096;
const EXTENSION_LEN: usize = 96;

/// The files of a sound stream of 15 frames, to plant changed ones under other names.
#[derive(Clone)]
struct Files {
    layout: Layout,
    header: Vec<u8>,
    ring: Vec<u8>,
    metadata: Vec<u8>,
}

impl Files {
    fn of(layout: Layout) -> Self {
        let name = Name::new("sound");
        let stream = name.create(Options { layout, ..Options::default() });
        stream.configure(&numbers(FRAMES), 0.0).unwrap();
        write(&stream, 15);
        let metadata = Metadata::from_json(r#"{"dims": ["time", "ch"], "attrs": {"a": [1, 2.5, "text", null]}}"#);
        if layout.has_metadata() {
            stream.set_metadata(Some(&metadata.unwrap())).unwrap();
        }
        let metadata = fs::read(name.metadata(1)).unwrap_or_default();
        Self { layout, header: fs::read(name.header()).unwrap(), ring: fs::read(name.ring(0)).unwrap(), metadata }
    }

    fn plant(&self) -> Name {
        let name = Name::new("planted");
        fs::write(name.ring(0), &self.ring).unwrap();
        fs::write(name.metadata(1), &self.metadata).unwrap();
        fs::write(name.header(), &self.header).unwrap();
        name
    }

    /// Where a field of layout 1 and 2 is in this one.
    fn at(&self, field: usize) -> usize {
        if self.layout == Layout::V0 { field - 8 } else { field }
    }

    fn header_size(&self) -> usize {
        self.at(1326) + if self.layout == Layout::V0 { 0 } else { 8 }
    }

    fn with(&self, at: usize, bytes: &[u8]) -> Self {
        let mut changed = self.clone();
        changed.header[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    }
}

/// What mirrors make of many streams. A header that looks damaged is given some time, all of them the same.
fn formats(streams: &[Name]) -> Vec<Result<(Mirror, Format)>> {
    let mut mirrors: Vec<_> = streams.iter().map(|name| Some(name.mirror())).collect();
    let mut found: Vec<_> = streams.iter().map(|_| None).collect();
    until("all of them", || {
        for (mirror, found) in mirrors.iter_mut().zip(&mut found) {
            let Some(looking) = mirror else { continue };
            match looking.format() {
                Err(Error::Absent(_)) => {}
                Err(error) => (*found, *mirror) = (Some(Err(error)), None),
                Ok((format, _)) => *found = Some(Ok((mirror.take().expect("it is looking"), format))),
            }
        }
        found.iter().all(Option::is_some).then_some(())
    });
    found.into_iter().map(|found| found.expect("all were found")).collect()
}

/// Everything that can be asked of a mirror, whatever it answers, as long as it does so soon.
fn ask_everything(mirror: &Mirror) {
    let begin = Instant::now();
    let mut bytes = vec![0; 4096];
    let mut times = vec![0.0; 64];
    let said = [
        mirror.format().map(drop).err(),
        mirror.info().map(drop).err(),
        mirror.wait(1, Some(Duration::from_micros(100))).map(drop).err(),
        mirror.read(room(&mut bytes), Some(room(&mut times)), 3).map(drop).err(),
        mirror.read_time(0.0, 1.0, room(&mut bytes), Some(room(&mut times)), 64).map(drop).err(),
        mirror.view(5).and_then(|view| view.map_or(Ok(true), |view| mirror.is_intact(&view.span))).map(drop).err(),
        mirror.seek(0).err(),
        mirror.read(room(&mut bytes), None, usize::MAX).map(drop).err(),
        mirror.seek(u64::MAX).err(),
        mirror.metadata().map(drop).err(),
        mirror.ring().map(drop).err(),
    ];
    for error in said.into_iter().flatten() {
        let expected = [libc::EPROTO, libc::ENOENT, libc::EAGAIN, libc::ESTALE, libc::ENODATA, libc::EINVAL];
        assert!(expected.contains(&-error.status()), "{error}");
        assert!(error.to_string().len() > 10, "{error}");
    }
    assert!(begin.elapsed() < PATIENCE, "it took {:?}", begin.elapsed());
}

#[test]
fn the_files_are_sound() {
    for layout in LAYOUTS {
        let name = Files::of(layout).plant();
        let mut reader = Reader::new(name.mirror());
        assert_eq!(reader.numbers(), (5..15).collect::<Vec<_>>());
        assert_eq!(reader.mirror.metadata().is_ok(), layout.has_metadata());
        ask_everything(&reader.mirror);
    }
}

#[test]
fn the_header_is_cut() {
    for layout in LAYOUTS {
        let sound = Files::of(layout);
        let whole = sound.header.len();
        let pages = [2000, 4095, 4096, 4100, 4191, 4192, 8191, 8192, 8195, 8196, whole - 1];
        for lengths in (0..sound.header_size() + 2).chain(pages).collect::<Vec<_>>().chunks(512) {
            let cut = |&len: &usize| Files { header: sound.header[..len].to_vec(), ..sound.clone() }.plant();
            let streams: Vec<_> = lengths.iter().map(cut).collect();
            for (found, &len) in formats(&streams).into_iter().zip(lengths) {
                match found {
                    // Without the extension it is as one of the peer's.
                    Ok((mirror, format)) => {
                        assert_eq!((len >= sound.header_size(), format), (true, numbers(FRAMES)), "{len}");
                        assert!(!mirror.info().unwrap().is_ours);
                        ask_everything(&mirror);
                    }
                    Err(error) => {
                        assert!(len < sound.header_size() && error.status() == -libc::EPROTO, "{len}: {error}");
                        assert!(error.to_string().contains("/dev/shm/sm_"), "{error}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_ring_is_cut() {
    for layout in LAYOUTS {
        let sound = Files::of(layout);
        let all: Vec<_> = (0..sound.ring.len()).collect();
        for lengths in all.chunks(256) {
            let cut = |&len: &usize| Files { ring: sound.ring[..len].to_vec(), ..sound.clone() }.plant();
            let streams: Vec<_> = lengths.iter().map(cut).collect();
            for (found, len) in formats(&streams).into_iter().zip(lengths) {
                let error = found.expect_err("a whole ring").to_string();
                assert!(error.contains(&format!("a ring of {len} bytes")), "{error}");
            }
        }
    }
}

#[test]
fn metadata_is_cut() {
    for layout in [Layout::V1, Layout::V2] {
        let sound = Files::of(layout);
        for len in 0..sound.metadata.len() {
            let name = Files { metadata: sound.metadata[..len].to_vec(), ..sound.clone() }.plant();
            expect(name.mirror().metadata(), libc::EPROTO);
            // The same with a header that says so.
            if len > 0 {
                let honest = sound.with(1330, &(len as u32).to_ne_bytes());
                expect(honest.plant().mirror().metadata(), libc::EPROTO);
            }
        }
        let huge = sound.with(1330, &u32::MAX.to_ne_bytes()).plant();
        let error = huge.mirror().metadata().unwrap_err().to_string();
        assert!(error.contains("4294967295 bytes"), "{error}");
        expect(sound.with(1326, &7u32.to_ne_bytes()).plant().mirror().metadata(), libc::ENODATA);
    }
}

#[test]
fn fields_that_cannot_be() {
    for layout in LAYOUTS {
        let sound = Files::of(layout);
        let u32s = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_ne_bytes()).collect::<Vec<_>>();
        let huge = [&u32s(&[64])[..], &u32s(&[u32::MAX; 64])].concat();
        let almost = [&u32s(&[3])[..], &u32s(&[1 << 31, 1 << 31, 1])].concat();
        let fields: [(&str, usize, &[u8], &str); 21] = [
            ("no type", 9, &[0], "dtype '\\0'"),
            ("a type that is none", 9, b"O", "dtype 'O'"),
            ("a rate below 0", 10, &(-1.0f64).to_ne_bytes(), "a rate of -1"),
            ("a rate that is none", 10, &f64::NAN.to_ne_bytes(), "a rate of NaN"),
            ("an infinite rate", 10, &f64::INFINITY.to_ne_bytes(), "a rate of inf"),
            ("no dimension", 18, &u32s(&[0]), "0 dimensions"),
            ("65 dimensions", 18, &u32s(&[65]), "65 dimensions"),
            ("the most dimensions", 18, &u32s(&[u32::MAX]), "4294967295 dimensions"),
            ("64, of which most are 0", 18, &u32s(&[64]), "has length 0"),
            ("a ring of nothing", 22, &u32s(&[0]), "a ring of 0 frames"),
            ("frames of nothing", 26, &u32s(&[0]), "dimension 0 of the frames has length 0"),
            ("a ring beyond the file", 22, &u32s(&[FRAMES + 1]), "where its header says"),
            ("the longest ring", 22, &u32s(&[u32::MAX]), "where its header says"),
            ("frames beyond the file", 26, &u32s(&[WORDS as u32 + 1]), "where its header says"),
            ("more than can be counted", 18, &huge, "more than can be mapped"),
            ("as much as can be counted", 18, &almost, "more than can be mapped"),
            ("a type of 16 bytes", 9, b"D", "where its header says"),
            ("a key beyond its room", 1314, &u32s(&[1025]), "a key of 1025 bytes"),
            ("the longest key", 1314, &u32s(&[u32::MAX]), "a key of 4294967295 bytes"),
            ("an extension to come", EXTENSION + 8, &u32s(&[2]), "extension of version 2"),
            ("a state that is none", EXTENSION + 12, &u32s(&[3]), "state 3"),
        ];
        for (what, at, bytes, says) in fields {
            // Layout 0 is known by nothing but its first two bytes.
            let says = if layout == Layout::V0 && what.contains("type") && bytes != b"D" { "no header" } else { says };
            let at = if at >= EXTENSION { at } else { sound.at(at) };
            let name = sound.with(at, bytes).plant();
            let error = formats(&[name]).pop().unwrap().map(|(_, format)| format).expect_err(what);
            assert_eq!(error.status(), -libc::EPROTO, "{what}: {error}");
            assert!(error.to_string().contains(says), "{what}: {error}");
        }
        let name = sound.with(sound.at(278), &u32s(&[1])).plant();
        expect(name.mirror().format(), libc::EAGAIN);
        if layout != Layout::V0 {
            for (at, bytes, says) in
                [(0, &b"NOPE"[..], "no header of a stream"), (4, &[3, 0, 0, 0], "struct_version 3")]
            {
                let error = formats(&[sound.with(at, bytes).plant()]).pop().unwrap().map(drop).unwrap_err();
                assert!(error.status() == -libc::EPROTO && error.to_string().contains(says), "{error}");
            }
        }
    }
}

/// What the extension counts cannot be so, or is a lie that harms nobody.
#[test]
fn counters_that_cannot_be() {
    let sound = Files::of(Layout::V2);
    let (first, ended, claimed, committed) = (40, 48, 64, 72);
    for (what, numbers) in [
        ("more committed than claimed", &[(claimed, 14)][..]),
        ("none claimed", &[(claimed, 0)]),
        ("the most committed", &[(committed, u64::MAX)]),
        ("the most claimed", &[(claimed, u64::MAX)]),
        ("the most of both", &[(claimed, u64::MAX), (committed, u64::MAX)]),
        ("one more than can be", &[(claimed, (1 << 62) + 1)]),
        ("a begin that is too late", &[(first, (1 << 62) + 1)]),
        ("an end that is too late", &[(ended, (1 << 62) + 1)]),
    ] {
        let mut lying = sound.clone();
        for &(at, number) in numbers {
            lying = lying.with(EXTENSION + at, &u64::to_ne_bytes(number));
        }
        let name = lying.plant();
        let mirror = name.mirror();
        let mut bytes = [0; 4096];
        let said = mirror.format().map(drop).and_then(|()| mirror.read(room(&mut bytes), None, 99).map(drop));
        assert_eq!(errno(&said), libc::EPROTO, "{what}");
        ask_everything(&mirror);
    }
    for (what, numbers) in [
        ("a begin behind what was committed", &[(first, 1000)][..]),
        ("nothing at all", &[(claimed, 0), (committed, 0)]),
        ("as many as can be", &[(claimed, 1 << 62), (committed, 1 << 62)]),
        ("claimed and never committed", &[(claimed, 1 << 61)]),
    ] {
        let mut lying = sound.clone();
        for &(at, number) in numbers {
            lying = lying.with(EXTENSION + at, &u64::to_ne_bytes(number));
        }
        let name = lying.plant();
        let mirror = name.mirror();
        assert!(mirror.format().is_ok(), "{what}");
        ask_everything(&mirror);
    }
}

/// The same of a peer's indices.
#[test]
fn indices_that_cannot_be() {
    for layout in LAYOUTS {
        let mut foreign = Files::of(layout);
        foreign.header.truncate(foreign.header_size());
        let (wraps, index) = (foreign.at(282), foreign.at(1318));
        for (at, number) in
            [(index, 11), (index, u64::MAX), (wraps, u64::MAX), (wraps, u64::MAX / 10), (wraps, 1 << 62)]
        {
            let name = foreign.with(at, &u64::to_ne_bytes(number)).plant();
            let mirror = name.mirror();
            let mut bytes = [0; 4096];
            let said = mirror.format().map(drop).and_then(|()| mirror.read(room(&mut bytes), None, 99).map(drop));
            assert_eq!(errno(&said), libc::EPROTO, "{number} at {at}");
            ask_everything(&mirror);
        }
        // They go back, and come again.
        let name = foreign.plant();
        let mut reader = Reader::new(name.mirror());
        assert_eq!(reader.read(99).unwrap().span.count, 10);
        let file = OpenOptions::new().write(true).open(name.header()).unwrap();
        for (turns, place, there) in [(0, 0, 0), (0, 3, 3), (0, 10, 7), (1, 0, 0), (1, 10, 10), (5, 5, 10)] {
            file.write_all_at(&u64::to_ne_bytes(place), index as u64).unwrap();
            file.write_all_at(&u64::to_ne_bytes(turns), wraps as u64).unwrap();
            assert!(reader.read(99).unwrap().span.count <= there.max(10), "{turns} wraps, index {place}");
        }
    }
}

#[test]
fn every_bit_of_the_header() {
    for layout in LAYOUTS {
        let sound = Files::of(layout);
        let bits: Vec<_> = (0..sound.header_size())
            .chain(EXTENSION..EXTENSION + EXTENSION_LEN)
            .flat_map(|at| (0..8).map(move |bit| (at, bit)))
            .filter(|(at, bit)| soak(1, 0) == 1 || !(sound.at(300)..sound.at(1310)).contains(at) || at % 8 == *bit)
            .collect();
        for bits in bits.chunks(512) {
            let flipped = |&(at, bit): &(usize, usize)| sound.with(at, &[sound.header[at] ^ 1 << bit]).plant();
            let streams: Vec<_> = bits.iter().map(flipped).collect();
            for (found, (at, bit)) in formats(&streams).into_iter().zip(bits) {
                match found {
                    Ok((mirror, _)) => ask_everything(&mirror),
                    Err(error) => {
                        let expected = [-libc::EPROTO, -libc::EAGAIN];
                        assert!(expected.contains(&error.status()), "bit {bit} of byte {at}: {error}");
                    }
                }
            }
        }
    }
}

/// Under a mirror that reads: what it answers is not an error that it stays with.
#[test]
fn every_bit_under_a_reader() {
    for layout in LAYOUTS {
        let name = Name::new("under");
        let stream = name.create(Options { layout, ..Options::default() });
        stream.configure(&numbers(FRAMES), 0.0).unwrap();
        write(&stream, 1);
        let mut reader = Reader::new(name.mirror());
        reader.drain();
        let file = OpenOptions::new().read(true).write(true).open(name.header()).unwrap();
        let header = fs::read(name.header()).unwrap();
        let sequence = |file: &File| {
            let mut number = [0; 4];
            file.read_exact_at(&mut number, EXTENSION as u64 + 4).unwrap();
            u32::from_ne_bytes(number)
        };
        let at_all = (0..header.len()).filter(|at| *at < 300 || (1300..1334).contains(at) || *at >= EXTENSION);
        for at in at_all.filter(|at| *at < EXTENSION + EXTENSION_LEN || at % 512 == 0) {
            for bit in 0..8 {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at as u64).unwrap();
                file.write_all_at(&[byte[0] ^ 1 << bit], at as u64).unwrap();
                ask_everything(&reader.mirror);
                // Said to be a change, it is looked at.
                let number = sequence(&file);
                if !(EXTENSION + 4..EXTENSION + 8).contains(&at) {
                    file.write_all_at(&u32::to_ne_bytes(number.wrapping_add(2)), EXTENSION as u64 + 4).unwrap();
                    ask_everything(&reader.mirror);
                }
                file.write_all_at(&byte, at as u64).unwrap();
                file.write_all_at(&u32::to_ne_bytes((number | 1).wrapping_add(3)), EXTENSION as u64 + 4).unwrap();
            }
        }
        reader.mirror.seek(u64::MAX).unwrap();
        write(&stream, 3);
        assert_eq!(reader.numbers(), [1, 2, 3], "it is not as before");
    }
}

/// A writer that changes whatever it likes, while all of it is asked for: that nobody crashes and nobody waits.
#[test]
fn a_writer_that_lies() {
    for layout in LAYOUTS {
        let sound = Files::of(layout);
        let name = sound.plant();
        let file = OpenOptions::new().write(true).open(name.header()).unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = Random(9);
                while !is_over.load(Ordering::Relaxed) {
                    for _ in 0..random.below(4) {
                        let places = [8, 9, 18, 22, 26, 278, 282, 1314, 1318, 1326, 1330];
                        let words = EXTENSION + 8 * random.below(EXTENSION_LEN as u64 / 8) as usize;
                        let place =
                            if random.below(2) == 0 { words } else { sound.at(places[random.below(11) as usize]) };
                        let lie = match random.below(3) {
                            0 => random.next(),
                            1 => random.below(40),
                            _ => 0,
                        };
                        let len = 1 << random.below(4);
                        file.write_all_at(&lie.to_ne_bytes()[..len], place as u64).unwrap();
                    }
                    if random.below(3) == 0 {
                        file.write_all_at(&sound.header, 0).unwrap();
                    }
                }
            });
            let over = Over(&is_over);
            let mirrors = [name.mirror(), name.mirror()];
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(soak(20_000, 500)) {
                ask_everything(&mirrors[0]);
                ask_everything(&mirrors[1]);
                ask_everything(&name.mirror());
            }
            drop(over);
        });
    }
}

/// What readers can write to is one word, by which they are woken: the writer does not mind what it says.
#[test]
fn a_reader_that_lies() {
    let name = Name::new("liar");
    let stream = name.numbered(1000);
    let mut reader = Reader::new(name.mirror());
    let file = OpenOptions::new().write(true).open(name.header()).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(6);
            while !is_over.load(Ordering::Relaxed) {
                let noise: Vec<u8> = (0..4096).map(|_| random.next() as u8).collect();
                file.write_all_at(&noise, 8192).unwrap();
            }
        });
        let over = Over(&is_over);
        for _ in 0..soak(1_000_000, 20_000) {
            write(&stream, 3);
            reader.next(usize::MAX).unwrap();
        }
        drop(over);
    });
    assert_eq!((reader.read, reader.lost), (3 * soak(1_000_000, 20_000), 0));
}

/// Whatever was left, the next writer begins well.
#[test]
fn the_next_writer_begins_well() {
    let sound = Files::of(Layout::V2);
    let mut random = Random(4);
    for round in 0..soak(20_000, 1000) {
        let mut left = sound.clone();
        for _ in 0..=random.below(3) {
            let limit = if random.below(2) == 0 { 1334 } else { left.header.len() as u64 };
            let at = random.below(limit) as usize;
            left.header[at] = random.next() as u8;
            let at = EXTENSION + random.below(EXTENSION_LEN as u64) as usize;
            left.header[at] = random.next() as u8;
        }
        if round % 10 == 0 {
            left.header.truncate(random.below(13_000) as usize);
        }
        let name = left.plant();
        let stream = name.numbered(FRAMES);
        let mut reader = Reader::new(name.mirror());
        write(&stream, 3);
        let first = stream.info().unwrap().written - 3;
        assert_eq!(reader.numbers(), [first, first + 1, first + 2]);
        stream.close().unwrap();
        assert!(!name.header().exists() && !name.lock().exists());
    }
}

/// A writer has died in a change, and the reader has missed some before: it knows of no ring what its counters mean.
#[test]
fn a_change_that_never_ends() {
    let name = Name::new("endless");
    let stream = name.numbered(10);
    let mut reader = Reader::new(name.mirror());
    write(&stream, 3);
    assert_eq!(reader.next(usize::MAX).unwrap().span.count, 3);
    for frames in [24, 7, 24] {
        stream.configure(&numbers(frames), 0.0).unwrap();
        write(&stream, 15);
    }
    stream.detach().unwrap();
    let header = OpenOptions::new().read(true).write(true).open(name.header()).unwrap();
    let mut sequence = [0; 4];
    header.read_exact_at(&mut sequence, EXTENSION as u64 + 4).unwrap();
    let odd = (u32::from_le_bytes(sequence) + 1).to_le_bytes();
    header.write_all_at(&odd, EXTENSION as u64 + 4).unwrap();
    assert_eq!(reader.next(usize::MAX).unwrap().span.count, 0);
    assert_eq!(reader.mirror.wait(1, Some(Duration::ZERO)).unwrap(), Awaited::Nothing);
    // The next writer goes on, and what was missed is counted.
    let stream = name.numbered(10);
    write(&stream, 2);
    let (first, count, lost) = told(reader.next(usize::MAX).unwrap().span);
    assert_eq!((first, count, lost), (48, 2, 45));
}
