//! evtop observes a running Eventlet, gevent or asyncio process from outside: it reads its memory and `/proc`, and
//! neither stops it, nor writes to it, nor needs its cooperation.
//!
//! Layers, each knowing only those before it: [`remote`] reads bytes (the only unsafe code), [`layout`] says where
//! fields are, [`decode`] turns bytes into objects, [`state`] is plain data, [`observe`] assembles a snapshot,
//! [`watch`] times what blocks a hub, [`lint`] judges, [`report`] prints, [`view`] shows the screens, [`cli`] parses
//! the command line.
#![deny(unsafe_code)]

pub mod cli;
pub mod decode;
pub mod layout;
pub mod lint;
pub mod observe;
pub mod remote;
pub mod report;
pub mod state;
pub mod view;
pub mod watch;
