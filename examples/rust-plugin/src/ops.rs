//! The operations: for each the way from C structs to the store and back.
//!
//! Every function here runs on a worker of the engine, for an operation under way, so the pointers it
//! follows are valid. Arguments are copied as far as the host's struct reaches, the rest is zero. Results
//! are filled member by member, each only where it is there: the host may be older or newer.

use crate::abi::*;
use crate::engine::{Engine, Outcome, Task};
use crate::store::{self, fail, Attr, Condition, Fail, Object};
use std::collections::BTreeMap;
use std::ptr::null;
use std::slice;
use std::sync::{Arc, Mutex};

pub const KEY_MAX: usize = 4096;
pub const LIST_PAGE_MAX: usize = 1000;

/// What the host knows as pst_upload. Parts may arrive side by side and more than once.
pub struct Upload {
    pub engine: Arc<Engine<Request>>,
    key: Vec<u8>,
    attr: Attr,
    condition: Condition,
    state: Mutex<UploadState>,
}

enum UploadState {
    Open(BTreeMap<u32, (u64, Vec<u8>)>),
    Committed(Arc<Object>), // a repeated commit gives the same answer
    Aborted,
}

/// What the host knows as pst_cursor: where the next page begins. It moves on only when a page was
/// handed over whole, so a failed page can be asked for again.
pub struct Cursor {
    pub engine: Arc<Engine<Request>>,
    prefix: Vec<u8>,
    is_recursive: bool,
    after: Mutex<Vec<u8>>,
}

// ---- from C and back ---------------------------------------------------------------------------

/// The arguments that lie at `from`, which begin with their struct_size.
pub unsafe fn take<T: Copy>(from: *const T) -> T {
    let mut own = std::mem::MaybeUninit::<T>::zeroed(); // numbers and raw pointers: zero is a value
    let size = (*(from as *const u32) as usize).min(std::mem::size_of::<T>());
    (from as *const u8).copy_to_nonoverlapping(own.as_mut_ptr() as *mut u8, size);
    own.assume_init()
}

pub fn size_behind<T>(_: *const T) -> usize {
    std::mem::size_of::<T>()
}

/// `set!(result.member = value)`, where the host's struct has that member.
macro_rules! set {
    ($to:ident.$member:ident = $value:expr) => {{
        let at = std::ptr::addr_of_mut!((*$to).$member);
        let end = at as usize - $to as usize + crate::ops::size_behind(at);
        if (*$to).struct_size as usize >= end {
            at.write($value);
        }
    }};
}
pub(crate) use set;

pub unsafe fn bytes<'a>(s: PstStr) -> &'a [u8] {
    array(s.ptr, s.len)
}

pub unsafe fn array<'a, T>(ptr: *const T, n: usize) -> &'a [T] {
    if n == 0 {
        &[]
    } else {
        slice::from_raw_parts(ptr, n)
    }
}

fn borrow(bytes: &[u8]) -> PstStr {
    PstStr { ptr: bytes.as_ptr(), len: bytes.len() }
}

const EMPTY: PstStr = PstStr { ptr: null(), len: 0 };

fn key_of(key: PstStr) -> Result<Vec<u8>, Fail> {
    let key = unsafe { bytes(key) };
    if key.is_empty() || key.len() > KEY_MAX {
        return fail(PST_E_INVALID, format!("a key has 1 to {KEY_MAX} bytes, not {}", key.len()));
    }
    Ok(key.to_vec())
}

fn refuse_version(version: PstStr) -> Result<(), Fail> {
    if version.len == 0 {
        return Ok(());
    }
    fail(PST_E_UNIMPLEMENTED, "this store keeps no old versions")
}

