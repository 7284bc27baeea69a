//! Closed connections whose last answers the kernel still reads from our memory ([`super::zero_copy`]).
//!
//! Their descriptors stay open, because the kernel says in the socket's error queue when it has done. A client that does not take what it was sent is
//! cut off after the time that any stuck client has; then the kernel throws the rest away and lets go of the memory.

use std::rc::Rc;
use std::time::Duration;

use glommio::net::TcpStream;

use super::socket;
use super::table::Net;
use super::zero_copy::ZeroCopySends;
use crate::budget::Charge;

const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// Keeps the memory until the kernel has done with it; `gives_up` says that the client is not to be waited for.
pub fn linger(net: Rc<Net>, stream: TcpStream, zero_copy: ZeroCopySends, charge: Charge, gives_up: bool) {
    net.lingering.set(net.lingering.get() + 1);
    crate::runtime::spawn(async move {
        wait_for_kernel(&net, &stream, zero_copy, gives_up).await;
        drop(charge);
        net.lingering.set(net.lingering.get() - 1);
        net.tell_if_drained();
    });
}

async fn wait_for_kernel(net: &Net, stream: &TcpStream, mut zero_copy: ZeroCopySends, mut gives_up: bool) {
    let deadline_ms = net.now_ms() + net.limits.stall.as_millis() as u64;
    let mut pause = PAUSE_MIN;
    let mut is_broken = false;
    socket::end_connection(stream);
    loop {
        zero_copy.reap(stream, &net.zero_copy_counters);
        if zero_copy.is_idle() {
            return;
        }
        gives_up |= net.now_ms() > deadline_ms || net.is_abandoning();
        if gives_up && !is_broken {
            socket::break_connection(stream);
            is_broken = true;
            continue;
        }
        crate::runtime::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
