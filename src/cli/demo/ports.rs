//! The ports of the demo: the usual ones if they are free, so that the printed lines are those of the documents.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

/// Ports that are chosen before anything listens on them: simulator and bridge need each other's.
pub(super) struct Ports {
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) simulator: SocketAddr,
    /// A sentence for each usual port that another process has.
    pub(super) taken: Vec<String>,
}

impl Ports {
    pub(super) fn choose() -> Self {
        let mut taken = Vec::new();
        // All of them are bound until all are chosen, so that no two are the same.
        let mut bound = Vec::new();
        let mut choose = |port: u16, whose: &str| {
            let address = free_or_any(port, &mut bound);
            if address.port() != port {
                let instead = address.port();
                taken.push(format!("port {port} is taken: {whose} has {instead}"));
            }
            address
        };
        Self {
            grpc: choose(50051, "the bridge's gRPC server"),
            http: choose(8080, "the bridge's webhook server"),
            admin: choose(9090, "the bridge's ops server"),
            simulator: choose(8090, "the simulator"),
            taken,
        }
    }
}

fn free_or_any(port: u16, bound: &mut Vec<TcpListener>) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut free = || -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(usual).or_else(|_| TcpListener::bind(any))?;
        let address = listener.local_addr()?;
        bound.push(listener);
        Ok(address)
    };
    // Where nothing can be bound, the bridge reports it.
    free().unwrap_or(usual)
}
