//! Native ceiling: an echo server on `tokio-uring`, written the way its documentation does.
//!
//! Prints one JSON line with its port when it listens, then serves until it is killed.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};

use tokio_uring::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let buffer_bytes = match std::env::args().nth(1) {
        Some(text) => text.parse().map_err(io::Error::other)?,
        None => 4096,
    };
    tokio_uring::start(async move {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let port = listener.local_addr()?.port();
        println!("{{\"port\": {port}, \"driver\": \"tokio-uring\"}}");
        io::stdout().flush()?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio_uring::spawn(async move {
                // A reset by the client ends its connection, not the server.
                let _ = serve(stream, buffer_bytes).await;
            });
        }
    })
}

async fn serve(stream: TcpStream, buffer_bytes: usize) -> io::Result<()> {
    let mut buffer = vec![0u8; buffer_bytes];
    loop {
        let (received, filled) = stream.read(buffer).await;
        let count = received?;
        if count == 0 {
            return Ok(());
        }
        let (written, slice) = stream.write_all(tokio_uring::buf::BoundedBuf::slice(filled, ..count)).await;
        written?;
        buffer = tokio_uring::buf::Slice::into_inner(slice);
    }
}
