//! Field offsets of CPython 3.10 to 3.13 on x86-64, taken from the headers of each version with `offsetof`.
//!
//! They are constant within a minor version: CPython freezes its structures at the first release candidate.

use std::fmt;

/// A CPython version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PythonVersion {
    /// 3.
    pub major: u8,
    /// 10 to 13 are understood.
    pub minor: u8,
    /// Micro version; 0 if unknown.
    pub micro: u8,
}

impl fmt::Display for PythonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// How a Python frame is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLayout {
    /// Code object.
    pub code: usize,
    /// Caller's frame.
    pub previous: usize,
    /// Instruction pointer, or `f_lasti` on 3.10.
    pub instruction: usize,
    /// First local variable.
    pub locals: usize,
    /// Depth of the value stack (`stacktop`; 3.10: `f_stackdepth`).
    pub stack_top: usize,
    /// The frame object made for the frame; zero on 3.10, where it is the frame.
    pub frame_object: usize,
    /// Who owns the frame; zero on 3.10, which has no such field.
    pub owner: usize,
    /// Bytes up to the first local.
    pub header_bytes: usize,
}

/// Field offsets of one CPython version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PythonLayout {
    /// Minor version these are for.
    pub minor: u8,
    /// `_PyRuntime.interpreters.head`.
    pub runtime_interpreters: usize,
    /// The GIL in `_PyRuntime` (3.10, 3.11), or a pointer to it in the interpreter (3.12 on).
    pub gil: usize,
    /// Whether `gil` is an offset in the runtime rather than in the interpreter.
    pub is_gil_in_runtime: bool,
    /// `interp->threads.head`.
    pub interp_threads: usize,
    /// `sys.modules`.
    pub interp_modules: usize,
    /// `interp->gc.collecting`.
    pub interp_collecting: usize,
    /// `tstate->next`.
    pub thread_next: usize,
    /// `tstate->interp`.
    pub thread_interp: usize,
    /// `tstate->thread_id` (the pthread handle).
    pub thread_id: usize,
    /// `tstate->native_thread_id`; zero on 3.10.
    pub thread_native_id: usize,
    /// `tstate->context_ver`.
    pub thread_context_version: usize,
    /// `tstate->cframe` (3.11, 3.12), `tstate->current_frame` (3.13), `tstate->frame` (3.10).
    pub thread_frame: usize,
    /// Whether `thread_frame` leads to a `_PyCFrame` whose first field is the frame.
    pub has_cframe: bool,
    /// `tstate->cframe`: an address on the C stack; zero on 3.13.
    pub thread_cframe: usize,
    /// Offset of `current_frame` in `_PyCFrame`.
    pub cframe_frame: usize,
    /// Frames.
    pub frame: FrameLayout,
    /// `co_filename`.
    pub code_filename: usize,
    /// `co_qualname`, or `co_name` on 3.10.
    pub code_qualname: usize,
    /// `co_name`.
    pub code_name: usize,
    /// `co_firstlineno`.
    pub code_first_line: usize,
    /// `co_linetable`.
    pub code_line_table: usize,
    /// `co_localsplusnames`, or `co_varnames` on 3.10.
    pub code_local_names: usize,
    /// `co_code_adaptive`; zero on 3.10.
    pub code_instructions: usize,
    /// `sizeof(PyCodeObject)`.
    pub code_bytes: usize,
    /// The frame in a generator: embedded, or a pointer to it on 3.10.
    pub generator_frame: usize,
    /// `gi_frame_state`; zero on 3.10.
    pub generator_state: usize,
    /// `gi_qualname`.
    pub generator_qualname: usize,
    /// `PyHeapTypeObject.ht_cached_keys`.
    pub type_cached_keys: usize,
    /// First byte behind a compact non-ASCII string's header.
    pub string_compact: usize,
    /// First byte behind an ASCII string's header.
    pub string_ascii: usize,
    /// `_asyncio.Task`: state, awaited future, coroutine, name.
    pub task: [usize; 4],
}

