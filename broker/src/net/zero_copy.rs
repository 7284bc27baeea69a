//! Sends from which the kernel reads later, without a copy: `MSG_ZEROCOPY`.
//!
//! The kernel numbers the zero-copy sends of a socket and says in the socket's error queue when it has done with them. Until then their
//! slices are kept here and stay charged to the memory budget. Where the kernel reports that it has copied all the same (the device cannot read from our pages, or the
//! receiver is on this machine) the pains were for nothing, and the connection goes on with ordinary sends.
//!
//! Source: Linux, `Documentation/networking/msg_zerocopy.rst`.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use bytes::Bytes;

use super::socket::{self, Completion};
use crate::config::ZeroCopy;
use crate::metrics::Counter;

/// Below this pinning pages and being told about it costs more than copying.
const SEND_BYTES_MIN: usize = 64 * 1024;
/// Many small slices fill the kernel's packets badly: the average has to be at least this.
const SLICE_BYTES_MIN: usize = 8 * 1024;
/// Sends of one socket that the kernel may owe a word about. Its memory for that (`net.core.optmem_max`) is enough for somewhat more.
const PENDING_MAX: usize = 128;

/// One shard's counters.
#[derive(Debug, Default)]
pub struct ZeroCopyCounters {
    /// Sends without a copy.
    pub sends: Counter,
    /// Their bytes.
    pub sent_bytes: Counter,
    /// Sends that the kernel has done with.
    pub completed: Counter,
    /// Of those, sends that it had to copy.
    pub copied: Counter,
    /// Connections that went back to ordinary sends because of that.
    pub switched_off: Counter,
}

/// Whether the socket is asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    /// Not needed yet.
    Unasked,
    On,
}

/// A send that the kernel may still read from.
#[derive(Debug)]
struct Pending {
    number: u32,
    bytes: usize,
    /// Emptied when the kernel has done with them.
    slices: Vec<Bytes>,
}

/// The zero-copy sends of one socket.
///
/// Memory that the kernel still reads from must not be used for anything else: whoever closes the socket first waits until
/// [`ZeroCopySends::is_idle`] holds. What is dropped earlier, which happens only when the process ends, is leaked.
#[derive(Debug)]
pub struct ZeroCopySends {
    state: State,
    mode: ZeroCopy,
    /// The number that the kernel will give to the next one.
    next_number: u32,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
}

impl ZeroCopySends {
    /// For a connection between these addresses.
    pub fn new(mode: ZeroCopy, local: SocketAddr, peer: SocketAddr) -> Self {
        let stays_here =
            peer.ip().to_canonical().is_loopback() || peer.ip().to_canonical() == local.ip().to_canonical();
        let state = match mode {
            ZeroCopy::Off => State::Off,
            ZeroCopy::Auto if stays_here => State::Off,
            ZeroCopy::Auto | ZeroCopy::Always => State::Unasked,
        };
        ZeroCopySends { state, mode, next_number: 0, pending: VecDeque::new(), pending_bytes: 0 }
    }

    /// Whether the kernel has done with everything.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Bytes of the sends that the kernel may still read from.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Whether so many bytes in so many segments are worth it on this socket now.
    pub fn suits(&mut self, socket: &impl AsRawFd, segments: usize, bytes: usize) -> bool {
        let is_worth_it = bytes >= SEND_BYTES_MIN && bytes / segments.max(1) >= SLICE_BYTES_MIN;
        if self.state == State::Off || !is_worth_it || self.pending.len() >= PENDING_MAX {
            return false;
        }
        if self.state == State::Unasked {
            self.state = if socket::allow_zero_copy(socket).is_ok() { State::On } else { State::Off };
        }
        self.state == State::On
    }

