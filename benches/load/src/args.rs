//! Command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::target::Target;

/// What one request is.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Send SIZE bytes, expect the same bytes back.
    Echo,
    /// GET PATH on a keep-alive connection, expect status 200 and a body of SIZE bytes.
    Http,
    /// Connect, echo SIZE bytes, read to end of file, close.
    Churn,
}

/// Closed-loop load against one server; prints one JSON object.
#[derive(Parser)]
#[command(name = "load")]
pub struct Args {
    /// What one request is
    #[arg(value_enum)]
    pub mode: Mode,
    /// Address of the server: HOST:PORT, udp:HOST:PORT, unix:PATH or unix:@ABSTRACT
    #[arg(long)]
    pub address: Target,
    /// Connections with one request in flight each
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Further connections that are opened, used once and then left alone
    #[arg(long, default_value_t = 0)]
    pub idle: usize,
    /// Bytes of one message, or of the expected HTTP body
    #[arg(long, default_value_t = 512)]
    pub size: usize,
    /// Path of the HTTP request
    #[arg(long, default_value = "/")]
    pub path: String,
    /// Seconds before the measured window
    #[arg(long, default_value_t = 0.3, value_parser = seconds)]
    pub warmup_s: f64,
    /// Length of the measured window; ignored with --requests
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub seconds: f64,
    /// End the window after this many requests instead
    #[arg(long)]
    pub requests: Option<u64>,
    /// Speak TLS and trust this certificate (PEM or DER as written by openssl)
    #[arg(long)]
    pub tls_certificate: Option<PathBuf>,
    /// Server process whose CPU clock and resident set are read
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// Give up when nothing has been answered for so long
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub stall_s: f64,
}

impl Args {
    /// Time before the measured window.
    pub fn warmup(&self) -> Duration {
        Duration::from_secs_f64(self.warmup_s)
    }

    /// Length of the measured window, or the bound on a counted one.
    pub fn window(&self) -> Duration {
        match self.requests {
            Some(_) => Duration::from_secs(120),
            None => Duration::from_secs_f64(self.seconds),
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=3600.0).contains(&value) => Ok(value),
        _ => Err("expected seconds between 0 and 3600".into()),
    }
}
