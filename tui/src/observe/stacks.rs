//! From raw frames to places in source code.

use crate::decode::{Code, CodeCache, Python, RawFrame};
use crate::state::Frame;
use std::collections::HashMap;
use std::sync::Arc;

/// A frame with its code.
#[derive(Debug, Clone)]
pub struct Located {
    /// As it was read.
    pub raw: RawFrame,
    /// Its code.
    pub code: Arc<Code>,
    /// Its place.
    pub frame: Arc<Frame>,
}

impl Located {
    /// Whether the frame runs a function of a file that ends like this.
    pub fn is_in(&self, file: &str, function: &str) -> bool {
        &*self.code.name == function && self.code.file.ends_with(file)
    }

    /// The value of a local variable.
    pub fn local(&self, python: &Python<'_>, name: &str) -> Option<u64> {
        self.code.local_slots(name).find_map(|slot| python.local(self.raw.address, slot))
    }
}

/// Places by code and instruction, kept from look to look.
#[derive(Debug, Default)]
pub struct Stacks {
    codes: CodeCache,
    places: HashMap<(u64, u64), (Arc<Code>, Arc<Frame>)>,
}

/// Places kept before the cache is emptied: a bound on memory in a process that makes code without end.
const PLACES_LIMIT: usize = 1 << 17;

impl Stacks {
    /// Starts a closer look at one stack: each code object is verified again on its first use.
    pub fn start_round(&mut self) {
        self.codes.start_round();
        self.bound();
    }

    /// Starts a look at everything: all known code objects are verified. What was decoded holds good while the number
    /// returned stays the same.
    pub fn verify(&mut self, python: &Python<'_>) -> u64 {
        self.bound();
        self.codes.verify(python)
    }

    fn bound(&mut self) {
        if self.places.len() > PLACES_LIMIT {
            self.places.clear();
        }
    }

    /// Decodes one frame.
    pub fn locate(&mut self, python: &Python<'_>, raw: RawFrame) -> Option<Located> {
        let code = self.codes.get(python, raw.code)?;
        let key = (raw.code, raw.instruction);
        if let Some((known, frame)) = self.places.get(&key)
            && Arc::ptr_eq(known, &code)
        {
            return Some(Located { raw, frame: frame.clone(), code });
        }
        let frame =
            Arc::new(Frame::new(code.function.clone(), code.file.clone(), code.line(raw.instruction)));
        self.places.insert(key, (code.clone(), frame.clone()));
        Some(Located { raw, code, frame })
    }

    /// Decodes a stack; frames that do not decode are left out and counted.
    pub fn decode(&mut self, python: &Python<'_>, frames: &[RawFrame]) -> (Vec<Located>, usize) {
        let located: Vec<Located> = frames.iter().filter_map(|&raw| self.locate(python, raw)).collect();
        let lost = frames.len() - located.len();
        (located, lost)
    }

    /// A code object's place at its first line.
    pub fn start_of(&mut self, python: &Python<'_>, code: u64) -> Option<Arc<Frame>> {
        let code = self.codes.get(python, code)?;
        Some(Arc::new(Frame::new(code.function.clone(), code.file.clone(), code.line(u64::MAX))))
    }
}

/// The places of a stack.
pub fn places(stack: &[Located]) -> Vec<Arc<Frame>> {
    stack.iter().map(|located| located.frame.clone()).collect()
}

/// A stack's places folded into one word; zero if there are none.
pub fn print_of(stack: &[Arc<Frame>]) -> u64 {
    stack.iter().fold(stack.len() as u64, |print, frame| {
        print.rotate_left(7) ^ (Arc::as_ptr(frame) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}
