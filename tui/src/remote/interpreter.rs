//! Finding CPython inside a process: `_PyRuntime` and the built-in types by symbol, the version, the interpreter state.

use super::elf::Symbols;
use super::error::AttachError;
use super::memory::Memory;
use super::procfs::{Mapping, Proc};
use super::target::{file_of, first_pages};
use crate::layout::{OffsetsError, PythonLayout, PythonVersion, apply_debug_offsets};

/// Addresses of built-in types; zero for one that this version lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TypeAddresses {
    pub code: u64,
    pub coroutine: u64,
    pub generator: u64,
    pub async_generator: u64,
    pub coroutine_wrapper: u64,
    pub async_generator_send: u64,
    pub string: u64,
    pub integer: u64,
    pub float: u64,
    pub dict: u64,
    pub set: u64,
    pub list: u64,
    pub tuple: u64,
    pub module: u64,
    pub function: u64,
    pub method: u64,
    pub weak_reference: u64,
    pub none: u64,
}

/// A CPython interpreter in another process.
#[derive(Debug, Clone)]
pub struct Interpreter {
    /// Version.
    pub version: PythonVersion,
    /// Field offsets.
    pub layout: PythonLayout,
    /// `_PyRuntime`.
    pub runtime: u64,
    /// The main interpreter's state.
    pub interpreter: u64,
    /// The GIL's state.
    pub gil: u64,
    /// Built-in types.
    pub types: TypeAddresses,
    /// The file with the interpreter's code, as the process names it.
    pub file: String,
}

const TYPE_SYMBOLS: [&str; 18] = [
    "PyCode_Type",
    "PyCoro_Type",
    "PyGen_Type",
    "PyAsyncGen_Type",
    "_PyCoroWrapper_Type",
    "_PyAsyncGenASend_Type",
    "PyUnicode_Type",
    "PyLong_Type",
    "PyFloat_Type",
    "PyDict_Type",
    "PySet_Type",
    "PyList_Type",
    "PyTuple_Type",
    "PyModule_Type",
    "PyFunction_Type",
    "PyMethod_Type",
    "_PyWeakref_RefType",
    "_Py_NoneStruct",
];

impl Interpreter {
    /// Finds the interpreter among a process's mappings.
    pub fn find(memory: &dyn Memory, process: &Proc, maps: &[Mapping]) -> Result<Self, AttachError> {
        let pid = process.pid();
        let exe = std::fs::read_link(process.path("exe")).unwrap_or_default().to_string_lossy().into_owned();
        let wanted =
            |name: &str| name == "_PyRuntime" || name == "Py_Version" || TYPE_SYMBOLS.contains(&name);
        let mut candidates: Vec<&Mapping> = first_pages(maps, |name| name.starts_with("libpython")).collect();
        candidates.extend(maps.iter().filter(|mapping| mapping.offset == 0 && mapping.path == exe));
        for &mapping in &candidates {
            let Ok(symbols) = Symbols::of_file(&file_of(process, mapping), wanted) else { continue };
            if let Some(runtime) = symbols.address("_PyRuntime", mapping.start) {
                let version = version_of(memory, &symbols, mapping, maps);
                if PythonLayout::of(version).is_none() {
                    let version = full_version(process, &[mapping], version);
                    return Err(AttachError::UnsupportedVersion { pid, version });
                }
                return Self::open(memory, pid, version, runtime, &symbols, mapping);
            }
        }
        let command = process.text("comm").unwrap_or_default().trim().to_owned();
        // CPython before 3.7 has no _PyRuntime; say the version rather than "not Python".
        match maps.iter().find_map(|mapping| version_in_name(&mapping.path)) {
            Some(version) if PythonLayout::of(version).is_none() => {
                let version = full_version(process, &candidates, version);
                Err(AttachError::UnsupportedVersion { pid, version })
            }
            _ => Err(AttachError::NotPython { pid, command }),
        }
    }

