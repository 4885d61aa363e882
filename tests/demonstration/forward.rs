//! Ports of the host that lead into a machine.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};

use crate::machine::Machine;

/// Opens a free port on the host's loopback that leads to this one on the machine's, for as long as
/// the process lives.
pub fn forward(machine: &Machine, port: u16) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let network = machine.network()?;
    std::thread::spawn(move || {
        while let Ok((outside, _)) = listener.accept() {
            // Where nobody answers inside, the connection is closed.
            let inside = network.open(move || TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
            inside.and_then(|inside| join(&outside, &inside)).ok();
        }
    });
    Ok(address)
}

/// Passes on what comes, both ways.
fn join(a: &TcpStream, b: &TcpStream) -> io::Result<()> {
    for (from, to) in [(a, b), (b, a)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        std::thread::spawn(move || {
            // An end that goes away is the end of it.
            io::copy(&mut from, &mut to).ok();
            to.shutdown(Shutdown::Write).ok();
        });
    }
    Ok(())
}
