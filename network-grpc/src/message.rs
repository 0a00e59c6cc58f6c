//! What a message of the algorithm is in the schema, and back.

use bytes::Bytes;
use openconsensus::{
    AppendResult, Body, CodecError, Entries, EntryCodec, InstallSnapshot, LogId, MembershipAt, Message,
    SnapshotMeta, TransferAnswer, TransferRefusal, TypeConfig, VoteKind,
};

use crate::proto::append_response::Result as Answer;
use crate::proto::transfer_refusal::Reason;
use crate::proto::{self, RaftMessage, raft_message, transfer_response};

/// Entries of fewer bytes are copied out of the request that they came in.
const KEPT_BYTES_MIN: usize = 32 << 10;

impl RaftMessage {
    /// `message` as it travels. Its entries are encoded now if they were not before, and the bytes are shared with all
    /// others who send or store them.
    ///
    /// # Errors
    ///
    /// When something of the application's cannot be encoded.
    pub fn new<C: TypeConfig, K: EntryCodec<C>>(message: &Message<C>) -> Result<Self, CodecError> {
        Ok(Self { term: message.term, body: Some(encode_body::<C, K>(&message.body)?) })
    }

    /// Has the entries let go of the request of `request_bytes` that they came in, unless they are nearly all of it.
    ///
    /// A node keeps the bytes of entries as long as the entries, and as long as it keeps any of them it keeps all of the
    /// memory that they are part of. A copy takes 4 us for each 32 KiB, a twentieth of what it costs to get small entries
    /// here. For a MiB it would be a tenth, and there it is left out.
    pub(crate) fn detach_entries(&mut self, request_bytes: usize) {
        let Some(raft_message::Body::Append(append)) = &mut self.body else { return };
        let bytes: usize = append.entries.iter().map(Bytes::len).sum();
        let is_worth_keeping = KEPT_BYTES_MIN <= bytes && request_bytes.saturating_sub(bytes) <= bytes / 8;
        if bytes != 0 && !(append.entries.len() == 1 && is_worth_keeping) {
            append.entries = vec![copied(&append.entries)];
        }
    }

    /// The message that has travelled. Its entries keep the bytes that they were decoded of.
    ///
    /// # Errors
    ///
    /// When no node would send this, or something of the application's cannot be decoded.
    pub fn into_message<C: TypeConfig, K: EntryCodec<C>>(self) -> Result<Message<C>, CodecError> {
        let body = self.body.ok_or_else(|| missing("what the message says"))?;
        Ok(Message { term: self.term, body: decode_body::<C, K>(body)? })
    }
}

impl proto::SnapshotMeta {
    /// `request` as it travels.
    ///
    /// # Errors
    ///
    /// When something of the application's cannot be encoded.
    pub fn new<C: TypeConfig, K: EntryCodec<C>>(request: &InstallSnapshot<C>) -> Result<Self, CodecError> {
        let InstallSnapshot { term, leader, meta } = request;
        let SnapshotMeta { last, membership: MembershipAt { log_id, membership }, size_bytes } = meta;
        let mut encoded = Vec::new();
        K::encode_membership(membership, &mut encoded)?;
        Ok(Self {
            term: *term,
            leader: encode_node::<C, K>(leader)?,
            last_term: last.term,
            last_index: last.index,
            membership_term: log_id.term,
            membership_index: log_id.index,
            membership: encoded.into(),
            size_bytes: *size_bytes,
        })
    }

    /// The request that has travelled.
    ///
    /// # Errors
    ///
    /// When something of the application's cannot be decoded.
    pub fn into_request<C: TypeConfig, K: EntryCodec<C>>(self) -> Result<InstallSnapshot<C>, CodecError> {
        let membership = MembershipAt {
            log_id: LogId::new(self.membership_term, self.membership_index),
            membership: K::decode_membership(self.membership)?,
        };
        let last = LogId::new(self.last_term, self.last_index);
        Ok(InstallSnapshot {
            term: self.term,
            leader: K::decode_node_id(self.leader)?,
            meta: SnapshotMeta { last, membership, size_bytes: self.size_bytes },
        })
    }
}