/// Write the failure into the host's memory: one line, cut at a character boundary, NUL at its end.
pub unsafe fn fill_error(err: *mut PstError, fail: &Fail) {
    (*err).code = fail.rc;
    (*err).flags = 0;
    let message = &mut (*err).message;
    let mut len = fail.message.len().min(message.len() - 1);
    while !fail.message.is_char_boundary(len) {
        len -= 1;
    }
    message[..len].copy_from_slice(&fail.message.as_bytes()[..len]);
    message[len] = 0;
}

/// Memory that lives as long as the operation's result.
unsafe fn result_memory<T: Copy>(op: *mut PstOp, items: &[T]) -> Result<*const T, Fail> {
    let host = (*op).host;
    let memory = ((*host).op_alloc)(host, op, std::mem::size_of_val(items).max(1)) as *mut T;
    if memory.is_null() {
        return fail(PST_E_NO_MEMORY, "no memory for the result");
    }
    memory.copy_from_nonoverlapping(items.as_ptr(), items.len());
    Ok(memory)
}

unsafe fn result_str(op: *mut PstOp, text: &[u8]) -> Result<PstStr, Fail> {
    if text.is_empty() {
        return Ok(EMPTY);
    }
    Ok(PstStr { ptr: result_memory(op, text)?, len: text.len() })
}

unsafe fn result_sums(op: *mut PstOp, object: &Object) -> Result<*const PstSum, Fail> {
    let mut sum = PstSum {
        algorithm: PST_SUM_CRC32C,
        scope: PST_SCOPE_OBJECT,
        length: 4,
        reserved0: 0,
        bytes: [0; 32],
        offset: 0,
        size: 0,
    };
    sum.bytes[..4].copy_from_slice(&object.crc32c.to_be_bytes());
    result_memory(op, &[sum])
}

/// Collect the source of a write and check it against the sums that came with it.
unsafe fn gather(
    engine: &Engine<Request>,
    op: *mut PstOp,
    src: &[PstIov],
    sums: (*const PstSum, u32, usize),
) -> Result<(Vec<u8>, u32), Fail> {
    let mut data = store::reserve(src.iter().map(|span| span.len).sum())?;
    let mut crc = 0;
    for span in src {
        for piece in array(span.ptr as *const u8, span.len).chunks(1 << 20) {
            if engine.is_cancelled(op) {
                return fail(PST_E_CANCELLED, "cancelled");
            }
            data.extend_from_slice(piece);
            crc = store::crc32c(crc, piece);
        }
    }
    check_sums(sums, crc)?;
    Ok((data, crc))
}

/// `sums` is where the first one lies, how many there are, and how far apart.
unsafe fn check_sums(sums: (*const PstSum, u32, usize), crc32c: u32) -> Result<(), Fail> {
    let (first, n, stride) = sums;
    for i in 0..n as usize {
        let sum = &*((first as *const u8).add(i * stride) as *const PstSum);
        if sum.algorithm == PST_SUM_CRC32C && sum.bytes[..4] != crc32c.to_be_bytes() {
            return fail(
                PST_E_DATA_LOSS,
                format!(
                    "CRC-32C of the bytes that arrived is {crc32c:08x}, not the one sent along"
                ),
            );
        }
    }
    Ok(())
}

unsafe fn attr_from(attr: *const PstAttr) -> Attr {
    let attr = take(attr);
    Attr {
        content_type: bytes(attr.content_type).to_vec(),
        content_encoding: bytes(attr.content_encoding).to_vec(),
        content_language: bytes(attr.content_language).to_vec(),
        content_disposition: bytes(attr.content_disposition).to_vec(),
        cache_control: bytes(attr.cache_control).to_vec(),
        storage_class: bytes(attr.storage_class).to_vec(),
        user_meta: array(attr.user_meta, attr.n_user_meta)
            .iter()
            .map(|kv| (bytes(kv.key).to_vec(), bytes(kv.value).to_vec()))
            .collect(),
    }
}

fn condition_from(flags: u32, if_match: PstStr) -> Condition {
    Condition {
        create_only: flags & PST_PUT_CREATE_ONLY != 0,
        if_match: unsafe { bytes(if_match) }.to_vec(),
    }
}

