//! The first words of every call: who speaks, to whom, in which cluster, version and encoding.

use std::sync::Arc;

use bytes::Bytes;
use openconsensus::{CodecError, EntryCodec, TypeConfig};
use tonic::Status;

use crate::config::GrpcConfig;
use crate::endpoint;
use crate::proto;

/// The version of the protocol that this crate speaks. See `proto/openconsensus/v1/raft.proto`.
pub const WIRE_VERSION: u32 = 2;

/// This node, as it presents itself to its peers.
#[derive(Debug)]
pub(crate) struct Local<C: TypeConfig> {
    pub(crate) config: GrpcConfig,
    pub(crate) id: C::NodeId,
    id_bytes: Bytes,
    address: String,
    codec: &'static str,
}

/// A peer that has said who it is and was found to be right here.
#[derive(Debug)]
pub(crate) struct Introduced<C: TypeConfig> {
    pub(crate) id: C::NodeId,
    pub(crate) address: Arc<str>,
}

impl<C: TypeConfig> Local<C> {
    pub(crate) fn new<K: EntryCodec<C>>(
        config: GrpcConfig,
        id: C::NodeId,
        address: String,
    ) -> Result<Self, CodecError> {
        let mut id_bytes = Vec::new();
        K::encode_node_id(&id, &mut id_bytes)?;
        Ok(Self { config, id, id_bytes: id_bytes.into(), address, codec: K::NAME })
    }

    /// What this node says first to `recipient`.
    pub(crate) fn hello(&self, recipient: C::NodeId) -> proto::Hello {
        proto::Hello {
            wire_version: WIRE_VERSION,
            cluster: self.config.cluster.clone(),
            codec: self.codec.into(),
            sender_id: self.id.to_string(),
            recipient_id: recipient.to_string(),
            sender: self.id_bytes.clone(),
            sender_address: self.address.clone(),
        }
    }

    /// Checks what a peer says first. A refusal names what the peer said and what this node expected.
    pub(crate) fn check<K: EntryCodec<C>>(
        &self,
        hello: Option<proto::Hello>,
    ) -> Result<Introduced<C>, Status> {
        let Some(hello) = hello else {
            return Err(Status::invalid_argument("the first request of a call must carry a Hello"));
        };
        self.check_fit(&hello).map_err(|difference| {
            Status::failed_precondition(format!(
                "node {} refuses node {}: {difference}",
                self.id, hello.sender_id
            ))
        })?;
        let id = K::decode_node_id(hello.sender).map_err(|error| {
            Status::invalid_argument(format!("the sender {:?} cannot be decoded: {error}", hello.sender_id))
        })?;
        if id.to_string() != hello.sender_id {
            return Err(Status::invalid_argument(format!(
                "the sender calls itself {:?} but its encoded id is {id}",
                hello.sender_id
            )));
        }
        endpoint::parse(&hello.sender_address)
            .map_err(|error| Status::invalid_argument(format!("the sender's address is wrong: {error}")))?;
        Ok(Introduced { id, address: hello.sender_address.into() })
    }

    /// The version comes first, for it decides what the rest means; the cluster before the recipient, for ids mean
    /// something only within a cluster.
    fn check_fit(&self, hello: &proto::Hello) -> Result<(), String> {
        if hello.wire_version != WIRE_VERSION {
            return Err(format!(
                "it speaks wire version {}, this node speaks wire version {WIRE_VERSION}; run compatible releases",
                hello.wire_version
            ));
        }
        if hello.cluster != self.config.cluster {
            return Err(format!(
                "it belongs to cluster {:?}, this node to cluster {:?}; check the addresses and the cluster name of \
                 both",
                hello.cluster, self.config.cluster
            ));
        }
        let me = self.id.to_string();
        if hello.recipient_id != me {
            return Err(format!(
                "it wants to reach node {}, this is node {me}; correct the address of node {}",
                hello.recipient_id, hello.recipient_id
            ));
        }
        if hello.sender_id == me {
            return Err(format!(
                "it calls itself node {me}, which is this node; no two nodes may share an id"
            ));
        }
        if hello.codec != self.codec {
            return Err(format!(
                "it encodes commands as {:?}, this node as {:?}; run the same release of the application",
                hello.codec, self.codec
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::testing::Text;
    use openconsensus::PostcardCodec;

    fn local(id: u64) -> Local<Text> {
        Local::new::<PostcardCodec>(GrpcConfig::new("orders"), id, format!("10.0.0.{id}:7000")).unwrap()
    }

    #[test]
    fn a_hello_for_this_node_is_accepted() {
        let introduced = local(2).check::<PostcardCodec>(Some(local(1).hello(2))).unwrap();
        assert_eq!(introduced.id, 1);
        assert_eq!(&*introduced.address, "10.0.0.1:7000");
    }

    #[test]
    fn a_hello_that_does_not_fit_is_refused_with_both_values() {
        type Spoil = fn(&mut proto::Hello);
        let wrong: [(Spoil, [&str; 2]); 5] = [
            (|hello| hello.wire_version = 7, ["wire version 7", "wire version 2"]),
            (|hello| hello.cluster = "bills".into(), ["cluster \"bills\"", "cluster \"orders\""]),
            (|hello| hello.recipient_id = "3".into(), ["reach node 3", "this is node 2"]),
            (|hello| hello.codec = "other".into(), ["\"other\"", "\"postcard/1\""]),
            (|hello| hello.sender_id = "2".into(), ["node 2", "share an id"]),
        ];
        for (spoil, names) in wrong {
            let mut hello = local(1).hello(2);
            spoil(&mut hello);
            let status = local(2).check::<PostcardCodec>(Some(hello)).unwrap_err();
            assert_eq!(status.code(), Code::FailedPrecondition);
            for name in names {
                assert!(status.message().contains(name), "{name} is missing in: {}", status.message());
            }
        }
    }

    #[test]
    fn a_hello_that_makes_no_sense_is_refused() {
        type Spoil = fn(&mut proto::Hello);
        let wrong: [(Spoil, &str); 3] = [
            (|hello| hello.sender = Bytes::from_static(&[0xff; 20]), "cannot be decoded"),
            (|hello| hello.sender_id = "4".into(), "its encoded id is 1"),
            (|hello| hello.sender_address = "nowhere".into(), "it has no port from 1 to 65535"),
        ];
        for (spoil, text) in wrong {
            let mut hello = local(1).hello(2);
            spoil(&mut hello);
            let status = local(2).check::<PostcardCodec>(Some(hello)).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().contains(text), "{text} is missing in: {}", status.message());
        }
        assert!(local(2).check::<PostcardCodec>(None).is_err());
    }
}
