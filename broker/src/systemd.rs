//! Telling systemd how the broker is: READY, STOPPING, WATCHDOG (sd_notify(3)). Without systemd nothing happens.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The socket to systemd, if the process was started by a unit of Type=notify.
#[derive(Debug)]
pub struct Notifier {
    target: Option<(UnixDatagram, SocketAddr)>,
    /// How often systemd wants a sign of life.
    pub watchdog_interval: Option<Duration>,
}

impl Notifier {
    /// Reads NOTIFY_SOCKET and WATCHDOG_USEC.
    pub fn from_environment() -> Self {
        Self::new(
            std::env::var("NOTIFY_SOCKET").ok().as_deref(),
            std::env::var("WATCHDOG_USEC").ok().as_deref(),
        )
    }

    fn new(socket: Option<&str>, watchdog_us: Option<&str>) -> Self {
        let target = socket.and_then(|path| {
            let address = match path.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(path),
            };
            Some((UnixDatagram::unbound().ok()?, address.ok()?))
        });
        // systemd restarts the service after the full time; a third leaves room for two lost signs.
        let watchdog_interval = watchdog_us
            .filter(|_| target.is_some())
            .and_then(|text| text.parse().ok())
            .map(|us: u64| Duration::from_micros(us) / 3);
        Notifier { target, watchdog_interval }
    }

    /// Logs are recovered and listeners accept.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// The orderly stop has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=finishing requests, flushing");
    }

    /// All shards are alive.
    pub fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.target
            && let Err(error) = socket.send_to_addr(text.as_bytes(), address)
        {
            tracing::warn!(%error, "systemd cannot be notified");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_reaches_the_socket_that_the_environment_names() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&path).expect("bound");
        let notifier = Notifier::new(path.to_str(), Some("30000000"));
        assert_eq!(notifier.watchdog_interval, Some(Duration::from_secs(10)));
        notifier.ready("serving");
        let mut buffer = [0; 100];
        let length = systemd.recv(&mut buffer).expect("received");
        assert_eq!(&buffer[..length], b"READY=1\nSTATUS=serving");
    }

    #[test]
    fn without_systemd_nothing_happens() {
        let notifier = Notifier::new(None, Some("1000"));
        notifier.ready("serving");
        assert_eq!(notifier.watchdog_interval, None);
    }
}
