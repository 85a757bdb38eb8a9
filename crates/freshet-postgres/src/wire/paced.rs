//! A TCP socket that is read in gulps while it is busy.
//!
//! A walsender sends each message by itself. To a reader that waits for it, every one of them is a wake-up, which costs
//! both sides more than the message. While much comes in, the socket is therefore taken out of the runtime's poll, where
//! each arrival would wake a thread although nobody reads, and is looked at after a pause. Meanwhile its small receive
//! buffer fills, and from then on the sender's own buffer, which costs it no packet: what was gathered there follows in
//! large pieces as soon as we read. What comes slowly is read as it comes: a few transactions a second are never kept back.
//!
//! Not for Unix sockets, which gather nothing. Invariant: a pause follows only on a read, and ends by a look at the
//! socket, so that nothing that has arrived waits for longer than [`PAUSE_MAX`] while somebody reads.

use std::future::Future as _;
use std::io::{self, Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// So much in a millisecond, over a window, is busy: some ten thousand small rows a second.
const BUSY_BYTES_PER_MS: usize = 4 << 10;
/// What is judged at once, so that the messages of one transaction are not taken for a flood.
const WINDOW: Duration = Duration::from_millis(2);
/// The pauses grow while less than a gulp comes after one.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(8);
const GULP_BYTES: usize = 256 << 10;
/// So many looks after each other that find little put it back into the poll: on a machine that is short of CPU the sender
/// may be away for a while in the middle of a flood.
const IDLE_LOOKS_MAX: u32 = 3;
/// After a read of so much, or of all that there was room for, there is more: no pause.
const FULL_BYTES: usize = 32 << 10;

/// The socket, in the poll of the runtime or out of it.
enum Socket {
    Polled(TcpStream),
    Parked(std::net::TcpStream),
    /// On the way from one to the other; left like this by a socket that could not be moved.
    Lost,
}

/// A socket that paces its reads.
pub(super) struct Paced {
    socket: Socket,
    /// While parked: no look before this.
    pause: Option<Pin<Box<Sleep>>>,
    pause_for: Duration,
    window_began: Instant,
    window_bytes: usize,
    /// Looks without much, after each other.
    idle_looks: u32,
    /// How often it was parked.
    parked: u64,
}

impl Paced {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self {
            socket: Socket::Polled(socket),
            pause: None,
            pause_for: PAUSE_MIN,
            window_began: Instant::now(),
            window_bytes: 0,
            idle_looks: 0,
            parked: 0,
        }
    }

    /// Takes the socket out of the poll.
    fn park(&mut self) -> io::Result<()> {
        if let Socket::Polled(socket) = std::mem::replace(&mut self.socket, Socket::Lost) {
            self.socket = Socket::Parked(socket.into_std()?);
            self.parked += 1;
            (self.pause_for, self.idle_looks) = (PAUSE_MIN, 0);
        }
        Ok(())
    }

    /// Puts it back.
    fn unpark(&mut self) -> io::Result<()> {
        self.pause = None;
        match std::mem::replace(&mut self.socket, Socket::Lost) {
            Socket::Parked(socket) => self.socket = Socket::Polled(TcpStream::from_std(socket)?),
            other => self.socket = other,
        }
        (self.window_began, self.window_bytes) = (Instant::now(), 0);
        Ok(())
    }

    /// After a read of the polled socket: whether it is to be parked.
    fn judge_polled(&mut self, bytes: usize) -> io::Result<()> {
        self.window_bytes += bytes;
        let now = Instant::now();
        let window = now - self.window_began;
        if window < WINDOW {
            return Ok(());
        }
        let is_busy = is_busy(self.window_bytes, window);
        (self.window_began, self.window_bytes) = (now, 0);
        if is_busy {
            self.park()?;
            self.begin_pause(now);
        }
        Ok(())
    }

    /// After a read of the parked socket: a pause, another look at once, or back into the poll.
    fn judge_parked(&mut self, bytes: usize, is_full: bool) -> io::Result<()> {
        self.window_bytes += bytes;
        if is_full {
            return Ok(());
        }
        let now = Instant::now();
        let window = now - self.window_began;
        self.idle_looks = match is_busy(self.window_bytes, window.max(PAUSE_MIN)) {
            true => 0,
            false => self.idle_looks + 1,
        };
        if self.idle_looks >= IDLE_LOOKS_MAX {
            return self.unpark();
        }
        self.pause_for = match self.window_bytes < GULP_BYTES {
            true => (self.pause_for * 2).min(PAUSE_MAX),
            false => self.pause_for,
        };
        self.begin_pause(now);
        Ok(())
    }

    fn begin_pause(&mut self, now: Instant) {
        (self.window_began, self.window_bytes) = (now, 0);
        self.pause = Some(Box::pin(sleep_until(now + self.pause_for)));
    }

    fn poll_parked(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let Socket::Parked(socket) = &mut self.socket else { return Poll::Ready(Err(lost())) };
        match socket.read(buffer.initialize_unfilled()) {
            Ok(bytes) => {
                buffer.advance(bytes);
                let is_full = bytes > 0 && (bytes >= FULL_BYTES || buffer.remaining() == 0);
                Poll::Ready(self.judge_parked(bytes, is_full))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.poll_parked(context, buffer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Everything was taken: what was gathered since the last pause says whether to pause again.
                if let Err(error) = self.judge_parked(0, false) {
                    return Poll::Ready(Err(error));
                }
                Pin::new(self).poll_read(context, buffer)
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

fn is_busy(bytes: usize, within: Duration) -> bool {
    bytes as u128 * 1_000_000 >= BUSY_BYTES_PER_MS as u128 * within.as_nanos()
}

fn lost() -> io::Error {
    io::Error::other("the socket could not be moved out of the poll or back")
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Socket::Polled(socket) = &mut this.socket else { return this.poll_parked(context, buffer) };
        let before = buffer.filled().len();
        ready!(Pin::new(socket).poll_read(context, buffer))?;
        Poll::Ready(this.judge_polled(buffer.filled().len() - before))
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let Socket::Parked(socket) = &mut this.socket {
            match socket.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => this.unpark()?,
                outcome => return Poll::Ready(outcome),
            }
        }
        match &mut this.socket {
            Socket::Polled(socket) => Pin::new(socket).poll_write(context, bytes),
            Socket::Parked(_) | Socket::Lost => Poll::Ready(Err(lost())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unpark()?;
        match &mut self.socket {
            Socket::Polled(socket) => Pin::new(socket).poll_shutdown(context),
            Socket::Parked(_) | Socket::Lost => Poll::Ready(Err(lost())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A paced socket, and its peer.
    async fn pair() -> (Paced, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Paced::new(socket), listener.accept().unwrap().0)
    }

    fn pattern(at: usize) -> u8 {
        (at * 31 % 251) as u8
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_flood_is_read_in_gulps_and_nothing_of_it_is_lost() {
        const BYTES: usize = 64 << 20;
        let (mut paced, mut peer) = pair().await;
        peer.set_nodelay(true).unwrap();
        let writer = thread::spawn(move || {
            let text: Vec<u8> = (0..BYTES).map(pattern).collect();
            text.chunks(257).for_each(|chunk| peer.write_all(chunk).unwrap());
            // What is written while it is parked arrives.
            let mut answer = [0; 5];
            peer.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"known");
        });
        let (mut read, mut buffer) = (0, vec![0; 300 << 10]);
        let mut answered = false;
        while read < BYTES {
            let bytes = paced.read(&mut buffer).await.unwrap();
            assert!(
                bytes > 0 && buffer[..bytes].iter().enumerate().all(|(i, byte)| *byte == pattern(read + i))
            );
            read += bytes;
            if !answered && matches!(paced.socket, Socket::Parked(_)) {
                paced.write_all(b"known").await.unwrap();
                answered = true;
            }
        }
        assert!(answered, "it was parked");
        assert_eq!(paced.read(&mut buffer).await.unwrap(), 0, "the end is told");
        writer.join().unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_comes_slowly_is_not_kept_back() {
        let (mut paced, mut peer) = pair().await;
        peer.set_nodelay(true).unwrap();
        let mut buffer = [0; 1024];
        let mut rate = tokio::time::interval(Duration::from_millis(1));
        // A machine that stands still for a while is not to be followed by a flood.
        rate.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for _ in 0..300 {
            rate.tick().await;
            peer.write_all(&[7; 500]).unwrap();
            let bytes = paced.read(&mut buffer).await.unwrap();
            assert!(bytes > 0);
        }
        assert_eq!(paced.parked, 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn after_a_flood_it_is_polled_again() {
        let (mut paced, mut peer) = pair().await;
        let (mut read, mut buffer) = (0, vec![0; 300 << 10]);
        let writer = thread::spawn(move || {
            peer.write_all(&[1; 32 << 20]).unwrap();
            peer
        });
        while read < 32 << 20 {
            read += paced.read(&mut buffer).await.unwrap();
        }
        let mut peer = writer.join().unwrap();
        // The first look may count the end of the flood.
        for _ in 0..=IDLE_LOOKS_MAX {
            peer.write_all(b"x").unwrap();
            assert_eq!(paced.read(&mut buffer).await.unwrap(), 1);
        }
        assert!(matches!(paced.socket, Socket::Polled(_)));
    }
}
