//! Turns what waits in a lane into the requests of one call: messages are encoded, and packed up to the limit of a
//! request.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::{FutureExt, Stream};
use openconsensus::{EntryCodec, Message, TypeConfig};
use prost::Message as _;
use tokio::sync::oneshot;

use crate::peer::{Lane, Link, Peer, PeerErrorKind};
use crate::proto::{self, MessagesRequest, RaftMessage, messages_request::Kind};

/// Messages are taken from the queue and encoded in portions of about this size: enough to make the cost per request
/// vanish, little enough that the queue and not this stream holds what the peer is not ready for.
const PORTION_BYTES: u64 = 1 << 20;

/// What frames a request beside its messages, and a message in its request, at most.
const REQUEST_OVERHEAD_BYTES: usize = 16;
const MESSAGE_OVERHEAD_BYTES: usize = 6;

/// The requests of one call. The connection polls it when the peer is ready for more, so that nothing is taken from
/// the queue before it can leave.
pub(crate) struct Frames<C: TypeConfig, K> {
    peer: Arc<Peer<C>>,
    lane: Lane,
    call: u64,
    start: Option<proto::MessagesStart>,
    limit: Limit,
    ready: VecDeque<MessagesRequest>,
    codec: PhantomData<fn() -> K>,
}

/// The largest request that both sides accept. Known when the peer has welcomed this node.
enum Limit {
    Awaited(oneshot::Receiver<usize>),
    Bytes(usize),
}

impl<C: TypeConfig, K> Unpin for Frames<C, K> {}

impl<C: TypeConfig, K: EntryCodec<C>> Frames<C, K> {
    pub(crate) fn new(
        peer: Arc<Peer<C>>,
        lane: Lane,
        call: u64,
        hello: proto::Hello,
        limit: oneshot::Receiver<usize>,
    ) -> Self {
        let start = proto::MessagesStart { hello: Some(hello), lane: lane.to_proto().into() };
        Self {
            peer,
            lane,
            call,
            start: Some(start),
            limit: Limit::Awaited(limit),
            ready: VecDeque::new(),
            codec: PhantomData,
        }
    }

    fn link(&self) -> &Link<C> {
        self.peer.link(self.lane)
    }

    /// Makes requests of `messages`, in order. What cannot be sent is left out.
    fn pack(&mut self, messages: Vec<Message<C>>, limit: usize) {
        let mut batch = Vec::with_capacity(messages.len());
        let mut batch_bytes = REQUEST_OVERHEAD_BYTES;
        for message in messages {
            match sized::<C, K>(&message, limit) {
                Ok((message, bytes)) => {
                    if limit < batch_bytes + bytes && !batch.is_empty() {
                        self.ready.push_back(request(std::mem::take(&mut batch)));
                        batch_bytes = REQUEST_OVERHEAD_BYTES;
                    }
                    batch_bytes += bytes;
                    batch.push(message);
                }
                Err(reason) => {
                    self.link().queue.count_dropped(1);
                    let text = format!("a message to node {} was dropped: {reason}", self.peer.id);
                    self.link().failed(PeerErrorKind::Unsendable, text);
                }
            }
        }
        if !batch.is_empty() {
            self.ready.push_back(request(batch));
        }
    }
}

/// A message as it travels, and how many bytes of a request it takes. Or why it cannot.
fn sized<C: TypeConfig, K: EntryCodec<C>>(
    message: &Message<C>,
    limit: usize,
) -> Result<(RaftMessage, usize), String> {
    let message =
        RaftMessage::new::<C, K>(message).map_err(|error| format!("it cannot be encoded: {error}"))?;
    let bytes = MESSAGE_OVERHEAD_BYTES + message.encoded_len();
    let size = REQUEST_OVERHEAD_BYTES + bytes;
    if limit < size {
        return Err(format!(
            "it makes a request of {size} bytes and message_bytes_max is {limit}; raise it on both sides"
        ));
    }
    Ok((message, bytes))
}

