//! The names that Python's threading module has for threads.

use super::addresses::AddressMap;
use crate::decode::{Python, ThreadRecord};
use crate::state::Thread;

/// A thread that is just starting, or of which threading knows nothing, is looked for this often.
const TRIES: u8 = 4;

#[derive(Debug, Default)]
struct Known {
    name: Option<String>,
    tries: u8,
}

/// Names by thread state and pthread handle, each read once: to rename a running thread is rare.
#[derive(Debug, Default)]
pub struct ThreadNames {
    known: AddressMap<u64, (u64, Known)>,
}

impl ThreadNames {
    /// Gives the threads of a look their names.
    pub fn fill(&mut self, python: &Python<'_>, records: &[ThreadRecord], threads: &mut [Thread]) {
        self.known.retain(|state, (handle, _)| {
            records.iter().any(|record| record.state == *state && record.handle == *handle)
        });
        for record in records {
            self.known.entry(record.state).or_insert((record.handle, Known::default()));
        }
        let is_open = |known: &Known| known.name.is_none() && known.tries < TRIES;
        if self.known.values().any(|(_, known)| is_open(known)) {
            let names = active_names(python);
            for (handle, known) in self.known.values_mut().filter(|(_, known)| is_open(known)) {
                known.tries += 1;
                known.name =
                    names.get(handle).and_then(|&thread| python.string(python.attribute(thread, "_name")?));
            }
        }
        for thread in threads {
            thread.python_name = self.known.get(&thread.state).and_then(|(_, known)| known.name.clone());
        }
    }
}

/// `threading._active` by pthread handle; Eventlet keeps the module that it has not patched beside the one it has.
fn active_names(python: &Python<'_>) -> AddressMap<u64, u64> {
    let modules = python.modules().and_then(|modules| python.items(modules)).unwrap_or_default();
    let modules = modules.into_iter().filter(|(name, _)| name.ends_with("threading"));
    let active = modules.filter_map(|(_, module)| python.lookup(python.module_dict(module)?, "_active"));
    let entries = active.filter_map(|threads| python.entries(threads)).flatten();
    entries.filter_map(|(key, thread)| Some((u64::try_from(python.integer(key)?).ok()?, thread))).collect()
}
