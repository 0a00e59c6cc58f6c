//! The format, byte by byte, and that no damage to it goes unnoticed.

use openconsensus_memstore::kv::Kv;

use super::*;

fn header() -> Header<Kv> {
    Header { cluster: "test".into(), last: LogId::new(3, 70), membership: MembershipAt::default() }
}

fn content() -> Vec<u8> {
    (0..2 * CHUNK_BYTES + 1000).map(|i| (i * i / 7) as u8).collect()
}

fn file(content: &[u8]) -> Vec<u8> {
    let mut writer = ChunkWriter::begin(Vec::new(), &header()).unwrap();
    writer.write_all(content).unwrap();
    let (file, len) = writer.finish().unwrap();
    assert_eq!(len, file.len() as u64);
    file
}

fn read(file: &[u8]) -> io::Result<(Header<Kv>, Vec<u8>)> {
    let (header, _, frames) = FrameReader::begin(file)?;
    let mut content = Vec::new();
    ContentReader::new(frames).read_to_end(&mut content)?;
    Ok((header, content))
}

#[test]
fn what_was_written_is_read() {
    for content in [vec![], vec![7], vec![1; CHUNK_BYTES], content()] {
        let (found_header, found) = read(&file(&content)).unwrap();
        assert_eq!(found_header, header());
        assert!(found == content, "{} bytes", content.len());
    }
}

#[test]
fn the_parts_are_the_file() {
    let file = file(&content());
    let (_, raw, mut frames) = FrameReader::begin::<Kv>(&*file).unwrap();
    let mut joined = raw.to_vec();
    while let Some(frame) = frames.next().unwrap() {
        joined.extend_from_slice(&frame.raw);
    }
    assert!(joined == file);
    assert!(frames.next().unwrap().is_none());
}

#[test]
fn a_file_is_laid_out_as_documented() {
    let file = file(&[7, 8]);
    assert_eq!(file[..16], *b"OCSNAP\r\n\x01\0\0\0\x0d\0\0\0");
    // Cluster, last, the entry of the membership, and four empty lists in it.
    assert_eq!(file[16..29], *b"\x04test\x03\x46\0\0\0\0\0\0");
    assert_eq!(file[29..33], crc32fast::hash(&file[..29]).to_le_bytes());
    assert_eq!(file[33..37], [2, 0, 0, 0]);
    assert_eq!(file[37..41], crc32fast::hash(&[7, 8]).to_le_bytes());
    assert_eq!(file[41..43], [7, 8]);
    assert_eq!(file[43..55], [0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(file[55..], crc32fast::hash(&file[..55]).to_le_bytes());
}

#[test]
fn any_bit_changed_is_noticed() {
    let file = file(&content()[..200]);
    for bit in 0..file.len() * 8 {
        let mut wrong = file.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let error = read(&wrong).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "bit {bit}: {error}");
    }
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_noticed() {
    let file = file(&content()[..200]);
    for len in 0..file.len() {
        let error = read(&file[..len]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "cut to {len}: {error}");
    }
}

#[test]
fn bytes_behind_the_end_are_noticed() {
    let mut file = file(&[1, 2, 3]);
    file.push(0);
    assert!(read(&file).unwrap_err().to_string().contains("behind the end"));
}

#[test]
fn chunks_that_are_whole_but_in_the_wrong_order_are_noticed() {
    let file = file(&content());
    let (_, header, mut frames) = FrameReader::begin::<Kv>(&*file).unwrap();
    let parts: Vec<_> = std::iter::from_fn(|| frames.next().unwrap()).map(|frame| frame.raw).collect();
    let order = [&header, &parts[1], &parts[0], &parts[2], &parts[3]];
    let swapped: Vec<u8> = order.into_iter().flatten().copied().collect();
    assert!(read(&swapped).unwrap_err().to_string().contains("checksum of the snapshot"));
}

#[test]
fn a_later_version_is_refused_with_both_versions() {
    let mut file = file(&[]);
    file[8] = 2;
    let error = read(&file).unwrap_err().to_string();
    assert!(error.contains("has version 2") && error.contains("knows version 1"), "{error}");
}
