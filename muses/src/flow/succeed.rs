//! Who uses a flow, and what of it goes over to the one that takes its place.

use std::sync::Arc;

use overlay::time::Instant;

use super::{Flow, Outbox};
use crate::event::ResetReason;
use crate::held::Share;
use crate::stream::Signal;

impl Flow {
    /// Whether an application here has a stream: what the peer did alone, and what was reset, does not count.
    pub fn is_in_use(&self) -> bool {
        debug_assert_eq!(self.in_use, self.streams.values().filter(|stream| stream.is_in_use()).count());
        self.in_use > 0
    }

    /// Whether one ever had, but for [`INTERNAL`] services, which anybody may ask.
    pub fn was_in_use(&self) -> bool {
        self.was_in_use
    }

    /// As if one had: for sessions of before this node started, of which nobody knows.
    pub fn count_as_used(&mut self) {
        self.was_in_use = true;
        self.tell_session_credit();
    }

    /// Moves the streams that never left this node to `other`, a flow with the same peer, which takes its place.
    pub fn move_unsent_streams(&mut self, other: &mut Self) {
        other.was_in_use |= self.was_in_use;
        let unsent: Vec<_> =
            self.streams.iter().filter(|(_, stream)| stream.id.is_none()).map(|(key, _)| *key).collect();
        for key in unsent {
            if let Some(mut stream) = self.streams.remove(&key) {
                stream.queued = false;
                let bytes = stream.send.held_bytes();
                self.held.change(bytes, 0);
                other.held.change(0, bytes);
                let used = usize::from(stream.is_in_use());
                self.in_use = self.in_use.saturating_sub(used);
                other.in_use = other.in_use.saturating_add(used);
                other.streams.insert(key, stream);
                other.enqueue(key);
            }
        }
        other.tell_session_credit();
    }

    /// Nothing of what was sent reached the peer: all streams, none of which the peer opened, begin anew. Of those that were reset it never heard.
    pub fn rewind_streams(&mut self) {
        self.streams.retain(|_, stream| stream.why_reset.is_none());
        for stream in self.streams.values_mut() {
            stream.id = None;
            stream.send.rewind();
            for signal in [&mut stream.open, &mut stream.credit] {
                *signal = Signal::Due;
            }
        }
    }

    /// One of the two ends lost its streams: both count from nothing again. Streams that never left this node stay.
    pub fn forget_streams(&mut self, now: Instant, out: &mut Outbox) {
        let mut fresh = Self::new(self.peer, Arc::clone(&self.config), Share::of(&out.held), now);
        fresh.first_id = self.first_id;
        fresh.next_id = self.first_id;
        fresh.suspended = self.suspended;
        fresh.recovery.rtt = self.recovery.rtt.clone();
        fresh.reach.own = self.reach.own.clone();
        fresh.token = core::mem::take(&mut self.token);
        self.move_unsent_streams(&mut fresh);
        self.reset_all(ResetReason::Restarted, out);
        *self = fresh;
    }
}

#[cfg(test)]
mod tests {
    use overlay::id::NodeId;

    use super::*;
    use crate::config::Config;
    use crate::event::StreamKey;

    #[test]
    fn of_a_stream_that_was_reset_before_the_peer_heard_of_it_nothing_is_left() {
        let mut out = Outbox::new(&Config::default());
        let config = Arc::new(Config::default());
        let mut flow = Flow::new(NodeId::from_bytes([2; 32]), config, Share::of(&out.held), Instant::ZERO);
        flow.set_initiator(true);
        flow.set_suspended(false, Instant::ZERO, &mut out);
        for key in [0, 1] {
            flow.open(StreamKey(key), "files", 0);
            flow.write(StreamKey(key), b"x", false);
        }
        assert!(flow.poll(0, 0, Instant::ZERO).is_some());
        flow.reset(StreamKey(0), ResetReason::Application, &mut out);
        assert!(flow.poll(1, 0, Instant::ZERO).is_some());
        assert_eq!(flow.stream_count(), 2, "the peer was told, and may not know");
        flow.rewind_streams();
        assert_eq!(flow.streams.keys().copied().collect::<Vec<_>>(), [StreamKey(1)]);
        assert!(flow.is_in_use());
    }
}
