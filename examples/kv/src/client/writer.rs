//! `Writer`: commands of many callers over one stream, those that come together in one request.

use std::collections::VecDeque;

use futures::future::OptionFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::call::{self, Failed, Target};
use super::{Client, ClientError, Command, Response};
use crate::proto;

/// So many requests are under way at a time. Commands that come meanwhile gather for the next one: that is where their
/// number comes from, no timer is waited for.
const REQUESTS_MAX: usize = 2;

/// A request has at most so many commands,
const COMMANDS_MAX: usize = 1024;

/// and about so many bytes.
const REQUEST_BYTES_MAX: u64 = 1 << 20;

/// So many commands wait for a request at a time; then callers wait.
const QUEUE_COMMANDS_MAX: usize = 16_384;

/// Carries the commands of many callers over one stream to the leader: what costs most of a single write, its request,
/// is shared by all who write at the same time. For one caller that writes one command after the other it is as good as
/// the client.
///
/// Each command is a write of its own, with an outcome of its own. Clones share the stream. It needs a tokio runtime.
#[derive(Clone, Debug)]
pub struct Writer {
    client: Client,
    queue: mpsc::Sender<Queued>,
}

impl Client {
    /// A writer that shares the connections of this client. Connects when the first command is written.
    pub fn writer(&self) -> Writer {
        let (queue, commands) = mpsc::channel(QUEUE_COMMANDS_MAX);
        // It ends with the last clone of the writer.
        tokio::spawn(Task { client: self.clone(), commands, next: Vec::new() }.run());
        Writer { client: self.clone(), queue }
    }
}

impl Writer {
    /// As [`Client::apply`].
    ///
    /// # Errors
    ///
    /// As [`Client::apply`].
    pub async fn apply(&self, command: Command) -> Result<Response, ClientError> {
        let (answer, answered) = oneshot::channel();
        let queued = Queued { command: command.clone(), answer };
        let through_stream = async {
            // The queue ends only with the runtime.
            self.queue.send(queued).await.map_err(|_| Failed::NothingHappened)?;
            answered.await.unwrap_or_else(|_| Err(Failed::Unknown("the writer has ended".into())))
        };
        match tokio::time::timeout(self.client.timeout(), through_stream).await {
            Ok(Ok(response)) => Ok(response),
            // Alone it finds the leader, is tried again for as long as there is time, and learns its own fault.
            Ok(Err(Failed::NothingHappened)) => self.client.apply(command).await,
            Ok(Err(Failed::Unknown(reason))) => Err(ClientError::Unknown { reason }),
            Err(_) => Err(ClientError::Unknown { reason: "no answer in time".into() }),
        }
    }
}

/// A command, and who waits for its outcome.
#[derive(Debug)]
struct Queued {
    command: Command,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<Response, Failed>>;

/// Owns the stream.
struct Task {
    client: Client,
    commands: mpsc::Receiver<Queued>,
    /// Taken from the queue, and in no request yet.
    next: Vec<Queued>,
}

/// A stream that is open. Requests that were handed over have one answer each, in order.
struct Open {
    address: String,
    requests: mpsc::Sender<proto::ApplyRequest>,
    answers: Streaming<proto::ApplyResponse>,
    under_way: VecDeque<UnderWay>,
}

/// The callers whose commands are in one request, and when that was handed over.
struct UnderWay {
    since: Instant,
    waiting: Vec<Answer>,
}

/// What happens next.
enum Event {
    Queued(usize),
    /// The oldest request has waited as long as its callers do.
    Silent,
    Answered(Result<Option<proto::ApplyResponse>, tonic::Status>),
}

impl Task {
    /// Opens a stream when there is something to write, and another one when that is over.
    async fn run(mut self) {
        while !self.next.is_empty() || 0 < self.commands.recv_many(&mut self.next, COMMANDS_MAX).await {
            match self.open().await {
                Some(open) => self.carry(open).await,
                None => answer_all(self.next.drain(..).map(|queued| queued.answer), &Failed::NothingHappened),
            }
        }
    }

    /// Nothing has been sent when there is no stream.
    async fn open(&self) -> Option<Open> {
        let address = self.client.address_for(Target::Leader)?;
        let opening = async {
            let mut node = self.client.connections.node(&address).ok()?;
            let (requests, outgoing) = mpsc::channel(REQUESTS_MAX);
            let answers = node.apply_stream(ReceiverStream::new(outgoing)).await.ok()?.into_inner();
            Some((requests, answers))
        };
        let opened = tokio::time::timeout(self.client.options.connect_timeout, opening).await;
        let Ok(Some((requests, answers))) = opened else {
            self.client.connections.avoid(&address);
            return None;
        };
        Some(Open { address, requests, answers, under_way: VecDeque::new() })
    }

