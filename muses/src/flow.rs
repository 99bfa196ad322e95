//! The streams of one session and their reliable transport: everything between the application and the cipher.
//!
//! A [`Flow`] turns what applications write into the insides of packets and back. It knows neither keys nor paths: the
//! session above it seals and opens packets, and tells it when an epoch of packet numbers begins.

mod credit;
mod late;
mod pace;
mod probe;
mod receive;
mod succeed;
mod transmit;
mod vigil;

pub(crate) use late::EpochTags;
pub(crate) use transmit::FlowTimeout;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use overlay::id::NodeId;
use overlay::time::Instant;

use crate::ack::Ranges;
use crate::config::{
    Config, FIRST_SESSION_WINDOW_BYTES, FIRST_STREAM_WINDOW_BYTES, INITIAL_SESSION_CREDIT_BYTES,
    INITIAL_STREAM_CREDIT_BYTES,
};
use crate::congestion::Congestion;
use crate::event::{Event, Read, ResetReason, StreamKey};
use crate::frame::{CHALLENGE_BYTES, INTERNAL, Refresh, Token};
use crate::held::Share;
use crate::pool::Pool;
use crate::recovery::Recovery;
use crate::recv::RecvHalf;
use crate::send::{Piece, SendHalf};
use crate::stream::{Signal, Stage, Stream};
use crate::window::{MAX_GROWTH_BYTES, Window};
use late::Late;
use pace::Pace;
use probe::{Probe, Response};
use vigil::Vigil;

/// Where a flow leaves what others have to know.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub events: VecDeque<Event>,
    /// What windows grow by.
    pub growth: Pool,
    /// What all sessions hold of what was written.
    pub held: Pool,
    /// The next stream's key, for the whole endpoint.
    pub next_stream: u64,
    /// Streams that the peer opened.
    pub opened: Vec<(StreamKey, NodeId)>,
    /// Streams that are over, and why if not well.
    pub closed: Vec<(StreamKey, Option<ResetReason>)>,
}

impl Outbox {
    /// An endpoint's.
    pub fn new(config: &Config) -> Self {
        Self {
            events: VecDeque::new(),
            growth: Pool::of(MAX_GROWTH_BYTES),
            held: Pool::of(config.max_held_bytes),
            next_stream: 0,
            opened: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// A key that was never given before.
    pub fn stream_key(&mut self) -> StreamKey {
        let key = StreamKey(self.next_stream);
        self.next_stream = self.next_stream.saturating_add(1);
        key
    }
}

/// What a packet carried, remembered until its fate is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SentFrame {
    Ping,
    /// It asked a place whether the peer is there.
    Probe(u32),
    /// Acknowledged everything received up to this number.
    Ack(u64),
    MaxData,
    /// By its number.
    Reach(u64),
    /// By its number.
    Refresh(u64),
    Response([u8; CHALLENGE_BYTES]),
    ResetToken,
    Open(StreamKey),
    Accept(StreamKey),
    Reset(StreamKey),
    Credit(StreamKey),
    Data(StreamKey, Piece),
}

#[derive(Debug)]
pub(crate) struct Flow {
    peer: NodeId,
    config: Arc<Config>,
    streams: BTreeMap<StreamKey, Stream>,
    /// How many streams an application here has: see [`Flow::is_in_use`].
    in_use: usize,
    /// It ever had one, but for services of the node itself.
    was_in_use: bool,
    keys: BTreeMap<u64, StreamKey>,
    /// Ids that the peer has used, so that a late frame does not open a stream again.
    used: Ranges,
    next_id: u64,
    first_id: u64,
    queue: VecDeque<StreamKey>,
    pub recovery: Recovery<SentFrame>,
    congestion: Congestion,
    pace: Pace,
    acks: Acks,
    late: Option<Box<Late>>,
    probe: Probe,
    response: Response,
    ping_due: bool,
    /// Packets that may leave although the window is full: probes.
    exempt: u32,
    last_progress: Instant,
    vigil: Vigil,
    suspended: bool,
    sent_bytes: u64,
    send_limit: u64,
    received_bytes: u64,
    consumed_bytes: u64,
    /// Of these, what applications read, and not what was thrown away.
    read_bytes: u64,
    receive_limit: u64,
    /// What its streams hold of what was written.
    held: Share,
    /// Pieces behind gaps, of all streams.
    fragments: usize,
    window: Window,
    max_data: Signal,
    reach: Reach,
    /// The step of a refresh that the peer is to hear, by its number, and the one that it said last.
    refresh: (Option<Box<Refresh>>, u64, Signal),
    pub heard_refresh: Option<Box<Refresh>>,
    /// What proves a later word of this end that it lost the session, until the peer has it; and the peer's.
    token: (Option<Box<Token>>, Signal),
    pub heard_token: Option<Box<Token>>,
}

/// Where the two ends can be dialled, as they tell each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    /// What the peer is to know: its number, and the bytes.
    own: (u64, Arc<[u8]>),
    told: Signal,
    /// The number of what the peer said last.
    heard: Option<u64>,
}

