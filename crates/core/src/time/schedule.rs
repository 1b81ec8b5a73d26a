//! What falls due when: a number and a time each, in a 4-ary heap that tidies up late.
//!
//! The rule: the earliest time is known exactly when it is asked for, and what is not the earliest
//! yet costs as little as can be. Every armed number has one node in the heap that says its time or
//! an earlier one. To move later, or to disarm, is one store; the node is put right when it comes to
//! the top. To move earlier adds a node, and the one before it is waste. So arming touches the end
//! of the heap, which is in the cache, and moving and disarming touch no heap at all: where a
//! million are armed, that is the difference between one cache miss and five.
//!
//! Waste is swept a few nodes at a time, so the heap stays below about twice what is armed and no
//! call takes long. Arming, moving, disarming and taking what is due cost O(log n), amortized.

pub(crate) struct Schedule<W> {
    heap: Vec<Node>,
    states: Vec<State<W>>,
    /// Numbers that are armed.
    armed: usize,
    /// Counts the armings: those of one moment fall due in their order (until 2^32 of them lie
    /// between two).
    sequence: u32,
    /// Nodes that became waste since the last sweep.
    wasted: usize,
    /// The sweep goes down from here.
    cursor: usize,
}

/// Something that fell due, and by which of its armings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Due<W> {
    pub(crate) whose: W,
    pub(crate) at: u64,
    sequence: u32,
}

#[derive(Clone, Copy)]
struct Node {
    at: u64,
    sequence: u32,
    id: u32,
}

/// All that moving or disarming touches, in one line of the cache.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct State<W> {
    at: u64,
    /// The time in the number's node, which is never later than `at`.
    node_at: u64,
    sequence: u32,
    /// The sequence in the number's node; other nodes of this number are waste.
    node: u32,
    whose: Option<W>,
}

const ARITY: usize = 4;
/// The `at` of what is not armed and the `node_at` of what has no node.
const NONE: u64 = u64::MAX;
/// Nodes that are wasted from one sweep to the next, and those that a sweep looks at: at two to
/// one, waste does not pass half of the heap.
const SWEEP_EVERY: usize = 64;
const SWEEP: usize = 2 * SWEEP_EVERY;

impl<W: Copy> Schedule<W> {
    /// Room for `id` to be given and armed; false when there is no memory for it.
    #[must_use]
    pub(crate) fn make_room(&mut self, id: u32) -> bool {
        let all = id as usize + 1;
        let states = all.saturating_sub(self.states.len());
        // Without waste, the heap has at most one node for each number.
        let nodes = all.saturating_sub(self.heap.len());
        self.states.try_reserve(states).is_ok() && self.heap.try_reserve(nodes).is_ok()
    }

    /// Gives `id`, for which there is room, to somebody; not armed. Numbers should be small: there
    /// is a table of them.
    #[inline]
    pub(crate) fn give(&mut self, id: u32, whose: W) {
        if self.states.len() <= id as usize {
            self.states.resize(id as usize + 1, State::EMPTY);
        }
        self.states[id as usize].whose = Some(whose);
    }

    /// Disarms `id` and takes it from whom it was given to.
    #[inline]
    pub(crate) fn take_back(&mut self, id: u32) {
        self.disarm(id);
        if let Some(state) = self.states.get_mut(id as usize) {
            state.whose = None;
        }
    }

    /// Whom `id` was given to.
    #[inline]
    pub(crate) fn whose(&self, id: u32) -> Option<W> {
        self.states.get(id as usize)?.whose
    }

    /// Arms `id`, or moves it, to fall due at `at`; nothing when it was given to nobody.
    #[inline]
    pub(crate) fn arm(&mut self, id: u32, at: u64) {
        let given = |state: &&mut State<W>| state.whose.is_some();
        let Some(state) = self.states.get_mut(id as usize).filter(given) else {
            return;
        };
        let at = at.min(NONE - 1);
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.armed += usize::from(state.at == NONE);
        (state.at, state.sequence) = (at, sequence);
        if at >= state.node_at {
            return; // Its node comes to the top in time to be moved.
        }
        let had_node = state.node_at != NONE;
        (state.node_at, state.node) = (at, sequence);
        let node = Node { at, sequence, id };
        if self.heap.len() == self.heap.capacity() && self.heap.try_reserve(1).is_err() {
            self.sweep_all();
        }
        self.heap.push(node);
        self.sift_up(self.heap.len() - 1, node);
        if had_node {
            self.waste();
        }
    }

    /// When `id` falls due; `None` while it is not armed.
    #[inline]
    pub(crate) fn at(&self, id: u32) -> Option<u64> {
        let at = self.states.get(id as usize)?.at;
        (at != NONE).then_some(at)
    }

    /// From now on `id` does not fall due, until it is armed again.
    #[inline]
    pub(crate) fn disarm(&mut self, id: u32) {
        let Some(state) = self.states.get_mut(id as usize) else {
            return;
        };
        if state.at != NONE {
            state.at = NONE;
            self.armed -= 1;
            self.waste();
        }
    }