    /// Writes until the stream breaks, its node does not lead, or nobody is left who writes.
    async fn carry(&mut self, mut open: Open) {
        let mut is_good = true;
        loop {
            if is_good && open.under_way.len() < REQUESTS_MAX && !self.next.is_empty() {
                let (request, waiting) = self.next_request();
                if !waiting.is_empty() {
                    open.under_way.push_back(UnderWay { since: Instant::now(), waiting });
                    // Never full: it has room for all that may be under way. A stream that has ended says so below.
                    let _ = open.requests.try_send(request);
                }
                continue;
            }
            let may_take = is_good && self.next.is_empty() && open.under_way.len() < REQUESTS_MAX;
            let oldest = open.under_way.front().map(|request| request.since);
            if !may_take && oldest.is_none() {
                return;
            }
            let patience = self.client.timeout();
            let silent = OptionFuture::from(oldest.map(|since| tokio::time::sleep_until(since + patience)));
            // Polled while nothing is due too, so that the end of the stream is seen at once.
            let taken =
                OptionFuture::from(may_take.then(|| self.commands.recv_many(&mut self.next, COMMANDS_MAX)));
            let event = tokio::select! {
                biased;
                answer = open.answers.message() => Event::Answered(answer),
                Some(count) = taken => Event::Queued(count),
                Some(()) = silent => Event::Silent,
            };
            match event {
                Event::Queued(0) if open.under_way.is_empty() => return,
                // Nobody writes any more: only answers are due.
                Event::Queued(0) => is_good = false,
                Event::Queued(_) => {}
                Event::Answered(Ok(Some(answer))) => is_good &= self.take_answer(&mut open, answer),
                Event::Answered(Ok(None)) => return self.give_up(open, "the stream ended"),
                Event::Answered(Err(status)) => return self.give_up(open, &call::describe(&status)),
                Event::Silent => return self.give_up(open, "no answer in time"),
            }
        }
    }

    /// As many commands as fit into one request. Those that nobody waits for any more are left out.
    fn next_request(&mut self) -> (proto::ApplyRequest, Vec<Answer>) {
        let mut bytes = 0;
        let fitting = self.next.iter().take_while(|queued| {
            bytes += queued.command.size_bytes();
            bytes <= REQUEST_BYTES_MAX
        });
        let count = fitting.count().max(1);
        let wanted = self.next.drain(..count).filter(|queued| !queued.answer.is_closed());
        let (commands, answers) =
            wanted.map(|queued| (proto::Command::from(queued.command), queued.answer)).unzip();
        (proto::ApplyRequest { commands, no_wait: false }, answers)
    }

    /// Whether the stream can be used further.
    fn take_answer(&self, open: &mut Open, mut answer: proto::ApplyResponse) -> bool {
        let Some(UnderWay { waiting, .. }) = open.under_way.pop_front() else { return false };
        if let Some(failure) = proto::Answer::take_failure(&mut answer) {
            let leader = failure.leader_address.clone();
            answer_all(waiting, &call::failed_write(failure));
            match leader {
                Some(leader) if leader != open.address => self.client.connections.remember_leader(&leader),
                Some(_) | None => self.client.connections.avoid(&open.address),
            }
            return false;
        }
        self.client.connections.remember_leader(&open.address);
        if answer.responses.len() != waiting.len() {
            let text = format!("{} responses to {} commands", answer.responses.len(), waiting.len());
            answer_all(waiting, &Failed::Unknown(text));
            return false;
        }
        for (answer, response) in waiting.into_iter().zip(answer.responses) {
            let response = Response::try_from(response).map_err(|error| Failed::Unknown(error.to_string()));
            // Nobody may be waiting any more.
            let _ = answer.send(response);
        }
        true
    }

    /// The stream is broken: of what was under way nobody knows what became.
    fn give_up(&self, open: Open, reason: &str) {
        self.client.connections.avoid(&open.address);
        let unknown = Failed::Unknown(format!("{}: {reason}", open.address));
        answer_all(open.under_way.into_iter().flat_map(|request| request.waiting), &unknown);
    }
}

fn answer_all(waiting: impl IntoIterator<Item = Answer>, failed: &Failed) {
    for answer in waiting {
        let _ = answer.send(Err(failed.clone()));
    }
}
