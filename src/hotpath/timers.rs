//! Deadlines, the earliest first, each removable: a binary heap whose entries know where they are.

/// Names a pending timer.
pub(super) type TimerId = u32;

#[derive(Debug)]
struct Timer<K> {
    deadline: u64,
    position: u32,
    what: K,
}

/// Pending timers of kind `K`.
#[derive(Debug)]
pub(super) struct Timers<K> {
    heap: Vec<TimerId>,
    timers: Vec<Timer<K>>,
    free: Vec<TimerId>,
}

impl<K: Copy> Timers<K> {
    pub(super) fn new() -> Self {
        Self { heap: Vec::new(), timers: Vec::new(), free: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<u64> {
        self.heap.first().map(|&id| self.timers[id as usize].deadline)
    }

    pub(super) fn insert(&mut self, deadline: u64, what: K) -> TimerId {
        let position = self.heap.len() as u32;
        let timer = Timer { deadline, position, what };
        let id = match self.free.pop() {
            Some(id) => {
                self.timers[id as usize] = timer;
                id
            }
            None => {
                self.timers.push(timer);
                (self.timers.len() - 1) as TimerId
            }
        };
        self.heap.push(id);
        self.rise(position as usize);
        id
    }

    pub(super) fn remove(&mut self, id: TimerId) {
        let position = self.timers[id as usize].position as usize;
        self.heap.swap_remove(position);
        if let Some(&moved) = self.heap.get(position) {
            self.timers[moved as usize].position = position as u32;
            self.rise(position);
            self.sink(self.timers[moved as usize].position as usize);
        }
        self.free.push(id);
    }

    /// Takes a timer whose deadline is at or before `now`.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<K> {
        let &id = self.heap.first()?;
        let timer = &self.timers[id as usize];
        if timer.deadline > now {
            return None;
        }
        let what = timer.what;
        self.remove(id);
        Some(what)
    }

    fn deadline_at(&self, position: usize) -> u64 {
        self.timers[self.heap[position] as usize].deadline
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.timers[self.heap[a] as usize].position = a as u32;
        self.timers[self.heap[b] as usize].position = b as u32;
    }

    fn rise(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.deadline_at(parent) <= self.deadline_at(at) {
                break;
            }
            self.swap(parent, at);
            at = parent;
        }
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let children = (2 * at + 1..2 * at + 3).filter(|&child| child < self.heap.len());
            let Some(least) = children.min_by_key(|&child| self.deadline_at(child)) else { break };
            if self.deadline_at(at) <= self.deadline_at(least) {
                break;
            }
            self.swap(at, least);
            at = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_in_order_whatever_was_removed() {
        let mut timers = Timers::new();
        let mut seed = 1u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            seed >> 33
        };
        let mut kept = Vec::new();
        let mut ids = Vec::new();
        for what in 0..2_000u64 {
            let deadline = random() % 500;
            ids.push((timers.insert(deadline, what), deadline, what));
            if random() % 3 == 0 {
                let victim = ids.swap_remove(random() as usize % ids.len());
                timers.remove(victim.0);
            }
        }
        kept.extend(ids.iter().map(|&(_, deadline, what)| (deadline, what)));
        kept.sort_unstable();
        let mut came = Vec::new();
        for now in 0..500 {
            assert!(timers.next().is_none_or(|next| next >= now));
            let mut due: Vec<_> = std::iter::from_fn(|| timers.pop_due(now)).collect();
            due.sort_unstable();
            came.extend(due.into_iter().map(|what| (now, what)));
        }
        assert_eq!(came, kept);
        assert!(timers.is_empty());
    }
}
