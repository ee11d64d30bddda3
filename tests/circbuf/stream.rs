//! What is written is read: every frame once, in order, at its time.

use crate::support::*;
use shmhot::circbuf::*;

#[test]
fn single_frames_and_exact_fills() {
    let name = Name::new("single");
    let stream = name.numbered(10);
    let mut reader = Reader::new(name.mirror());
    let mut next = 0;
    for count in [1, 1, 8, 10, 10, 1, 9, 3, 7, 5, 5, 10, 4] {
        write(&stream, count);
        assert_eq!(reader.numbers(), (next..next + count as u64).collect::<Vec<_>>(), "{count} frames");
        assert!(reader.numbers().is_empty(), "frames came twice");
        next += count as u64;
    }
    assert_eq!(reader.lost, 0);
}

#[test]
fn chunks_that_are_longer_than_the_ring() {
    let name = Name::new("longer");
    let stream = name.numbered(10);
    let mut reader = Reader::new(name.mirror());
    write(&stream, 3);
    assert_eq!(reader.numbers(), [0, 1, 2]);
    for (count, whole) in [(11, 4..14), (25, 29..39), (30, 59..69), (1000, 1059..1069), (10, 1069..1079)] {
        write(&stream, count);
        assert_eq!(reader.numbers(), whole.collect::<Vec<_>>(), "{count} frames");
    }
    assert_eq!((reader.read, reader.lost), (53, 1079 - 53));
    let info = reader.mirror.info().unwrap();
    assert_eq!((info.written, info.oldest, info.position, info.lost), (1079, 1069, 1079, reader.lost));
}

/// What was overwritten before a mirror began is not missed; what is overwritten after that is, to the frame.
#[test]
fn losses_are_counted() {
    let name = Name::new("losses");
    let stream = name.numbered(10);
    write(&stream, 25);
    let mut reader = Reader::new(name.mirror());
    assert_eq!(told(reader.next(4).unwrap().span), (15, 4, 0));
    write(&stream, 5);
    assert_eq!(told(reader.next(2).unwrap().span), (20, 2, 1));
    write(&stream, 100);
    assert_eq!(told(reader.next(100).unwrap().span), (120, 10, 98));
    assert_eq!(told(reader.next(100).unwrap().span), (130, 0, 0));
}

#[test]
fn from_now() {
    let name = Name::new("now");
    let stream = name.numbered(10);
    write(&stream, 5);
    let mut reader = Reader::new(Mirror::open(&name, MirrorOptions { from_now: true }).unwrap());
    assert!(reader.numbers().is_empty());
    write(&stream, 1);
    assert_eq!(reader.numbers(), [5]);
    // Of the next format it is the beginning that is new.
    stream.configure(&Format { frames: 20, ..numbers(20) }, 0.0).unwrap();
    write(&stream, 4);
    assert_eq!(reader.numbers(), [6, 7, 8, 9]);
}

#[test]
fn seeking() {
    let name = Name::new("seek");
    let stream = name.numbered(10);
    write(&stream, 25);
    let mut reader = Reader::new(name.mirror());
    reader.drain();
    for (to, first) in [(0, 15), (15, 15), (20, 20), (24, 24)] {
        reader.mirror.seek(to).unwrap();
        assert_eq!(told(reader.next(1).unwrap().span), (first, 1, 0));
    }
    for to in [25, 26, u64::MAX] {
        reader.mirror.seek(to).unwrap();
        assert_eq!(reader.next(1).unwrap().span.count, 0);
    }
    write(&stream, 1);
    assert_eq!(reader.numbers(), [25]);
}

