//! Which native libraries a thread is inside of, from the return addresses on its C stack.
//!
//! There is no unwinding: every word between two stack addresses that points into executable code counts. Stale words
//! of earlier calls look the same, so what is concluded from this is labelled inferred.

use super::elf::Symbols;
use super::memory::{Memory, word_at};
use super::procfs::{Mapping, Proc, mapping_of};
use super::target::file_of;
use std::ops::Range;

/// Stack bytes looked at.
const SCAN_BYTES: u64 = 16 << 10;

/// Executable mappings, and the ranges of libc's resolver functions.
#[derive(Debug, Default)]
pub struct NativeCode {
    maps: Vec<Mapping>,
    resolver: Vec<Range<u64>>,
}

impl NativeCode {
    /// Reads the mappings and libc's symbols.
    pub fn read(process: &Proc) -> Self {
        let all = process.maps().unwrap_or_default();
        const RESOLVER: [&str; 4] = ["getaddrinfo", "gethostbyname_r", "gethostbyname2_r", "gethostbyaddr_r"];
        let libc =
            all.iter().find(|mapping| mapping.offset == 0 && base_name(&mapping.path).starts_with("libc.so"));
        let resolver = libc
            .and_then(|mapping| {
                let symbols =
                    Symbols::of_file(&file_of(process, mapping), |name| RESOLVER.contains(&name)).ok()?;
                Some(RESOLVER.iter().filter_map(|name| symbols.range(name, mapping.start)).collect())
            })
            .unwrap_or_default();
        Self { maps: all.into_iter().filter(|mapping| mapping.is_executable).collect(), resolver }
    }

    /// The libraries on the stack between `from` and `to`, nearest to `from` first, each once; and whether libc's
    /// resolver is among the callers.
    pub fn libraries(&self, memory: &dyn Memory, from: u64, to: u64) -> (Vec<&str>, bool) {
        let length = to.saturating_sub(from).min(SCAN_BYTES) & !7;
        let mut libraries: Vec<&str> = Vec::new();
        let mut is_resolving = false;
        let Some(bytes) = memory.bytes(from & !7, length as usize) else { return (libraries, false) };
        for word in bytes.chunks_exact(8).map(|word| word_at(word, 0)) {
            let Some(mapping) = mapping_of(&self.maps, word) else { continue };
            is_resolving |= self.resolver.iter().any(|range| range.contains(&word));
            let name = base_name(&mapping.path);
            if !is_plumbing(name) && !libraries.contains(&name) {
                libraries.push(name);
            }
        }
        (libraries, is_resolving)
    }
}

/// The C library, the interpreter and greenlet are on every stack and say nothing.
fn is_plumbing(name: &str) -> bool {
    const PREFIXES: [&str; 8] =
        ["_greenlet.", "libc.so", "libc-", "ld-linux", "libpython", "python", "[vdso]", "libpthread"];
    name.is_empty() || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
