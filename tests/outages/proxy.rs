//! A network between clients and a broker that can be bad: cut, slow, narrow.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Bytes taken at once.
const PIECE: usize = 16 << 10;

#[derive(Default)]
struct State {
    cut: bool,
    /// How long each piece of data takes.
    latency: Duration,
    /// And how long each byte of it.
    per_byte: Duration,
    connections: Vec<TcpStream>,
    accepted: usize,
    refused: usize,
}

/// Passes connections on to a broker; ends with the process.
#[derive(Clone)]
pub(crate) struct Proxy {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Proxy {
    /// Listens on one port and passes on to another.
    pub(crate) fn start(port: u16, broker: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let proxy = Self { shared: Arc::default() };
        let accepting = proxy.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                accepting.accept(client.unwrap(), broker);
            }
        });
        proxy
    }

    fn accept(&self, client: TcpStream, broker: u16) {
        let mut state = self.shared.0.lock().unwrap();
        if state.cut {
            state.refused += 1;
            self.shared.1.notify_all();
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", broker)) else { return };
        state.accepted += 1;
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            state.connections.push(from.try_clone().unwrap());
            let proxy = self.clone();
            std::thread::spawn(move || proxy.pass(from, to));
        }
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut piece = vec![0; PIECE];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            let state = self.shared.0.lock().unwrap();
            let time = state.latency + state.per_byte * u32::try_from(count).unwrap();
            // The network's own time, unless it is cut meanwhile.
            let waited = self.shared.1.wait_timeout_while(state, time, |state| !state.cut).unwrap();
            let cut = waited.0.cut;
            drop(waited);
            if cut || to.write_all(&piece[..count]).is_err() {
                break;
            }
        }
        // Either side may be gone already.
        drop(to.shutdown(Shutdown::Both));
        drop(from.shutdown(Shutdown::Both));
    }

    /// Ends all connections and refuses others.
    pub(crate) fn cut(&self) {
        let mut state = self.shared.0.lock().unwrap();
        state.cut = true;
        state.refused = 0;
        for connection in state.connections.drain(..) {
            drop(connection.shutdown(Shutdown::Both));
        }
        self.shared.1.notify_all();
    }

    /// Waits until so many attempts to connect were refused since it was cut.
    pub(crate) fn wait_for_refusals(&self, count: usize, limit: Duration) {
        let waited =
            self.shared.1.wait_timeout_while(self.shared.0.lock().unwrap(), limit, |s| s.refused < count);
        assert!(!waited.unwrap().1.timed_out(), "nobody tries to connect");
    }

    /// Lets connections through again.
    pub(crate) fn mend(&self) {
        self.shared.0.lock().unwrap().cut = false;
    }

    /// Makes it slow.
    pub(crate) fn slow(&self, latency: Duration, bytes_per_second: u32) {
        let mut state = self.shared.0.lock().unwrap();
        state.latency = latency;
        state.per_byte = Duration::from_secs(1) / bytes_per_second;
    }
}
