//! Scalars and strings.

use crate::layout::PythonLayout;
use crate::remote::{Interpreter, Memory, int_at, word_at};

/// `ob_type` of any object.
pub const TYPE: u64 = 8;
/// First field behind a `PyObject` head.
pub const BODY: u64 = 16;
/// First field behind a `PyVarObject` head.
pub const VAR_BODY: u64 = 24;
/// Longer strings are cut: names and paths are shorter.
const STRING_LIMIT: usize = 4096;
/// `tp_base` chains are short; a longer one is damage.
const BASE_LIMIT: usize = 32;

/// A view of one interpreter's objects.
#[derive(Clone, Copy)]
pub struct Python<'a> {
    /// The process's memory.
    pub memory: &'a dyn Memory,
    /// Its interpreter.
    pub interpreter: &'a Interpreter,
}

impl std::fmt::Debug for Python<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Python").field("interpreter", self.interpreter).finish_non_exhaustive()
    }
}

impl<'a> Python<'a> {
    /// Views a process's objects.
    pub fn new(memory: &'a dyn Memory, interpreter: &'a Interpreter) -> Self {
        Self { memory, interpreter }
    }

    /// The field offsets in use.
    pub fn layout(&self) -> &'a PythonLayout {
        &self.interpreter.layout
    }

    /// The word at an address plus an offset; addresses never wrap.
    pub fn field(&self, address: u64, offset: u64) -> Option<u64> {
        self.memory.word(address.checked_add(offset)?)
    }

    /// The type of an object.
    pub fn type_of(&self, object: u64) -> Option<u64> {
        self.field(object, TYPE).filter(|&address| address != 0)
    }

    /// A type's `tp_name`; dotted for built-in types, bare for classes.
    pub fn type_name(&self, class: u64) -> Option<String> {
        let name = self.field(class, 24)?;
        self.c_string(name, 128)
    }

    /// The name of an object's type.
    pub fn type_name_of(&self, object: u64) -> Option<String> {
        self.type_name(self.type_of(object)?)
    }

    /// Whether a type is, or inherits from, a type that `accepts` accepts.
    pub fn inherits(&self, class: u64, mut accepts: impl FnMut(u64) -> bool) -> bool {
        let mut class = class;
        for _ in 0..BASE_LIMIT {
            if class == 0 {
                return false;
            }
            if accepts(class) {
                return true;
            }
            class = self.field(class, 256).unwrap_or(0);
        }
        false
    }

    /// A zero-terminated string of printable text.
    pub fn c_string(&self, address: u64, limit: usize) -> Option<String> {
        let mut text = Vec::new();
        for start in (0..limit).step_by(32) {
            let chunk = self.memory.bytes(address.checked_add(start as u64)?, 32)?;
            let end = chunk.iter().position(|&byte| byte == 0);
            text.extend_from_slice(&chunk[..end.unwrap_or(32)]);
            if end.is_some() {
                let text = String::from_utf8(text).ok()?;
                return (!text.chars().any(char::is_control)).then_some(text);
            }
        }
        None
    }

    /// A `str`, cut at 4,096 characters.
    pub fn string(&self, object: u64) -> Option<String> {
        let head = self.memory.bytes(object, 40)?;
        let (length, kind, at) = self.string_shape(&head)?;
        let bytes = self.memory.bytes(object.checked_add(at as u64)?, length.min(STRING_LIMIT) * kind)?;
        decode_characters(&bytes, kind)
    }

    /// Many `str`s at once: one batch for those short enough, which names are.
    pub fn strings(&self, objects: &[u64]) -> Vec<Option<String>> {
        const PREFIX: usize = 120;
        let (records, read) = self.memory.records(objects, PREFIX);
        objects
            .iter()
            .zip(records.chunks_exact(PREFIX))
            .zip(read)
            .map(|((&object, record), is_read)| {
                if !is_read {
                    return self.string(object);
                }
                let (length, kind, at) = self.string_shape(record)?;
                match record.get(at..at + length.min(STRING_LIMIT) * kind) {
                    Some(bytes) => decode_characters(bytes, kind),
                    None => self.string(object),
                }
            })
            .collect()
    }

    /// Length, bytes a character and offset of the characters of a compact string.
    fn string_shape(&self, head: &[u8]) -> Option<(usize, usize, usize)> {
        if word_at(head, TYPE as usize) != self.interpreter.types.string {
            return None;
        }
        let length = usize::try_from(word_at(head, 16)).ok().filter(|&length| length < 1 << 32)?;
        let state = int_at(head, 32) as u32;
        let (kind, is_compact, is_ascii) = (state >> 2 & 7, state >> 5 & 1, state >> 6 & 1);
        if is_compact == 0 || !matches!(kind, 1 | 2 | 4) {
            return None;
        }
        let at = if is_ascii == 1 { self.layout().string_ascii } else { self.layout().string_compact };
        Some((length, kind as usize, at))
    }

    /// An `int` that fits 60 bits.
    pub fn integer(&self, object: u64) -> Option<i64> {
        let record = self.memory.bytes(object, 32)?;
        if !self.inherits(word_at(&record, 8), |class| class == self.interpreter.types.integer) {
            return None;
        }
        let size = word_at(&record, 16);
        let (digits, is_negative) = if self.layout().minor >= 12 {
            (size >> 3, size & 3 == 2)
        } else {
            ((size as i64).unsigned_abs(), (size as i64) < 0)
        };
        let digit = |index: usize| i64::from(int_at(&record, 24 + index * 4)) & 0x3fff_ffff;
        let magnitude = match digits {
            0 => 0,
            1 => digit(0),
            2 => digit(0) | digit(1) << 30,
            _ => return None,
        };
        Some(if is_negative { -magnitude } else { magnitude })
    }

    /// A `float`, or an `int` as one.
    pub fn number(&self, object: u64) -> Option<f64> {
        if self.type_of(object)? == self.interpreter.types.float {
            return self.field(object, BODY).map(f64::from_bits).filter(|value| value.is_finite());
        }
        self.integer(object).map(|value| value as f64)
    }

    /// A `bytes` object, refused above `limit`.
    pub fn byte_string(&self, object: u64, limit: usize) -> Option<Vec<u8>> {
        let length = usize::try_from(self.field(object, BODY)?).ok().filter(|&length| length <= limit)?;
        self.memory.bytes(object.checked_add(32)?, length)
    }

    /// The items of a tuple or list, at most `limit`.
    pub fn sequence(&self, object: u64, limit: usize) -> Option<Vec<u64>> {
        let class = self.type_of(object)?;
        let length = usize::try_from(self.field(object, BODY)?).ok()?.min(limit);
        let at = if class == self.interpreter.types.tuple {
            object.checked_add(VAR_BODY)?
        } else if class == self.interpreter.types.list {
            self.field(object, VAR_BODY)?
        } else {
            return None;
        };
        let bytes = self.memory.bytes(at, length * 8)?;
        Some((0..length).map(|index| word_at(&bytes, index * 8)).collect())
    }

    /// The name of what a callable runs: a function's qualified name, also behind a bound method.
    pub fn callable_code(&self, object: u64) -> Option<u64> {
        let types = &self.interpreter.types;
        let mut object = object;
        if self.type_of(object)? == types.method {
            object = self.field(object, BODY)?;
        }
        (self.type_of(object)? == types.function).then(|| self.field(object, 48))?
    }
}

