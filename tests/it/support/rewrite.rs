//! A relay that changes words in a server's answers: how a server looks that cannot be had (an old one, one whose clock is
//! wrong).
//!
//! **Limits.** A word and what stands for it have one length, and a word that is cut in two by the network is not found: good
//! for short answers on loopback.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// A relay; it ends with the test process.
#[derive(Debug)]
pub struct Rewriter {
    address: SocketAddr,
    changes: Arc<AtomicBool>,
}

impl Rewriter {
    /// Before `server`, on its address with another port; each word of the answers is replaced by the one beside it.
    pub fn start(server: SocketAddr, words: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind((server.ip(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let words: Vec<(Vec<u8>, Vec<u8>)> = words
            .iter()
            .map(|(from, to)| {
                assert_eq!(from.len(), to.len(), "{from} and {to}");
                (from.as_bytes().to_vec(), to.as_bytes().to_vec())
            })
            .collect();
        let changes = Arc::new(AtomicBool::new(true));
        let switch = Arc::clone(&changes);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(upstream) = TcpStream::connect(server) else {
                    continue;
                };
                let back = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
                let (words, switch) = (words.clone(), Arc::clone(&switch));
                let asking = Arc::clone(&switch);
                thread::spawn(move || relay(client, upstream, &[], &asking));
                thread::spawn(move || relay(back.0, back.1, &words, &switch));
            }
        });
        Self { address, changes }
    }

    /// Changes the words from now on, or no longer.
    pub fn switch(&self, on: bool) {
        self.changes.store(on, Ordering::SeqCst);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn relay(
    mut from: TcpStream,
    mut to: TcpStream,
    words: &[(Vec<u8>, Vec<u8>)],
    switch: &AtomicBool,
) {
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let piece = &mut buffer[..length];
        let words = if switch.load(Ordering::SeqCst) {
            words
        } else {
            &[]
        };
        for (word, instead) in words {
            for at in 0..(length + 1).saturating_sub(word.len()) {
                if piece[at..].starts_with(word) {
                    piece[at..at + word.len()].copy_from_slice(instead);
                }
            }
        }
        if to.write_all(piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
