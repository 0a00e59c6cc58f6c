//! The client protocol as generated from `proto/kv.proto`, and its conversion to and from the types of the store.

use openconsensus_memstore::kv;

#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
mod generated {
    tonic::include_proto!("kv.v1");
}

pub use generated::*;

/// An answer that may carry a [`Failure`] in place of what was asked for.
pub trait Answer {
    /// Takes the failure out, if there is one.
    fn take_failure(&mut self) -> Option<Failure>;
}

macro_rules! answers {
    ($($answer:ty),+ $(,)?) => {
        $(impl Answer for $answer {
            fn take_failure(&mut self) -> Option<Failure> {
                self.failure.take()
            }
        })+
    };
}

answers!(
    ApplyResponse,
    GetResponse,
    ScanPage,
    ChecksumResponse,
    MemberResponse,
    TransferResponse,
    SnapshotResponse,
    PurgeResponse,
    CampaignResponse,
    DoneResponse
);

impl Answer for StatusResponse {
    fn take_failure(&mut self) -> Option<Failure> {
        None
    }
}

/// A message of the protocol lacks something that it must have: it was made by another program, or a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message names no {0} that this version knows")]
pub struct Incomplete(pub &'static str);

impl From<kv::Command> for Command {
    fn from(command: kv::Command) -> Self {
        let command = match command {
            kv::Command::Put { key, value } => command::Command::Put(Put { key, value }),
            kv::Command::Delete { key } => command::Command::Delete(Delete { key }),
            kv::Command::CompareAndSet { key, expected, value } => {
                command::Command::CompareAndSet(CompareAndSet { key, expected, value })
            }
            kv::Command::Batch(commands) => {
                command::Command::Batch(Batch { commands: commands.into_iter().map(Self::from).collect() })
            }
        };
        Self { command: Some(command) }
    }
}

impl TryFrom<Command> for kv::Command {
    type Error = Incomplete;

    fn try_from(command: Command) -> Result<Self, Incomplete> {
        Ok(match command.command.ok_or(Incomplete("command"))? {
            command::Command::Put(Put { key, value }) => Self::Put { key, value },
            command::Command::Delete(Delete { key }) => Self::Delete { key },
            command::Command::CompareAndSet(CompareAndSet { key, expected, value }) => {
                Self::CompareAndSet { key, expected, value }
            }
            command::Command::Batch(Batch { commands }) => {
                Self::Batch(commands.into_iter().map(Self::try_from).collect::<Result<_, _>>()?)
            }
        })
    }
}

impl From<kv::Response> for CommandResponse {
    fn from(response: kv::Response) -> Self {
        let response = match response {
            kv::Response::Previous(value) => command_response::Response::Previous(Previous { value }),
            kv::Response::Compared { set, actual } => {
                command_response::Response::Compared(Compared { set, actual })
            }
            kv::Response::Batch(count) => command_response::Response::Batch(count),
        };
        Self { response: Some(response) }
    }
}

impl TryFrom<CommandResponse> for kv::Response {
    type Error = Incomplete;

    fn try_from(response: CommandResponse) -> Result<Self, Incomplete> {
        Ok(match response.response.ok_or(Incomplete("response"))? {
            command_response::Response::Previous(Previous { value }) => Self::Previous(value),
            command_response::Response::Compared(Compared { set, actual }) => Self::Compared { set, actual },
            command_response::Response::Batch(count) => Self::Batch(count),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_the_wire() {
        let put = kv::Command::Put { key: "k".into(), value: vec![0, 255] };
        let delete = kv::Command::Delete { key: String::new() };
        let set = kv::Command::CompareAndSet { key: "k".into(), expected: None, value: Some(vec![]) };
        let unset = kv::Command::CompareAndSet { key: "k".into(), expected: Some(vec![1]), value: None };
        let batch = kv::Command::Batch(vec![put.clone(), delete.clone()]);
        for command in [put, delete, set, unset, batch] {
            let bytes = prost::Message::encode_to_vec(&Command::from(command.clone()));
            let decoded: Command = prost::Message::decode(bytes.as_slice()).unwrap();
            assert_eq!(kv::Command::try_from(decoded), Ok(command));
        }
    }

    #[test]
    fn responses_survive_the_wire() {
        let responses = [
            kv::Response::Previous(None),
            kv::Response::Previous(Some(vec![])),
            kv::Response::Compared { set: false, actual: Some(vec![7]) },
            kv::Response::Compared { set: true, actual: None },
            kv::Response::Batch(3),
        ];
        for response in responses {
            let bytes = prost::Message::encode_to_vec(&CommandResponse::from(response.clone()));
            let decoded: CommandResponse = prost::Message::decode(bytes.as_slice()).unwrap();
            assert_eq!(kv::Response::try_from(decoded), Ok(response));
        }
    }

    #[test]
    fn a_command_of_a_newer_program_is_refused() {
        assert_eq!(kv::Command::try_from(Command { command: None }), Err(Incomplete("command")));
    }
}
