//! What waits to be sent: a queue of submissions for each connection, in one arena.
//!
//! A copied submission owns its bytes, a borrowed one knows where the caller keeps them. Either way the bytes stay
//! where they are until the submission is finished, which is what the kernel needs; that is why a queue is only ever
//! shortened by [`Outbox::advance`] and [`Outbox::fail`], when nothing of it is in the kernel's hands any more.

use super::error::{Error, Result};

/// A piece of memory to send; laid out as `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    base: *const u8,
    len: usize,
}

// SAFETY: an address and a length; whoever made it promised that the bytes outlive the send, on any thread.
#[allow(unsafe_code)]
unsafe impl Send for Segment {}

impl Segment {
    /// Names memory without touching it.
    pub fn new(base: *const u8, len: usize) -> Self {
        Self { base, len }
    }

    /// Its first byte.
    pub fn base(self) -> *const u8 {
        self.base
    }

    /// Its bytes.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there is nothing to send.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// What one send operation takes at most: 2 GiB is the kernel's limit.
const MAX_BYTES: usize = 1 << 30;
/// Memory that finished copies keep for the next ones.
const MAX_SPARE: usize = 4 << 20;
const NIL: u32 = u32::MAX;

/// The queue of one connection.
#[derive(Debug)]
pub(super) struct Queue {
    head: u32,
    tail: u32,
    /// Bytes not yet sent.
    pub(super) bytes: u64,
    /// Submissions, and those of them whose success is to be told.
    items: u32,
    pub(super) loud: u32,
}

/// What a submission costs beside its bytes, as the bounds on what is queued count it.
const ITEM_WEIGHT: u64 = 128;

impl Queue {
    pub(super) const fn new() -> Self {
        Self { head: NIL, tail: NIL, bytes: 0, items: 0, loud: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head == NIL
    }

    /// Bytes of memory that it stands for.
    pub(super) fn weight(&self) -> u64 {
        self.bytes + u64::from(self.items) * ITEM_WEIGHT
    }
}

/// How a submission is to be reported when it is finished.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    /// All its bytes.
    pub(super) len: u64,
    /// Only a failure is worth a completion.
    pub(super) quiet: bool,
    /// The bytes are the caller's, who waits for them.
    pub(super) borrowed: bool,
    /// A receive buffer to release, -1 for none.
    pub(super) release: i32,
}

#[derive(Debug)]
struct Item {
    next: u32,
    sent: u64,
    report: Report,
    copy: Vec<u8>,
    borrowed: Vec<Segment>,
}

#[derive(Debug)]
pub(super) struct Outbox {
    items: Vec<Item>,
    free: u32,
    /// Bytes and submissions of all queues.
    bytes: u64,
    queued: u64,
    spare: usize,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { items: Vec::new(), free: NIL, bytes: 0, queued: 0, spare: 0 }
    }

    /// Bytes of memory that all queues stand for.
    pub(super) fn weight(&self) -> u64 {
        self.bytes + self.queued * ITEM_WEIGHT
    }

    pub(super) fn push_copy(&mut self, queue: &mut Queue, bytes: &[u8], quiet: bool) -> Result<()> {
        let id = self.allocate()?;
        let item = &mut self.items[id as usize];
        if item.copy.try_reserve_exact(bytes.len()).is_err() {
            self.recycle(id);
            return Err(Error::out_of_memory("copying the bytes to send"));
        }
        item.copy.extend_from_slice(bytes);
        item.report = Report { len: bytes.len() as u64, quiet, borrowed: false, release: -1 };
        self.append(queue, id);
        Ok(())
    }

    pub(super) fn push_borrowed(
        &mut self,
        queue: &mut Queue,
        segments: &[Segment],
        quiet: bool,
        release: i32,
    ) -> Result<()> {
        let id = self.allocate()?;
        let item = &mut self.items[id as usize];
        if item.borrowed.try_reserve_exact(segments.len()).is_err() {
            self.recycle(id);
            return Err(Error::out_of_memory("copying the iovec array"));
        }
        item.borrowed.extend_from_slice(segments);
        let len = segments.iter().map(|segment| segment.len as u64).sum();
        item.report = Report { len, quiet, borrowed: true, release };
        self.append(queue, id);
        Ok(())
    }

    /// Lists what is to be sent next, in order, into `segments`; gives their number and their bytes.
    pub(super) fn gather(&self, queue: &Queue, segments: &mut [Segment]) -> (usize, u64) {
        let (mut count, mut total) = (0, 0usize);
        let mut id = queue.head;
        while id != NIL {
            let item = &self.items[id as usize];
            let mut skip = item.sent as usize;
            let copy = Segment::new(item.copy.as_ptr(), item.copy.len());
            let pieces = if item.report.borrowed { &item.borrowed[..] } else { std::slice::from_ref(&copy) };
            for piece in pieces {
                if skip >= piece.len {
                    skip -= piece.len;
                    continue;
                }
                let len = (piece.len - skip).min(MAX_BYTES - total);
                if count == segments.len() || len == 0 {
                    return (count, total as u64);
                }
                segments[count] = Segment::new(piece.base.wrapping_add(skip), len);
                count += 1;
                total += len;
                if len < piece.len - skip {
                    return (count, total as u64);
                }
                skip = 0;
            }
            id = item.next;
        }
        (count, total as u64)
    }

    /// Counts `bytes` more as sent.
    pub(super) fn progress(&mut self, queue: &mut Queue, bytes: u64) {
        let bytes = bytes.min(queue.bytes);
        queue.bytes -= bytes;
        self.bytes -= bytes;
        if queue.head != NIL {
            self.items[queue.head as usize].sent += bytes;
        }
    }