#[test]
fn times_go_on_by_the_rate_or_are_given() {
    let name = Name::new("times");
    let stream = name.create(Options::default());
    stream.configure(&Format { rate: 4.0, ..numbers(100) }, 10.0).unwrap();
    let mut reader = Reader::new(name.mirror());
    write(&stream, 3);
    assert_eq!(reader.next(9).unwrap().times, [10.0, 10.25, 10.5]);
    let frames = frames_of(WORDS, 3, 2);
    stream.write(&Source::Contiguous(&frames), Some(&[20.0, 21.0])).unwrap();
    write(&stream, 2);
    assert_eq!(reader.next(9).unwrap().times, [20.0, 21.0, 21.25, 21.5]);
    expect(stream.write(&Source::Contiguous(&frames), Some(&[1.0])), libc::EINVAL);
    // Of a chunk longer than the ring the times of the last frames, whether given or not.
    write(&stream, 150);
    let read = reader.next(1).unwrap();
    assert_eq!((read.span.first, read.times), (57, &[21.75 + 50.0 * 0.25][..]));

    stream.configure(&Format { rate: 0.0, ..numbers(100) }, 0.0).unwrap();
    expect(stream.write(&Source::Contiguous(&frames), None), libc::EINVAL);
    let first = stream.info().unwrap().written;
    stream.write(&Source::Contiguous(&frames_of(WORDS, first, 2)), Some(&[1.0, f64::NAN])).unwrap();
    reader.drain();
    reader.mirror.seek(first).unwrap();
    let read = reader.next(9).unwrap();
    assert!(read.times[0] == 1.0 && read.times[1].is_nan());
}

#[test]
fn layouts_without_times_count_them() {
    for layout in [Layout::V0, Layout::V1] {
        let name = Name::new("timeless");
        let stream = name.create(Options { layout, ..Options::default() });
        stream.configure(&Format { rate: 4.0, ..numbers(10) }, 10.0).unwrap();
        let mut reader = Reader::new(name.mirror());
        write(&stream, 2);
        assert_eq!(reader.next(9).unwrap().times, [0.0, 0.25]);
        assert_eq!(reader.mirror.info().unwrap().layout, Some(layout));
        stream.configure(&Format { rate: 0.0, ..numbers(10) }, 10.0).unwrap();
        stream.write(&Source::Contiguous(&frames_of(WORDS, 2, 1)), Some(&[5.0])).unwrap();
        assert!(reader.next(9).unwrap().times[0].is_nan());
        expect(reader.mirror.read_time(0.0, 9.0, &mut [], None, 9), libc::ENODATA);
    }
}

/// What lies between two times, also when it is split by the end of the ring, or partly gone.
#[test]
fn reading_by_time() {
    let name = Name::new("by-time");
    let stream = name.create(Options::default());
    stream.configure(&Format { rate: 1.0, ..numbers(10) }, 100.0).unwrap();
    let mut reader = Reader::new(name.mirror());
    write(&stream, 17); // frames 7..17 are there, of times 107 to 116
    assert_eq!(reader.next(2).unwrap().span.first, 7);
    let mut bytes = vec![0; 64 * WORDS * 8];
    let mut times = [0.0; 64];
    let mut by_time = |from, to, limit| {
        let span = reader.mirror.read_time(from, to, room(&mut bytes), Some(room(&mut times)), limit).unwrap();
        let (bytes, times) = (&bytes[..span.count * WORDS * 8], &times[..span.count]);
        check_frames(bytes, WORDS, span.first);
        assert!(times.iter().zip(span.first..).all(|(&time, number)| time == 100.0 + number as f64));
        (span.first, span.count)
    };
    assert_eq!(by_time(108.0, 112.0, 64), (8, 4));
    assert_eq!(by_time(107.5, 112.5, 64), (8, 5));
    assert_eq!(by_time(f64::NEG_INFINITY, f64::INFINITY, 64), (7, 10));
    assert_eq!(by_time(0.0, 108.0, 64), (7, 1));
    assert_eq!(by_time(108.0, 112.0, 2), (8, 2));
    for (from, to) in [(0.0, 1.0), (200.0, 300.0), (112.0, 108.0), (110.0, 110.0), (f64::NAN, f64::NAN)] {
        assert_eq!(by_time(from, to, 64).1, 0, "{from} to {to}");
    }
    assert_eq!(told(reader.next(2).unwrap().span), (9, 2, 0), "where it was");
}

