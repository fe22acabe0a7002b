//! CPython's small-object pools: finding all blocks of one size without reading the whole heap.
//!
//! `obmalloc` carves arenas into 16 KiB pools aligned to their size, each with a 48-byte header that says which block
//! size it serves. Reading the headers alone (0.3 % of the heap) and then only the pools of the wanted size finds a
//! few thousand objects in a heap of hundreds of megabytes within milliseconds.

use crate::remote::{Mapping, Memory, int_at, word_at};
use std::ops::RangeInclusive;

/// `POOL_SIZE` since 3.10 on 64-bit platforms.
pub const POOL_BYTES: u64 = 16 << 10;
const HEADER_BYTES: usize = 48;
/// `ALIGNMENT`.
const BLOCK_UNIT: u64 = 16;

/// Whether a mapping can hold Python objects: private, writable, and not a file or a thread's guard.
pub fn is_heap(mapping: &Mapping) -> bool {
    mapping.is_readable
        && mapping.is_writable
        && !mapping.is_shared
        && (mapping.path.is_empty() || mapping.path == "[heap]" || mapping.path.starts_with("[anon"))
}

/// The one block size of all pools that these addresses would belong to, if the headers make sense and a block starts at
/// each of them.
pub fn common_block_bytes(memory: &dyn Memory, addresses: &[u64]) -> Option<u64> {
    let pool_of = |address: u64| address & !(POOL_BYTES - 1);
    let mut pools: Vec<u64> = addresses.iter().copied().map(pool_of).collect();
    pools.sort_unstable();
    pools.dedup();
    let (headers, read) = memory.records(&pools, HEADER_BYTES);
    let mut sizes = headers.chunks_exact(HEADER_BYTES).map(header_block_bytes);
    let size = sizes.next().flatten().filter(|_| read.iter().all(|&is_read| is_read))?;
    let is_block = |address: u64| {
        (address - pool_of(address)).checked_sub(HEADER_BYTES as u64).is_some_and(|at| at % size == 0)
    };
    (sizes.all(|other| other == Some(size)) && addresses.iter().copied().all(is_block)).then_some(size)
}

fn header_block_bytes(header: &[u8]) -> Option<u64> {
    let (count, size_index) = (int_at(header, 0) as u32, int_at(header, 36) as u32);
    let (next, last) = (int_at(header, 40) as u32, int_at(header, 44) as u32);
    let limit = POOL_BYTES as u32;
    let size = (u64::from(size_index) + 1) * BLOCK_UNIT;
    let is_plausible = size_index < 32
        && count != 0
        && u64::from(count) <= POOL_BYTES / size
        && next <= limit + size as u32
        && last <= limit;
    is_plausible.then_some(size)
}

/// Addresses of blocks of one of these sizes whose first word `is_wanted` accepts.
pub fn blocks(
    memory: &dyn Memory,
    maps: &[Mapping],
    sizes: RangeInclusive<u64>,
    is_wanted: impl Fn(u64) -> bool,
) -> Vec<u64> {
    let pools: Vec<u64> = maps
        .iter()
        .filter(|mapping| is_heap(mapping))
        .flat_map(|mapping| {
            let start = mapping.start.next_multiple_of(POOL_BYTES);
            (start..mapping.end.saturating_sub(POOL_BYTES - 1)).step_by(POOL_BYTES as usize)
        })
        .collect();
    let mut found = Vec::new();
    for group in pools.chunks(4096) {
        let (headers, read) = memory.records(group, HEADER_BYTES);
        let wanted: Vec<(u64, u64)> = group
            .iter()
            .zip(headers.chunks_exact(HEADER_BYTES))
            .zip(read)
            .filter(|(_, is_read)| *is_read)
            .filter_map(|((&pool, header), _)| Some((pool, header_block_bytes(header)?)))
            .filter(|(_, size)| sizes.contains(size))
            .collect();
        for few in wanted.chunks(64) {
            let addresses: Vec<u64> = few.iter().map(|&(pool, _)| pool).collect();
            let (bytes, read) = memory.records(&addresses, POOL_BYTES as usize);
            for ((&(pool, size), bytes), is_read) in
                few.iter().zip(bytes.chunks_exact(POOL_BYTES as usize)).zip(read)
            {
                if is_read {
                    let offsets = (HEADER_BYTES..=(POOL_BYTES - size) as usize).step_by(size as usize);
                    found.extend(
                        offsets.filter(|&at| is_wanted(word_at(bytes, at))).map(|at| pool + at as u64),
                    );
                }
            }
        }
    }
    found
}

/// Addresses of all words in the heap that `is_wanted` accepts: the slow way, for heaps without pools.
pub fn words(memory: &dyn Memory, maps: &[Mapping], is_wanted: impl Fn(u64) -> bool) -> Vec<u64> {
    const CHUNK_BYTES: u64 = 1 << 20;
    let mut buffer = vec![0; CHUNK_BYTES as usize];
    let mut found = Vec::new();
    for mapping in maps.iter().filter(|mapping| is_heap(mapping)) {
        for start in (mapping.start..mapping.end).step_by(CHUNK_BYTES as usize) {
            let length = (mapping.end - start).min(CHUNK_BYTES) as usize;
            if memory.read(start, &mut buffer[..length]).is_none() {
                continue;
            }
            for (index, word) in buffer[..length].chunks_exact(8).enumerate() {
                if is_wanted(word.try_into().map_or(0, u64::from_le_bytes)) {
                    found.push(start + index as u64 * 8);
                }
            }
        }
    }
    found
}
