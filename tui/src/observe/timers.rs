//! When the timers of sleeps and time limits are due, by the process's own clock.

use super::addresses::AddressMap;
use super::stacks::Located;
use super::wait::is_switch;
use crate::decode::Python;
use crate::remote::word_at;

/// Longer heaps are cut.
const HEAP_LIMIT: usize = 1 << 16;

/// The timers of Eventlet's hubs. A timer does not know when it is due: its hub's heap does, in pairs of time and timer. It is
/// read only if somebody has begun to wait, and a long one not at every look.
#[derive(Debug, Default)]
pub struct HubTimers {
    /// Heaps read in this look.
    times: AddressMap<u64, AddressMap<u64, u64>>,
    /// For how many more looks a long heap is not read.
    rests: AddressMap<u64, usize>,
}

/// A heap of so many pairs is read at every look, one of twice as many at every other one.
const PAIRS_A_LOOK: usize = 512;
/// A heap is read again after so many looks, whatever its length.
const REST_LIMIT: usize = 10;

impl HubTimers {
    /// Forgets what was read.
    pub fn start_round(&mut self) {
        self.times.clear();
        self.rests.retain(|_, rest| {
            *rest = rest.saturating_sub(1);
            *rest > 0
        });
    }

    /// When a green thread's sleep, or the time limit of its wait for a descriptor, is due.
    pub fn due_s(&mut self, python: &Python<'_>, stack: &[Located]) -> Option<f64> {
        let inner = stack.iter().find(|located| !is_switch(located))?;
        let name = if inner.is_in("/eventlet/greenthread.py", "sleep") {
            "timer"
        } else if inner.is_in("/eventlet/hubs/__init__.py", "trampoline") {
            "t"
        } else {
            return None;
        };
        let (hub, timer) = (inner.local(python, "hub")?, inner.local(python, name)?);
        if !self.times.contains_key(&hub) {
            if self.rests.contains_key(&hub) {
                return None;
            }
            let times = read_heap(python, hub);
            self.rests.insert(hub, (times.len() / PAIRS_A_LOOK).clamp(1, REST_LIMIT));
            self.times.insert(hub, times);
        }
        python.number(*self.times.get(&hub)?.get(&timer)?)
    }
}

/// The times of a hub's timers, by timer.
fn read_heap(python: &Python<'_>, hub: u64) -> AddressMap<u64, u64> {
    const PAIR_BYTES: usize = 40;
    let lists = ["timers", "next_timers"].into_iter().filter_map(|name| python.attribute(hub, name));
    let pairs: Vec<u64> = lists.filter_map(|list| python.sequence(list, HEAP_LIMIT)).flatten().collect();
    let (records, read) = python.memory.records(&pairs, PAIR_BYTES);
    let pairs = records.chunks_exact(PAIR_BYTES).zip(read).filter(|(pair, is_read)| {
        *is_read && word_at(pair, 8) == python.interpreter.types.tuple && word_at(pair, 16) == 2
    });
    pairs.map(|(pair, _)| (word_at(pair, 32), word_at(pair, 24))).collect()
}

/// When the timer of `asyncio.sleep` is due; the chain is innermost first.
pub fn task_due_s(python: &Python<'_>, chain: &[Located]) -> Option<f64> {
    let sleep = chain.iter().find(|located| located.is_in("/asyncio/tasks.py", "sleep"))?;
    python.number(python.slot(sleep.local(python, "h")?, "_when")?)
}