/// The characters of a string. A byte of a file name that is no text, which Python keeps as a surrogate (PEP 383), becomes
/// `\xff`, any other surrogate a replacement character; what is no code point at all was no string.
fn decode_characters(bytes: &[u8], kind: usize) -> Option<String> {
    let mut text = String::with_capacity(bytes.len() / kind);
    for unit in bytes.chunks_exact(kind) {
        let point = unit.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
        match point {
            0xdc80..=0xdcff => text.push_str(&format!("\\x{:02x}", point & 0xff)),
            0xd800..=0xdfff => text.push(char::REPLACEMENT_CHARACTER),
            _ => text.push(char::from_u32(point)?),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::decode_characters;

    #[test]
    fn a_name_that_is_no_text_is_shown_all_the_same() {
        let wide = |points: &[u16]| points.iter().flat_map(|point| point.to_le_bytes()).collect::<Vec<u8>>();
        let of = |points: &[u16]| decode_characters(&wide(points), 2);
        assert_eq!(of(&[0x2f, 0xdcff, 0xe4]).as_deref(), Some("/\\xff\u{e4}"));
        assert_eq!(of(&[0xd83d]).as_deref(), Some("\u{fffd}"));
        assert_eq!(decode_characters(&0x11_0000_u32.to_le_bytes(), 4), None);
    }
}