#[test]
fn views() {
    let name = Name::new("views");
    let stream = name.numbered(10);
    let reader = name.mirror();
    write(&stream, 7);
    expect(reader.view(1), libc::ESTALE);
    reader.format().unwrap();
    let view = |limit| reader.view(limit).unwrap().expect("a stream");
    let bytes = |view: &View| {
        let mut bytes = Vec::new();
        for (part, &count) in view.counts.iter().enumerate() {
            let at = view.memory.frame_address(if part == 0 { view.index } else { 0 });
            // SAFETY: nobody writes meanwhile.
            bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(at, count * WORDS * 8) });
        }
        bytes
    };
    let first = view(5);
    assert_eq!((first.span.first, first.span.count, first.counts), (0, 5, [5, 0]));
    check_frames(&bytes(&first), WORDS, 0);
    write(&stream, 8); // 15: of the view, the first five are gone
    assert!(!reader.is_intact(&first.span).unwrap());
    let second = view(100);
    assert_eq!((second.span.first, second.span.count, second.counts), (5, 10, [5, 5]));
    check_frames(&bytes(&second), WORDS, 5);
    assert!(reader.is_intact(&second.span).unwrap());
    assert_eq!(view(100).span.count, 0);
    write(&stream, 1);
    assert!(!reader.is_intact(&second.span).unwrap());
    assert!(reader.is_intact(&Span { first: 6, count: 9, ..second.span }).unwrap());

    // Of the ring before, what was whole at its end stays so.
    let last = view(100);
    stream.configure(&numbers(20), 0.0).unwrap();
    write(&stream, 1);
    expect(reader.view(1), libc::ESTALE);
    reader.format().unwrap();
    assert_eq!(told(view(9).span), (16, 1, 0));
    assert!(reader.is_intact(&last.span).unwrap() && !reader.is_intact(&first.span).unwrap());
    check_frames(&bytes(&last), WORDS, 15);
    drop(reader);
    check_frames(&bytes(&last), WORDS, 15);
}

#[test]
fn reserve_and_commit() {
    let name = Name::new("reserve");
    let stream = name.numbered(10);
    let mut reader = Reader::new(name.mirror());
    let fill = |reserved: &Reservation, first: u64| {
        let mut number = first;
        for (part, &count) in reserved.counts.iter().enumerate() {
            for i in 0..count {
                let at = reserved.ring.frame_address(if part == 0 { reserved.index + i } else { i });
                let frame = frames_of(WORDS, number, 1);
                // SAFETY: reserved.
                unsafe { std::ptr::copy_nonoverlapping(frame.as_ptr(), at, frame.len()) };
                number += 1;
            }
        }
    };
    write(&stream, 7);
    assert_eq!(reader.numbers(), (0..7).collect::<Vec<_>>());
    let reserved = stream.reserve(5).unwrap();
    assert_eq!((reserved.first, reserved.counts), (7, [3, 2]));
    for refused in [
        stream.write(&Source::Contiguous(&frames_of(WORDS, 7, 1)), None),
        stream.reserve(1).map(drop),
        stream.configure(&numbers(11), 0.0).map(drop),
    ] {
        expect(refused, libc::EBUSY);
    }
    stream.write(&Source::Contiguous(&[]), None).unwrap(); // nothing is always possible
    assert!(reader.numbers().is_empty(), "not committed yet");
    fill(&reserved, 7);
    expect(stream.commit(6), libc::EMSGSIZE);
    stream.commit(4).unwrap(); // the fifth is given up, and written again
    let read = reader.next(9).unwrap();
    assert_eq!((read.span.first, read.times), (7, &[7.0, 8.0, 9.0, 10.0].map(|number| number / 1024.0)[..]));
    expect(stream.commit(0), libc::EBUSY);
    write(&stream, 1);
    assert_eq!(reader.numbers(), [11]);
    // The oldest frames lose their room at once, even if nothing comes of it.
    stream.reserve(10).unwrap();
    reader.mirror.seek(0).unwrap();
    assert!(reader.numbers().is_empty());
    stream.commit(0).unwrap();
    write(&stream, 1);
    assert_eq!((reader.numbers(), reader.lost), (vec![12], 0));
    expect(stream.reserve(11), libc::EMSGSIZE);
    stream.reserve(0).unwrap();
    stream.commit(0).unwrap();
    // Times may be the caller's; those that come behind them go on from there.
    let reserved = stream.reserve(1).unwrap();
    fill(&reserved, 13);
    let at = reserved.ring.timestamp_address(reserved.index).unwrap();
    // SAFETY: reserved.
    unsafe { at.write(50.0) };
    stream.commit(1).unwrap();
    write(&stream, 1);
    assert_eq!(reader.next(9).unwrap().times, [50.0, 50.0 + 1.0 / 1024.0]);
}

