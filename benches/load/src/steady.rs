//! Long-lived connections: echo and HTTP keep-alive, with idle ones beside them.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustls::ClientConfig;

use crate::args::{Args, Mode};
use crate::connection::{Connection, Step};
use crate::exchange::{Echo, Exchange, Http, shared_tail};
use crate::link::{Link, tls_config};
use crate::report::Report;
use crate::window::{Window, read_server};

const READ_BUFFER_BYTES: usize = 256 * 1024;
const EVENTS_PER_WAIT: usize = 1024;

/// Opens the connections, keeps each busy until the window is over.
pub fn run(args: &Args) -> io::Result<Report> {
    let tls = args.tls_certificate.as_deref().map(tls_config).transpose()?;
    let before = read_server(args.server_pid)?;
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    let idle = open(args, tls.as_ref(), args.idle)?;
    let mut active = open(args, tls.as_ref(), args.connections)?;
    let mut parked = Vec::with_capacity(idle.len());
    for connection in idle {
        parked.push(use_once(connection, &mut buffer)?);
    }
    let connected = read_server(args.server_pid)?;
    let mut window = Window::new(args, before, connected)?;
    drive(&mut active, &mut window, &mut buffer)?;
    window.close()
}

fn open(args: &Args, tls: Option<&Arc<ClientConfig>>, count: usize) -> io::Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(count);
    let shared = match args.mode {
        Mode::Http => shared_tail(0),
        Mode::Echo | Mode::Churn => shared_tail(args.size),
    };
    for index in 0..count {
        let exchange = match args.mode {
            Mode::Http => Exchange::Http(Http::new(&args.path, args.size)),
            Mode::Echo | Mode::Churn => {
                let first = (index as u64) << 40;
                Exchange::Echo(Echo::new(args.size, first, Rc::clone(&shared)))
            }
        };
        connections.push(Connection::new(Link::connect(&args.address, tls)?, exchange));
    }
    Ok(connections)
}

/// One request, so that the server has accepted the connection and waits in its next recv.
fn use_once(mut connection: Connection, buffer: &mut [u8]) -> io::Result<Connection> {
    connection.link().set_nonblocking(false)?;
    connection.start()?;
    connection.exchange_blocking(buffer)?;
    connection.link().set_nonblocking(true)?;
    Ok(connection)
}

/// Reads whatever has arrived before it sends the next requests of those connections: the server then gets
/// its work in bursts, as a busy one does, and its figure is not one wake-up per request.
fn drive(active: &mut [Connection], window: &mut Window, buffer: &mut [u8]) -> io::Result<()> {
    let mut interests = Interests::new(active.len())?;
    for (index, connection) in active.iter_mut().enumerate() {
        let step = connection.start()?;
        interests.add(index, connection, step.wants_write)?;
    }
    let mut events = Vec::with_capacity(EVENTS_PER_WAIT);
    let mut answered = Vec::with_capacity(EVENTS_PER_WAIT);
    let wait = timespec(Duration::from_millis(20));
    while interests.count > 0 {
        events.clear();
        match epoll::wait(&interests.poll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        for event in &events {
            let (flags, index) = (event.flags, event.data.u64() as usize);
            let connection = &mut active[index];
            match advance(connection, flags, buffer) {
                Ok(Step { latency_ns: Some(latency_ns), .. }) => {
                    window.completed(latency_ns);
                    answered.push(index);
                }
                Ok(step) => interests.update(index, connection, step.wants_write)?,
                Err(error) => interests.give_up(connection, &error, window)?,
            }
        }
        for index in answered.drain(..) {
            let connection = &mut active[index];
            match connection.start() {
                Ok(step) => interests.update(index, connection, step.wants_write)?,
                Err(error) => interests.give_up(connection, &error, window)?,
            }
        }
        if window.is_over(!events.is_empty())? {
            return Ok(());
        }
    }
    Err(io::Error::other("every connection failed"))
}

/// The epoll set, with what each connection in it waits for.
struct Interests {
    poll: OwnedFd,
    writes: Vec<bool>,
    count: usize,
}

impl Interests {
    fn new(connections: usize) -> io::Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Interests { poll, writes: vec![false; connections], count: 0 })
    }

    fn add(&mut self, index: usize, connection: &Connection, wants_write: bool) -> io::Result<()> {
        self.writes[index] = wants_write;
        self.count += 1;
        Ok(epoll::add(&self.poll, connection.link(), data(index), interest(wants_write))?)
    }

    fn update(&mut self, index: usize, connection: &Connection, wants_write: bool) -> io::Result<()> {
        if self.writes[index] != wants_write {
            self.writes[index] = wants_write;
            epoll::modify(&self.poll, connection.link(), data(index), interest(wants_write))?;
        }
        Ok(())
    }

    fn give_up(&mut self, connection: &Connection, error: &io::Error, window: &mut Window) -> io::Result<()> {
        window.failed(error);
        self.count -= 1;
        Ok(epoll::delete(&self.poll, connection.link())?)
    }
}

fn advance(connection: &mut Connection, flags: epoll::EventFlags, buffer: &mut [u8]) -> io::Result<Step> {
    let readable = epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
    if flags.contains(epoll::EventFlags::OUT) {
        let step = connection.write()?;
        if !flags.intersects(readable) {
            return Ok(step);
        }
    }
    connection.read(buffer)
}

fn interest(wants_write: bool) -> epoll::EventFlags {
    if wants_write { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN }
}

fn data(index: usize) -> epoll::EventData {
    epoll::EventData::new_u64(index as u64)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}
