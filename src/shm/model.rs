//! The protocols of shared memory under a model checker, which tries every order of loads and stores that the memory
//! model allows, stale values included. A fence that is left out must make a model fail: that is how one knows that the
//! model sees what the fence is for.

use std::cell::Cell;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::seqlock::{self, sequence};
use super::words::{Fence, ReadWords, WriteWords};
use super::{bell, laps};

/// Some words.
struct Model<const N: usize> {
    words: [AtomicU64; N],
    without: Option<Fence>,
}

impl<const N: usize> Model<N> {
    fn zeroed(without: Option<Fence>) -> Arc<Self> {
        Arc::new(Self { words: std::array::from_fn(|_| AtomicU64::new(0)), without })
    }
}

impl<const WORDS: usize> ReadWords for Model<WORDS> {
    type Error = Infallible;

    fn load<const N: usize>(&self, at: usize) -> Result<[u64; N], Infallible> {
        Ok(std::array::from_fn(|i| self.words[at + i].load(Ordering::Relaxed)))
    }

    fn acquire(&self, name: Fence) {
        if self.without != Some(name) {
            fence(Ordering::Acquire);
        }
    }
}

impl<const N: usize> WriteWords for Model<N> {
    fn store(&self, at: usize, value: u64) {
        self.words[at].store(value, Ordering::Relaxed);
    }

    fn release(&self, name: Fence) {
        if self.without != Some(name) {
            fence(Ordering::Release);
        }
    }

    fn order(&self, name: Fence) {
        if self.without != Some(name) {
            fence(Ordering::SeqCst);
        }
    }
}

/// Every word of update `n` is `n`, and its sequence is `2 n`.
fn check(memory: &Model<3>) -> Option<u32> {
    let Ok(whole) = seqlock::try_read::<2, _, _>(memory, 0, || ());
    let whole = whole?;
    let update = u64::from(sequence(whole.first) / 2);
    assert_eq!(whole.rest, [update; 2], "torn");
    Some(sequence(whole.first))
}

/// One writer, two updates, and a reader that looks twice, on a thread of its own or on that which starts the writer.
fn seqlock_without(without: Option<Fence>, reader_is_spawned: bool) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let memory = Model::<3>::zeroed(without);
        let writer = {
            let memory = memory.clone();
            move || {
                for update in 1..=2 {
                    seqlock::write(&*memory, 0, &[0, update, update]);
                }
            }
        };
        let reader = {
            let memory = memory.clone();
            move || {
                let earlier = check(&memory);
                let later = check(&memory);
                assert!(later.is_none() || earlier <= later, "back in time");
            }
        };
        if reader_is_spawned {
            let (writer, reader) = (thread::spawn(writer), thread::spawn(reader));
            writer.join().unwrap();
            reader.join().unwrap();
        } else {
            let writer = thread::spawn(writer);
            reader();
            writer.join().unwrap();
        }
        assert_eq!(check(&memory), Some(4), "the last update is there for who knows of its end");
    });
}

/// A ring of two frames, each of two words that are its number and one: claimed, committed, then the frames. One writes
/// three frames; one reads what there is.
fn laps_without(without: Option<Fence>) {
    const FRAMES: u64 = 2;
    let place = |frame: u64| 2 + 2 * (frame % FRAMES) as usize;
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let memory = Model::<6>::zeroed(without);
        let writer = {
            let memory = memory.clone();
            thread::spawn(move || {
                for frame in 0..3 {
                    laps::claim(&*memory, 0, frame + 1);
                    memory.store(place(frame), frame + 1);
                    memory.store(place(frame) + 1, frame + 1);
                    laps::commit(&*memory, 0, frame + 1, || ());
                }
            })
        };
        let Ok(committed) = laps::committed(&*memory, 0);
        for frame in committed.saturating_sub(FRAMES)..committed {
            let Ok(copy) = memory.load::<2>(place(frame));
            let Ok(claimed) = laps::claimed(&*memory, 0);
            if frame >= claimed.saturating_sub(FRAMES) {
                assert_eq!(copy, [frame + 1; 2], "torn");
            }
        }
        writer.join().unwrap();
    });
}

/// The number of the last event, the count, and the sleepers' word, which says that somebody has slept before. One rings
/// for two events; one goes to sleep unless it sees another than the first that it has seen.
fn bell_without(without: Option<Fence>) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let (memory, sleepers) = (Model::<2>::zeroed(without), Model::<1>::zeroed(without));
        sleepers.store(0, 1);
        let is_asleep = Arc::new(Mutex::new(false)); // as the kernel has it, which looks at the count under a lock
        let ringer = {
            let (memory, sleepers, is_asleep) = (memory.clone(), sleepers.clone(), is_asleep.clone());
            thread::spawn(move || {
                for event in 1..=2 {
                    memory.store(0, event);
                    if bell::strike(&*memory, 1, &*sleepers) {
                        *is_asleep.lock().unwrap() = false;
                    }
                }
            })
        };
        let Ok([first]) = memory.load(0);
        let count = bell::announce(&*memory, 1, &*sleepers);
        let Ok([event]) = memory.load(0);
        if event == first {
            let mut is_asleep = is_asleep.lock().unwrap();
            fence(Ordering::SeqCst); // the kernel's
            let Ok([now]) = memory.load(1);
            *is_asleep = now == u64::from(count);
        }
        ringer.join().unwrap();
        let Ok([last]) = memory.load(0);
        assert!(!*is_asleep.lock().unwrap() || last == first, "asleep for ever");
    });
}

/// What a model says when it fails, which it is expected to.
fn failure(model: impl FnOnce()) -> Option<String> {
    thread_local!(static EXPECTED: Cell<bool> = const { Cell::new(false) });
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !EXPECTED.get() {
                loud(info);
            }
        }));
    });
    EXPECTED.set(true);
    let result = catch_unwind(AssertUnwindSafe(model));
    EXPECTED.set(false);
    result.err().map(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().map_or_else(String::new, ToString::to_string),
    })
}

#[test]
fn a_reader_sees_whole_updates() {
    for reader_is_spawned in [false, true] {
        seqlock_without(None, reader_is_spawned);
    }
}

#[test]
fn a_copy_is_whole_or_known_not_to_be() {
    laps_without(None);
}

#[test]
fn a_sleeper_is_woken() {
    bell_without(None);
}

#[test]
fn no_fence_can_be_left_out() {
    use Fence::{
        Claim, Cleared, Commit, Committed, Copied, Counted, ReadBegin, ReadEnd, Ring, Sleep, WriteBegin, WriteEnd,
    };
    for fence in [WriteBegin, WriteEnd, ReadBegin, ReadEnd] {
        for reader_is_spawned in [false, true] {
            must_fail(fence, "torn", || seqlock_without(Some(fence), reader_is_spawned));
        }
    }
    for fence in [Claim, Commit, Committed, Copied] {
        must_fail(fence, "torn", || laps_without(Some(fence)));
    }
    for fence in [Ring, Sleep, Cleared, Counted] {
        must_fail(fence, "asleep for ever", || bell_without(Some(fence)));
    }
}

fn must_fail(without: Fence, because: &str, model: impl FnOnce()) {
    let failure = failure(model).unwrap_or_else(|| panic!("without {without:?} nothing is seen"));
    println!("without {without:?}: {}", failure.replace('\n', " "));
    assert!(failure.contains(because), "without {without:?}: {failure}");
}
