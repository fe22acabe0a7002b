//! `_Py_DebugOffsets`: from 3.13 on, CPython publishes its own offsets at the head of `_PyRuntime`.

use super::cpython::PythonLayout;
use crate::remote::{Memory, word_at};

/// First bytes of `_PyRuntime` on 3.13 and later.
const COOKIE: &[u8; 8] = b"xdebugpy";
/// Words of the 3.13 structure.
const WORDS: usize = 73;
/// No structure it describes is larger; a larger value means the structure is not what it seems.
const OFFSET_LIMIT: u64 = 1 << 20;

/// Why the published offsets could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetsError {
    /// The cookie is absent or a value is out of bounds.
    Damaged,
    /// The interpreter was built without the GIL.
    FreeThreaded,
}

/// Replaces the fields of `layout` that the process publishes itself.
pub fn apply_debug_offsets(
    memory: &dyn Memory,
    runtime: u64,
    layout: &mut PythonLayout,
) -> Result<(), OffsetsError> {
    let record = memory.bytes(runtime, WORDS * 8).ok_or(OffsetsError::Damaged)?;
    if &record[..8] != COOKIE {
        return Err(OffsetsError::Damaged);
    }
    if word_at(&record, 16) != 0 {
        return Err(OffsetsError::FreeThreaded);
    }
    let field = |index: usize| -> Result<usize, OffsetsError> {
        let value = word_at(&record, index * 8);
        if value < OFFSET_LIMIT { Ok(value as usize) } else { Err(OffsetsError::Damaged) }
    };
    layout.runtime_interpreters = field(5)?;
    layout.interp_threads = field(9)?;
    layout.interp_modules = field(11)?;
    layout.gil = field(14)?;
    layout.interp_collecting = field(10)? + field(72)?;
    layout.thread_next = field(21)?;
    layout.thread_interp = field(22)?;
    layout.thread_frame = field(23)?;
    layout.thread_id = field(24)?;
    layout.thread_native_id = field(25)?;
    layout.frame.previous = field(29)?;
    layout.frame.code = field(30)?;
    layout.frame.instruction = field(31)?;
    layout.frame.locals = field(32)?;
    layout.frame.owner = field(33)?;
    layout.code_filename = field(35)?;
    layout.code_name = field(36)?;
    layout.code_qualname = field(37)?;
    layout.code_line_table = field(38)?;
    layout.code_first_line = field(39)?;
    layout.code_local_names = field(41)?;
    layout.code_instructions = field(43)?;
    Ok(())
}
