//! What ends a wait, and what it says then.

use std::time::{Duration, Instant};

use shmhot::circbuf::*;

use crate::support::*;

const SHORT: Option<Duration> = Some(Duration::from_millis(30));

#[test]
fn for_what_is_there() {
    let name = Name::new("there");
    let stream = name.numbered(10);
    let mirror = name.mirror();
    assert_eq!(mirror.wait(1, Some(Duration::ZERO)).unwrap(), Awaited::Format);
    mirror.format().unwrap();
    assert_eq!(mirror.wait(1, Some(Duration::ZERO)).unwrap(), Awaited::Nothing);
    write(&stream, 3);
    for frames in [0, 1, 3] {
        assert_eq!(mirror.wait(frames, Some(Duration::ZERO)).unwrap(), Awaited::Frames(3));
    }
    assert_eq!(mirror.wait(4, SHORT).unwrap(), Awaited::Nothing);
    // More than the ring holds never come at once.
    write(&stream, 7);
    assert_eq!(mirror.wait(u64::MAX, Some(PATIENCE)).unwrap(), Awaited::Frames(10));
}

#[test]
fn no_longer_than_asked() {
    let (name, nobody) = (Name::new("timeout"), Name::new("nobody"));
    let _stream = name.numbered(10);
    let mirror = name.mirror();
    mirror.format().unwrap();
    let absent = nobody.mirror();
    for timeout in [0, 1, 30, 250].map(Duration::from_millis) {
        let begin = Instant::now();
        assert_eq!(mirror.wait(1, Some(timeout)).unwrap(), Awaited::Nothing);
        assert_eq!(absent.wait(1, Some(timeout)).unwrap(), Awaited::Absent);
        assert!(begin.elapsed() >= 2 * timeout && begin.elapsed() < PATIENCE);
    }
}

/// Waits in a thread while this one does something; what the wait has ended with.
fn meanwhile(mirror: &Mirror, does: impl FnOnce()) -> Awaited {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| mirror.wait(1, Some(PATIENCE)).unwrap());
        std::thread::sleep(Duration::from_millis(20));
        does();
        waiting.join().unwrap()
    })
}

#[test]
fn whatever_happens() {
    let name = Name::new("happens");
    let mut reader = Reader::new(name.mirror());
    let mut stream = None;
    assert_eq!(meanwhile(&reader.mirror, || stream = Some(name.numbered(10))), Awaited::Format);
    let stream = stream.unwrap();
    reader.drain();
    assert_eq!(meanwhile(&reader.mirror, || write(&stream, 2)), Awaited::Frames(2));
    assert_eq!(reader.numbers(), [0, 1]);
    assert_eq!(meanwhile(&reader.mirror, || assert!(stream.configure(&numbers(11), 0.0).unwrap())), Awaited::Format);
    reader.drain();
    assert_eq!(meanwhile(&reader.mirror, || stream.detach().unwrap()), Awaited::Ended);
    // Once it was said, the next writer is waited for.
    let begin = Instant::now();
    assert_eq!(reader.mirror.wait(1, SHORT).unwrap(), Awaited::Ended);
    assert!(begin.elapsed() >= SHORT.unwrap());
    let mut stream = None;
    assert_eq!(meanwhile(&reader.mirror, || stream = Some(name.numbered(10))), Awaited::Format);
    reader.drain();
    assert_eq!(meanwhile(&reader.mirror, || stream.unwrap().close().unwrap()), Awaited::Ended);
    let mut stream = None;
    assert_eq!(meanwhile(&reader.mirror, || stream = Some(name.numbered(10))), Awaited::Format);
}

#[test]
#[ignore = "the writer of its_death"]
fn silent_writer_child() {
    let Some((name, _)) = name_of_child() else { return };
    let stream = CircBuf::create(&name, Options::default()).unwrap();
    stream.configure(&numbers(10), 0.0).unwrap();
    write(&stream, 2);
    say_ready("");
    sleep_for_good();
}

#[test]
fn its_death() {
    let name = Name::new("death");
    let mut writer = Process::start("waiting::silent_writer_child", &*name);
    writer.ready();
    let mut reader = Reader::new(name.mirror());
    assert_eq!(reader.numbers(), [0, 1]);
    assert_eq!(meanwhile(&reader.mirror, || writer.kill()), Awaited::Dead);
    let begin = Instant::now();
    assert_eq!(reader.mirror.wait(1, SHORT).unwrap(), Awaited::Dead);
    assert!(begin.elapsed() >= SHORT.unwrap(), "the next writer was not waited for");
    let mut stream = None;
    assert_eq!(meanwhile(&reader.mirror, || stream = Some(name.numbered(10))), Awaited::Format);
}

/// Two that wake each other: were one of the bells not heard, each round would take as long as the longest sleep.
#[test]
fn bells_are_heard() {
    let names = [Name::new("ping"), Name::new("pong")];
    let streams = names.each_ref().map(|name| name.numbered(10));
    let mirrors = names.each_ref().map(Name::mirror);
    mirrors.iter().for_each(|mirror| drop(mirror.format().unwrap()));
    let rounds = soak(50_000, 2000);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..rounds {
                assert_eq!(mirrors[0].wait(1, Some(PATIENCE)).unwrap(), Awaited::Frames(1));
                mirrors[0].seek(u64::MAX).unwrap();
                write(&streams[1], 1);
            }
        });
        for _ in 0..rounds {
            write(&streams[0], 1);
            assert_eq!(mirrors[1].wait(1, Some(PATIENCE)).unwrap(), Awaited::Frames(1));
            mirrors[1].seek(u64::MAX).unwrap();
        }
    });
    assert!(begin.elapsed() < PATIENCE.max(Duration::from_millis(rounds)), "{:?}", begin.elapsed());
}

/// Any number may sleep by one bell.
#[test]
fn many_sleepers() {
    let name = Name::new("many");
    let stream = name.numbered(10);
    let mirrors: Vec<_> = (0..20).map(|_| name.mirror()).collect();
    mirrors.iter().for_each(|mirror| drop(mirror.format().unwrap()));
    std::thread::scope(|scope| {
        for mirror in &mirrors {
            scope.spawn(|| assert_eq!(mirror.wait(5, Some(PATIENCE)).unwrap(), Awaited::Frames(5)));
        }
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(5));
            write(&stream, 1);
        }
    });
}

/// Of a writer that has ended, fewer frames than asked for are all that come.
#[test]
fn the_rest_of_a_stream() {
    let name = Name::new("rest");
    let stream = name.numbered(10);
    let mut reader = Reader::new(name.mirror());
    write(&stream, 3);
    reader.drain();
    write(&stream, 3);
    stream.detach().unwrap();
    for timeout in [Some(Duration::ZERO), SHORT, Some(PATIENCE)] {
        assert_eq!(reader.mirror.wait(5, timeout).unwrap(), Awaited::Frames(3));
    }
    assert_eq!(reader.numbers(), [3, 4, 5]);
    assert_eq!(reader.mirror.wait(5, Some(PATIENCE)).unwrap(), Awaited::Ended);

    let mut writer = Process::start("waiting::silent_writer_child", &*name);
    writer.ready();
    let mut reader = Reader::new(name.mirror());
    assert_eq!(reader.next(1).unwrap().span.count, 1);
    assert_eq!(reader.mirror.wait(2, SHORT).unwrap(), Awaited::Nothing);
    writer.kill();
    assert_eq!(reader.mirror.wait(2, Some(PATIENCE)).unwrap(), Awaited::Frames(1));
}