/// The rest of a ring is read before the next one is: nothing is lost by a change.
#[test]
fn formats_change() {
    let name = Name::new("formats");
    let stream = name.numbered(10);
    let mut reader = Reader::new(name.mirror());
    assert!(!stream.configure(&numbers(10), 5.0).unwrap(), "the same");
    assert!(reader.numbers().is_empty());
    let mut count = 0;
    for (round, format) in [
        Format { dtype: Dtype::new(b'd').unwrap(), ..numbers(10) },
        Format { frame_shape: vec![2, WORDS as u32], ..numbers(10) },
        Format { rate: 2000.0, ..numbers(10) },
        Format { key: "key".into(), ..numbers(10) },
        Format { frames: 1000, ..numbers(10) },
        Format { frames: 1, ..numbers(10) },
        Format { dtype: Dtype::new(b'D').unwrap(), frame_shape: vec![1; 63], ..numbers(10) },
        numbers(10),
    ]
    .into_iter()
    .enumerate()
    {
        write(&stream, 1);
        assert!(stream.configure(&format, 0.0).unwrap());
        let info = stream.info().unwrap();
        assert_eq!(u64::from(info.generation), round as u64 + 1);
        assert!(!name.ring(info.generation - 1).exists(), "the old ring is there");
        write(&stream, 1);
        count += 2;
        assert_eq!(reader.numbers(), [count - 2, count - 1], "{format:?}");
        assert_eq!(reader.format(), Some(&format));
    }
    assert_eq!((reader.lost, reader.formats), (0, 9));
    // Of formats that come and go between two looks, the frames are lost, and counted.
    for frames in 20..25 {
        stream.configure(&numbers(frames), 0.0).unwrap();
        write(&stream, 3);
    }
    let numbers = reader.numbers();
    assert_eq!(numbers, (count + 12..count + 15).collect::<Vec<_>>());
    assert_eq!((reader.lost, reader.formats), (12, 10));
}

#[test]
fn every_dtype() {
    for (character, size) in "efdbBhHiIlLqQ?FD".bytes().zip([2, 4, 8, 1, 1, 2, 2, 4, 4, 8, 8, 8, 8, 1, 8, 16]) {
        let name = Name::new("dtype");
        let stream = name.create(Options::default());
        let dtype = Dtype::new(character).unwrap();
        let format = Format { dtype, frame_shape: vec![16 / size as u32, 2], ..numbers(10) };
        stream.configure(&format, 0.0).unwrap();
        let mut reader = Reader::new(name.mirror());
        write(&stream, 3);
        assert_eq!(reader.numbers(), [0, 1, 2]);
        assert_eq!(reader.format(), Some(&format));
    }
    for character in 0..=u8::MAX {
        assert_eq!(Dtype::new(character).is_some(), b"efdbBhHiIlLqQ?FD".contains(&character));
    }
}

/// Frames of a single number, and of a single byte.
#[test]
fn frames_without_dimensions() {
    for (character, size) in [(b'Q', 8), (b'B', 1)] {
        let name = Name::new("single-number");
        let stream = name.create(Options::default());
        let dtype = Dtype::new(character).unwrap();
        stream.configure(&Format { dtype, frame_shape: vec![], ..numbers(10) }, 0.0).unwrap();
        let mut reader = Reader::new(name.mirror());
        for round in 0..50u8 {
            stream.write(&Source::Contiguous(&vec![round; size]), None).unwrap();
            assert_eq!(reader.read(9).unwrap().bytes, vec![round; size]);
        }
    }
}