impl PythonLayout {
    /// The layout of a version, if it is one that is understood.
    pub fn of(version: PythonVersion) -> Option<Self> {
        match (version.major, version.minor) {
            (3, 10) => Some(PYTHON_3_10),
            (3, 11) => Some(PYTHON_3_11),
            (3, 12) => Some(PYTHON_3_12),
            (3, 13) => Some(PYTHON_3_13),
            _ => None,
        }
    }
}

const PYTHON_3_10: PythonLayout = PythonLayout {
    minor: 10,
    runtime_interpreters: 32,
    gil: 352,
    is_gil_in_runtime: true,
    interp_threads: 8,
    interp_modules: 856,
    interp_collecting: 616 + 200,
    thread_next: 8,
    thread_interp: 16,
    thread_id: 176,
    thread_native_id: 0,
    thread_context_version: 248,
    thread_frame: 24,
    has_cframe: false,
    thread_cframe: 48,
    cframe_frame: 0,
    frame: FrameLayout {
        code: 32,
        previous: 24,
        instruction: 96,
        locals: 352,
        stack_top: 80,
        frame_object: 0,
        owner: 0,
        header_bytes: 352,
    },
    code_filename: 104,
    code_qualname: 112,
    code_name: 112,
    code_first_line: 40,
    code_line_table: 120,
    code_local_names: 72,
    code_instructions: 0,
    code_bytes: 176,
    generator_frame: 16,
    generator_state: 0,
    generator_qualname: 48,
    type_cached_keys: 872,
    string_compact: 72,
    string_ascii: 48,
    task: [88, 152, 160, 168],
};

const PYTHON_3_11: PythonLayout = PythonLayout {
    minor: 11,
    runtime_interpreters: 40,
    gil: 360,
    is_gil_in_runtime: true,
    interp_threads: 16,
    interp_modules: 888,
    interp_collecting: 648 + 200,
    thread_next: 8,
    thread_interp: 16,
    thread_id: 152,
    thread_native_id: 160,
    thread_context_version: 232,
    thread_frame: 56,
    has_cframe: true,
    thread_cframe: 56,
    cframe_frame: 8,
    frame: FrameLayout {
        code: 32,
        previous: 48,
        instruction: 56,
        locals: 72,
        stack_top: 64,
        frame_object: 40,
        owner: 69,
        header_bytes: 72,
    },
    code_filename: 112,
    code_qualname: 128,
    code_name: 120,
    code_first_line: 72,
    code_line_table: 136,
    code_local_names: 96,
    code_instructions: 184,
    code_bytes: 192,
    generator_frame: 80,
    generator_state: 75,
    generator_qualname: 40,
    type_cached_keys: 872,
    string_compact: 72,
    string_ascii: 48,
    task: [88, 128, 136, 144],
};

const PYTHON_3_12: PythonLayout = PythonLayout {
    minor: 12,
    gil: 384,
    is_gil_in_runtime: false,
    interp_threads: 72,
    interp_modules: 944,
    interp_collecting: 112 + 200,
    thread_id: 136,
    thread_native_id: 144,
    thread_context_version: 216,
    cframe_frame: 0,
    frame: FrameLayout {
        code: 0,
        previous: 8,
        instruction: 56,
        locals: 72,
        stack_top: 64,
        frame_object: 48,
        owner: 70,
        header_bytes: 72,
    },
    code_first_line: 68,
    code_instructions: 192,
    code_bytes: 200,
    generator_frame: 72,
    generator_state: 67,
    generator_qualname: 32,
    type_cached_keys: 880,
    string_compact: 56,
    string_ascii: 40,
    ..PYTHON_3_11
};

const PYTHON_3_13: PythonLayout = PythonLayout {
    minor: 13,
    runtime_interpreters: 632,
    gil: 16,
    interp_threads: 7344,
    interp_modules: 7656,
    interp_collecting: 7400 + 200,
    thread_id: 152,
    thread_native_id: 160,
    thread_frame: 72,
    has_cframe: false,
    thread_cframe: 0,
    code_instructions: 200,
    code_bytes: 208,
    task: [96, 112, 120, 128],
    ..PYTHON_3_12
};