    /// When the earliest falls due.
    pub(crate) fn earliest(&mut self) -> Option<u64> {
        self.settle_top();
        self.heap.first().map(|node| node.at)
    }

    /// Disarms the earliest if it is due at `now`, and returns it.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<Due<W>> {
        if self.heap.first()?.at > now {
            return None;
        }
        self.settle_top();
        let first = *self.heap.first()?;
        if first.at > now {
            return None;
        }
        let state = &mut self.states[first.id as usize];
        state.at = NONE;
        let whose = state.whose;
        self.armed -= 1;
        self.drop_node(0);
        let (at, sequence) = (first.at, first.sequence);
        whose.map(|whose| Due {
            whose,
            at,
            sequence,
        })
    }

    /// `id` was not armed again since it fell due.
    pub(crate) fn rests_since(&self, id: u32, due: &Due<W>) -> bool {
        let state = self.states.get(id as usize);
        state.is_some_and(|state| state.at == NONE && state.sequence == due.sequence)
    }

    /// Makes the top of the heap one that is armed for just that time.
    fn settle_top(&mut self) {
        while let Some(&top) = self.heap.first() {
            if self.is_waste(top) {
                self.drop_node(0);
                continue;
            }
            let state = &mut self.states[top.id as usize];
            if state.sequence == top.sequence {
                return;
            }
            (state.node_at, state.node) = (state.at, state.sequence);
            let moved = Node {
                at: state.at,
                sequence: state.sequence,
                id: top.id,
            };
            self.sift_down(0, moved);
        }
    }

    #[inline]
    fn is_waste(&self, node: Node) -> bool {
        let state = &self.states[node.id as usize];
        (state.node != node.sequence) | (state.at == NONE)
    }

    #[inline]
    fn waste(&mut self) {
        self.wasted += 1;
        if self.wasted >= SWEEP_EVERY {
            self.wasted = 0;
            self.sweep();
        }
    }

    /// Looks at the next nodes, from the end of the heap to its beginning and over again, and drops
    /// those that are waste; none while there is little of it.
    #[inline(never)]
    fn sweep(&mut self) {
        if self.heap.len() < self.armed + self.armed / 2 + SWEEP {
            return;
        }
        if self.cursor == 0 || self.cursor > self.heap.len() {
            self.cursor = self.heap.len();
        }
        let start = self.cursor.saturating_sub(SWEEP);
        // Looked at before any is dropped, since these loads need not wait for one another.
        let mut is_waste = [false; SWEEP];
        for (is_waste, node) in is_waste.iter_mut().zip(&self.heap[start..self.cursor]) {
            *is_waste = self.is_waste(*node);
        }
        for position in (start..self.cursor).rev() {
            // Dropping one may have brought another to this place.
            if is_waste[position - start]
                && let Some(node) = self.heap.get(position)
                && self.is_waste(*node)
            {
                self.drop_node(position);
            }
        }
        self.cursor = start;
    }

    /// Drops all that is waste: there is no memory for it.
    #[cold]
    fn sweep_all(&mut self) {
        for position in (0..self.heap.len()).rev() {
            if let Some(node) = self.heap.get(position)
                && self.is_waste(*node)
            {
                self.drop_node(position);
            }
        }
    }

    fn drop_node(&mut self, position: usize) {
        let node = self.heap[position];
        let state = &mut self.states[node.id as usize];
        if state.node == node.sequence {
            state.node_at = NONE;
        }
        let Some(last) = self.heap.pop() else { return };
        if position == self.heap.len() {
            return;
        }
        if before(&last, &node) {
            self.sift_up(position, last);
        } else {
            self.sift_down(position, last);
        }
    }

    fn sift_up(&mut self, mut position: usize, node: Node) {
        while position > 0 {
            let parent = (position - 1) / ARITY;
            if !before(&node, &self.heap[parent]) {
                break;
            }
            self.heap[position] = self.heap[parent];
            position = parent;
        }
        self.heap[position] = node;
    }

    fn sift_down(&mut self, mut position: usize, node: Node) {
        loop {
            let first = position * ARITY + 1;
            let last = (first + ARITY).min(self.heap.len());
            if first >= last {
                break;
            }
            let mut least = first;
            for child in first + 1..last {
                if before(&self.heap[child], &self.heap[least]) {
                    least = child;
                }
            }
            if !before(&self.heap[least], &node) {
                break;
            }
            self.heap[position] = self.heap[least];
            position = least;
        }
        self.heap[position] = node;
    }
}

impl<W> Default for Schedule<W> {
    fn default() -> Self {
        Self {
            heap: Vec::new(),
            states: Vec::new(),
            armed: 0,
            sequence: 0,
            wasted: 0,
            cursor: 0,
        }
    }
}

impl<W> State<W> {
    const EMPTY: Self = Self {
        at: NONE,
        node_at: NONE,
        sequence: 0,
        node: 0,
        whose: None,
    };
}

fn before(a: &Node, b: &Node) -> bool {
    a.at < b.at || (a.at == b.at && (a.sequence.wrapping_sub(b.sequence) as i32) < 0)
}

#[cfg(test)]
mod tests;
