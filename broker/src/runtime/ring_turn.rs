//! A look at the ring, for a task that always has more to do.
//!
//! While some task is ready, glommio looks at its rings only when the preemption timer says so, every [`super::executor::PREEMPT_TIMER`]: until then nobody hears of
//! packets that have come, or of writes that have ended, however often the busy tasks let others run. It does look once no task is ready. So the
//! busy task waits, for a timer so short that it is over before glommio would sleep for it: that costs a look, and no wake-up.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use glommio::timer::Timer;

/// Longer than arming the timer takes, shorter than a look at the rings: 2 µs had the thread sleep for each turn.
const TURN: Duration = Duration::from_nanos(300);

/// The turns of one task.
#[derive(Debug, Default)]
pub struct RingTurn {
    timer: Option<Timer>,
    is_on: bool,
}

impl RingTurn {
    /// Begins a turn, which [`RingTurn::poll`] waits for.
    pub fn begin(&mut self) {
        self.is_on = true;
        match &mut self.timer {
            Some(timer) => timer.reset(TURN),
            None => self.timer = Some(Timer::new(TURN)),
        }
    }

    /// Ready when no turn is going on.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(timer) = self.timer.as_mut().filter(|_| self.is_on) {
            std::task::ready!(Pin::new(timer).poll(cx));
            self.is_on = false;
        }
        Poll::Ready(())
    }
}
