//! rustmem: an in-memory store as a Penstock plugin, without a line of C.
//!
//! `store.rs` is the store, in safe Rust. `ops.rs` translates each operation from C structs to the
//! store and back. `engine.rs` has the threads and the life cycle of an operation. `abi.rs` is
//! plugin.h. This file joins them: the slots of the table, the plugin's description, its entry.
//!
//! Happy path of a read: `read` queues a request; a worker finds the object, asks the host for a
//! destination of exactly its size, copies, fills the result with strings in the operation's memory,
//! and completes. Failures come from the store as a code and a line, which go into `op.err`.
//!
//! No operation can be half done when its reply is lost, so nothing here ever says MAYBE_APPLIED, and
//! nothing is worth a retry, so nothing says RETRYABLE.

/// A NUL-terminated constant.
macro_rules! c_str {
    ($text:expr) => {
        concat!($text, "\0").as_ptr() as *const std::os::raw::c_char
    };
}

mod abi;
mod engine;
mod ops;
mod store;

use abi::*;
use engine::{Engine, Scratch};
use ops::{array, bytes, fill_error, set, take, Cursor, Request, Upload, KEY_MAX, LIST_PAGE_MAX};
use std::os::raw::{c_char, c_int};
use std::ptr::{null, null_mut};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::Duration;
use store::Fail;

/// What the host knows as pst_backend.
struct Backend {
    engine: Arc<Engine<Request>>,
    threads: Vec<JoinHandle<()>>,
}

// ---- the slots ---------------------------------------------------------------------------------

unsafe fn engine_of<'a>(backend: *mut PstBackend) -> &'a Engine<Request> {
    &(*(backend as *const Backend)).engine
}

/// Define slots that submit: `name, object type, how to reach the engine, the request`.
macro_rules! submits {
    ($($slot:ident($object:ident: $type:ty, $args:ident: $a:ty, $result:ident: $r:ty)
       through $engine:expr => $request:expr;)*) => {
        $(unsafe extern "C" fn $slot(
            $object: *mut $type,
            op: *mut PstOp,
            $args: *const $a,
            $result: *mut $r,
        ) -> PstRc {
            let _ = $result; // operations without a result have only their status
            $engine.submit(op, $request)
        })*
    };
}

submits! {
    read(b: PstBackend, a: PstReadArgs, r: PstReadResult)
        through engine_of(b) => Request::Read(a, r);
    stat(b: PstBackend, a: PstStatArgs, r: PstAttr)
        through engine_of(b) => Request::Stat(a, r);
    put(b: PstBackend, a: PstPutArgs, r: PstPutResult)
        through engine_of(b) => Request::Put(a, r);
    copy(b: PstBackend, a: PstCopyArgs, r: PstPutResult)
        through engine_of(b) => Request::Copy(a, r);
    remove(b: PstBackend, a: PstRemoveArgs, r: PstRemoveResult)
        through engine_of(b) => Request::Remove(a, r);
    list_open(b: PstBackend, a: PstListArgs, r: PstCursorResult)
        through engine_of(b) => Request::ListOpen(a, r);
    list_page(c: PstCursor, a: PstPageArgs, r: PstListResult)
        through (*(c as *const Cursor)).engine => Request::ListPage(c as *const Cursor, a, r);
    upload_open(b: PstBackend, a: PstPutArgs, r: PstUploadResult)
        through engine_of(b) => Request::UploadOpen(a, r);
    upload_part(u: PstUpload, a: PstPartArgs, r: PstResult)
        through (*(u as *const Upload)).engine => Request::UploadPart(u as *const Upload, a);
    upload_commit(u: PstUpload, a: PstCommitArgs, r: PstPutResult)
        through (*(u as *const Upload)).engine => Request::UploadCommit(u as *const Upload, a, r);
    upload_abort(u: PstUpload, _a: PstAbortArgs, r: PstResult)
        through (*(u as *const Upload)).engine => Request::UploadAbort(u as *const Upload);
}

unsafe extern "C" fn list_close(cursor: *mut PstCursor) {
    drop(Box::from_raw(cursor as *mut Cursor));
}

unsafe extern "C" fn upload_free(upload: *mut PstUpload) {
    drop(Box::from_raw(upload as *mut Upload));
}

