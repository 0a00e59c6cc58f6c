//! The types and stubs that are generated from `proto/openconsensus/v1/raft.proto`, for tools that speak the schema
//! themselves. Nodes use [`GrpcNetwork`](crate::GrpcNetwork) and [`GrpcService`](crate::GrpcService).

// Generated code has its own style, and not every item of it carries the comment of the schema.
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]

tonic::include_proto!("openconsensus.v1");