fn request(messages: Vec<RaftMessage>) -> MessagesRequest {
    MessagesRequest { kind: Some(Kind::Batch(proto::Batch { messages })) }
}

impl<C: TypeConfig, K: EntryCodec<C>> Stream for Frames<C, K> {
    type Item = MessagesRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<MessagesRequest>> {
        if let Some(start) = self.start.take() {
            return Poll::Ready(Some(MessagesRequest { kind: Some(Kind::Start(start)) }));
        }
        let limit = match &mut self.limit {
            Limit::Bytes(limit) => *limit,
            Limit::Awaited(awaited) => match ready!(awaited.poll_unpin(context)) {
                Ok(limit) => {
                    self.limit = Limit::Bytes(limit);
                    limit
                }
                // The call was given up before the peer welcomed it.
                Err(_) => return Poll::Ready(None),
            },
        };
        loop {
            if let Some(request) = self.ready.pop_front() {
                return Poll::Ready(Some(request));
            }
            let portion = PORTION_BYTES.min(limit as u64);
            match ready!(self.link().queue.poll_take(self.call, portion, context)) {
                Some(messages) => self.pack(messages, limit),
                None => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on_stream;
    use openconsensus::{Body, Entry, LogId, Payload};

    use super::*;
    use crate::config::GrpcConfig;
    use crate::hello::Local;
    use openconsensus::PostcardCodec;

    /// Its commands are larger than it says.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
    struct Vague;

    impl TypeConfig for Vague {
        type Command = String;
        type Response = ();
        type NodeId = u64;
        type Node = String;

        fn command_bytes(_command: &String) -> u64 {
            0
        }
    }

    fn append(index: u64, bytes: usize) -> Message<Vague> {
        let log_id = LogId::new(1, index);
        let entries = vec![Entry { log_id, payload: Payload::Command("x".repeat(bytes)) }].into();
        Message { term: 1, body: Body::Append { prev: LogId::new(1, index - 1), entries, commit: 0 } }
    }

    #[test]
    fn requests_keep_to_the_limit_and_a_message_that_cannot_is_dropped() {
        let limit = 1024;
        let config = GrpcConfig::new("c");
        let peer = Arc::new(Peer::<Vague>::new(2, &config));
        let hello = Local::<Vague>::new::<PostcardCodec>(config, 1, "h:1".into()).unwrap().hello(2);
        let link = peer.link(Lane::Bulk);
        let call = link.queue.begin_call();
        let (welcomed, awaited) = oneshot::channel();
        let frames = Frames::<Vague, PostcardCodec>::new(peer.clone(), Lane::Bulk, call, hello, awaited);
        welcomed.send(limit).unwrap();

        let sizes: Vec<usize> = (0..200).map(|i| if i == 100 { 5000 } else { i * 37 % 980 }).collect();
        for (index, bytes) in sizes.iter().enumerate() {
            link.queue.push([append(index as u64 + 1, *bytes)]);
        }
        let mut received = Vec::new();
        let mut frames = block_on_stream(frames);
        assert!(matches!(frames.next().unwrap().kind, Some(Kind::Start(_))));
        while received.len() < sizes.len() - 1 {
            let request = frames.next().unwrap();
            assert!(request.encoded_len() <= limit, "{} bytes in a request", request.encoded_len());
            let Some(Kind::Batch(batch)) = request.kind else { panic!("only the first request is no batch") };
            for message in batch.messages {
                let message: Message<Vague> = message.into_message::<_, PostcardCodec>().unwrap();
                let Body::Append { prev, .. } = message.body else { panic!("only appends were sent") };
                received.push(prev.index);
            }
        }
        let expected: Vec<u64> = (0..200).filter(|index| *index != 100).collect();
        assert_eq!(received, expected);
        let error = peer.status().last_error.unwrap();
        assert_eq!(error.kind, PeerErrorKind::Unsendable);
        assert!(error.text.contains("message_bytes_max is 1024"), "{error}");
        assert_eq!(peer.status().dropped_messages, 1);
    }
}
