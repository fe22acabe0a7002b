//! Symbols of an ELF file, reading only its tables: a debug build of libpython has tens of megabytes.

use goblin::elf::header::header64::Header;
use goblin::elf::program_header::{PT_LOAD, program_header64::ProgramHeader};
use goblin::elf::section_header::{SHT_DYNSYM, SHT_SYMTAB, section_header64::SectionHeader};
use goblin::elf::sym::sym64::Sym;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// `e_machine` of x86-64.
pub const MACHINE_X86_64: u16 = 62;
/// A symbol table larger than this is refused rather than read.
const TABLE_LIMIT: u64 = 64 << 20;

/// What the first bytes of an executable say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// 64-bit.
    pub is_64_bit: bool,
    /// `e_machine`.
    pub machine: u16,
}

/// Reads the identity of an ELF file; `None` if it is not one.
pub fn identify(path: &Path) -> io::Result<Option<Identity>> {
    let mut head = [0; 20];
    File::open(path)?.read_exact_at(&mut head, 0)?;
    if &head[..4] != b"\x7fELF" {
        return Ok(None);
    }
    let machine = [head[18], head[19]];
    let is_big_endian = head[5] == 2;
    let machine = if is_big_endian { u16::from_be_bytes(machine) } else { u16::from_le_bytes(machine) };
    Ok(Some(Identity { is_64_bit: head[4] == 2, machine }))
}

/// Addresses of symbols as linked, and what to add to them in memory.
#[derive(Debug, Default)]
pub struct Symbols {
    addresses: HashMap<String, (u64, u64)>,
    first_load: u64,
}

impl Symbols {
    /// Reads the symbols whose names `wanted` accepts from the dynamic table and, where present, the full one.
    pub fn of_file(path: &Path, wanted: impl Fn(&str) -> bool) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut head = [0; 64];
        file.read_exact_at(&mut head, 0)?;
        let header = Header::from_bytes(&head);
        let segments = table(&file, header.e_phoff, u64::from(header.e_phnum), size_of::<ProgramHeader>())?;
        let first_load = segments
            .chunks_exact(size_of::<ProgramHeader>())
            .map(|bytes| ProgramHeader::from_bytes(bytes, 1)[0])
            .find(|segment| segment.p_type == PT_LOAD)
            .map_or(0, |segment| segment.p_vaddr & !0xfff);
        let sections = table(&file, header.e_shoff, u64::from(header.e_shnum), size_of::<SectionHeader>())?;
        let sections = SectionHeader::from_bytes(&sections, usize::from(header.e_shnum));
        let mut symbols = Self { addresses: HashMap::new(), first_load };
        for section in sections.iter().filter(|s| s.sh_type == SHT_DYNSYM || s.sh_type == SHT_SYMTAB) {
            if let Some(names) = sections.get(section.sh_link as usize) {
                symbols.add_table(&file, section, names, &wanted)?;
            }
        }
        Ok(symbols)
    }

    fn add_table(
        &mut self,
        file: &File,
        section: &SectionHeader,
        names: &SectionHeader,
        wanted: &impl Fn(&str) -> bool,
    ) -> io::Result<()> {
        let names = table(file, names.sh_offset, names.sh_size, 1)?;
        let count = section.sh_size / size_of::<Sym>() as u64;
        let entries = table(file, section.sh_offset, count, size_of::<Sym>())?;
        for bytes in entries.chunks_exact(size_of::<Sym>()) {
            let number = |from: usize, to: usize| {
                bytes[from..to].iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte))
            };
            let (name, section_index, value, size) =
                (number(0, 4), number(6, 8), number(8, 16), number(16, 24));
            let tail = names.get(name as usize..).unwrap_or_default();
            let end = tail.iter().position(|&byte| byte == 0).unwrap_or(0);
            let Ok(name) = std::str::from_utf8(&tail[..end]) else { continue };
            if section_index != 0 && wanted(name) {
                self.addresses.entry(name.to_owned()).or_insert((value, size));
            }
        }
        Ok(())
    }

    /// A symbol's address in a process that maps the file's first page at `first_page`.
    pub fn address(&self, name: &str, first_page: u64) -> Option<u64> {
        self.addresses
            .get(name)
            .map(|&(value, _)| value.wrapping_sub(self.first_load).wrapping_add(first_page))
    }

    /// A symbol's address range in such a process.
    pub fn range(&self, name: &str, first_page: u64) -> Option<std::ops::Range<u64>> {
        let start = self.address(name, first_page)?;
        Some(start..start.wrapping_add(self.addresses[name].1))
    }
}

fn table(file: &File, offset: u64, count: u64, stride: usize) -> io::Result<Vec<u8>> {
    let length = count.saturating_mul(stride as u64);
    if length > TABLE_LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "symbol table too large"));
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
