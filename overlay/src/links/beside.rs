//! Links beside those that there are, to the same neighbours: where the old ones are in doubt, or are to leave from another interface.

use multiaddr::Multiaddr;

use crate::io::Command;
use crate::overlay::Overlay;
use crate::record::next_seq;
use crate::time::Now;

impl Overlay {
    /// Dials are to leave from another interface from now on: each neighbour is dialled beside its link, and the new link takes the place
    /// of the old one, which serves until then. How many are dialled; [`Overlay::copied_links`] tells how many are there.
    pub fn copy_links(&mut self, now: Now) -> usize {
        let targets: Vec<Multiaddr> = self.links.live().filter_map(|link| link.dialable()).collect();
        let dialled = self.dial_beside(targets, now);
        self.copied_seq = self.attach_seq;
        self.settle_down(now);
        dialled
    }

    /// Dials neighbours at these addresses beside the links to them, as far as there is room. How many.
    pub(crate) fn dial_beside(&mut self, targets: impl IntoIterator<Item = Multiaddr>, now: Now) -> usize {
        // The newer attachment is what makes both ends keep the new link.
        self.attach_seq = next_seq(self.attach_seq, now);
        let room = self.config.max_links.saturating_sub(self.links.len());
        let before = self.commands.len();
        self.commands.extend(targets.into_iter().take(room).map(Command::Dial));
        self.commands.len().saturating_sub(before)
    }

    /// Live links that came up since the last [`Overlay::copy_links`].
    pub fn copied_links(&self) -> usize {
        // The attachment may have changed once more meanwhile.
        self.links.live().filter(|link| link.own_seq >= self.copied_seq).count()
    }
}
