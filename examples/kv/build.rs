//! Compiles `proto/kv.proto` without a `protoc` on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/kv.proto");
    let files = protox::compile(["kv.proto"], ["proto"])?;
    // What operators see is also printed as JSON.
    let shown =
        ["NodeStatus", "Membership", "Member", "PeerStatus", "PeerError", "Counters", "Latency", "Queues"];
    let mut builder = tonic_prost_build::configure();
    for message in shown {
        builder = builder.message_attribute(
            format!(".kv.v1.{message}"),
            "#[derive(serde::Serialize, serde::Deserialize)]",
        );
    }
    builder.compile_fds(files)?;
    Ok(())
}