    /// Takes the first submission off if it is sent whole. What it had been given too much counts for the next.
    pub(super) fn advance(&mut self, queue: &mut Queue) -> Option<Report> {
        let item = self.items.get(queue.head as usize)?;
        let surplus = item.sent.checked_sub(item.report.len)?;
        let report = self.pop(queue);
        if let Some(next) = self.items.get_mut(queue.head as usize) {
            next.sent += surplus;
        }
        Some(report)
    }

    /// Takes the first submission off, sent or not.
    pub(super) fn fail(&mut self, queue: &mut Queue) -> Option<Report> {
        let item = self.items.get(queue.head as usize)?;
        let unsent = item.report.len - item.sent;
        queue.bytes -= unsent;
        self.bytes -= unsent;
        Some(self.pop(queue))
    }

    /// Whether the first submission is sent in part: the stream is of no use without the rest.
    pub(super) fn is_torn(&self, queue: &Queue) -> bool {
        self.items.get(queue.head as usize).is_some_and(|item| item.sent > 0)
    }

    fn pop(&mut self, queue: &mut Queue) -> Report {
        let id = queue.head;
        let item = &self.items[id as usize];
        let report = item.report;
        queue.items -= 1;
        queue.loud -= u32::from(!report.quiet);
        self.queued -= 1;
        queue.head = item.next;
        if queue.head == NIL {
            queue.tail = NIL;
        }
        self.recycle(id);
        report
    }

    fn append(&mut self, queue: &mut Queue, id: u32) {
        let report = self.items[id as usize].report;
        queue.items += 1;
        queue.loud += u32::from(!report.quiet);
        self.queued += 1;
        queue.bytes += report.len;
        self.bytes += report.len;
        match queue.tail {
            NIL => queue.head = id,
            tail => self.items[tail as usize].next = id,
        }
        queue.tail = id;
    }

    fn allocate(&mut self) -> Result<u32> {
        let Some(item) = self.items.get_mut(self.free as usize) else {
            self.items.try_reserve(1).map_err(|_| Error::out_of_memory("queueing a send"))?;
            let report = Report { len: 0, quiet: false, borrowed: false, release: -1 };
            self.items.push(Item { next: NIL, sent: 0, report, copy: Vec::new(), borrowed: Vec::new() });
            return Ok((self.items.len() - 1) as u32);
        };
        let id = self.free;
        self.free = item.next;
        self.spare -= item.copy.capacity();
        item.next = NIL;
        item.sent = 0;
        Ok(id)
    }

    fn recycle(&mut self, id: u32) {
        let item = &mut self.items[id as usize];
        item.copy.clear();
        item.borrowed.clear();
        if self.spare + item.copy.capacity() > MAX_SPARE {
            item.copy = Vec::new();
        }
        self.spare += item.copy.capacity();
        item.next = self.free;
        self.free = id;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &mut Outbox, queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| outbox.advance(queue)).map(|report| report.len).collect()
    }

    #[test]
    fn short_sends_finish_submissions_one_by_one() {
        let (mut outbox, mut queue) = (Outbox::new(), Queue::new());
        for text in ["hello", "", "brave", "new world"] {
            outbox.push_copy(&mut queue, text.as_bytes(), false).unwrap();
        }
        let mut segments = [Segment::new(std::ptr::null(), 0); 8];
        assert_eq!(outbox.gather(&queue, &mut segments), (3, 19));
        outbox.progress(&mut queue, 7);
        assert_eq!(drain(&mut outbox, &mut queue), [5, 0]);
        assert!(outbox.is_torn(&queue));
        assert_eq!(outbox.gather(&queue, &mut segments), (2, 12));
        assert_eq!(segments[0].len(), 3);
        outbox.progress(&mut queue, 12);
        assert_eq!(drain(&mut outbox, &mut queue), [5, 9]);
        assert!(queue.is_empty() && queue.bytes == 0 && outbox.bytes == 0);
    }

    #[test]
    fn failing_gives_the_bytes_back() {
        let (mut outbox, mut queue) = (Outbox::new(), Queue::new());
        let bytes = [7u8; 100];
        let halves = [Segment::new(bytes.as_ptr(), 60), Segment::new(bytes[60..].as_ptr(), 40)];
        outbox.push_borrowed(&mut queue, &halves, true, 3).unwrap();
        outbox.push_copy(&mut queue, &bytes, false).unwrap();
        outbox.progress(&mut queue, 70);
        let mut segments = [Segment::new(std::ptr::null(), 0); 8];
        let (count, total) = outbox.gather(&queue, &mut segments);
        assert_eq!((count, total, segments[0].base()), (2, 130, bytes[70..].as_ptr()));
        let first = outbox.fail(&mut queue).unwrap();
        assert!(first.borrowed && first.quiet && first.release == 3);
        assert!(outbox.fail(&mut queue).is_some() && outbox.fail(&mut queue).is_none());
        assert_eq!((queue.bytes, outbox.bytes), (0, 0));
    }

    #[test]
    fn finished_copies_lend_their_memory_to_the_next() {
        let (mut outbox, mut queue) = (Outbox::new(), Queue::new());
        outbox.push_copy(&mut queue, &[1; 4096], false).unwrap();
        let address = outbox.items[0].copy.as_ptr();
        outbox.fail(&mut queue);
        outbox.push_copy(&mut queue, &[2; 4000], false).unwrap();
        assert_eq!(outbox.items[0].copy.as_ptr(), address);
        assert_eq!(outbox.items.len(), 1);
    }
}
