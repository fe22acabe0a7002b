//! Dictionaries, sets, modules and attributes.

use super::objects::{BODY, Python, VAR_BODY};
use crate::remote::{int_at, word_at};

/// `sys.modules` and a module's names stay far below; a larger table is not read.
const ENTRY_LIMIT: usize = 1 << 16;
/// A set of tasks may be large.
const SET_LIMIT: usize = 1 << 21;
const FLAG_INLINE_VALUES: u64 = 1 << 2;
const FLAG_MANAGED_DICT: u64 = 1 << 4;

struct Keys {
    /// Key and value addresses by insertion order; values are zero in a split table.
    entries: Vec<(u64, u64)>,
    is_split: bool,
}

impl Python<'_> {
    /// A module in `sys.modules`.
    pub fn module(&self, name: &str) -> Option<u64> {
        self.lookup(self.modules()?, name)
    }

    /// `sys.modules`.
    pub fn modules(&self) -> Option<u64> {
        self.field(self.interpreter.interpreter, self.layout().interp_modules as u64)
    }

    /// A module's namespace.
    pub fn module_dict(&self, module: u64) -> Option<u64> {
        self.field(module, BODY)
    }

    /// The value of a string key.
    pub fn lookup(&self, dict: u64, name: &str) -> Option<u64> {
        self.items(dict)?.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The items with string keys, in insertion order.
    pub fn items(&self, dict: u64) -> Option<Vec<(String, u64)>> {
        let entries = self.entries(dict)?;
        let keys: Vec<u64> = entries.iter().map(|&(key, _)| key).collect();
        let names = self.strings(&keys);
        Some(names.into_iter().zip(entries).filter_map(|(name, (_, value))| Some((name?, value))).collect())
    }

    /// Key and value addresses of a dictionary.
    pub fn entries(&self, dict: u64) -> Option<Vec<(u64, u64)>> {
        let head = self.memory.bytes(dict, 48)?;
        let keys = self.keys(word_at(&head, 32))?;
        let values = word_at(&head, 40);
        if keys.is_split {
            return self.split_entries(&keys, values, self.layout().minor >= 13);
        }
        Some(keys.entries.into_iter().filter(|&(key, value)| key != 0 && value != 0).collect())
    }

    fn split_entries(&self, keys: &Keys, values: u64, has_values_head: bool) -> Option<Vec<(u64, u64)>> {
        let at = values.checked_add(if has_values_head { 8 } else { 0 })?;
        let bytes = self.memory.bytes(at, keys.entries.len() * 8)?;
        let value = |index: usize| word_at(&bytes, index * 8);
        let entries = keys.entries.iter().enumerate().map(|(index, &(key, _))| (key, value(index)));
        Some(entries.filter(|&(key, value)| key != 0 && value != 0).collect())
    }

    fn keys(&self, keys: u64) -> Option<Keys> {
        let head = self.memory.bytes(keys, 40)?;
        let (indices_bytes, at, stride, is_split) = if self.layout().minor >= 11 {
            let (log2_bytes, kind) = (head[9], head[10]);
            if log2_bytes > 24 {
                return None;
            }
            (1_usize << log2_bytes, 32, if kind == 0 { 24 } else { 16 }, kind == 2)
        } else {
            let size = usize::try_from(word_at(&head, 8)).ok().filter(|&size| size <= ENTRY_LIMIT * 2)?;
            let width = if size <= 0xff {
                1
            } else if size <= 0xffff {
                2
            } else {
                4
            };
            // 3.10 marks a split table by its values alone; every entry then has no value of its own.
            (size * width, 40, 24, false)
        };
        let count_at = if self.layout().minor >= 11 { 24 } else { 32 };
        let count = usize::try_from(word_at(&head, count_at)).ok().filter(|&count| count <= ENTRY_LIMIT)?;
        let table = self.memory.bytes(keys.checked_add((at + indices_bytes) as u64)?, count * stride)?;
        let key_at = if stride == 24 { 8 } else { 0 };
        let entries: Vec<(u64, u64)> = table
            .chunks_exact(stride)
            .map(|entry| (word_at(entry, key_at), word_at(entry, key_at + 8)))
            .collect();
        let is_split = is_split || (self.layout().minor < 11 && entries.iter().all(|&(_, value)| value == 0));
        Some(Keys { entries, is_split })
    }

    /// The objects in a set.
    pub fn set_items(&self, set: u64) -> Option<Vec<u64>> {
        let head = self.memory.bytes(set, 48)?;
        let mask = usize::try_from(word_at(&head, 32)).ok().filter(|&mask| mask < SET_LIMIT)?;
        let table = self.memory.bytes(word_at(&head, 40), (mask + 1) * 16)?;
        // An empty slot has no key; a deleted one has the dummy with hash -1.
        let entries = table.chunks_exact(16).map(|entry| (word_at(entry, 0), word_at(entry, 8)));
        Some(entries.filter(|&(key, hash)| key != 0 && hash != u64::MAX).map(|(key, _)| key).collect())
    }

    /// An attribute stored on the instance itself.
    pub fn attribute(&self, object: u64, name: &str) -> Option<u64> {
        self.attributes(object)?.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The attributes stored on an instance.
    pub fn attributes(&self, object: u64) -> Option<Vec<(String, u64)>> {
        let class = self.type_of(object)?;
        let record = self.memory.bytes(class, 296)?;
        let flags = word_at(&record, 168);
        let dict_offset = word_at(&record, 288) as i64;
        if self.layout().minor >= 11 && flags & FLAG_MANAGED_DICT != 0 {
            return self.managed_attributes(object, class, flags);
        }
        if dict_offset <= 0 {
            return None;
        }
        self.items(self.field(object, dict_offset as u64).filter(|&dict| dict != 0)?)
    }

    fn managed_attributes(&self, object: u64, class: u64, flags: u64) -> Option<Vec<(String, u64)>> {
        let word_before = |offset: u64| self.memory.word(object.checked_sub(offset)?);
        let dict = word_before(24)?;
        let values = match self.layout().minor {
            11 => word_before(32).filter(|&values| values != 0),
            12 => (dict & 1 == 1).then(|| dict.wrapping_add(1)),
            _ => (dict == 0 && flags & FLAG_INLINE_VALUES != 0).then(|| object.wrapping_add(BODY)),
        };
        let Some(values) = values else {
            return self.items(if dict == 0 { return None } else { dict });
        };
        let keys = self.keys(self.field(class, self.layout().type_cached_keys as u64)?)?;
        let entries = self.split_entries(&keys, values, self.layout().minor >= 13)?;
        let keys: Vec<u64> = entries.iter().map(|&(key, _)| key).collect();
        let names = self.strings(&keys);
        Some(names.into_iter().zip(entries).filter_map(|(name, (_, value))| Some((name?, value))).collect())
    }

    /// What a weak reference leads to; `None` once it is dead.
    pub fn weak_target(&self, reference: u64) -> Option<u64> {
        self.field(reference, BODY).filter(|&object| object != 0 && object != self.interpreter.types.none)
    }

    /// A name in a class's own namespace.
    pub fn class_attribute(&self, class: u64, name: &str) -> Option<u64> {
        self.lookup(self.field(class, 264).filter(|&dict| dict != 0)?, name)
    }

    /// An attribute that the class keeps in a slot of the instance (`__slots__`).
    pub fn slot(&self, object: u64, name: &str) -> Option<u64> {
        /// `PyMemberDescrObject.d_member` and `PyMemberDef.offset`; the same in every version.
        const MEMBER: u64 = 40;
        const OFFSET: u64 = 16;
        let descriptor = self.class_attribute(self.type_of(object)?, name)?;
        let offset = self.field(self.field(descriptor, MEMBER)?, OFFSET)?;
        self.field(object, offset).filter(|&value| value != 0)
    }

    /// Module and name of an object's class (`eventlet.hubs.epolls.Hub`), or its bare `tp_name`.
    pub fn class_path(&self, object: u64) -> Option<String> {
        let class = self.type_of(object)?;
        let name = self.type_name(class)?;
        let module = self.class_attribute(class, "__module__").and_then(|module| self.string(module));
        Some(match module {
            Some(module) if !name.contains('.') => format!("{module}.{name}"),
            _ => name,
        })
    }

    /// How many items a container holds: the size word of a var-object, dictionary, set or deque.
    pub fn length_hint(&self, object: u64) -> Option<u64> {
        let class = self.type_of(object)?;
        let types = &self.interpreter.types;
        let at = if class == types.set { VAR_BODY } else { BODY };
        let is_sized = [types.set, types.dict, types.list, types.tuple].contains(&class)
            || self.type_name(class)? == "collections.deque";
        is_sized.then(|| self.field(object, at)).flatten().filter(|&length| length < 1 << 40)
    }

    /// A 32-bit field of an object.
    pub fn int_field(&self, object: u64, offset: u64) -> Option<i32> {
        let mut bytes = [0; 4];
        self.memory.read(object.checked_add(offset)?, &mut bytes)?;
        Some(int_at(&bytes, 0))
    }
}
