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

    /// Reads records of `stride` bytes at each address into one buffer; `true` marks a record that was read.
    fn records(&self, addresses: &[u64], stride: usize) -> (Vec<u8>, Vec<bool>) {
        let mut bytes = vec![0; addresses.len() * stride];
        let mut requests: Vec<_> = addresses
            .iter()
            .zip(bytes.chunks_exact_mut(stride.max(1)))
            .map(|(&address, buffer)| Request::new(address, buffer))
            .collect();
        self.read_many(&mut requests);
        let read = requests.iter().map(|request| request.is_read).collect();
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
        let mut next = 0;
        while next < requests.len() {
            let rest = &mut requests[next..];
            let local: Vec<_> = rest
                .iter_mut()
                .map(|r| libc::iovec { iov_base: r.buffer.as_mut_ptr().cast(), iov_len: r.buffer.len() })
                .collect();
            let remote: Vec<_> = rest
                .iter()
                .map(|r| libc::iovec { iov_base: r.address as *mut _, iov_len: r.buffer.len() })
                .collect();
            let mut received = self.call(&local, &remote).unwrap_or(0);
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
}
