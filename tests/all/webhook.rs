//! A receiver of notifications, inside a machine's network.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::Value;

use crate::machine::Machine;
use crate::wait::PATIENCE;

/// One POST of an Alertmanager.
#[derive(Debug, Clone)]
pub struct Notification {
    /// When it came.
    pub at: Instant,
    /// The path of the URL, such as `/critical`.
    pub path: String,
    /// The JSON as it came: `status`, `groupLabels`, `alerts` and more.
    pub body: Value,
}

impl Notification {
    /// Its alerts, firing and resolved ones: each with `status`, `labels` and `annotations`.
    pub fn alerts(&self) -> &[Value] {
        self.body["alerts"].as_array().map_or(&[], Vec::as_slice)
    }
}

/// Listens on the machine's loopback until it is dropped, accepts every notification and keeps it.
#[derive(Debug)]
pub struct Webhook {
    listener: TcpListener,
    received: Arc<Mutex<Vec<Notification>>>,
    thread: Option<JoinHandle<()>>,
}

impl Webhook {
    #[track_caller]
    pub fn listen(machine: &Machine, port: u16) -> Self {
        let listener = machine
            .in_network(move || TcpListener::bind((Ipv4Addr::LOCALHOST, port)))
            .expect("the port is free");
        let accepting = listener.try_clone().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&received);
        let thread = std::thread::spawn(move || {
            // Ends with an error when the listener is shut down.
            while let Ok((stream, _)) = accepting.accept() {
                // What is no notification gets no answer, of which the sender complains in its log.
                if let Ok(notification) = receive(stream) {
                    into.lock().unwrap().push(notification);
                }
            }
        });
        Self {
            listener,
            received,
            thread: Some(thread),
        }
    }

    /// What has come so far, in order.
    pub fn received(&self) -> Vec<Notification> {
        self.received.lock().unwrap().clone()
    }

    /// As [`received`](Self::received), and forgets it.
    pub fn take(&self) -> Vec<Notification> {
        std::mem::take(&mut *self.received.lock().unwrap())
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both).ok();
        if let Some(thread) = self.thread.take() {
            // It has nothing to say that matters now.
            thread.join().ok();
        }
    }
}

fn receive(stream: TcpStream) -> io::Result<Notification> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().map_err(io::Error::other)?;
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = serde_json::from_slice(&body)?;
    let at = Instant::now();
    reader
        .into_inner()
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    Ok(Notification { at, path, body })
}