unsafe fn fill_put_result(
    op: *mut PstOp,
    object: &Object,
    result: *mut PstPutResult,
) -> Result<Outcome, Fail> {
    set!(result.etag = result_str(op, &object.etag)?);
    set!(result.etag_strength = PST_ETAG_STRONG);
    set!(result.size = object.data.len() as u64);
    Ok(Outcome::Done)
}

// ---- the operations ----------------------------------------------------------------------------

/// The arguments of an operation on its way, as the host handed them over.
#[derive(Clone, Copy)]
pub enum Request {
    Read(*const PstReadArgs, *mut PstReadResult),
    Stat(*const PstStatArgs, *mut PstAttr),
    Put(*const PstPutArgs, *mut PstPutResult),
    Copy(*const PstCopyArgs, *mut PstPutResult),
    Remove(*const PstRemoveArgs, *mut PstRemoveResult),
    ListOpen(*const PstListArgs, *mut PstCursorResult),
    ListPage(*const Cursor, *const PstPageArgs, *mut PstListResult),
    UploadOpen(*const PstPutArgs, *mut PstUploadResult),
    UploadPart(*const Upload, *const PstPartArgs),
    UploadCommit(*const Upload, *const PstCommitArgs, *mut PstPutResult),
    UploadAbort(*const Upload),
}

impl Task for Request {
    unsafe fn run(self, engine: &Arc<Engine<Request>>, op: *mut PstOp) -> Result<Outcome, Fail> {
        use Request::*;
        match self {
            Read(args, result) => run_read(engine, op, &take(args), result),
            Stat(args, result) => run_stat(engine, op, &take(args), result),
            Put(args, result) => run_put(engine, op, &take(args), result),
            Copy(args, result) => run_copy(engine, op, &take(args), result),
            Remove(args, result) => run_remove(engine, &take(args), result),
            ListOpen(args, result) => run_list_open(&take(args), result, engine),
            ListPage(cursor, args, result) => run_list_page(&*cursor, op, &take(args), result),
            UploadOpen(args, result) => run_upload_open(&take(args), result, engine),
            UploadPart(upload, args) => run_part(engine, &*upload, op, &take(args)),
            UploadCommit(upload, args, result) => {
                run_commit(engine, &*upload, op, &take(args), result)
            }
            UploadAbort(upload) => {
                let mut state = (*upload).state.lock().unwrap_or_else(|p| p.into_inner());
                if let UploadState::Open(_) = *state {
                    *state = UploadState::Aborted;
                }
                Ok(Outcome::Done)
            }
        }
    }
}