fn encode_body<C: TypeConfig, K: EntryCodec<C>>(body: &Body<C>) -> Result<raft_message::Body, CodecError> {
    use raft_message::Body as Proto;
    Ok(match body {
        Body::VoteRequest { kind, campaign, last } => Proto::VoteRequest(proto::VoteRequest {
            kind: encode_vote(*kind).into(),
            campaign: *campaign,
            last_term: last.term,
            last_index: last.index,
        }),
        Body::VoteResponse { kind, campaign, granted } => Proto::VoteResponse(proto::VoteResponse {
            kind: encode_vote(*kind).into(),
            campaign: *campaign,
            granted: *granted,
        }),
        Body::Append { prev, entries, commit } => Proto::Append(proto::Append {
            prev_term: prev.term,
            prev_index: prev.index,
            commit: *commit,
            entries: entries.encoded::<K>()?.into_parts(),
        }),
        Body::AppendResponse { result } => {
            Proto::AppendResponse(proto::AppendResponse { result: Some(encode_result(result)) })
        }
        Body::Heartbeat { round, commit } => Proto::Heartbeat(proto::Heartbeat {
            round: *round,
            commit_term: commit.term,
            commit_index: commit.index,
        }),
        Body::HeartbeatResponse { round, promise_ms } => {
            Proto::HeartbeatResponse(proto::HeartbeatResponse { round: *round, promise_ms: *promise_ms })
        }
        Body::Commit { commit } => {
            Proto::Commit(proto::Commit { commit_term: commit.term, commit_index: commit.index })
        }
        Body::ReadRequest { read, by_lease } => {
            Proto::ReadRequest(proto::ReadRequest { read: *read, by_lease: *by_lease })
        }
        Body::ReadResponse { read, index } => {
            Proto::ReadResponse(proto::ReadResponse { read: *read, index: *index })
        }
        Body::TimeoutNow => Proto::TimeoutNow(proto::TimeoutNow {}),
        Body::TimeoutNowDeclined => Proto::TimeoutNowDeclined(proto::TimeoutNowDeclined {}),
        Body::TransferRequest { transfer, target } => Proto::TransferRequest(proto::TransferRequest {
            transfer: *transfer,
            target: target.as_ref().map(encode_node::<C, K>).transpose()?,
        }),
        Body::TransferResponse { transfer, answer } => Proto::TransferResponse(proto::TransferResponse {
            transfer: *transfer,
            answer: Some(encode_transfer::<C, K>(answer)?),
        }),
        Body::Removed { campaign, membership } => Proto::Removed(proto::Removed {
            campaign: *campaign,
            membership_term: membership.term,
            membership_index: membership.index,
        }),
        // The core may get new messages before the schema does.
        other => return Err(CodecError(format!("the schema has no message for {other:?}"))),
    })
}

fn decode_body<C: TypeConfig, K: EntryCodec<C>>(body: raft_message::Body) -> Result<Body<C>, CodecError> {
    use raft_message::Body as Proto;
    Ok(match body {
        Proto::VoteRequest(request) => Body::VoteRequest {
            kind: decode_vote(request.kind())?,
            campaign: request.campaign,
            last: LogId::new(request.last_term, request.last_index),
        },
        Proto::VoteResponse(response) => Body::VoteResponse {
            kind: decode_vote(response.kind())?,
            campaign: response.campaign,
            granted: response.granted,
        },
        Proto::Append(append) => {
            let prev = LogId::new(append.prev_term, append.prev_index);
            let entries = decode_entries::<C, K>(prev, append.entries)?;
            Body::Append { prev, entries, commit: append.commit }
        }
        Proto::AppendResponse(response) => {
            let result = response.result.ok_or_else(|| missing("the result of an append"))?;
            Body::AppendResponse { result: decode_result(result) }
        }
        Proto::Heartbeat(heartbeat) => Body::Heartbeat {
            round: heartbeat.round,
            commit: LogId::new(heartbeat.commit_term, heartbeat.commit_index),
        },
        Proto::HeartbeatResponse(proto::HeartbeatResponse { round, promise_ms }) => {
            Body::HeartbeatResponse { round, promise_ms }
        }
        Proto::Commit(commit) => Body::Commit { commit: LogId::new(commit.commit_term, commit.commit_index) },
        Proto::ReadRequest(proto::ReadRequest { read, by_lease }) => Body::ReadRequest { read, by_lease },
        Proto::ReadResponse(proto::ReadResponse { read, index }) => Body::ReadResponse { read, index },
        Proto::TimeoutNow(proto::TimeoutNow {}) => Body::TimeoutNow,
        Proto::TimeoutNowDeclined(proto::TimeoutNowDeclined {}) => Body::TimeoutNowDeclined,
        Proto::TransferRequest(proto::TransferRequest { transfer, target }) => {
            Body::TransferRequest { transfer, target: target.map(K::decode_node_id).transpose()? }
        }
        Proto::TransferResponse(proto::TransferResponse { transfer, answer }) => {
            let answer = answer.ok_or_else(|| missing("the answer to a transfer"))?;
            Body::TransferResponse { transfer, answer: decode_transfer::<C, K>(answer)? }
        }
        Proto::Removed(removed) => Body::Removed {
            campaign: removed.campaign,
            membership: LogId::new(removed.membership_term, removed.membership_index),
        },
    })
}

