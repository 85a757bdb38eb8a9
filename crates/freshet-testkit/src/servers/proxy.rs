//! A TCP proxy on 127.0.0.1 before one server: what a network does to a connection at a chosen moment.
//!
//! It can cut connections, refuse new ones, freeze them (they stay open and nothing passes, as with a host that is
//! gone without a word), and hold the first client message that contains a word, or the server's answer to it. It
//! understands no protocol: a word is looked for in the bytes of one read, whatever their case.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::poll_until;

const READ_BYTES: usize = 64 * 1024;
const START_DEADLINE: Duration = Duration::from_secs(60);

/// What is held of a message that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The message itself: the server has not seen it.
    Message,
    /// What the server says next on that connection: it has seen the message.
    Answer,
}

/// A proxy; connections are cut when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    refusing: bool,
    frozen: bool,
    /// How often everything was cut: a connection that was begun before and noted afterwards is cut as well.
    cuts: u64,
    armed: Option<(Vec<u8>, Hold)>,
    held: Option<Weak<Link>>,
    links: Vec<Weak<Link>>,
}

/// One client's connection and ours to the server.
#[derive(Debug)]
struct Link {
    client: TcpStream,
    server: TcpStream,
    /// The server's next bytes are to be held.
    hold_answer: Mutex<bool>,
}

impl Link {
    fn cut(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

impl Proxy {
    /// A proxy before the server on this port.
    ///
    /// # Panics
    /// When there is no port to listen on.
    #[must_use]
    pub fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0));
        let listener = listener.unwrap_or_else(|error| panic!("The proxy cannot listen: {error}"));
        let port = listener.local_addr().map_or(0, |address| address.port());
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener, server_port));
        Self { port, shared }
    }

    /// Where clients connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes every connection; new ones are welcome.
    pub fn cut(&self) {
        self.shared.state().cut();
    }

    /// Closes every connection and each new one at once, until [`Proxy::accept`].
    pub fn refuse(&self) {
        let mut state = self.shared.state();
        state.refusing = true;
        state.cut();
    }

    /// Ends [`Proxy::refuse`].
    pub fn accept(&self) {
        self.shared.state().refusing = false;
    }

    /// Nothing passes any more in either direction; connections stay open, and new ones open.
    pub fn freeze(&self) {
        self.shared.state().frozen = true;
    }

    /// Ends [`Proxy::freeze`]: what waited goes on.
    pub fn thaw(&self) {
        self.shared.state().frozen = false;
        self.shared.changed.notify_all();
    }

    /// Holds the next client message that contains this word, or the answer to it. One at a time.
    pub fn hold(&self, word: &str, hold: Hold) {
        let mut state = self.shared.state();
        assert!(state.held.is_none(), "The proxy holds a message already");
        state.armed = Some((word.to_ascii_lowercase().into_bytes(), hold));
    }

    /// Whether it holds what [`Proxy::hold`] asked for.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.shared.state().held.is_some()
    }

    /// Lets what is held go on, and forgets what was to be held.
    pub fn release(&self) {
        let mut state = self.shared.state();
        (state.armed, state.held) = (None, None);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Closes the connection whose message or answer is held; it never arrives.
    pub fn cut_held(&self) {
        let mut state = self.shared.state();
        if let Some(link) = state.held.take().and_then(|link| link.upgrade()) {
            link.cut();
        }
        state.armed = None;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.state().links.iter().filter(|link| link.strong_count() > 0).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        (state.closed, state.frozen, state.held, state.armed) = (true, false, None, None);
        state.cut();
        drop(state);
        self.shared.changed.notify_all();
        // The last connection, which the accepting thread waits for.
        poll_until(START_DEADLINE, || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }
}

impl State {
    fn cut(&mut self) {
        self.cuts += 1;
        for link in self.links.drain(..).filter_map(|link| link.upgrade()) {
            link.cut();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener, server_port: u16) {
        for client in listener.incoming() {
            let (closed, refusing, cuts) = {
                let state = self.state();
                (state.closed, state.refusing, state.cuts)
            };
            if closed {
                return;
            }
            let Ok(client) = client else { continue };
            if refusing {
                continue;
            }
            // A server that is down: the client sees its connection closed.
            let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)) else { continue };
            self.link(client, server, cuts);
        }
    }

    /// Notes a connection and carries its bytes, unless everything was cut since it came.
    fn link(self: &Arc<Self>, client: TcpStream, server: TcpStream, cuts: u64) {
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let link = Arc::new(Link { client, server, hold_answer: Mutex::new(false) });
        {
            let mut state = self.state();
            if state.cuts != cuts {
                return;
            }
            state.links.retain(|link| link.strong_count() > 0);
            state.links.push(Arc::downgrade(&link));
        }
        for to_server in [true, false] {
            let (shared, link) = (Arc::clone(self), Arc::clone(&link));
            thread::spawn(move || {
                shared.pump(&link, to_server);
                link.cut();
            });
        }
    }

    /// Carries bytes in one direction until either end is gone.
    fn pump(&self, link: &Arc<Link>, to_server: bool) {
        let (mut from, mut to) =
            if to_server { (&link.client, &link.server) } else { (&link.server, &link.client) };
        let mut bytes = vec![0; READ_BYTES];
        loop {
            let Ok(count) = from.read(&mut bytes) else { return };
            if count == 0 {
                return;
            }
            let hold =
                if to_server { self.on_message(link, &bytes[..count]) } else { take(&link.hold_answer) };
            if !self.wait(link, hold) || to.write_all(&bytes[..count]).is_err() {
                return;
            }
        }
    }

    /// Whether this message is to be held; if its answer is, that is noted.
    fn on_message(&self, link: &Arc<Link>, bytes: &[u8]) -> bool {
        let mut state = self.state();
        let Some((word, hold)) = &state.armed else { return false };
        if !contains(bytes, word) {
            return false;
        }
        let hold = *hold;
        state.armed = None;
        match hold {
            Hold::Message => true,
            Hold::Answer => {
                *link.hold_answer.lock().unwrap_or_else(PoisonError::into_inner) = true;
                false
            }
        }
    }

    /// Waits while frozen, and with `hold` until released; false when the connection was cut meanwhile.
    fn wait(&self, link: &Arc<Link>, hold: bool) -> bool {
        let mut state = self.state();
        if hold {
            state.held = Some(Arc::downgrade(link));
        }
        let is_held = |state: &State| {
            hold && state.held.as_ref().is_some_and(|held| held.as_ptr() == Arc::as_ptr(link))
        };
        while !state.closed && (state.frozen || is_held(&state)) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.closed
    }
}