/// What was received in this epoch, and whether the peer knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acks {
    pub received: Ranges,
    pub ecn_count: u64,
    largest_at: Instant,
    unacked: u32,
    /// An acknowledgement is due now.
    at_once: bool,
    due_at: Option<Instant>,
    /// The numbers in `received` are of an epoch that no longer is the one that we send in.
    pub frozen: bool,
}

impl Flow {
    /// The flow of a new session; `initiator` began the handshake and numbers its streams evenly.
    pub fn new(peer: NodeId, config: Arc<Config>, held: Share, now: Instant) -> Self {
        let most = config.session_window_bytes.max(INITIAL_SESSION_CREDIT_BYTES);
        let window = Window::new(FIRST_SESSION_WINDOW_BYTES, most);
        let mut flow = Self {
            peer,
            config,
            streams: BTreeMap::new(),
            in_use: 0,
            was_in_use: false,
            keys: BTreeMap::new(),
            used: Ranges::default(),
            next_id: 0,
            first_id: 0,
            queue: VecDeque::new(),
            recovery: Recovery::default(),
            congestion: Congestion::new(now),
            pace: Pace::default(),
            acks: Acks::default(),
            late: None,
            probe: Probe::default(),
            response: Response::default(),
            ping_due: false,
            exempt: 0,
            last_progress: now,
            vigil: Vigil::new(now),
            suspended: true,
            sent_bytes: 0,
            send_limit: INITIAL_SESSION_CREDIT_BYTES,
            received_bytes: 0,
            consumed_bytes: 0,
            read_bytes: 0,
            receive_limit: INITIAL_SESSION_CREDIT_BYTES,
            held,
            fragments: 0,
            window,
            max_data: Signal::Idle,
            reach: Reach::default(),
            refresh: (None, 0, Signal::Idle),
            heard_refresh: None,
            token: (None, Signal::Idle),
            heard_token: None,
        };
        flow.tell_session_credit();
        flow
    }

    /// Which side of the handshake this is; has to be told before anything is sent.
    pub fn set_initiator(&mut self, initiator: bool) {
        self.first_id = u64::from(!initiator);
        self.next_id = self.next_id.max(self.first_id);
    }

    /// How many streams there are.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Sets up a stream that is opened here.
    pub fn open(&mut self, key: StreamKey, service: &str, port: u16) {
        self.was_in_use |= !service.starts_with(INTERNAL);
        self.in_use = self.in_use.saturating_add(1);
        let mut stream = self.new_stream(Stage::Asked);
        service.clone_into(&mut stream.service);
        stream.port = port;
        stream.open = Signal::Due;
        self.streams.insert(key, stream);
        self.enqueue(key);
    }

