//! A process opened for observation: checked, identified, its interpreter and its greenlet module located.

use super::elf::{Identity, MACHINE_X86_64, Symbols, identify};
use super::error::AttachError;
use super::interpreter::Interpreter;
use super::memory::ProcessMemory;
use super::procfs::{Mapping, Proc};
use std::path::PathBuf;

/// Where the greenlet module keeps what is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GreenletModule {
    /// `PyGreenlet_Type`.
    pub greenlet_type: u64,
    /// First word of every user greenlet's implementation object.
    pub user_vtable: Option<u64>,
    /// First word of every main greenlet's implementation object.
    pub main_vtable: Option<u64>,
}

/// A process that can be observed.
#[derive(Debug)]
pub struct Target {
    /// Its memory.
    pub memory: ProcessMemory,
    /// Its `/proc` directory.
    pub process: Proc,
    /// Its interpreter.
    pub interpreter: Interpreter,
    /// Its greenlet module, if loaded.
    pub greenlet: Option<GreenletModule>,
    /// Start time: tells whether the pid was reused, or the program replaced.
    pub start_time_ticks: u64,
}

impl Target {
    /// Opens a process, or says in one sentence why it cannot be observed.
    pub fn open(pid: i32) -> Result<Self, AttachError> {
        let process = Proc::new(pid);
        let start_time_ticks = process.start_time_ticks().ok_or(AttachError::NoSuchProcess { pid })?;
        if process.thread_state(pid) == Some('Z') {
            return Err(AttachError::Zombie { pid });
        }
        let exe = process.path("exe");
        match identify(&exe) {
            Ok(Some(identity)) => check_machine(pid, identity)?,
            Ok(None) => return Err(not_python(&process)),
            // A kernel thread has no program.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Err(not_python(&process)),
            Err(error) => return Err(AttachError::from_io(pid, "open the program", error)),
        }
        let maps = process.maps().map_err(|error| AttachError::from_io(pid, "read the mappings", error))?;
        let memory = ProcessMemory::new(pid);
        let readable = maps.iter().find(|mapping| mapping.is_readable).ok_or_else(|| not_python(&process))?;
        memory.probe(readable.start).map_err(|error| AttachError::from_io(pid, "read the memory", error))?;
        let interpreter = Interpreter::find(&memory, &process, &maps)?;
        let greenlet = find_greenlet(&process, &maps);
        Ok(Self { memory, process, interpreter, greenlet, start_time_ticks })
    }

    /// Looks again for a greenlet module that may have been imported since.
    pub fn refresh_modules(&mut self, maps: &[Mapping]) {
        if self.greenlet.is_none() {
            self.greenlet = find_greenlet(&self.process, maps);
        }
    }

    /// Whether the same program still runs under this pid.
    pub fn is_alive(&self) -> bool {
        self.process.start_time_ticks() == Some(self.start_time_ticks)
            && self.process.thread_state(self.process.pid()) != Some('Z')
    }
}

fn not_python(process: &Proc) -> AttachError {
    let command = process.text("comm").unwrap_or_default().trim().to_owned();
    AttachError::NotPython { pid: process.pid(), command }
}

fn check_machine(pid: i32, identity: Identity) -> Result<(), AttachError> {
    const MACHINE_386: u16 = 3;
    if identity.machine == MACHINE_386 || (identity.machine == MACHINE_X86_64 && !identity.is_64_bit) {
        return Err(AttachError::Not64Bit { pid });
    }
    if identity.machine != MACHINE_X86_64 {
        let machine = match identity.machine {
            183 => "AArch64".to_owned(),
            40 => "32-bit ARM".to_owned(),
            243 => "RISC-V".to_owned(),
            21 => "PowerPC 64".to_owned(),
            22 => "s390x".to_owned(),
            other => format!("ELF machine {other}"),
        };
        return Err(AttachError::WrongArchitecture { pid, machine });
    }
    Ok(())
}

/// A mapped file, from our side of its mount namespace; works for a replaced file through `map_files`.
pub(super) fn file_of(process: &Proc, mapping: &Mapping) -> PathBuf {
    let through_root = process.in_root(mapping.path.trim_end_matches(" (deleted)"));
    if !mapping.path.ends_with(" (deleted)") && through_root.exists() {
        return through_root;
    }
    process.path(&format!("map_files/{:x}-{:x}", mapping.start, mapping.end))
}

/// The mapping of a file's first page, for each file whose base name `is_wanted` accepts.
pub(super) fn first_pages<'m>(
    maps: &'m [Mapping],
    is_wanted: impl Fn(&str) -> bool + 'm,
) -> impl Iterator<Item = &'m Mapping> {
    maps.iter().filter(move |mapping| {
        mapping.offset == 0
            && mapping.path.starts_with('/')
            && mapping.path.rsplit('/').next().is_some_and(&is_wanted)
    })
}

fn find_greenlet(process: &Proc, maps: &[Mapping]) -> Option<GreenletModule> {
    const USER: &str = "_ZTVN8greenlet12UserGreenletE";
    const MAIN: &str = "_ZTVN8greenlet12MainGreenletE";
    // The vtable symbol stands before the offset-to-top and type-info words; objects point behind those.
    const VTABLE_HEAD: u64 = 16;
    first_pages(maps, |name| name.starts_with("_greenlet") && name.contains(".so")).find_map(|mapping| {
        let wanted = |name: &str| name == "PyGreenlet_Type" || name == USER || name == MAIN;
        let symbols = Symbols::of_file(&file_of(process, mapping), wanted).ok()?;
        Some(GreenletModule {
            greenlet_type: symbols.address("PyGreenlet_Type", mapping.start)?,
            user_vtable: symbols.address(USER, mapping.start).map(|address| address + VTABLE_HEAD),
            main_vtable: symbols.address(MAIN, mapping.start).map(|address| address + VTABLE_HEAD),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a program file that starts like this.
    fn sentence(bits: u8, endianness: u8, machine: [u8; 2]) -> Option<(u8, String)> {
        let name =
            format!("evtop-elf-{}-{bits}-{endianness}-{}-{}", std::process::id(), machine[0], machine[1]);
        let path = std::env::temp_dir().join(name);
        let mut head = [0; 20];
        head[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', bits, endianness]);
        head[18..].copy_from_slice(&machine);
        std::fs::write(&path, head).expect("the directory for temporary files is writable");
        let identity = identify(&path).expect("the file was just written").expect("it starts like ELF");
        std::fs::remove_file(&path).expect("it was just written");
        check_machine(7, identity).err().map(|error| (error.exit_code(), error.to_string()))
    }

    #[test]
    fn programs_of_other_machines_are_refused_by_their_name() {
        assert_eq!(sentence(2, 1, [62, 0]), None);
        let other = |machine: &str| {
            Some((6, format!("process 7 is built for {machine}; evtop reads x86-64 processes only")))
        };
        assert_eq!(sentence(2, 1, [183, 0]), other("AArch64"));
        assert_eq!(sentence(2, 1, [243, 0]), other("RISC-V"));
        assert_eq!(sentence(2, 2, [0, 22]), other("s390x"));
        assert_eq!(sentence(2, 1, [1, 1]), other("ELF machine 257"));
        // i386, and x32: 32-bit programs for a 64-bit processor.
        for (bits, machine) in [(1, [3, 0]), (1, [62, 0])] {
            let (code, text) = sentence(bits, 1, machine).expect("refused");
            assert_eq!(code, 6);
            assert!(text.contains("32-bit"), "{text}");
        }
    }
}
