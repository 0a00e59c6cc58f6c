//! Compiles the schema without `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let schema = "proto/openconsensus/v1/raft.proto";
    println!("cargo:rerun-if-changed={schema}");
    let descriptors = protox::compile([schema], ["proto"])?;
    // `Bytes` fields are views of the received frame: nothing is copied to take it apart.
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::RequestCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
