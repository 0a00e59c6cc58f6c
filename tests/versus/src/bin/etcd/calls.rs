//! What the clients ask for, in the words of either side.

use std::time::Duration;

use bytes::Bytes;
use kv::proto as kv_proto;
use kv_proto::kv_client::KvClient;
use openconsensus_bench::Failure;
use tonic::transport::{Channel, Endpoint};

#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
mod etcd_proto {
    tonic::include_proto!("etcdserverpb");
}

use etcd_proto::kv_client::KvClient as EtcdClient;
use etcd_proto::maintenance_client::MaintenanceClient;

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Kv,
    Etcd,
}

/// A connection to one process.
#[derive(Clone, Debug)]
pub(crate) enum Connection {
    Kv(KvClient<Channel>),
    Etcd(EtcdClient<Channel>),
}

/// The same settings for both sides.
async fn channel(address: &str) -> Result<Channel, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20);
    Ok(endpoint.connect().await?)
}

impl Connection {
    pub(crate) async fn open(side: Side, address: &str) -> Result<Self, Failure> {
        let channel = channel(address).await?;
        Ok(match side {
            Side::Kv => Self::Kv(KvClient::new(channel)),
            Side::Etcd => Self::Etcd(EtcdClient::new(channel)),
        })
    }

    /// Sets one key. Returns when that is committed and applied.
    pub(crate) async fn put(&mut self, key: String, value: Bytes) -> Result<(), Failure> {
        match self {
            Self::Kv(node) => {
                let request = kv_proto::ApplyRequest { commands: vec![put(key, value)], no_wait: false };
                applied(node.apply(request).await?.into_inner())
            }
            Self::Etcd(node) => {
                node.put(etcd_proto::PutRequest { key: key.into(), value }).await?;
                Ok(())
            }
        }
    }

    /// Sets several keys with one request: each in an entry of its own here, all in one transaction there.
    pub(crate) async fn put_many(&mut self, keys: Vec<String>, value: &Bytes) -> Result<(), Failure> {
        match self {
            Self::Kv(node) => {
                let commands = keys.into_iter().map(|key| put(key, value.clone())).collect();
                let request = kv_proto::ApplyRequest { commands, no_wait: false };
                applied(node.apply(request).await?.into_inner())
            }
            Self::Etcd(node) => {
                let step = |key: String| {
                    let put = etcd_proto::PutRequest { key: key.into(), value: value.clone() };
                    etcd_proto::Step { step: Some(etcd_proto::step::Step::Put(put)) }
                };
                let steps = keys.into_iter().map(step).collect();
                let answer = node.txn(etcd_proto::TxnRequest { steps }).await?.into_inner();
                if answer.succeeded { Ok(()) } else { Err("the transaction was not carried out".into()) }
            }
        }
    }

    /// Reads one key linearizably.
    pub(crate) async fn get(&mut self, key: String) -> Result<Bytes, Failure> {
        match self {
            Self::Kv(node) => {
                let consistency = kv_proto::Consistency::Linearizable.into();
                let answer = node.get(kv_proto::GetRequest { key, consistency }).await?.into_inner();
                match answer {
                    kv_proto::GetResponse { failure: None, value: Some(value) } => Ok(value.into()),
                    other => Err(format!("no value: {other:?}").into()),
                }
            }
            Self::Etcd(node) => {
                let mut answer = node.range(etcd_proto::RangeRequest { key: key.into() }).await?.into_inner();
                answer.pairs.pop().map(|pair| pair.value).ok_or_else(|| "no value".into())
            }
        }
    }
}

fn put(key: String, value: Bytes) -> kv_proto::Command {
    let put = kv_proto::Put { key, value: value.into() };
    kv_proto::Command { command: Some(kv_proto::command::Command::Put(put)) }
}

fn applied(answer: kv_proto::ApplyResponse) -> Result<(), Failure> {
    answer.failure.map_or(Ok(()), |failure| Err(format!("not applied: {failure:?}").into()))
}

/// Whether the process at `address` leads a cluster of which it hears.
pub(crate) async fn leads(side: Side, address: &str) -> Result<bool, Failure> {
    let channel = channel(address).await?;
    match side {
        Side::Kv => {
            let answer = KvClient::new(channel).status(kv_proto::StatusRequest {}).await?.into_inner();
            Ok(answer.status.is_some_and(|status| status.role == "leader"))
        }
        Side::Etcd => {
            let mut node = MaintenanceClient::new(channel);
            let status = node.status(etcd_proto::StatusRequest {}).await?.into_inner();
            Ok(status.header.is_some_and(|header| header.member_id == status.leader))
        }
    }
}

/// How often this process has synced its log, as it counts itself.
pub(crate) async fn log_syncs(side: Side, address: &str) -> Result<u64, Failure> {
    match side {
        Side::Kv => {
            let mut node = KvClient::new(channel(address).await?);
            let status = node.status(kv_proto::StatusRequest {}).await?.into_inner().status;
            let latencies = status.map(|status| status.latencies).unwrap_or_default();
            Ok(latencies.iter().find(|latency| latency.what == "disk.append").map_or(0, |l| l.count))
        }
        Side::Etcd => {
            let text = http_get(address, "/metrics").await?;
            let name = "etcd_disk_wal_fsync_duration_seconds_count ";
            let count = text.lines().find_map(|line| line.strip_prefix(name));
            Ok(count.and_then(|count| count.trim().parse().ok()).ok_or("no count of syncs in the metrics")?)
        }
    }
}

async fn http_get(address: &str, path: &str) -> Result<String, Failure> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