unsafe fn run_read(
    engine: &Engine<Request>,
    op: *mut PstOp,
    args: &PstReadArgs,
    result: *mut PstReadResult,
) -> Result<Outcome, Fail> {
    refuse_version(args.version)?;
    let object = store::get(&engine.bucket, &key_of(args.key)?)?;
    let if_match = bytes(args.if_match);
    if !if_match.is_empty() && object.etag != if_match {
        return fail(PST_E_PRECONDITION, "the object has another etag");
    }
    let size = object.data.len() as u64;
    let offset = if args.flags & PST_READ_SUFFIX != 0 {
        size.saturating_sub(args.length)
    } else {
        args.offset.min(size)
    };
    let length = args.length.min(size - offset);

    let mut dst = array(args.dst, args.n_dst);
    if dst.is_empty() && length > 0 {
        let ask = PstDstArgs {
            struct_size: std::mem::size_of::<PstDstArgs>() as u32,
            flags: 0,
            length,
            capacity: length,
            object_size: size,
            etag_strength: PST_ETAG_STRONG,
            reserved0: 0,
            etag: borrow(&object.etag),
        };
        let mut grant = PstDstGrant {
            struct_size: std::mem::size_of::<PstDstGrant>() as u32,
            flags: 0,
            capacity: 0,
            dst: null(),
            n_dst: 0,
        };
        match ((*engine.host).dst)(engine.host, op, &ask, &mut grant) {
            PST_OK => dst = array(grant.dst, grant.n_dst),
            PST_LATER => return Ok(Outcome::Parked), // dst_ready may be running already
            rc => return fail(rc, format!("no memory to read {length} bytes into")),
        }
    }

    let mut left = &object.data[offset as usize..(offset + length) as usize];
    for span in dst {
        let (piece, rest) = left.split_at(span.len.min(left.len()));
        for (i, chunk) in piece.chunks(1 << 24).enumerate() {
            if engine.is_cancelled(op) {
                return fail(PST_E_CANCELLED, "cancelled");
            }
            span.ptr.add(i << 24).copy_from_nonoverlapping(chunk.as_ptr(), chunk.len());
        }
        left = rest;
    }
    if !left.is_empty() {
        return fail(PST_E_INTERNAL, "the destination is shorter than the read");
    }
    set!(result.sums = result_sums(op, &object)?);
    set!(result.sum_stride = std::mem::size_of::<PstSum>());
    set!(result.n_sums = 1);
    set!(result.etag = result_str(op, &object.etag)?);
    set!(result.etag_strength = PST_ETAG_STRONG);
    set!(result.object_size = size);
    set!(result.n_read = length);
    Ok(Outcome::Done)
}

unsafe fn run_stat(
    engine: &Engine<Request>,
    op: *mut PstOp,
    args: &PstStatArgs,
    result: *mut PstAttr,
) -> Result<Outcome, Fail> {
    refuse_version(args.version)?;
    let object = store::get(&engine.bucket, &key_of(args.key)?)?;
    let attr = &object.attr;
    let mut meta = Vec::with_capacity(attr.user_meta.len());
    for (key, value) in &attr.user_meta {
        meta.push(PstKv { key: result_str(op, key)?, value: result_str(op, value)? });
    }
    set!(result.kind = PST_KIND_OBJECT);
    set!(result.size = object.data.len() as u64);
    set!(result.mtime_ns = object.mtime_ns);
    set!(result.etag_strength = PST_ETAG_STRONG);
    set!(result.etag = result_str(op, &object.etag)?);
    set!(result.content_type = result_str(op, &attr.content_type)?);
    set!(result.content_encoding = result_str(op, &attr.content_encoding)?);
    set!(result.content_language = result_str(op, &attr.content_language)?);
    set!(result.content_disposition = result_str(op, &attr.content_disposition)?);
    set!(result.cache_control = result_str(op, &attr.cache_control)?);
    set!(result.storage_class = result_str(op, &attr.storage_class)?);
    set!(result.sums = result_sums(op, &object)?);
    set!(result.sum_stride = std::mem::size_of::<PstSum>());
    set!(result.n_sums = 1);
    set!(result.user_meta = result_memory(op, &meta)?);
    set!(result.n_user_meta = meta.len());
    Ok(Outcome::Done)
}

unsafe fn run_put(
    engine: &Engine<Request>,
    op: *mut PstOp,
    args: &PstPutArgs,
    result: *mut PstPutResult,
) -> Result<Outcome, Fail> {
    let key = key_of(args.key)?;
    let sums = (args.sums, args.n_sums, args.sum_stride);
    let (data, crc) = gather(engine, op, array(args.src, args.n_src), sums)?;
    let object = store::new_object(data, crc, attr_from(args.attr));
    let condition = condition_from(args.flags, args.if_match);
    let object = store::put(&engine.bucket, &key, object, &condition)?;
    fill_put_result(op, &object, result)
}

