//! What a closer look at a blocked thread found: facts only, so that judging them needs no process.

use crate::remote::Activity;
use crate::state::Frame;
use std::sync::Arc;

/// A descriptor in the call that blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The descriptor.
    pub fd: i32,
    /// Where its link leads.
    pub link: String,
    /// Peer or path.
    pub target: String,
}

/// One closer look.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// What the thread was doing.
    pub activity: Activity,
    /// Its innermost frames first; only those needed to judge may be present.
    pub stack: Vec<Arc<Frame>>,
    /// The descriptor of the call.
    pub descriptor: Option<Descriptor>,
    /// Descriptors in the array of a `poll`, or zero.
    pub polled: u64,
    /// A path given to the call.
    pub path: Option<String>,
    /// Libraries between the system call and the interpreter loop, nearest to the call first.
    pub libraries: Vec<String>,
    /// libc's resolver is among the callers.
    pub is_resolving: bool,
    /// A futex of the GIL.
    pub is_on_gil: bool,
    /// The garbage collector runs.
    pub is_collecting: bool,
}

impl Evidence {
    /// The innermost frame.
    pub fn top(&self) -> Option<&Arc<Frame>> {
        self.stack.first()
    }

    /// Whether one of the innermost `depth` frames is in a file that contains `file`, in any function or in `function`.
    pub fn has_frame(&self, depth: usize, file: &str, function: Option<&str>) -> bool {
        self.stack.iter().take(depth).any(|frame| {
            frame.file.contains(file)
                && function.is_none_or(|name| frame.function.rsplit('.').next() == Some(name))
        })
    }

    /// Whether a library's name contains one of these.
    pub fn library(&self, names: &[&str]) -> Option<&str> {
        self.libraries
            .iter()
            .map(String::as_str)
            .find(|library| names.iter().any(|name| library.contains(name)))
    }
}