/// The entries behind `prev`.
fn decode_entries<C: TypeConfig, K: EntryCodec<C>>(
    prev: LogId,
    parts: Vec<Bytes>,
) -> Result<Entries<C>, CodecError> {
    let first =
        prev.index.checked_add(1).ok_or_else(|| missing("an index after that of the entry before"))?;
    Entries::decode::<K>(first, joined(parts))
}

/// All of `parts` as one.
fn joined(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    copied(&parts)
}

/// All of `parts` as one, in memory of its own.
fn copied(parts: &[Bytes]) -> Bytes {
    let mut all = Vec::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        all.extend_from_slice(part);
    }
    all.into()
}

fn encode_vote(kind: VoteKind) -> proto::VoteKind {
    match kind {
        VoteKind::Pre => proto::VoteKind::Pre,
        VoteKind::Normal => proto::VoteKind::Normal,
        VoteKind::Transfer => proto::VoteKind::Transfer,
    }
}

fn decode_vote(kind: proto::VoteKind) -> Result<VoteKind, CodecError> {
    match kind {
        proto::VoteKind::Unspecified => Err(missing("the kind of a vote")),
        proto::VoteKind::Pre => Ok(VoteKind::Pre),
        proto::VoteKind::Normal => Ok(VoteKind::Normal),
        proto::VoteKind::Transfer => Ok(VoteKind::Transfer),
    }
}

fn encode_result(result: &AppendResult) -> Answer {
    match result {
        AppendResult::Matched { matched } => Answer::Matched(*matched),
        AppendResult::Conflict { rejected, hint } => Answer::Conflict(proto::Conflict {
            rejected: *rejected,
            hint_term: hint.term,
            hint_index: hint.index,
        }),
        AppendResult::StaleTerm => Answer::StaleTerm(proto::StaleTerm {}),
    }
}

fn decode_result(result: Answer) -> AppendResult {
    match result {
        Answer::Matched(matched) => AppendResult::Matched { matched },
        Answer::Conflict(conflict) => AppendResult::Conflict {
            rejected: conflict.rejected,
            hint: LogId::new(conflict.hint_term, conflict.hint_index),
        },
        Answer::StaleTerm(proto::StaleTerm {}) => AppendResult::StaleTerm,
    }
}