unsafe fn run_copy(
    engine: &Engine<Request>,
    op: *mut PstOp,
    args: &PstCopyArgs,
    result: *mut PstPutResult,
) -> Result<Outcome, Fail> {
    refuse_version(args.from_version)?;
    let attr =
        if args.flags & PST_COPY_REPLACE_ATTR != 0 { Some(attr_from(args.attr)) } else { None };
    let object = store::copy(
        &engine.bucket,
        &key_of(args.from)?,
        bytes(args.from_if_match),
        &key_of(args.to)?,
        attr,
        &condition_from(args.flags, args.if_match),
    )?;
    fill_put_result(op, &object, result)
}

unsafe fn run_remove(
    engine: &Engine<Request>,
    args: &PstRemoveArgs,
    result: *mut PstRemoveResult,
) -> Result<Outcome, Fail> {
    let keys = array(args.keys, args.n_keys);
    let room = take(result);
    for (i, &key) in keys.iter().enumerate() {
        let version = if args.versions.is_null() { EMPTY } else { *args.versions.add(i) };
        let removed = refuse_version(version)
            .and_then(|()| key_of(key))
            .and_then(|key| store::remove(&engine.bucket, &key, bytes(args.if_match)));
        let rc = match removed {
            Ok(()) => PST_OK,
            Err(fail) => {
                if !room.errors.is_null() {
                    let at = (room.errors as *mut u8).add(i * room.error_stride);
                    fill_error(at as *mut PstError, &fail);
                }
                fail.rc
            }
        };
        *room.status.add(i) = rc;
    }
    Ok(Outcome::Done)
}

unsafe fn run_list_open(
    args: &PstListArgs,
    result: *mut PstCursorResult,
    engine: &Arc<Engine<Request>>,
) -> Result<Outcome, Fail> {
    let cursor = Box::new(Cursor {
        engine: engine.clone(),
        prefix: bytes(args.prefix).to_vec(),
        is_recursive: args.flags & PST_LIST_RECURSIVE != 0,
        after: Mutex::new(bytes(args.start_after).to_vec()),
    });
    set!(result.cursor = Box::into_raw(cursor) as *mut PstCursor);
    Ok(Outcome::Done)
}

unsafe fn run_list_page(
    cursor: &Cursor,
    op: *mut PstOp,
    args: &PstPageArgs,
    result: *mut PstListResult,
) -> Result<Outcome, Fail> {
    let max = match args.max_entries as usize {
        0 => LIST_PAGE_MAX,
        n => n.min(LIST_PAGE_MAX),
    };
    let mut after = cursor.after.lock().unwrap_or_else(|p| p.into_inner());
    let (lines, is_last) =
        store::page(&cursor.engine.bucket, &cursor.prefix, &after, cursor.is_recursive, max);
    let entries: Vec<PstEntry> = lines.iter().map(entry_of).collect();
    let host = (*op).host;
    let stride = std::mem::size_of::<PstEntry>();
    let rc = ((*host).list_emit)(host, op, entries.as_ptr(), entries.len(), stride);
    if rc != PST_OK {
        return fail(rc, "the host did not take the entries");
    }
    if let Some(line) = lines.last() {
        *after = line.key.clone();
    }
    if is_last {
        set!(result.flags = PST_PAGE_LAST);
    }
    Ok(Outcome::Done)
}

fn entry_of(line: &store::Line) -> PstEntry {
    let mut entry = PstEntry {
        key: borrow(&line.key),
        size: 0,
        mtime_ns: i64::MIN, // PST_TIME_UNKNOWN
        kind: PST_KIND_PREFIX,
        etag_strength: 0,
        etag: EMPTY,
        version: EMPTY,
        content_encoding: EMPTY,
        storage_class: EMPTY,
        flags: 0,
        reserved0: 0,
    };
    if let Some(object) = &line.object {
        entry.kind = PST_KIND_OBJECT;
        entry.size = object.data.len() as u64;
        entry.mtime_ns = object.mtime_ns;
        entry.etag = borrow(&object.etag);
        entry.etag_strength = PST_ETAG_STRONG;
        entry.content_encoding = borrow(&object.attr.content_encoding);
        entry.storage_class = borrow(&object.attr.storage_class);
    }
    entry
}

