//! The store itself: buckets of objects in memory, in safe Rust, knowing nothing of the ABI.
//!
//! One lock guards a map of maps. Objects are immutable behind an `Arc`, so bytes are copied in and
//! out without the lock, and a reader keeps the version it found while a writer replaces it.
//!
//! The data belongs to the process, not to an open store: a store that is closed and opened again
//! finds its objects. A child after fork() gets a copy, whole because the entry
//! function registers handlers that hold the lock across it.
//!
//! Deliberately absent: old versions, expiry, any limit but the machine's memory.

use crate::abi::*;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

/// A failure as the host wants it: code and one line.
#[derive(Debug)]
pub struct Fail {
    pub rc: PstRc,
    pub message: String,
}

pub fn fail<T>(rc: PstRc, message: impl Into<String>) -> Result<T, Fail> {
    Err(Fail { rc, message: message.into() })
}

/// What a writer may say about an object beside its bytes.
#[derive(Clone, Default)]
pub struct Attr {
    pub content_type: Vec<u8>,
    pub content_encoding: Vec<u8>,
    pub content_language: Vec<u8>,
    pub content_disposition: Vec<u8>,
    pub cache_control: Vec<u8>,
    pub storage_class: Vec<u8>,
    pub user_meta: Vec<(Vec<u8>, Vec<u8>)>,
}

pub struct Object {
    pub data: Vec<u8>,
    pub attr: Attr,
    pub crc32c: u32,
    pub etag: Vec<u8>,
    pub mtime_ns: i64,
}

/// When a write may go through.
#[derive(Clone, Default)]
pub struct Condition {
    pub create_only: bool,
    pub if_match: Vec<u8>, // empty: whatever is there
}

/// One line of a listing; no object for a common prefix.
pub struct Line {
    pub key: Vec<u8>,
    pub object: Option<Arc<Object>>,
}

type Objects = BTreeMap<Vec<u8>, Arc<Object>>;

static BUCKETS: Mutex<Option<BTreeMap<Vec<u8>, Objects>>> = Mutex::new(None);
static NEXT_ETAG: AtomicU64 = AtomicU64::new(1);

/// The data, locked.
pub type Buckets = MutexGuard<'static, Option<BTreeMap<Vec<u8>, Objects>>>;

