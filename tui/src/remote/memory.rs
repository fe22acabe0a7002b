//! Another process's memory, read in batches.
//!
//! Everything above this file sees the [`Memory`] trait only, so the decoder can be fed a damaged image in a test
//! as well as a live process.

use std::cell::Cell;
use std::io;

/// One range to read, and whether it could be read.
#[derive(Debug)]
pub struct Request<'a> {
    /// Where the range starts in the other process.
    pub address: u64,
    /// Receives the bytes.
    pub buffer: &'a mut [u8],
    /// Set by [`Memory::read_many`]: the whole range was read.
    pub is_read: bool,
}

impl<'a> Request<'a> {
    /// Asks for `buffer.len()` bytes at `address`.
    pub fn new(address: u64, buffer: &'a mut [u8]) -> Self {
        Self { address, buffer, is_read: false }
    }
}

/// Bytes at addresses of another process.
pub trait Memory {
    /// Fills every request that can be filled whole and marks it; the others are left unmarked.
    fn read_many(&self, requests: &mut [Request<'_>]);

    /// What was asked for so far belongs together; what comes next may be of a later moment.
    fn turn_to_next(&self) {}

    /// Reads one range, or says that it cannot be read whole.
    fn read(&self, address: u64, buffer: &mut [u8]) -> Option<()> {
        let mut request = [Request::new(address, buffer)];
        self.read_many(&mut request);
        request[0].is_read.then_some(())
    }

    /// Reads one 64-bit word.
    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Some(u64::from_le_bytes(bytes))
    }

    /// Reads a range into a new buffer; `length` is bounded by the caller.
    fn bytes(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read(address, &mut bytes)?;
        Some(bytes)
    }

    /// Reads records of `stride` bytes and hands on each that was read, with its index; in no order.
    fn for_each_record(&self, addresses: &[u64], stride: usize, take: &mut dyn FnMut(usize, &[u8])) {
        let mut bytes = vec![0; addresses.len() * stride];
        let mut requests: Vec<_> = addresses
            .iter()
            .zip(bytes.chunks_exact_mut(stride.max(1)))
            .map(|(&address, buffer)| Request::new(address, buffer))
            .collect();
        self.read_many(&mut requests);
        for (index, request) in requests.iter().enumerate().filter(|(_, request)| request.is_read) {
            take(index, request.buffer);
        }
    }

    /// Reads records of `stride` bytes at each address into one buffer; `true` marks a record that was read.
    fn records(&self, addresses: &[u64], stride: usize) -> (Vec<u8>, Vec<bool>) {
        let (mut bytes, mut read) = (vec![0; addresses.len() * stride], vec![false; addresses.len()]);
        self.for_each_record(addresses, stride, &mut |index, record| {
            bytes[index * stride..][..stride].copy_from_slice(record);
            read[index] = true;
        });
        (bytes, read)
    }
}

/// Reads a little-endian word inside a record that was read before; zero beyond its end.
pub fn word_at(record: &[u8], offset: usize) -> u64 {
    record
        .get(offset..offset.saturating_add(8))
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

/// Reads a little-endian 32-bit integer inside a record; zero beyond its end.
pub fn int_at(record: &[u8], offset: usize) -> i32 {
    record
        .get(offset..offset.saturating_add(4))
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, i32::from_le_bytes)
}

/// What reading has cost so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ReadCost {
    /// `process_vm_readv` calls.
    pub calls: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Ranges that could not be read.
    pub refused: u64,
}

/// The memory of a live process, through `process_vm_readv` (Linux 3.2); it neither stops nor changes the process.
#[derive(Debug)]
pub struct ProcessMemory {
    pid: i32,
    cost: Cell<ReadCost>,
}

/// `IOV_MAX` on Linux: one call takes at most this many ranges on either side.
const RANGES_PER_CALL: usize = 1024;
/// So many pages of records are read at a time: they have room in the processor's cache.
const RANGES_PER_BATCH: usize = 128;
/// So many requests are described on the stack.
const FEW: usize = 4;
const NO_RANGE: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

impl ProcessMemory {
    /// Names the process to read; nothing is read yet.
    pub fn new(pid: i32) -> Self {
        Self { pid, cost: Cell::default() }
    }

    /// What reading has cost so far.
    pub fn cost(&self) -> ReadCost {
        self.cost.get()
    }