#[test]
fn what_cannot_be_said() {
    let name = Name::new("refused");
    let stream = name.create(Options::default());
    expect(CircBuf::create("", Options::default()), libc::EINVAL);
    expect(Mirror::open("", MirrorOptions::default()), libc::EINVAL);
    expect(stream.write(&Source::Contiguous(&[]), None), libc::EAGAIN);
    expect(stream.reserve(1), libc::EAGAIN);
    expect(stream.commit(0), libc::EBUSY);
    expect(stream.ring(), libc::EAGAIN);
    let mirror = name.mirror();
    expect(mirror.format(), libc::EAGAIN);
    expect(mirror.ring(), libc::EAGAIN);
    assert!(mirror.view(1).unwrap().is_none());
    expect(mirror.metadata(), libc::ENODATA);
    assert_eq!(mirror.info().unwrap().state, State::Unconfigured);
    for bad in [
        Format { frame_shape: vec![1; 64], ..numbers(10) },
        Format { frame_shape: vec![1, 0], ..numbers(10) },
        Format { frame_shape: vec![u32::MAX; 3], ..numbers(10) },
        Format { frames: 0, ..numbers(10) },
        Format { rate: f64::NAN, ..numbers(10) },
        Format { rate: -1.0, ..numbers(10) },
    ] {
        expect(stream.configure(&bad, 0.0), libc::EINVAL);
    }
    expect(stream.configure(&numbers(10), f64::INFINITY), libc::EINVAL);
    assert_eq!(stream.format().unwrap(), None, "the stream is as it was");
    stream.configure(&numbers(10), 0.0).unwrap();
    expect(stream.write(&Source::Contiguous(&[0; 65]), None), libc::EINVAL);
    stream.write(&Source::Contiguous(&[]), None).unwrap();
    let mut small = [0; 8];
    expect(mirror.read(room(&mut small), None, 1), libc::ESTALE);
    mirror.format().unwrap();
    expect(mirror.read(room(&mut small), None, 1), libc::EINVAL);
}

#[test]
fn keys_are_cut_to_whole_characters() {
    let name = Name::new("key");
    let stream = name.create(Options::default());
    stream.configure(&Format { key: "ü".repeat(1000), ..numbers(4) }, 0.0).unwrap();
    assert_eq!(name.mirror().format().unwrap().0.key, "ü".repeat(512));
    assert!(!stream.configure(&Format { key: "ü".repeat(900), ..numbers(4) }, 0.0).unwrap(), "the same, once cut");
}

#[test]
fn closing_and_detaching() {
    let name = Name::new("ends");
    let stream = name.numbered(10);
    let mut reader = Reader::new(name.mirror());
    write(&stream, 3);
    stream.set_metadata(Some(&Metadata::default())).unwrap();
    assert!(name.files().len() == 4);
    stream.detach().unwrap();
    assert_eq!(name.files(), [name.header(), name.ring(0), name.metadata(1)]);
    let mut late = Reader::new(name.mirror());
    assert_eq!((reader.numbers(), late.numbers()), (vec![0, 1, 2], vec![0, 1, 2]));
    assert_eq!(late.mirror.info().unwrap().state, State::Ended);

    let stream = name.numbered(10);
    write(&stream, 2);
    assert_eq!((reader.numbers(), late.numbers()), (vec![3, 4], vec![3, 4]), "numbers go on");
    write(&stream, 1);
    stream.close().unwrap();
    assert!(name.files().is_empty(), "{:?}", name.files());
    assert_eq!((reader.numbers(), late.numbers()), (vec![5], vec![5]), "what is left");
    assert!(Reader::new(name.mirror()).numbers().is_empty());
    assert_eq!(name.mirror().info().unwrap().state, State::Absent);

    // Dropped, it is closed.
    drop(name.numbered(10));
    assert!(name.files().is_empty());
}

/// A format that has come and gone with its stream, before anybody has looked: its frames are lost, and nothing else is
/// taken for them.
#[test]
fn a_format_that_nobody_has_seen() {
    for is_another_writer in [false, true] {
        let name = Name::new("unseen");
        let mut stream = name.numbered(10);
        let mut reader = Reader::new(name.mirror());
        write(&stream, 2);
        assert_eq!(reader.numbers(), [0, 1]);
        write(&stream, 1);
        if is_another_writer {
            stream.detach().unwrap();
            stream = name.create(Options::default());
        }
        stream.configure(&numbers(20), 0.0).unwrap();
        write(&stream, 3);
        stream.close().unwrap();
        assert_eq!(reader.numbers(), [2], "what is left of the ring that it has");
        assert_eq!(reader.mirror.wait(1, Some(PATIENCE)).unwrap(), Awaited::Ended);
        assert_eq!(reader.lost, 3);
    }
}
