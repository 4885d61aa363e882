//! systemd's private socket, for when the system bus is down. Root only, and meant for systemctl.
//!
//! systemd names itself `org.freedesktop.systemd1` as the sender there, which D-Bus allows for
//! unique names only, and zbus insists. The reader here writes a unique name of the same length
//! over it, so that nothing in the message moves.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::connection::Builder;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;

const PATH: &str = "/run/systemd/private";
const SENT: &[u8; 24] = b"org.freedesktop.systemd1";
const READ: &[u8; 24] = b":1.systemd-private-peer0";
/// Header field code of the sender, and its signature.
const SENDER: [u8; 4] = [7, 1, b's', 0];
/// Length of the fixed part of a message, with the length of the header fields.
const FIXED: usize = 16;
/// What systemd sends at most, far above its longest answer.
const LONGEST: usize = 64 << 20;

/// Connects and authenticates. The calls must not go out with the last line of authentication:
/// systemd would not look at them before more bytes arrive.
pub async fn connect() -> io::Result<Builder<'static>> {
    let mut stream = UnixStream::connect(PATH).await?;
    let uid: String = rustix::process::geteuid()
        .as_raw()
        .to_string()
        .bytes()
        .map(|digit| format!("{digit:02x}"))
        .collect();
    let greeting = format!("\0AUTH EXTERNAL {uid}\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n");
    stream.write_all(greeting.as_bytes()).await?;
    let ok = line(&mut stream).await?;
    let Some(guid) = ok.strip_prefix("OK ") else {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("it answered {ok:?}"),
        ));
    };
    line(&mut stream).await?;
    Ok(Builder::authenticated_socket(Private(stream), guid.to_owned()).p2p())
}

async fn line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") && line.len() < 256 {
        line.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

struct Private(UnixStream);

impl Socket for Private {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let (read, write) = self.0.into_split();
        Split::new(
            Reader {
                socket: read,
                frame: Vec::new(),
                ready: 0,
            },
            Writer(write),
        )
    }
}

#[derive(Debug)]
struct Reader {
    socket: OwnedReadHalf,
    /// One message, as far as it was read.
    frame: Vec<u8>,
    /// How many of its bytes were mended and may be handed on.
    ready: usize,
}

#[async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        while self.ready == 0 {
            let wanted = frame_length(&self.frame)?;
            if self.frame.len() == wanted && wanted > FIXED {
                mend(&mut self.frame);
                self.ready = wanted;
                break;
            }
            let mut rest = (&mut self.socket).take((wanted - self.frame.len()) as u64);
            if rest.read_buf(&mut self.frame).await? == 0 {
                return Ok((0, Vec::new()));
            }
        }
        let length = self.ready.min(buffer.len());
        buffer[..length].copy_from_slice(&self.frame[..length]);
        self.frame.drain(..length);
        self.ready -= length;
        Ok((length, Vec::new()))
    }
}

#[derive(Debug)]
struct Writer(OwnedWriteHalf);

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write(buffer).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

/// How long the message is that starts with these bytes; the length of its fixed part while that
/// is not complete.
fn frame_length(frame: &[u8]) -> io::Result<usize> {
    if frame.len() < FIXED {
        return Ok(FIXED);
    }
    let length = FIXED + number(frame, 12).next_multiple_of(8) + number(frame, 4);
    if length > LONGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message of impossible length",
        ));
    }
    Ok(length.max(FIXED + 1))
}

/// Writes a unique name over the sender in the header fields.
fn mend(frame: &mut [u8]) {
    let end = (FIXED + number(frame, 12)).min(frame.len());
    // Fields start at multiples of eight: code, signature, then length and text of the name.
    for field in (FIXED..end).step_by(8) {
        let name = field + 8;
        if frame.get(field..field + 4) == Some(&SENDER)
            && frame.get(name..name + SENT.len()) == Some(SENT)
        {
            frame[name..name + READ.len()].copy_from_slice(READ);
            return;
        }
    }
}

/// The 32-bit number at this place, in the byte order that the message names.
fn number(frame: &[u8], at: usize) -> usize {
    let Some(&[a, b, c, d]) = frame.get(at..at + 4) else {
        return 0;
    };
    let number = if frame[0] == b'B' {
        u32::from_be_bytes([a, b, c, d])
    } else {
        u32::from_le_bytes([a, b, c, d])
    };
    usize::try_from(number).unwrap_or(usize::MAX / 4)
}
