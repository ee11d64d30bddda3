//! The protocols of shared memory under a model checker, which tries every order of loads and stores that the memory
//! model allows, stale values included. A fence that is left out must make a model fail: that is how one knows that the
//! model sees what the fence is for.

use std::cell::Cell;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;

use super::seqlock::{self, sequence};
use super::words::{Fence, ReadWords, WriteWords};

/// A sequence and two words.
struct Model {
    words: [AtomicU64; 3],
    without: Option<Fence>,
}

impl ReadWords for Model {
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

impl WriteWords for Model {
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
fn check(memory: &Model) -> Option<u32> {
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
        let memory = Arc::new(Model { words: std::array::from_fn(|_| AtomicU64::new(0)), without });
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
    result.err().map(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
}

#[test]
fn a_reader_sees_whole_updates() {
    for reader_is_spawned in [false, true] {
        seqlock_without(None, reader_is_spawned);
    }
}

#[test]
fn no_fence_can_be_left_out() {
    for fence in [Fence::WriteBegin, Fence::WriteEnd, Fence::ReadBegin, Fence::ReadEnd] {
        for reader_is_spawned in [false, true] {
            let failure = failure(|| seqlock_without(Some(fence), reader_is_spawned));
            let failure = failure.unwrap_or_else(|| panic!("without {fence:?} nothing is seen"));
            println!("without {fence:?}: {}", failure.replace('\n', " "));
            assert!(failure.contains("torn"), "without {fence:?}: {failure}");
        }
    }
}
