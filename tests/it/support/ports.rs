//! Addresses on which nothing listens until the test does. Port 0 gives one that can be bound at once; a port that was released
//! and is bound again later needs more: meanwhile, another test's port 0 or outgoing connection could get it.

use std::{
    net::{SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the ports that systems give for port 0 and to outgoing connections (from 32,768 on), and those of `scripts/broker`.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;

/// An address that no other test of this process gets.
pub fn unused_address() -> SocketAddr {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Processes that run side by side begin at different ports.
    let begin = u16::try_from(std::process::id().wrapping_mul(37) % u32::from(COUNT)).unwrap();
    for _ in 0..COUNT {
        let offset = begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let address = SocketAddr::from(([127, 0, 0, 1], FIRST + offset));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port from {FIRST} to {} is free", FIRST + COUNT - 1);
}
