//! Matching Python threads with kernel threads.

use crate::decode::ThreadRecord;
use crate::remote::{Memory, Proc, int_at};
use std::collections::HashMap;

/// A kernel thread of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsThread {
    /// Its id as we see it.
    pub tid: i32,
    /// Its id in the process's own PID namespace.
    pub namespace_tid: i32,
    /// Its kernel name.
    pub name: String,
}

/// The kernel threads of a process.
pub fn os_threads(process: &Proc) -> Vec<OsThread> {
    let threads = process.threads().unwrap_or_default();
    threads
        .into_iter()
        .map(|tid| {
            let status = process.text(&format!("task/{tid}/status")).unwrap_or_default();
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let inner = field("NSpid:").and_then(|ids| ids.split_ascii_whitespace().last()?.parse().ok());
            OsThread {
                tid,
                namespace_tid: inner.unwrap_or(tid),
                name: field("Name:").unwrap_or_default().to_owned(),
            }
        })
        .collect()
}

/// Bytes of glibc's thread descriptor in which its thread id is looked for.
const DESCRIPTOR_BYTES: usize = 1024;
/// Where glibc has kept the id since 2.4 on x86-64.
const DESCRIPTOR_TID: usize = 720;

/// The kernel thread of each Python thread.
pub fn match_threads(
    memory: &dyn Memory,
    records: &[ThreadRecord],
    threads: &[OsThread],
) -> HashMap<u64, OsThread> {
    let by_id = |id: i64| threads.iter().find(|thread| i64::from(thread.namespace_tid) == id).cloned();
    records
        .iter()
        .filter_map(|record| {
            if record.native_id != 0 {
                return Some((record.state, by_id(record.native_id as i64)?));
            }
            // 3.10 keeps only the pthread handle, which is the address of glibc's descriptor.
            let descriptor = memory.bytes(record.handle, DESCRIPTOR_BYTES)?;
            let known = by_id(i64::from(int_at(&descriptor, DESCRIPTOR_TID)));
            let other =
                || (0..DESCRIPTOR_BYTES).step_by(4).find_map(|at| by_id(i64::from(int_at(&descriptor, at))));
            Some((record.state, known.or_else(other)?))
        })
        .collect()
}
