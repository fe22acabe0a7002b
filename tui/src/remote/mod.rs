//! The only module that touches another process: memory, `/proc`, symbols, and finding the interpreter.

mod elf;
mod error;
mod image;
mod interpreter;
#[allow(unsafe_code)]
mod memory;
mod native;
#[allow(unsafe_code)]
mod pause;
mod procfs;
mod sockets;
mod syscalls;
mod target;

pub use elf::{Identity, MACHINE_X86_64, Symbols, identify};
pub use error::AttachError;
pub use image::Image;
pub use interpreter::{Interpreter, TypeAddresses};
pub use memory::{Memory, ProcessMemory, ReadCost, Request, int_at, word_at};
pub use native::NativeCode;
pub use pause::Pause;
pub use procfs::{
    Activity, ActivityFile, Mapping, Proc, Schedule, mapping_of, parse_activity, parse_maps, stolen_ms,
};
pub use sockets::{Peers, describe_link, socket_inode};
pub use syscalls::syscall_name;
pub use target::{GreenletModule, Target};