unsafe extern "C" fn dst_ready(backend: *mut PstBackend, op: *mut PstOp) {
    engine_of(backend).dst_ready(op);
}

unsafe extern "C" fn flush(backend: *mut PstBackend) {
    engine_of(backend).flush();
}

unsafe extern "C" fn cancel(backend: *mut PstBackend, op: *mut PstOp) {
    engine_of(backend).cancel(op);
}

unsafe extern "C" fn info(_backend: *mut PstBackend, info: *mut PstBackendInfo) {
    let limits = (*info).limits;
    set!(limits.list_page_max = LIST_PAGE_MAX as u32);
    set!(limits.key_max = KEY_MAX as u32);
    set!(info.caps = CAPS);
    set!(info.endpoint = c_str!(""));
    set!(info.note = c_str!(""));
    set!(info.want_sums = 1 << PST_SUM_CRC32C);
}

unsafe extern "C" fn close(backend: *mut PstBackend) {
    let backend = Box::from_raw(backend as *mut Backend);
    let Backend { engine, threads } = *backend;
    engine.stop(threads);
}

unsafe extern "C" fn store_open(
    host: *const PstHost,
    args: *const PstOpenArgs,
    out: *mut *mut PstBackend,
    err: *mut PstError,
) -> PstRc {
    let args = take(args);
    let mut n_threads = 2;
    let mut limit = 32;
    let mut delay_ms = 0;
    for option in array(args.options, args.n_options) {
        // The host has checked names and ranges: a number is a number here.
        let value = std::str::from_utf8(bytes(option.value)).unwrap_or("").parse().unwrap_or(0u64);
        match bytes(option.key) {
            b"threads" => n_threads = value as usize,
            b"in_flight" => limit = value as usize,
            b"delay" => delay_ms = value,
            _ => {}
        }
    }
    let engine = Engine::new(host, bytes(args.authority), limit, Duration::from_millis(delay_ms));
    let backend = Box::into_raw(Box::new(Backend { engine, threads: Vec::new() }));
    match (*backend).engine.start(backend as *mut PstBackend, n_threads) {
        Ok(threads) => {
            (*backend).threads = threads;
            *out = backend as *mut PstBackend;
            PST_OK
        }
        Err(error) => {
            drop(Box::from_raw(backend));
            fill_error(err, &Fail { rc: PST_E_NO_MEMORY, message: format!("no threads: {error}") });
            PST_E_NO_MEMORY
        }
    }
}

// ---- the tables --------------------------------------------------------------------------------

/// Tables hold pointers, all to constants.
struct Table<T>(T);
unsafe impl<T> Sync for Table<T> {}

const CAPS: u64 = PST_CAP_READ
    | PST_CAP_READ_SUFFIX
    | PST_CAP_STAT
    | PST_CAP_PUT
    | PST_CAP_UPLOAD
    | PST_CAP_UPLOAD_UNORDERED
    | PST_CAP_REMOVE
    | PST_CAP_LIST
    | PST_CAP_LIST_ORDERED
    | PST_CAP_COPY
    | PST_CAP_READ_IF_MATCH
    | PST_CAP_WRITE_IF_MATCH
    | PST_CAP_CREATE_ONLY
    | PST_CAP_UPLOAD_CONDITIONAL
    | PST_CAP_USER_META
    | PST_CAP_CONTENT_TYPE
    | PST_CAP_CANCEL_BOUNDED;

static OPS: PstBackendOps = PstBackendOps {
    struct_size: std::mem::size_of::<PstBackendOps>() as u32,
    reserved0: 0,
    read: Some(read),
    stat: Some(stat),
    put: Some(put),
    append: None,
    copy: Some(copy),
    rename: None,
    remove: Some(remove),
    list: None, // cursors instead
    list_open: Some(list_open),
    list_page: Some(list_page),
    list_close: Some(list_close),
    upload_open: Some(upload_open),
    upload_part: Some(upload_part),
    upload_commit: Some(upload_commit),
    upload_abort: Some(upload_abort),
    upload_free: Some(upload_free),
    container_create: None,
    container_delete: None,
    container_list: None,
    presign: None,
    cleanup: None,
    dst_ready: Some(dst_ready),
    flush: Some(flush),
    cancel: Some(cancel),
    info: Some(info),
    close: Some(close),
};