    /// The application takes a stream that the peer opened.
    pub fn accept(&mut self, key: StreamKey, out: &mut Outbox) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if stream.stage == Stage::Offered && stream.why_reset.is_none() {
            stream.stage = Stage::Open;
            self.in_use = self.in_use.saturating_add(1);
            self.was_in_use |= !stream.internal;
            stream.accept.want();
            if stream.recv.is_readable() {
                stream.readable_told = true;
                out.events.push_back(Event::Readable(key));
            }
            self.enqueue(key);
            // What waits to be taken beside it may have used up all that the peer may send.
            self.renew_session_credit(&out.growth);
        }
    }

    /// At most `max` bytes of the stream.
    pub fn read(&mut self, key: StreamKey, max: usize, out: &mut Outbox) -> Read {
        let Some(stream) = self.streams.get_mut(&key) else { return Read::End };
        if let Some(reason) = stream.why_reset {
            return Read::Reset(reason);
        }
        if matches!(stream.stage, Stage::Offered | Stage::Foreshadowed) {
            return Read::Pending;
        }
        let data = stream.recv.read(max);
        if data.is_empty() {
            if stream.recv.is_read_out() {
                self.settle(key, out);
                return Read::End;
            }
            stream.readable_told = false;
            return Read::Pending;
        }
        self.consumed_bytes = self.consumed_bytes.saturating_add(data.len() as u64);
        self.read_bytes = self.read_bytes.saturating_add(data.len() as u64);
        if stream.recv.credit_due().is_some() {
            stream.credit = Signal::Due;
            self.enqueue(key);
        }
        self.renew_session_credit(&out.growth);
        Read::Data(data)
    }

    /// Takes what fits of `data`; nothing while the session is suspended.
    pub fn write(&mut self, key: StreamKey, data: &[u8], refuse: bool) -> usize {
        let buffer = self.send_buffer();
        let Some(stream) = self.streams.get_mut(&key) else { return 0 };
        if stream.why_reset.is_some() || matches!(stream.stage, Stage::Offered | Stage::Foreshadowed) {
            return 0;
        }
        let before = stream.send.held_bytes();
        let taken = if refuse { 0 } else { stream.send.write(data, buffer.of(before)) };
        self.held.change(before, stream.send.held_bytes());
        stream.write_blocked = taken < data.len();
        if taken > 0 {
            self.enqueue(key);
        }
        taken
    }

    /// The application will write nothing more.
    pub fn finish(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.send.finish();
            self.enqueue(key);
        }
    }

    /// Ends a stream at once, in both directions.
    pub fn reset(&mut self, key: StreamKey, reason: ResetReason, out: &mut Outbox) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if stream.why_reset.is_some() {
            return;
        }
        self.in_use = self.in_use.saturating_sub(usize::from(stream.is_in_use()));
        stream.why_reset = Some(reason);
        stream.reset = Signal::Due;
        self.consumed_bytes = self.consumed_bytes.saturating_add(stream.recv.unread());
        self.fragments = self.fragments.saturating_sub(stream.recv.fragments());
        stream.recv.discard();
        self.held.change(stream.send.held_bytes(), 0);
        stream.send = SendHalf::forgetting(&stream.send);
        out.closed.push((key, Some(reason)));
        if stream.id.is_none() {
            // The peer never heard of it.
            self.streams.remove(&key);
        } else {
            self.enqueue(key);
        }
        self.renew_session_credit(&out.growth);
    }

    /// Ends all streams.
    pub fn reset_all(&mut self, reason: ResetReason, out: &mut Outbox) {
        let keys: Vec<_> = self.streams.keys().copied().collect();
        keys.into_iter().for_each(|key| self.reset(key, reason, out));
    }

    /// What the peer is to know about where this end can be dialled; told when it differs from what was, and again on demand.
    pub fn set_reach(&mut self, reach: &Arc<[u8]>, again: bool) {
        let (number, known) = &mut self.reach.own;
        if known != reach {
            (*number, *known) = (number.saturating_add(1), Arc::clone(reach));
            self.reach.told = Signal::Due;
        } else if again && !reach.is_empty() {
            *number = number.saturating_add(1);
            self.reach.told = Signal::Due;
        }
    }

    /// Tells the peer a step of a refresh; the one before need not arrive any more.
    pub fn say_refresh(&mut self, step: Refresh) {
        self.refresh = (Some(Box::new(step)), self.refresh.1.saturating_add(1), Signal::Due);
    }

    /// Tells the peer what will prove that this end has lost the session.
    pub fn say_token(&mut self, token: Token) {
        self.token = (Some(Box::new(token)), Signal::Due);
    }

    /// Whether packets may leave.
    pub fn set_suspended(&mut self, suspended: bool, now: Instant, out: &mut Outbox) {
        self.suspended = suspended;
        self.last_progress = now;
        if !suspended {
            self.vigil = Vigil::new(now);
            self.recovery.touch(now);
            let buffer = self.send_buffer();
            for (key, stream) in &mut self.streams {
                let held = stream.send.held_bytes();
                if stream.write_blocked && held < buffer.of(held) {
                    stream.write_blocked = false;
                    out.events.push_back(Event::Writable(*key));
                }
            }
        }
    }

    /// Asks the peer for a sign of life.
    pub fn ping(&mut self) {
        self.ping_due = true;
        self.exempt = self.exempt.max(1);
    }

    /// The path may be better than the silence says: waits begin anew, and the peer is asked at once.
    pub fn reset_timers(&mut self, now: Instant) {
        self.recovery.forget_probes(now);
        self.ping();
    }

    /// A new epoch for what we send: `received` is what the peer says it has of the old one. The rest is sent again, at once or, where the old path
    /// is alive, if it does not arrive by that.
    pub fn restart_sending(
        &mut self,
        received: Option<&Ranges>,
        alive: Option<EpochTags>,
        now: Instant,
        out: &mut Outbox,
    ) {
        let (acked, rest) = self.recovery.restart(received);
        acked.into_iter().for_each(|packet| self.on_acked(packet.frames, out));
        self.forget_late();
        if let Some(tags) = alive {
            self.await_late(tags, rest, now);
        } else {
            rest.into_values().for_each(|packet| self.on_lost(packet.frames));
        }
        self.congestion = Congestion::new(now);
        self.pace = Pace::default();
        self.acks.frozen = true;
        self.exempt = 0;
        self.last_progress = now;
    }

    /// A new epoch for what we receive.
    pub fn restart_receiving(&mut self) {
        self.acks = Acks::default();
    }

    /// How much may be in flight, in bytes.
    pub fn window_bytes(&self) -> u64 {
        self.congestion.window_bytes()
    }

    /// Bytes of streams sent, each counted once.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Bytes of streams received, each counted once.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// What was received in the epoch that [`Flow::restart_receiving`] began last.
    pub fn received(&self) -> &Ranges {
        &self.acks.received
    }

    fn new_stream(&self, stage: Stage) -> Stream {
        let most = self.config.stream_window_bytes.max(INITIAL_STREAM_CREDIT_BYTES);
        let window = Window::new(FIRST_STREAM_WINDOW_BYTES, most);
        let recv = RecvHalf::new(INITIAL_STREAM_CREDIT_BYTES, window);
        let mut stream = Stream::new(stage, SendHalf::new(INITIAL_STREAM_CREDIT_BYTES), recv);
        if stream.recv.credit_due().is_some() {
            stream.credit = Signal::Due;
        }
        stream
    }

    fn enqueue(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get_mut(&key)
            && !stream.queued
        {
            stream.queued = true;
            self.queue.push_back(key);
        }
    }

    /// Forgets a stream that is over.
    fn settle(&mut self, key: StreamKey, out: &mut Outbox) {
        let Some(stream) = self.streams.get(&key).filter(|stream| stream.is_over()) else { return };
        self.in_use = self.in_use.saturating_sub(usize::from(stream.is_in_use()));
        if stream.why_reset.is_none() {
            out.closed.push((key, None));
        }
        if let Some(id) = stream.id {
            self.keys.remove(&id);
        }
        self.streams.remove(&key);
        if self.streams.is_empty() {
            // Emptied tables keep their room, which would be most of what an idle session takes.
            (self.streams, self.keys, self.queue) = (BTreeMap::new(), BTreeMap::new(), VecDeque::new());
        }
    }
}