/// Also taken around a fork, so that the child finds the data whole and the lock free.
pub fn lock() -> Buckets {
    // No code that holds the lock can panic half way through a change.
    BUCKETS.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn with_bucket<T>(bucket: &[u8], f: impl FnOnce(&mut Objects) -> T) -> T {
    let mut guard = lock();
    let buckets = guard.get_or_insert_with(BTreeMap::new);
    if !buckets.contains_key(bucket) {
        buckets.insert(bucket.to_vec(), BTreeMap::new());
    }
    f(buckets.get_mut(bucket).expect("inserted above"))
}

pub fn show(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

fn missing<T>(key: &[u8]) -> Result<T, Fail> {
    fail(PST_E_NOT_FOUND, format!("no object '{}'", show(key)))
}

/// Is `there` what the writer asked to find under `key`?
fn check(key: &[u8], there: Option<&Arc<Object>>, condition: &Condition) -> Result<(), Fail> {
    if condition.create_only && there.is_some() {
        return fail(PST_E_EXISTS, format!("'{}' is there already", show(key)));
    }
    if condition.if_match.is_empty() {
        return Ok(());
    }
    match there {
        Some(object) if object.etag == condition.if_match => Ok(()),
        Some(_) => fail(PST_E_PRECONDITION, format!("'{}' has another etag", show(key))),
        None => fail(PST_E_PRECONDITION, format!("'{}' is not there", show(key))),
    }
}

/// Make an object that nobody can see yet.
pub fn new_object(data: Vec<u8>, crc32c: u32, attr: Attr) -> Object {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Object {
        crc32c,
        etag: format!("{:016x}", NEXT_ETAG.fetch_add(1, Ordering::Relaxed)).into_bytes(),
        mtime_ns: now.as_nanos() as i64,
        data,
        attr,
    }
}

pub fn get(bucket: &[u8], key: &[u8]) -> Result<Arc<Object>, Fail> {
    match with_bucket(bucket, |objects| objects.get(key).cloned()) {
        Some(object) => Ok(object),
        None => missing(key),
    }
}

/// Publish `object` under `key` in one step.
pub fn put(
    bucket: &[u8],
    key: &[u8],
    object: Object,
    condition: &Condition,
) -> Result<Arc<Object>, Fail> {
    let object = Arc::new(object);
    let replaced = with_bucket(bucket, |objects| {
        check(key, objects.get(key), condition)?;
        Ok(objects.insert(key.to_vec(), object.clone()))
    })?;
    drop(replaced); // a large object is freed here, without the lock
    Ok(object)
}

/// Copy within a bucket. `attr` replaces the attributes, None keeps those of the source.
pub fn copy(
    bucket: &[u8],
    from: &[u8],
    from_if_match: &[u8],
    to: &[u8],
    attr: Option<Attr>,
    condition: &Condition,
) -> Result<Arc<Object>, Fail> {
    let source = get(bucket, from)?;
    if !from_if_match.is_empty() && source.etag != from_if_match {
        return fail(PST_E_PRECONDITION, format!("'{}' has another etag", show(from)));
    }
    let attr = attr.unwrap_or_else(|| source.attr.clone());
    put(bucket, to, new_object(copy_bytes(&source.data)?, source.crc32c, attr), condition)
}

/// Remove exactly `key`. One that is not there is fine, unless a certain content was meant.
pub fn remove(bucket: &[u8], key: &[u8], if_match: &[u8]) -> Result<(), Fail> {
    let condition = Condition { create_only: false, if_match: if_match.to_vec() };
    let removed = with_bucket(bucket, |objects| {
        check(key, objects.get(key), &condition)?;
        Ok(objects.remove(key))
    })?;
    drop(removed);
    Ok(())
}

/// The next `max` lines after `after` in key byte order, and whether they are the last ones.
pub fn page(
    bucket: &[u8],
    prefix: &[u8],
    after: &[u8],
    recursive: bool,
    max: usize,
) -> (Vec<Line>, bool) {
    let mut lines = Vec::new();
    let is_last = with_bucket(bucket, |objects| {
        let mut from =
            if after < prefix { Included(prefix.to_vec()) } else { Excluded(after.to_vec()) };
        loop {
            let (key, object) = match objects.range((from, Unbounded)).next() {
                Some((key, object)) if key.starts_with(prefix) => (key, object),
                _ => return true,
            };
            let slash = key[prefix.len()..].iter().position(|&byte| byte == b'/');
            let line = match slash {
                Some(at) if !recursive => {
                    // Everything below this common prefix is one line: go on behind all of it.
                    // '0' is the byte after '/'.
                    let common = key[..prefix.len() + at + 1].to_vec();
                    let mut behind = common.clone();
                    *behind.last_mut().expect("ends in a slash") = b'0';
                    from = Included(behind);
                    Line { key: common, object: None }
                }
                _ => {
                    from = Excluded(key.clone());
                    Line { key: key.clone(), object: Some(object.clone()) }
                }
            };
            if line.key.as_slice() > after {
                if lines.len() == max {
                    return false;
                }
                lines.push(line);
            }
        }
    });
    (lines, is_last)
}

/// Room for `len` bytes, or NO_MEMORY: a plugin never aborts the process it is in.
pub fn reserve(len: usize) -> Result<Vec<u8>, Fail> {
    let mut bytes = Vec::new();
    match bytes.try_reserve_exact(len) {
        Ok(()) => Ok(bytes),
        Err(_) => fail(PST_E_NO_MEMORY, format!("no memory for {len} bytes")),
    }
}

fn copy_bytes(bytes: &[u8]) -> Result<Vec<u8>, Fail> {
    let mut copy = reserve(bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// CRC-32C (Castagnoli) of what `crc` covers and then `bytes`; 0 covers nothing. Four tables, four
/// bytes at a time: quick enough for a teaching store.
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    let mut crc = !crc;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        crc ^= u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        crc = CRC32C[3][(crc & 255) as usize]
            ^ CRC32C[2][(crc >> 8 & 255) as usize]
            ^ CRC32C[1][(crc >> 16 & 255) as usize]
            ^ CRC32C[0][(crc >> 24) as usize];
    }
    for &byte in words.remainder() {
        crc = crc >> 8 ^ CRC32C[0][((crc ^ byte as u32) & 255) as usize];
    }
    !crc
}

static CRC32C: [[u32; 256]; 4] = crc32c_tables();

const fn crc32c_tables() -> [[u32; 256]; 4] {
    let mut tables = [[0u32; 256]; 4];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        tables[0][i] = crc;
        i += 1;
    }
    let mut k = 1;
    while k < 4 {
        i = 0;
        while i < 256 {
            let crc = tables[k - 1][i];
            tables[k][i] = crc >> 8 ^ tables[0][(crc & 255) as usize];
            i += 1;
        }
        k += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(bucket: &[u8], keys: &[&str]) {
        for key in keys {
            let object = new_object(key.as_bytes().to_vec(), 0, Attr::default());
            put(bucket, key.as_bytes(), object, &Condition::default()).unwrap();
        }
    }

    fn keys(bucket: &[u8], prefix: &str, after: &str, recursive: bool, max: usize) -> Vec<String> {
        let (lines, _) = page(bucket, prefix.as_bytes(), after.as_bytes(), recursive, max);
        lines.into_iter().map(|line| String::from_utf8(line.key).unwrap()).collect()
    }

    #[test]
    fn crc32c_of_the_check_string_is_the_published_one() {
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(crc32c(0, b"1234567"), b"89"), 0xe306_9283);
    }

    #[test]
    fn a_delimited_listing_folds_what_lies_below_a_slash() {
        fill(b"fold", &["a", "a/x", "a/y/z", "b", "a0"]);
        assert_eq!(keys(b"fold", "", "", false, 9), ["a", "a/", "a0", "b"]);
        assert_eq!(keys(b"fold", "a/", "", false, 9), ["a/x", "a/y/"]);
        assert_eq!(keys(b"fold", "", "", true, 9), ["a", "a/x", "a/y/z", "a0", "b"]);
    }

    #[test]
    fn a_listing_goes_on_after_its_last_line_and_says_when_it_ends() {
        fill(b"pages", &["p/a", "p/b/c", "p/b/d", "p/c"]);
        let (lines, is_last) = page(b"pages", b"p/", b"p/b/", false, 1);
        assert_eq!(lines[0].key, b"p/c");
        assert!(is_last);
        let (lines, is_last) = page(b"pages", b"p/", b"", true, 3);
        assert_eq!(lines.len(), 3);
        assert!(!is_last);
    }

    #[test]
    fn one_of_two_writers_with_the_same_etag_wins() {
        fill(b"race", &["k"]);
        let etag = get(b"race", b"k").unwrap().etag.clone();
        let condition = Condition { create_only: false, if_match: etag };
        let write = || put(b"race", b"k", new_object(vec![1], 0, Attr::default()), &condition);
        assert!(write().is_ok());
        assert_eq!(write().err().unwrap().rc, PST_E_PRECONDITION);
    }
}