fn encode_transfer<C: TypeConfig, K: EntryCodec<C>>(
    answer: &TransferAnswer<C>,
) -> Result<transfer_response::Answer, CodecError> {
    let refusal = match answer {
        TransferAnswer::Begun { target } => {
            return Ok(transfer_response::Answer::Begun(encode_node::<C, K>(target)?));
        }
        TransferAnswer::Leads { leader } => {
            return Ok(transfer_response::Answer::Leads(encode_node::<C, K>(leader)?));
        }
        TransferAnswer::Refused(refusal) => refusal,
    };
    let (reason, target, behind, limit) = match refusal {
        TransferRefusal::InProgress { target } => (Reason::InProgress, Some(target), 0, 0),
        TransferRefusal::NotAVoter { target } => (Reason::NotAVoter, Some(target), 0, 0),
        TransferRefusal::NoTarget => (Reason::NoTarget, None, 0, 0),
        TransferRefusal::NotActive { target } => (Reason::NotActive, Some(target), 0, 0),
        TransferRefusal::TooFarBehind { target, behind, limit } => {
            (Reason::TooFarBehind, Some(target), *behind, *limit)
        }
        TransferRefusal::TimedOut { target } => (Reason::TimedOut, Some(target), 0, 0),
        TransferRefusal::Declined { target } => (Reason::Declined, Some(target), 0, 0),
    };
    let target = target.map(encode_node::<C, K>).transpose()?.unwrap_or_default();
    let refusal = proto::TransferRefusal { reason: reason.into(), target, behind, limit };
    Ok(transfer_response::Answer::Refused(refusal))
}

fn decode_transfer<C: TypeConfig, K: EntryCodec<C>>(
    answer: transfer_response::Answer,
) -> Result<TransferAnswer<C>, CodecError> {
    let refusal = match answer {
        transfer_response::Answer::Begun(target) => {
            return Ok(TransferAnswer::Begun { target: K::decode_node_id(target)? });
        }
        transfer_response::Answer::Leads(leader) => {
            return Ok(TransferAnswer::Leads { leader: K::decode_node_id(leader)? });
        }
        transfer_response::Answer::Refused(refusal) => refusal,
    };
    let reason = refusal.reason();
    let proto::TransferRefusal { target, behind, limit, .. } = refusal;
    let target = || K::decode_node_id(target);
    Ok(TransferAnswer::Refused(match reason {
        Reason::Unspecified => return Err(missing("the reason why a transfer is refused")),
        Reason::InProgress => TransferRefusal::InProgress { target: target()? },
        Reason::NotAVoter => TransferRefusal::NotAVoter { target: target()? },
        Reason::NoTarget => TransferRefusal::NoTarget,
        Reason::NotActive => TransferRefusal::NotActive { target: target()? },
        Reason::TooFarBehind => TransferRefusal::TooFarBehind { target: target()?, behind, limit },
        Reason::TimedOut => TransferRefusal::TimedOut { target: target()? },
        Reason::Declined => TransferRefusal::Declined { target: target()? },
    }))
}

fn encode_node<C: TypeConfig, K: EntryCodec<C>>(id: &C::NodeId) -> Result<Bytes, CodecError> {
    let mut out = Vec::new();
    K::encode_node_id(id, &mut out)?;
    Ok(out.into())
}