    fn open(
        memory: &dyn Memory,
        pid: i32,
        version: PythonVersion,
        runtime: u64,
        symbols: &Symbols,
        mapping: &Mapping,
    ) -> Result<Self, AttachError> {
        let mut layout = PythonLayout::of(version)
            .ok_or_else(|| AttachError::UnsupportedVersion { pid, version: version.to_string() })?;
        if version.minor >= 13 {
            match apply_debug_offsets(memory, runtime, &mut layout) {
                Ok(()) => {}
                Err(OffsetsError::FreeThreaded) => return Err(AttachError::FreeThreaded { pid, version }),
                Err(OffsetsError::Damaged) => {
                    return Err(AttachError::Unreadable { pid, version, what: "_Py_DebugOffsets" });
                }
            }
        }
        let unreadable = |what| AttachError::Unreadable { pid, version, what };
        let head = memory.word(runtime + layout.runtime_interpreters as u64).unwrap_or(0);
        let interpreter =
            main_interpreter(memory, &layout, runtime, head).ok_or(unreadable("interpreter state"))?;
        let gil = if layout.is_gil_in_runtime {
            runtime + layout.gil as u64
        } else {
            memory.word(interpreter + layout.gil as u64).ok_or(unreadable("GIL state"))?
        };
        let types = type_addresses(symbols, mapping.start);
        if types.code == 0 {
            return Err(unreadable("type symbols"));
        }
        let mut found =
            Self { version, layout, runtime, interpreter, gil, types, file: mapping.path.clone() };
        if found.version.micro == 0 {
            found.version.micro = crate::decode::micro_version(memory, &found).unwrap_or(0);
        }
        Ok(found)
    }
}

/// The interpreter whose first thread points back at it; `main` stands right behind `head`.
fn main_interpreter(memory: &dyn Memory, layout: &PythonLayout, runtime: u64, head: u64) -> Option<u64> {
    let main = memory.word(runtime + layout.runtime_interpreters as u64 + 8).unwrap_or(0);
    [main, head].into_iter().filter(|&candidate| candidate != 0).find(|&candidate| {
        memory
            .word(candidate + layout.interp_threads as u64)
            .and_then(|thread| memory.word(thread + layout.thread_interp as u64))
            == Some(candidate)
    })
}

fn type_addresses(symbols: &Symbols, first_page: u64) -> TypeAddresses {
    let of = |index: usize| symbols.address(TYPE_SYMBOLS[index], first_page).unwrap_or(0);
    TypeAddresses {
        code: of(0),
        coroutine: of(1),
        generator: of(2),
        async_generator: of(3),
        coroutine_wrapper: of(4),
        async_generator_send: of(5),
        string: of(6),
        integer: of(7),
        float: of(8),
        dict: of(9),
        set: of(10),
        list: of(11),
        tuple: of(12),
        module: of(13),
        function: of(14),
        method: of(15),
        weak_reference: of(16),
        none: of(17),
    }
}

fn version_of(memory: &dyn Memory, symbols: &Symbols, mapping: &Mapping, maps: &[Mapping]) -> PythonVersion {
    // `Py_Version` (3.11) has the same shape as sys.hexversion.
    let hex = symbols.address("Py_Version", mapping.start).and_then(|address| memory.word(address));
    if let Some(hex) = hex.filter(|hex| hex >> 24 == 3) {
        return PythonVersion { major: (hex >> 24) as u8, minor: (hex >> 16) as u8, micro: (hex >> 8) as u8 };
    }
    version_in_name(&mapping.path)
        .or_else(|| maps.iter().find_map(|mapping| version_in_name(&mapping.path)))
        .unwrap_or(PythonVersion { major: 3, minor: 0, micro: 0 })
}

