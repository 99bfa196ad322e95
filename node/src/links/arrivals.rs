//! What the lanes' readers and writers have to say.

use overlay::io::{CloseReason, Lane, LinkId};

use super::bulk::words::{Unknown, Word};
use super::lane::{Arrival, Ending, Written};
use super::{Input, Links};

impl Links {
    pub(super) fn handle_arrival(&mut self, arrival: Arrival, inputs: &mut Vec<Input>) {
        match arrival {
            Arrival::Frame { link, lane, bytes } => match Word::of(&bytes) {
                Some(Ok(word)) => self.handle_word(link, lane, word),
                // Of a later version: nothing here depends on an answer.
                Some(Err(Unknown)) => tracing::debug!(?link, "a word that this version does not know"),
                None => {
                    if self.links.contains_key(&link) {
                        inputs.push(Input::Frame { link, lane, bytes });
                    }
                }
            },
            Arrival::Ended { link, lane, why: Ending::TooLong { bytes } } => {
                if self.close(link, CloseReason::Malformed) {
                    tracing::info!(?link, ?lane, bytes, "a neighbour announced a frame that is too long");
                    inputs.push(Input::Oversized { link });
                }
            }
            Arrival::Ended { link, lane: Lane::Control, why: Ending::Closed } => self.control_ended(link, inputs),
            Arrival::Ended { link, lane: Lane::Data, why: Ending::Closed } => {
                if let Some(link) = self.links.get(&link) {
                    // When it has closed, the control reader ends, and tells.
                    self.swarm.close_connection(link.connection);
                }
            }
        }
    }

    fn control_ended(&mut self, link: LinkId, inputs: &mut Vec<Input>) {
        if let Some(gone) = self.take(link) {
            gone.control.writer.abort();
            gone.data.writer.abort();
            self.swarm.close_connection(gone.connection);
            inputs.push(Input::Down { link });
        }
    }

    pub(super) fn handle_written(&mut self, written: Written, inputs: &mut Vec<Input>) {
        let Written { link, lane, bytes, words } = written;
        if let Some(known) = self.links.get_mut(&link) {
            if lane == Lane::Control {
                known.bulk.written(words);
            }
            inputs.push(Input::Room { link, lane, bytes });
        }
    }
}
