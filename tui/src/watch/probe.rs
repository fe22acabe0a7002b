//! The fast look: one `process_vm_readv` for all watched threads.

use crate::layout::PythonLayout;
use crate::remote::{Memory, Request, word_at};

/// Bytes of a thread state from its frame pointer to its context count.
const STATE_BYTES: usize = 264;
const CFRAME_BYTES: usize = 24;
/// A thread whose frame moved in so many rounds, about 2 µs each, is running; chasing it further tells little more.
const ROUNDS: usize = 4;

/// One watched thread as the fast look sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Rises with each switch and each callback.
    pub version: u64,
    /// Innermost frame; zero if the thread runs none, as a hub in native code.
    pub frame: u64,
    /// The innermost frame changed as fast as it could be read: `frame` is the latest one, its instruction unknown.
    pub is_moving: bool,
    /// Its instruction.
    pub instruction: u64,
    /// An address in the interpreter loop's C frame; zero if unknown.
    pub c_stack: u64,
}

/// Remembers the pointers of the previous look, so that one call can read through them.
#[derive(Debug, Clone)]
pub struct Probe {
    state: u64,
    cframe: u64,
    frame: u64,
    bytes: Vec<u8>,
}

impl Probe {
    /// Probes the thread with this Python thread state.
    pub fn new(state: u64) -> Self {
        Self { state, cframe: 0, frame: 0, bytes: vec![0; STATE_BYTES + CFRAME_BYTES + 104] }
    }

    /// Looks once; `None` when the thread state is gone.
    pub fn look(&mut self, memory: &dyn Memory, layout: &PythonLayout) -> Option<Sample> {
        // The pointers are those of the previous look. If they moved, another round reads through the new ones.
        for _ in 0..ROUNDS {
            if let Some(sample) = self.read(memory, layout)? {
                return Some(sample);
            }
        }
        Some(Sample { is_moving: true, ..self.sample(layout, self.frame, 0) })
    }

    fn read(&mut self, memory: &dyn Memory, layout: &PythonLayout) -> Option<Option<Sample>> {
        let (state_bytes, rest) = self.bytes.split_at_mut(STATE_BYTES);
        let (cframe_bytes, frame_bytes) = rest.split_at_mut(CFRAME_BYTES);
        let mut requests = [
            Request::new(self.state, state_bytes),
            Request::new(
                self.frame.wrapping_add(layout.frame.code.min(layout.frame.instruction) as u64),
                frame_bytes,
            ),
            Request::new(self.cframe, cframe_bytes),
        ];
        let wanted = if layout.has_cframe { 3 } else { 2 };
        memory.read_many(&mut requests[..wanted]);
        if !requests[0].is_read {
            return None;
        }
        let frame_is_read = requests[1].is_read;
        let (state, frame_record, cframe) = (
            &self.bytes[..STATE_BYTES],
            &self.bytes[STATE_BYTES + CFRAME_BYTES..],
            &self.bytes[STATE_BYTES..],
        );
        let pointer = word_at(state, layout.thread_frame);
        let frame = if layout.has_cframe {
            if pointer != self.cframe {
                self.cframe = pointer;
                return Some(None);
            }
            word_at(cframe, layout.cframe_frame)
        } else {
            pointer
        };
        if frame != self.frame || !frame_is_read {
            self.frame = frame;
            return Some(if frame == 0 { Some(self.sample(layout, 0, 0)) } else { None });
        }
        let base = layout.frame.code.min(layout.frame.instruction);
        let word = word_at(frame_record, layout.frame.instruction - base);
        let instruction = if layout.minor >= 11 { word } else { word & 0xffff_ffff };
        Some(Some(self.sample(layout, frame, instruction)))
    }

    fn sample(&self, layout: &PythonLayout, frame: u64, instruction: u64) -> Sample {
        let state = &self.bytes[..STATE_BYTES];
        let c_stack = if layout.thread_cframe == 0 { 0 } else { word_at(state, layout.thread_cframe) };
        let version = word_at(state, layout.thread_context_version);
        Sample { version, frame, is_moving: false, instruction, c_stack }
    }
}