fn take(flag: &Mutex<bool>) -> bool {
    std::mem::take(&mut *flag.lock().unwrap_or_else(PoisonError::into_inner))
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::wait_until;

    const DEADLINE: Duration = Duration::from_secs(300);

    /// A server that answers every line with its capitals.
    fn shouting_server() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut bytes = [0; 1024];
                    while let Ok(count @ 1..) = stream.read(&mut bytes) {
                        let _ = stream.write_all(&bytes[..count].to_ascii_uppercase());
                    }
                });
            }
        });
        port
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        stream
    }

    /// What comes within a moment: nothing, or the end.
    fn answer(mut stream: &TcpStream) -> Option<String> {
        let mut bytes = [0; 1024];
        stream.read(&mut bytes).ok().map(|count| String::from_utf8_lossy(&bytes[..count]).into_owned())
    }

    #[track_caller]
    fn wait_for(stream: &TcpStream, text: &str) {
        wait_until(DEADLINE, text, || {
            let answer = answer(stream);
            assert!(answer.is_none() || answer.as_deref() == Some(text), "{answer:?} is not {text}");
            answer.is_some()
        });
    }

    #[test]
    fn bytes_pass_until_frozen_refused_or_cut() {
        let proxy = Proxy::start(shouting_server());
        let mut client = connect(&proxy);
        client.write_all(b"one").unwrap();
        wait_for(&client, "ONE");
        proxy.freeze();
        client.write_all(b"two").unwrap();
        assert_eq!(answer(&client), None);
        proxy.thaw();
        wait_for(&client, "TWO");
        proxy.cut();
        wait_until(DEADLINE, "the end", || answer(&client).as_deref() == Some(""));
        proxy.refuse();
        let refused = connect(&proxy);
        wait_until(DEADLINE, "the refusal", || answer(&refused).as_deref() == Some(""));
        proxy.accept();
        client = connect(&proxy);
        client.write_all(b"three").unwrap();
        wait_for(&client, "THREE");
    }

    #[test]
    fn a_message_or_its_answer_is_held() {
        let proxy = Proxy::start(shouting_server());
        for hold in [Hold::Message, Hold::Answer] {
            let mut client = connect(&proxy);
            proxy.hold("commit", hold);
            client.write_all(b"begin").unwrap();
            wait_for(&client, "BEGIN");
            client.write_all(b"Commit").unwrap();
            wait_until(DEADLINE, "the hold", || proxy.is_holding());
            assert_eq!(answer(&client), None);
            proxy.release();
            wait_for(&client, "COMMIT");
        }
        let mut client = connect(&proxy);
        proxy.hold("commit", Hold::Answer);
        client.write_all(b"commit").unwrap();
        wait_until(DEADLINE, "the hold", || proxy.is_holding());
        proxy.cut_held();
        assert!(!proxy.is_holding());
        wait_until(DEADLINE, "the end", || answer(&client).as_deref() == Some(""));
    }
}