    /// Reads one word, keeping the reason of a refusal.
    pub fn probe(&self, address: u64) -> io::Result<()> {
        let mut bytes = [0_u8; 8];
        let local = [libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }];
        let remote = [libc::iovec { iov_base: address as *mut _, iov_len: bytes.len() }];
        self.call(&local, &remote).map(drop)
    }

    fn call(&self, local: &[libc::iovec], remote: &[libc::iovec]) -> io::Result<usize> {
        // SAFETY: every local range is a live `&mut [u8]` that our caller holds until this synchronous call returns,
        // and each is used once; remote addresses are only interpreted by the kernel in the other process.
        let count = unsafe {
            libc::process_vm_readv(
                self.pid,
                local.as_ptr(),
                local.len() as libc::c_ulong,
                remote.as_ptr(),
                remote.len() as libc::c_ulong,
                0,
            )
        };
        let mut cost = self.cost.get();
        cost.calls += 1;
        cost.bytes += count.max(0) as u64;
        self.cost.set(cost);
        if count < 0 { Err(io::Error::last_os_error()) } else { Ok(count as usize) }
    }

    fn read_chunk(&self, requests: &mut [Request<'_>]) {
        // The watcher's look at one thread needs no memory of the heap.
        let mut few = [NO_RANGE; 2 * FEW];
        let mut many = Vec::new();
        let ranges = if requests.len() <= FEW {
            &mut few[..]
        } else {
            many.resize(2 * requests.len(), NO_RANGE);
            &mut many[..]
        };
        let mut next = 0;
        while next < requests.len() {
            let rest = &mut requests[next..];
            let (local, remote) = ranges[..2 * rest.len()].split_at_mut(rest.len());
            for ((request, local), remote) in rest.iter_mut().zip(&mut *local).zip(&mut *remote) {
                local.iov_base = request.buffer.as_mut_ptr().cast();
                remote.iov_base = request.address as *mut _;
                (local.iov_len, remote.iov_len) = (request.buffer.len(), request.buffer.len());
            }
            let mut received = self.call(local, remote).unwrap_or(0);
            // The kernel stops at the first range it cannot read: what precedes it is whole, it is not, and the
            // ranges behind it have not been tried.
            for request in rest.iter_mut() {
                next += 1;
                if received < request.buffer.len() {
                    let mut cost = self.cost.get();
                    cost.refused += 1;
                    self.cost.set(cost);
                    break;
                }
                received -= request.buffer.len();
                request.is_read = true;
            }
        }
    }
}

impl Memory for ProcessMemory {
    fn read_many(&self, requests: &mut [Request<'_>]) {
        for chunk in requests.chunks_mut(RANGES_PER_CALL) {
            self.read_chunk(chunk);
        }
    }

    /// A range costs the kernel more than its bytes do: records on one page, as objects of one size are, become one.
    fn for_each_record(&self, addresses: &[u64], stride: usize, take: &mut dyn FnMut(usize, &[u8])) {
        let mut order: Vec<usize> = (0..addresses.len()).collect();
        order.sort_unstable_by_key(|&index| addresses[index]);
        let ranges = page_ranges(&order, addresses, stride as u64);
        let mut members = order.iter();
        let mut gathered = Vec::new();
        for batch in ranges.chunks(RANGES_PER_BATCH) {
            gathered.resize(batch.iter().map(|range| range.length).sum(), 0);
            let mut rest = gathered.as_mut_slice();
            let mut requests = Vec::with_capacity(batch.len());
            for range in batch {
                let (buffer, behind) = rest.split_at_mut(range.length);
                requests.push(Request::new(range.start, buffer));
                rest = behind;
            }
            self.read_many(&mut requests);
            for (range, request) in batch.iter().zip(&requests) {
                for &index in members.by_ref().take(range.members).filter(|_| request.is_read) {
                    let at = (addresses[index] - range.start) as usize;
                    take(index, &request.buffer[at..at + stride]);
                }
            }
        }
    }
}

/// Records that are read as one range.
#[derive(Debug, PartialEq, Eq)]
struct PageRange {
    start: u64,
    length: usize,
    members: usize,
}

const PAGE_BYTES: u64 = 4096;

/// Joins records, in the order of their addresses, that end on the page they start on: what can be read of one, can
/// be read of all. A record that crosses a page's end stays alone.
fn page_ranges(order: &[usize], addresses: &[u64], stride: u64) -> Vec<PageRange> {
    let mut ranges: Vec<PageRange> = Vec::new();
    for &index in order {
        let address = addresses[index];
        // An address at the very end of the address space leads nowhere, and must not be added to.
        if let (Some(range), Some(end)) = (ranges.last_mut(), address.checked_add(stride))
            && end - 1 <= range.start | (PAGE_BYTES - 1)
        {
            range.length = range.length.max((end - range.start) as usize);
            range.members += 1;
        } else {
            ranges.push(PageRange { start: address, length: stride as usize, members: 1 });
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_one_page_are_one_range_and_those_across_a_border_stay_alone() {
        let addresses = [0x3ff8, 0x1010, 0x1000, 0x4000, 0x1010];
        let order = [2, 1, 4, 0, 3];
        let ranges = page_ranges(&order, &addresses, 16);
        let range = |start, length, members| PageRange { start, length, members };
        assert_eq!(ranges, [range(0x1000, 32, 3), range(0x3ff8, 16, 1), range(0x4000, 16, 1)]);
    }

    #[test]
    fn gathered_records_come_back_in_the_order_they_were_asked_for() {
        let words: Vec<u64> = (0..2000).collect();
        let start = words.as_ptr() as u64;
        let mut addresses: Vec<u64> = (0..2000).rev().map(|index| start + index * 8).collect();
        addresses[7] = 16;
        addresses[8] = u64::MAX - 9;
        addresses[9] = u64::MAX - 1;
        let memory = ProcessMemory::new(std::process::id() as i32);
        let (bytes, read) = memory.records(&addresses, 8);
        let unread: Vec<usize> = (0..2000).filter(|&index| !read[index]).collect();
        assert_eq!(unread, [7, 8, 9]);
        for (index, word) in bytes.chunks_exact(8).enumerate().filter(|&(index, _)| read[index]) {
            assert_eq!(word_at(word, 0), 1999 - index as u64);
        }
        assert!(memory.cost().calls < 6, "{:?}", memory.cost());
    }
}