static LIMITS: PstLimits = PstLimits {
    struct_size: std::mem::size_of::<PstLimits>() as u32,
    flags: 0,
    object_max: 0,
    part_min: 0,
    part_max: 0,
    part_multiple: 0,
    io_preferred: 0,
    parts_max: 0,
    list_page_max: LIST_PAGE_MAX as u32,
    remove_batch_max: 0,
    inflight_max: 0, // none is declared, so that the host sees BUSY at the one we have
    key_max: KEY_MAX as u32,
    user_meta_max: 0,
    mem_align: 1,
    io_align: 1,
};

const fn number(
    option_type: u32,
    range: (i64, i64),
    name: *const c_char,
    fallback: *const c_char,
    doc: *const c_char,
) -> PstOption {
    PstOption {
        type_: option_type,
        flags: 0,
        min: range.0,
        max: range.1,
        name,
        fallback,
        doc,
        env: null(),
        choices: null(),
        reserved0: null_mut(),
    }
}

static OPTIONS: Table<[PstOption; 3]> = Table([
    number(PST_OPT_INT, (1, 64), c_str!("threads"), c_str!("2"), c_str!("threads of this store")),
    number(
        PST_OPT_INT,
        (1, 65536),
        c_str!("in_flight"),
        c_str!("32"),
        c_str!("operations taken at once; the next is told to come back"),
    ),
    number(
        PST_OPT_DURATION,
        (0, 60_000),
        c_str!("delay"),
        c_str!("0ms"),
        c_str!("how long each operation waits before it is carried out"),
    ),
]);

static SCHEMES: Table<[*const c_char; 2]> = Table([c_str!("rustmem"), null()]);

static PLUGIN: Table<PstPlugin> = Table(PstPlugin {
    struct_size: std::mem::size_of::<PstPlugin>() as u32,
    abi_major: PST_ABI_MAJOR,
    abi_minor: PST_ABI_MINOR,
    caps: CAPS,
    threads: PST_THREADS_PARALLEL,
    op_scratch: std::mem::size_of::<Scratch<Request>>() as u32,
    id: c_str!("example.rustmem"),
    version: c_str!(env!("CARGO_PKG_VERSION")),
    vendor: c_str!("Penstock examples"),
    license: c_str!("Apache-2.0"),
    schemes: &SCHEMES.0 as *const *const c_char,
    limits: &LIMITS,
    options: &OPTIONS.0 as *const PstOption,
    option_stride: std::mem::size_of::<PstOption>(),
    n_options: 3,
    ops: &OPS,
    store_open,
    // A child makes a new backend, with threads of its own, when it opens a store; the old one is
    // left alone. The data is dealt with below.
    fork_child: None,
    shutdown: None,
    query: None,
});

// ---- fork --------------------------------------------------------------------------------------

extern "C" {
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> c_int;
}

/// The data's lock, held by the thread that forks. Only the handlers use it, one fork at a time.
static mut HELD: Option<store::Buckets> = None;

unsafe extern "C" fn before_fork() {
    HELD = Some(store::lock());
}

unsafe extern "C" fn after_fork() {
    HELD = None; // in the parent and in the child
}

/// The one exported symbol.
///
/// # Safety
/// Called by a Penstock host.
#[no_mangle]
pub unsafe extern "C" fn pst_plugin_open_1(
    host: *const PstHost,
    plugin: *mut *const PstPlugin,
    err: *mut PstError,
) -> PstRc {
    static ONCE: Once = Once::new();
    if (*host).abi_major != PST_ABI_MAJOR {
        let message = format!(
            "rustmem was made for plugin ABI {PST_ABI_MAJOR}, the host has {}",
            (*host).abi_major
        );
        fill_error(err, &Fail { rc: PST_E_BAD_PLUGIN, message });
        return PST_E_BAD_PLUGIN;
    }
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|_| {})); // a plugin prints nothing; see Engine::run
                                                // Fails only for want of memory; then a fork at a bad moment costs the child its data.
        let _ = pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork));
    });
    *plugin = &PLUGIN.0;
    PST_OK
}