    /// Sends the segments as far as the socket takes them, and at most `copied_max` bytes of them where the kernel has to copy after all. `None`: it takes
    /// nothing now.
    pub fn send<'a>(
        &mut self,
        socket: &impl AsRawFd,
        segments: impl Iterator<Item = &'a Bytes> + Clone,
        copied_max: usize,
        counters: &ZeroCopyCounters,
    ) -> io::Result<Option<usize>> {
        match socket::send_zero_copy(socket, segments.clone()) {
            Ok(Some(sent)) => {
                counters.sends.increment();
                counters.sent_bytes.add(sent as u64);
                self.remember(segments, sent);
                Ok(Some(sent))
            }
            // No memory for notifications, or for locked pages: not this time.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                socket::send(socket, segments, copied_max)
            }
            other => other,
        }
    }

    fn remember<'a>(&mut self, segments: impl Iterator<Item = &'a Bytes>, sent: usize) {
        let mut left = sent;
        let mut slices = Vec::new();
        for segment in segments {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(segment.len());
            slices.push(segment.clone());
        }
        self.pending.push_back(Pending { number: self.next_number, bytes: sent, slices });
        self.pending_bytes += sent;
        self.next_number = self.next_number.wrapping_add(1);
    }

    /// Lets go of what the kernel says it has done with; says whether there was anything.
    pub fn reap(&mut self, socket: &impl AsRawFd, counters: &ZeroCopyCounters) -> bool {
        let mut reaped = false;
        while !self.pending.is_empty() {
            // An error of the socket itself is met where it is used.
            let Ok(Some(completion)) = socket::next_completion(socket) else { break };
            self.complete(completion, counters);
            reaped = true;
        }
        reaped
    }

    fn complete(&mut self, completion: Completion, counters: &ZeroCopyCounters) {
        let sends = completion.last.wrapping_sub(completion.first);
        counters.completed.add(u64::from(sends) + 1);
        for pending in &mut self.pending {
            // The numbers wrap.
            if pending.number.wrapping_sub(completion.first) <= sends && !pending.slices.is_empty() {
                pending.slices = Vec::new();
                self.pending_bytes -= pending.bytes;
            }
        }
        while self.pending.front().is_some_and(|pending| pending.slices.is_empty()) {
            self.pending.pop_front();
        }
        if completion.was_copied {
            counters.copied.add(u64::from(sends) + 1);
            if self.mode == ZeroCopy::Auto && self.state == State::On {
                self.state = State::Off;
                counters.switched_off.increment();
            }
        }
    }
}