/// `…/libpython3.10.so.1.0`, `…/bin/python3.10`, `…/lib/python3.10/lib-dynload/…` and `…cpython-310-x86_64…` say it.
fn version_in_name(path: &str) -> Option<PythonVersion> {
    let digits = |text: &str| -> Option<u8> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text[..end].parse().ok()
    };
    if let Some((_, rest)) = path.split_once(".cpython-3") {
        return Some(PythonVersion { major: 3, minor: digits(rest)?, micro: 0 });
    }
    let (at, _) = path.match_indices("python").find(|(at, name)| {
        let rest = &path[at + name.len()..];
        rest.starts_with("3.") || rest.starts_with("2.")
    })?;
    let rest = &path[at + "python".len()..];
    Some(PythonVersion { major: digits(rest)?, minor: digits(rest.split_once('.')?.1)?, micro: 0 })
}

/// The whole version of an interpreter whose memory is not understood, from the constant `PY_VERSION` in one of these files;
/// without the micro version if that is not found.
fn full_version(process: &Proc, files: &[&Mapping], version: PythonVersion) -> String {
    let known = (version.micro != 0).then(|| version.to_string());
    let mut files = files.iter().map(|mapping| file_of(process, mapping));
    known
        .or_else(|| files.find_map(|file| version_in_file(&std::fs::read(file).ok()?, version)))
        .unwrap_or_else(|| format!("{}.{}", version.major, version.minor))
}

/// The one version in a file that starts like this and ends a text: `3.9.18`, `3.14.0rc2`. It may be the end of a longer text,
/// with which the linker has merged it.
fn version_in_file(bytes: &[u8], version: PythonVersion) -> Option<String> {
    const LONGEST: usize = 12;
    let start = format!("{}.{}.", version.major, version.minor).into_bytes();
    let mut found: Option<String> = None;
    for (at, _) in bytes.windows(start.len()).enumerate().filter(|(_, window)| *window == start.as_slice()) {
        let text = &bytes[at..];
        let is_inside = at > 0 && matches!(bytes[at - 1], b'0'..=b'9' | b'.');
        let length = text.iter().take(LONGEST).position(|&byte| byte == 0);
        let Some(text) =
            length.filter(|_| !is_inside).and_then(|length| std::str::from_utf8(&text[..length]).ok())
        else {
            continue;
        };
        let Some(micro) = text.get(start.len()..) else { continue };
        let is_version = micro.starts_with(|c: char| c.is_ascii_digit())
            && micro.chars().all(|c| c.is_ascii_digit() || "abrc+".contains(c));
        if is_version && found.as_deref().is_some_and(|before| before != text) {
            return None;
        }
        if is_version {
            found = Some(text.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_any_of_the_usual_file_names() {
        let minor = |path| version_in_name(path).map(|version| (version.major, version.minor));
        assert_eq!(minor("/usr/lib/x86_64-linux-gnu/libpython3.10.so.1.0"), Some((3, 10)));
        assert_eq!(minor("/usr/bin/python3.9"), Some((3, 9)));
        assert_eq!(minor("/a/_asyncio.cpython-312-x86_64-linux-gnu.so"), Some((3, 12)));
        assert_eq!(minor("/usr/bin/python2.7"), Some((2, 7)));
        assert_eq!(minor("/usr/bin/perl"), None);
    }

    #[test]
    fn the_micro_version_is_that_of_the_constant_in_the_file() {
        let version = PythonVersion { major: 3, minor: 9, micro: 0 };
        let of = |bytes: &[u8]| version_in_file(bytes, version);
        assert_eq!(of(b"x\x003.9.18\0/lib/python-3.9.18\0 13.9.2\0 3.9.2/\0"), Some("3.9.18".to_owned()));
        assert_eq!(of(b"\x003.9.0rc1+\0"), Some("3.9.0rc1+".to_owned()));
        assert_eq!(of(b"\x003.9.18 (main\0\x003.9.\0"), None);
        assert_eq!(of(b"\x003.9.18\0\x003.9.17\0"), None, "one of them is something else's");
    }
}
