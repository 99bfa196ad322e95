//! What the service manager that started the node is told, by `sd_notify(3)`. Without one (no `NOTIFY_SOCKET`) nothing is sent.

use sd_notify::NotifyState;

/// The control socket answers and the node listens: units that come after this one may start.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The node takes its leave, and ends by itself.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
