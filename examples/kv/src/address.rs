//! Addresses and lists of nodes, as they are written on the command line.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Checks that `text` is a `host:port` (an IPv6 host in brackets), and returns it.
///
/// # Errors
///
/// What is wrong with it, and what would be right.
pub fn parse_address(text: &str) -> Result<String, String> {
    let wrong =
        |reason: &str| format!("{text:?} is not an address: {reason}; write host:port, as in 127.0.0.1:7001");
    let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
    if host.is_empty() {
        return Err(wrong("it has no host"));
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(wrong("an IPv6 host stands in brackets"));
    }
    if host.contains(|c: char| c.is_whitespace() || "/=,@#?".contains(c)) {
        return Err(wrong("the host has characters that no host has"));
    }
    port.parse::<u16>().map_err(|_| wrong("the port is not a number from 0 to 65535"))?;
    Ok(text.to_owned())
}

/// Whether peers can connect to `address`: it has a port, and a host that is not "every interface".
pub fn is_reachable(address: &str) -> bool {
    !address.ends_with(":0") && !is_any_host(address)
}

/// Whether the host of `address` stands for every interface of the machine.
pub fn is_any_host(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    matches!(host, "0.0.0.0" | "[::]")
}

/// One node: `id=host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    /// Its id.
    pub id: u64,
    /// Where it is reached.
    pub address: String,
}

impl FromStr for NodeAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, address) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is not id=host:port, as in 1=127.0.0.1:7001"))?;
        let id = id
            .trim()
            .parse()
            .map_err(|_| format!("{id:?} is not the id of a node: a number from 0 to {}", u64::MAX))?;
        let address = parse_address(address.trim())?;
        if !is_reachable(&address) {
            return Err(format!(
                "peers cannot connect to {address}: name a host and a port that they can reach"
            ));
        }
        Ok(Self { id, address })
    }
}

/// The first members of a cluster: `1=host:port,2=host:port,...`, each id and each address once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeList(pub BTreeMap<u64, String>);

impl FromStr for NodeList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err(
                "the list is empty: name every first member, as in 1=127.0.0.1:7001,2=127.0.0.1:7002".into(),
            );
        }
        let mut nodes = BTreeMap::new();
        for item in text.split(',') {
            let NodeAddress { id, address } = item.parse()?;
            if let Some((other, _)) = nodes.iter().find(|(_, known)| **known == address) {
                return Err(format!(
                    "nodes {other} and {id} have the same address {address}: each needs its own"
                ));
            }
            if let Some(known) = nodes.insert(id, address.clone()) {
                return Err(format!("node {id} is named twice, at {known} and at {address}: each id once"));
            }
        }
        Ok(Self(nodes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for right in ["127.0.0.1:7001", "node-1.example:80", "[::1]:7001", "localhost:0"] {
            assert_eq!(parse_address(right).as_deref(), Ok(right));
        }
        for wrong in
            ["", "7001", ":7001", "host:", "host:70000", "::1:7001", "http://host:1", "a b:1", "a,b:1"]
        {
            assert!(parse_address(wrong).unwrap_err().contains("host:port"), "{wrong}");
        }
    }

    #[test]
    fn a_list_names_each_node_once() {
        let list: NodeList = "2=b:2,1=a:1".parse().unwrap();
        assert_eq!(list.0, BTreeMap::from([(1, "a:1".to_owned()), (2, "b:2".to_owned())]));
        for (wrong, says) in [
            ("", "empty"),
            (" ", "empty"),
            ("1=a:1,", "id=host:port"),
            ("1=a:1,1=b:2", "node 1 is named twice"),
            ("1=a:1,2=a:1", "nodes 1 and 2 have the same address a:1"),
            ("x=a:1", "not the id of a node"),
            ("1=a", "has no port"),
            ("1=0.0.0.0:1", "peers cannot connect"),
            ("1=a:0", "peers cannot connect"),
        ] {
            let error = wrong.parse::<NodeList>().unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