impl Drop for ZeroCopySends {
    fn drop(&mut self) {
        std::mem::forget(std::mem::take(&mut self.pending));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{SockFilter, SockRef};
    use std::{
        iter::repeat_with,
        net::{TcpListener, TcpStream},
    };

    fn sends(mode: ZeroCopy, next_number: u32) -> ZeroCopySends {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let mut sends = ZeroCopySends::new(mode, address("10.0.0.1:9092"), address("10.0.0.2:4711"));
        sends.state = State::On;
        sends.next_number = next_number;
        sends
    }

    fn completion(first: u32, last: u32, was_copied: bool) -> Completion {
        Completion { first, last, was_copied }
    }

    #[test]
    fn slices_are_kept_until_their_own_send_is_done_with_in_whatever_order() {
        let counters = ZeroCopyCounters::default();
        // Across the point where the numbers wrap.
        let mut sends = sends(ZeroCopy::Auto, u32::MAX - 1);
        let segments: Vec<Bytes> = (0..4u8).map(|n| Bytes::from(vec![n; 100])).collect();
        for segment in &segments {
            sends.remember(std::iter::once(segment), 100);
        }
        let held = |segments: &[Bytes]| segments.iter().map(|s| !s.is_unique()).collect::<Vec<_>>();
        sends.complete(completion(u32::MAX, 0, false), &counters);
        assert_eq!(held(&segments), [true, false, false, true]);
        assert_eq!(sends.pending_bytes(), 200);
        sends.complete(completion(1, 1, false), &counters);
        assert!(!sends.is_idle());
        sends.complete(completion(u32::MAX - 1, u32::MAX - 1, false), &counters);
        assert_eq!((sends.is_idle(), sends.pending_bytes()), (true, 0));
        assert_eq!((counters.completed.get(), counters.copied.get()), (4, 0));
    }

    #[test]
    fn a_partial_send_keeps_only_the_slices_that_it_took_from() {
        let mut sends = sends(ZeroCopy::Auto, 0);
        let segments: Vec<Bytes> = (0..3u8).map(|n| Bytes::from(vec![n; 100])).collect();
        sends.remember(segments.iter(), 101);
        assert_eq!(segments.iter().map(Bytes::is_unique).collect::<Vec<_>>(), [false, false, true]);
        sends.complete(completion(0, 0, false), &ZeroCopyCounters::default());
    }

    #[test]
    fn a_copy_switches_it_off_unless_it_is_forced() {
        for (mode, state, switched_off) in [(ZeroCopy::Auto, State::Off, 1), (ZeroCopy::Always, State::On, 0)]
        {
            let counters = ZeroCopyCounters::default();
            let mut sends = sends(mode, 0);
            sends.remember(std::iter::once(&Bytes::from_static(b"x")), 1);
            sends.complete(completion(0, 0, true), &counters);
            assert_eq!((sends.state, counters.switched_off.get()), (state, switched_off));
        }
    }

    /// Takes the memory that the kernel has for a socket's notifications, so that no further one fits, with a packet filter that lets all pass: it is
    /// charged to the same account (`net.core.optmem_max`). Answers whether the longest filter suffices.
    fn use_up_notification_memory(socket: &TcpStream) -> bool {
        const INSTRUCTIONS_MAX: usize = 4096;
        let load = || SockFilter::new((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0, 0, 0);
        let pass = || SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, u32::MAX);
        let socket = SockRef::from(socket);
        let fits = |loads: usize| {
            // The next one is charged before the last one is let go of.
            let _ = socket.detach_filter();
            let filter: Vec<_> = repeat_with(load).take(loads).chain([pass()]).collect();
            socket.attach_filter(&filter).is_ok()
        };
        let (mut most, mut too_many) = (0, INSTRUCTIONS_MAX - 1);
        if fits(too_many) {
            return false;
        }
        while too_many - most > 1 {
            let loads = most.midpoint(too_many);
            if fits(loads) { most = loads } else { too_many = loads }
        }
        fits(most)
    }

    #[test]
    fn where_the_kernel_has_no_memory_for_notifications_no_more_is_copied_than_the_caller_allows() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let socket = TcpStream::connect(listener.local_addr().expect("bound")).expect("a connection");
        socket::allow_zero_copy(&socket).expect("Linux has it");
        let segments: Vec<Bytes> = (0..4u8).map(|n| Bytes::from(vec![n; 40_000])).collect();
        let (mut sends, counters) = (sends(ZeroCopy::Always, 0), ZeroCopyCounters::default());
        if !use_up_notification_memory(&socket) {
            eprintln!("not tested: net.core.optmem_max is more than a packet filter can use up");
            return;
        }
        let refused = socket::send_zero_copy(&socket, segments.iter()).expect_err("there is no memory");
        assert_eq!(refused.raw_os_error(), Some(libc::ENOBUFS));
        let sent = sends.send(&socket, segments.iter(), 50_000, &counters).expect("it is copied");
        assert_eq!(sent, Some(50_000));
        assert!(sends.is_idle() && counters.sends.get() == 0, "the kernel owes no word about it");
        assert!(segments.iter().all(Bytes::is_unique));
    }

    #[test]
    fn connections_that_stay_on_this_machine_do_without() {
        let state = |mode, local: &str, peer: &str| {
            let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
            ZeroCopySends::new(mode, address(local), address(peer)).state
        };
        assert_eq!(state(ZeroCopy::Auto, "127.0.0.1:1", "127.0.0.1:2"), State::Off);
        assert_eq!(state(ZeroCopy::Auto, "[::1]:1", "[::1]:2"), State::Off);
        assert_eq!(state(ZeroCopy::Auto, "[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:2"), State::Off);
        assert_eq!(state(ZeroCopy::Auto, "10.0.0.1:1", "10.0.0.1:2"), State::Off);
        assert_eq!(state(ZeroCopy::Auto, "10.0.0.1:1", "10.0.0.2:2"), State::Unasked);
        assert_eq!(state(ZeroCopy::Off, "10.0.0.1:1", "10.0.0.2:2"), State::Off);
        assert_eq!(state(ZeroCopy::Always, "127.0.0.1:1", "127.0.0.1:2"), State::Unasked);
    }
}
