//! Whatever a writer does, in whatever order: each reader gets every frame that it has not lost, and knows how many it
//! has.

use shmhot::circbuf::*;

use crate::support::*;

/// A reader, and what it should come to know.
struct Follower {
    reader: Reader,
    /// The frame after the last that was read; `None` before the first.
    next: Option<u64>,
}

impl Follower {
    fn read(&mut self, limit: usize, written: u64) {
        let (first, count, lost) = told(self.reader.next(limit).unwrap().span);
        let end = first + count as u64;
        let Some(next) = self.next else {
            assert_eq!(lost, 0, "before the first frame");
            self.next = (count > 0).then_some(end);
            return;
        };
        if count > 0 {
            assert!(next <= first && end <= written, "{first} to {end} after {next}, of {written}");
            let lost = std::mem::take(&mut self.reader.lost);
            assert_eq!(lost, first - next, "of the frames from {next} to {first}");
            self.next = Some(end);
        }
    }
}

#[test]
fn any_order() {
    for seed in 1..=soak(2000, 60) {
        let name = Name::with_generations("model", 400);
        let mut random = Random(seed);
        let mut stream = Some(name.create(Options::default()));
        let mut followers = Vec::new();
        let mut reserved = None;
        for _ in 0..300 {
            let writer = stream.as_ref().expect("a writer");
            let is_ready = writer.format().unwrap().is_some();
            match random.below(20) {
                0 | 1 if reserved.is_none() => {
                    let frame_shape = vec![1 + random.below(3) as u32, WORDS as u32];
                    let format = Format { frame_shape, ..numbers(1 + random.below(30) as u32) };
                    writer.configure(&format, 0.0).unwrap();
                }
                2 if reserved.is_none() => {
                    stream.take().expect("a writer").detach().unwrap();
                    stream = Some(name.create(Options::default()));
                }
                3 => {
                    let text = format!(r#"{{"attrs": {{"n": {}}}}}"#, random.below(3));
                    writer.set_metadata(Some(&Metadata::from_json(&text).unwrap())).unwrap();
                }
                4..7 if is_ready && reserved.is_none() => {
                    let limit = writer.format().unwrap().unwrap().frames;
                    let room = writer.reserve(random.below(u64::from(limit) + 1)).unwrap();
                    let words = room.ring.frame_size() / 8;
                    let indices = (room.index..).take(room.counts[0]).chain(0..room.counts[1]);
                    for (number, index) in (room.first..).zip(indices) {
                        let frame = frames_of(words, number, 1);
                        // SAFETY: reserved.
                        unsafe { std::ptr::copy(frame.as_ptr(), room.ring.frame_address(index), frame.len()) };
                    }
                    reserved = Some(room);
                }
                7..9 if reserved.is_some() => {
                    let room = reserved.take().expect("room");
                    let all = room.counts.iter().sum::<usize>() as u64;
                    let count = if random.below(2) == 0 { all } else { random.below(all + 1) };
                    writer.commit(count).unwrap();
                }
                9..14 if is_ready && reserved.is_none() => {
                    let first = writer.info().unwrap().written;
                    let limit = [3, 20, 100][random.below(3) as usize];
                    let count = random.below(limit);
                    write_from(writer, first, count as usize);
                }
                14 if followers.len() < 5 => {
                    followers.push(Follower { reader: Reader::new(name.mirror()), next: None });
                }
                _ if !followers.is_empty() => {
                    let at = random.below(followers.len() as u64) as usize;
                    let limit = [1, 5, usize::MAX][random.below(3) as usize];
                    followers[at].read(limit, writer.info().unwrap().written);
                }
                _ => {}
            }
        }
        let written = stream.as_ref().expect("a writer").info().unwrap().written;
        for follower in &mut followers {
            for _ in 0..100 {
                follower.read(usize::MAX, written);
            }
            let info = follower.reader.mirror.info().unwrap();
            assert!(info.position == written || info.written == 0, "seed {seed}: {info:?}");
        }
    }
}