unsafe fn run_upload_open(
    args: &PstPutArgs,
    result: *mut PstUploadResult,
    engine: &Arc<Engine<Request>>,
) -> Result<Outcome, Fail> {
    let upload = Box::new(Upload {
        engine: engine.clone(),
        key: key_of(args.key)?,
        attr: attr_from(args.attr),
        condition: condition_from(args.flags, args.if_match),
        state: Mutex::new(UploadState::Open(BTreeMap::new())),
    });
    set!(result.upload = Box::into_raw(upload) as *mut PstUpload);
    Ok(Outcome::Done)
}

unsafe fn run_part(
    engine: &Engine<Request>,
    upload: &Upload,
    op: *mut PstOp,
    args: &PstPartArgs,
) -> Result<Outcome, Fail> {
    let sums = (args.sums, args.n_sums, args.sum_stride);
    let (data, _) = gather(engine, op, array(args.src, args.n_src), sums)?;
    let mut state = upload.state.lock().unwrap_or_else(|p| p.into_inner());
    match &mut *state {
        UploadState::Open(parts) => {
            parts.insert(args.number, (args.offset, data));
            Ok(Outcome::Done)
        }
        UploadState::Committed(_) => Ok(Outcome::Done), // a late resend of what is stored
        UploadState::Aborted => fail(PST_E_INVALID, "the upload was aborted"),
    }
}

unsafe fn run_commit(
    engine: &Engine<Request>,
    upload: &Upload,
    op: *mut PstOp,
    args: &PstCommitArgs,
    result: *mut PstPutResult,
) -> Result<Outcome, Fail> {
    let mut state = upload.state.lock().unwrap_or_else(|p| p.into_inner());
    let object = match &*state {
        UploadState::Committed(object) => object.clone(),
        UploadState::Aborted => return fail(PST_E_INVALID, "the upload was aborted"),
        UploadState::Open(parts) => {
            let (data, crc) = join_parts(engine, op, parts, args)?;
            let object = store::new_object(data, crc, upload.attr.clone());
            store::put(&upload.engine.bucket, &upload.key, object, &upload.condition)?
        }
    };
    *state = UploadState::Committed(object.clone());
    fill_put_result(op, &object, result)
}

/// The object that the parts make up: all of them, without a gap, as long as the host says.
unsafe fn join_parts(
    engine: &Engine<Request>,
    op: *mut PstOp,
    parts: &BTreeMap<u32, (u64, Vec<u8>)>,
    args: &PstCommitArgs,
) -> Result<(Vec<u8>, u32), Fail> {
    let total: u64 = parts.values().map(|(_, data)| data.len() as u64).sum();
    if parts.len() != args.n_parts as usize || total != args.size {
        return fail(
            PST_E_DATA_LOSS,
            format!(
                "{} parts of {total} bytes arrived, {} of {} were to be committed",
                parts.len(),
                args.n_parts,
                args.size
            ),
        );
    }
    let mut data = store::reserve(total as usize)?;
    let mut crc = 0;
    let mut in_order: Vec<&(u64, Vec<u8>)> = parts.values().collect();
    in_order.sort_by_key(|(offset, _)| *offset);
    for (offset, part) in in_order {
        if engine.is_cancelled(op) {
            return fail(PST_E_CANCELLED, "cancelled");
        }
        if *offset != data.len() as u64 {
            return fail(PST_E_DATA_LOSS, format!("the parts leave a gap or overlap at {offset}"));
        }
        data.extend_from_slice(part);
        crc = store::crc32c(crc, part);
    }
    check_sums((args.sums, args.n_sums, args.sum_stride), crc)?;
    Ok((data, crc))
}