fn missing(what: &str) -> CodecError {
    CodecError(format!("{what} is missing, or of a kind that this version does not know"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use openconsensus::{Entry, Membership, MessageCounters, Payload, PostcardCodec};
    use prost::Message as _;

    use super::*;
    use crate::testing::Text;

    fn entry(term: u64, index: u64) -> Entry<Text> {
        Entry { log_id: LogId::new(term, index), payload: Payload::Command("x".repeat(20)) }
    }

    fn append() -> Message<Text> {
        let entries = Entries::concat([vec![entry(3, 5), entry(3, 6)].into(), vec![entry(4, 7)].into()]);
        Message { term: 5, body: Body::Append { prev: LogId::new(2, 4), entries, commit: 4 } }
    }

    fn bodies() -> Vec<Body<Text>> {
        let (last, target) = (LogId::new(3, 9), 7);
        let refusals = [
            TransferRefusal::InProgress { target },
            TransferRefusal::NotAVoter { target },
            TransferRefusal::NoTarget,
            TransferRefusal::NotActive { target },
            TransferRefusal::TooFarBehind { target, behind: 10, limit: 5 },
            TransferRefusal::TimedOut { target },
            TransferRefusal::Declined { target },
        ];
        let answers = [TransferAnswer::Begun { target }, TransferAnswer::Leads { leader: target }]
            .into_iter()
            .chain(refusals.map(TransferAnswer::Refused))
            .map(|answer| Body::TransferResponse { transfer: 6, answer });
        let results = [
            AppendResult::Matched { matched: 0 },
            AppendResult::Matched { matched: 8 },
            AppendResult::Conflict { rejected: 9, hint: last },
            AppendResult::StaleTerm,
        ]
        .map(|result| Body::AppendResponse { result });
        let kinds = [VoteKind::Pre, VoteKind::Normal, VoteKind::Transfer];
        let requests = kinds.map(|kind| Body::VoteRequest { kind, campaign: 2, last });
        let votes =
            kinds.map(|kind| Body::VoteResponse { kind, campaign: 2, granted: kind == VoteKind::Pre });
        let others = [
            append().body,
            Body::Append { prev: LogId::ZERO, entries: Entries::empty(), commit: 0 },
            Body::Heartbeat { round: 4, commit: last },
            Body::HeartbeatResponse { round: 4, promise_ms: 300 },
            Body::Commit { commit: last },
            Body::ReadRequest { read: 5, by_lease: true },
            Body::ReadResponse { read: 5, index: 9 },
            Body::TimeoutNow,
            Body::TimeoutNowDeclined,
            Body::TransferRequest { transfer: 6, target: Some(target) },
            Body::TransferRequest { transfer: 6, target: None },
            Body::Removed { campaign: 2, membership: last },
        ];
        requests.into_iter().chain(votes).chain(others).chain(results).chain(answers).collect()
    }

    fn encoded(message: &Message<Text>) -> Vec<u8> {
        RaftMessage::new::<_, PostcardCodec>(message).unwrap().encode_to_vec()
    }

    fn decoded(bytes: &[u8]) -> Result<Message<Text>, CodecError> {
        let message = RaftMessage::decode(bytes).map_err(CodecError::new)?;
        message.into_message::<_, PostcardCodec>()
    }

    #[test]
    fn every_message_comes_back() {
        let mut kinds = HashSet::new();
        for body in bodies() {
            let message = Message { term: 5, body };
            let again = decoded(&encoded(&message)).unwrap();
            assert_eq!(format!("{again:?}"), format!("{message:?}"));
            let travelled = RaftMessage::new::<_, PostcardCodec>(&message).unwrap();
            kinds.insert(std::mem::discriminant(&travelled.body.unwrap()));
        }
        // Whoever adds a message to the core has to add it to the schema and to this test.
        assert_eq!(kinds.len(), MessageCounters::default().by_kind().len(), "{kinds:?}");
    }

    #[test]
    fn what_is_sent_is_what_the_disk_was_given() {
        let message = append();
        let Body::Append { entries, .. } = &message.body else { unreachable!() };
        let records = entries.encoded::<PostcardCodec>().unwrap();
        let sent = RaftMessage::new::<_, PostcardCodec>(&message).unwrap();
        let Some(raft_message::Body::Append(sent)) = sent.body else { panic!("it is an append") };
        let places = |parts: &[Bytes]| parts.iter().map(|part| part.as_ptr()).collect::<Vec<_>>();
        assert_eq!(places(&sent.entries), places(records.parts()));
    }

    #[test]
    fn entries_hold_hardly_more_memory_than_they_need() {
        let part = |bytes: usize| Bytes::from(vec![7; bytes]);
        let cases = [
            (vec![part(100)], 100, false),
            (vec![part(KEPT_BYTES_MIN)], KEPT_BYTES_MIN + 100, true),
            (vec![part(KEPT_BYTES_MIN)], KEPT_BYTES_MIN / 8 * 9 + 1, false),
            (vec![part(KEPT_BYTES_MIN), part(KEPT_BYTES_MIN)], KEPT_BYTES_MIN * 2 + 100, false),
        ];
        for (parts, request_bytes, is_kept) in cases {
            let append = proto::Append { entries: parts.clone(), ..Default::default() };
            let mut message = RaftMessage { term: 1, body: Some(raft_message::Body::Append(append)) };
            message.detach_entries(request_bytes);
            let Some(raft_message::Body::Append(append)) = message.body else { panic!("it is an append") };
            let [entries] = &append.entries[..] else { panic!("they are in one piece") };
            assert_eq!(entries.as_ptr() == parts[0].as_ptr(), is_kept, "{request_bytes} bytes");
            assert_eq!(*entries, parts.concat());
        }
    }

    #[test]
    fn a_snapshot_comes_back() {
        let nodes = [1, 2].map(|id| (id, format!("h:{id}"))).into();
        let membership = Membership::new([1].into(), nodes).unwrap();
        let membership = MembershipAt { log_id: LogId::new(1, 1), membership };
        let meta = SnapshotMeta { last: LogId::new(2, 9), membership, size_bytes: Some(3) };
        let request = InstallSnapshot::<Text> { term: 3, leader: 1, meta };
        let travelled = proto::SnapshotMeta::new::<_, PostcardCodec>(&request).unwrap();
        let again = travelled.clone().into_request::<Text, PostcardCodec>().unwrap();
        assert_eq!(again, request);
        let damaged = proto::SnapshotMeta { membership: Bytes::from_static(&[9]), ..travelled };
        assert!(damaged.into_request::<Text, PostcardCodec>().is_err());
    }

    #[test]
    fn a_length_that_is_made_up_is_refused_before_memory_is_taken() {
        let with = |entries: Vec<u8>| {
            let append = proto::Append { prev_index: 4, entries: vec![entries.into()], ..Default::default() };
            RaftMessage { term: 9, body: Some(raft_message::Body::Append(append)) }
                .into_message::<Text, PostcardCodec>()
        };
        let record = |payload: &[u8]| {
            let mut record = (9 + payload.len() as u32).to_le_bytes().to_vec();
            record.extend([1, 2, 0, 0, 0, 0, 0, 0, 0]);
            record.extend(payload);
            record
        };
        assert!(with(record(&[1, b'x'])).is_ok());
        // The command says that it has as many bytes as there are numbers.
        assert!(with(record(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])).is_err());
        // The record says so.
        let mut huge = record(&[1, b'x']);
        huge[..4].fill(0xff);
        assert!(with(huge).is_err());
        // A field of the message says so.
        let mut bytes = encoded(&append());
        let place =
            bytes.windows(2).position(|pair| pair == [0x22, 68]).expect("the first part of the entries");
        bytes[place + 1] = 0xff;
        assert!(decoded(&bytes).is_err());
    }

    #[test]
    fn a_record_may_not_be_cut_into_parts() {
        let mut sent = RaftMessage::new::<_, PostcardCodec>(&append()).unwrap();
        let Some(raft_message::Body::Append(append)) = &mut sent.body else { panic!("it is an append") };
        append.entries.pop();
        append.entries.push(Bytes::from_static(&[1, 0]));
        assert!(sent.into_message::<Text, PostcardCodec>().is_err());
    }

    #[test]
    fn what_is_missing_is_refused() {
        use raft_message::Body as Proto;
        for body in [
            None,
            Some(Proto::VoteRequest(proto::VoteRequest::default())),
            Some(Proto::VoteResponse(proto::VoteResponse { kind: 77, ..Default::default() })),
            Some(Proto::AppendResponse(proto::AppendResponse::default())),
            Some(Proto::TransferResponse(proto::TransferResponse::default())),
            Some(Proto::TransferResponse(proto::TransferResponse {
                transfer: 1,
                answer: Some(transfer_response::Answer::Refused(proto::TransferRefusal::default())),
            })),
            Some(Proto::Append(proto::Append { prev_index: u64::MAX, ..Default::default() })),
        ] {
            let message = RaftMessage { term: 1, body };
            assert!(message.clone().into_message::<Text, PostcardCodec>().is_err(), "{message:?}");
        }
    }

    #[test]
    fn mutated_bytes_never_panic() {
        let valid = encoded(&append());
        let mut rng = fastrand::Rng::with_seed(0x5eed);
        let mut refused = 0;
        for _ in 0..50_000 {
            let mut bytes = valid.clone();
            bytes.truncate(rng.usize(0..=bytes.len()));
            for _ in 0..rng.usize(1..4) {
                if !bytes.is_empty() {
                    let place = rng.usize(0..bytes.len());
                    bytes[place] = if rng.bool() { 0xff } else { rng.u8(..) };
                }
            }
            if decoded(&bytes).is_err() {
                refused += 1;
            }
        }
        assert!(10_000 < refused, "only {refused} of 50000 mutations were refused");
    }
}
