//! Ports that stay ours while the server behind them is down.
//!
//! A port that was found free and let go can be taken, by another test or as the near end of somebody's connection. So
//! a socket stays bound to it, with `SO_REUSEADDR` and without listening: the kernel gives the port to nobody else,
//! refuses connections to it, and still lets a server bind it that sets the same option, as servers do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A port of this machine, ours until it is dropped.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _bound: Socket,
}

impl Port {
    /// One that the kernel chose.
    pub fn reserve() -> Self {
        Self::reserve_on(Ipv4Addr::LOCALHOST.into())
    }

    /// The same of another address of this machine.
    pub fn reserve_on(ip: IpAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self {
            address,
            _bound: socket,
        }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.address.port()
    }

    /// With the host.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
