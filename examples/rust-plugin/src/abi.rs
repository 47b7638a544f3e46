//! The plugin ABI, by hand from <penstock/plugin.h>.
//!
//! `c_struct!` writes each member with its offset. At compile time the sizes of the members before it
//! must add up to that number, and all of them to the size of the struct: the ABI has no padding, so
//! this proves every offset without `offset_of!`, which Rust 1.63 lacks. That the numbers are those of
//! the C header is proved by `tests/abi/rust_layout.py`, which turns this file into C
//! assertions. The numbers are of 64-bit targets; members keep their order on all others.
#![allow(dead_code)] // the whole ABI is here to be copied, this plugin uses most of it

use std::ffi::c_void;
use std::mem::size_of;
use std::os::raw::c_char;

/// A status: 0, a `PST_E_` code below it, or one of the three answers of a submit above it.
pub type PstRc = i32;

macro_rules! c_struct {
    ($name:ident = $c_name:ident, $size:literal { $($offset:literal $field:ident: $type:ty,)* }) => {
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub struct $name { $(pub $field: $type,)* }

        #[cfg(target_pointer_width = "64")]
        const _: () = {
            let end = 0;
            $(assert!(end == $offset); let end = end + size_of::<$type>();)*
            assert!(end == $size && size_of::<$name>() == $size);
        };
    };
}

/// Handles that only their maker looks into.
pub enum PstBackend {}
pub enum PstUpload {}
pub enum PstCursor {}

pub const PST_ABI_MAJOR: u16 = 1;
pub const PST_ABI_MINOR: u16 = 0;

pub const PST_OK: PstRc = 0;
pub const PST_PENDING: PstRc = 1;
pub const PST_BUSY: PstRc = 2;
pub const PST_LATER: PstRc = 3;

pub const PST_E_CANCELLED: PstRc = -1;
pub const PST_E_INVALID: PstRc = -2;
pub const PST_E_NOT_FOUND: PstRc = -3;
pub const PST_E_EXISTS: PstRc = -4;
pub const PST_E_PRECONDITION: PstRc = -8;
pub const PST_E_UNIMPLEMENTED: PstRc = -10;
pub const PST_E_DATA_LOSS: PstRc = -13;
pub const PST_E_NO_MEMORY: PstRc = -15;
pub const PST_E_INTERNAL: PstRc = -16;
pub const PST_E_BAD_PLUGIN: PstRc = -21;

pub const PST_UNKNOWN: u64 = u64::MAX;
pub const PST_SUM_CRC32C: u32 = 1;
pub const PST_SCOPE_OBJECT: u32 = 0;
pub const PST_ETAG_STRONG: u32 = 2;
pub const PST_KIND_OBJECT: u32 = 0;
pub const PST_KIND_PREFIX: u32 = 1;

pub const PST_READ_SUFFIX: u32 = 1;
pub const PST_PUT_CREATE_ONLY: u32 = 1;
pub const PST_COPY_REPLACE_ATTR: u32 = 2;
pub const PST_LIST_RECURSIVE: u32 = 1;
pub const PST_PAGE_LAST: u32 = 1;
pub const PST_OPT_INT: u32 = 3;
pub const PST_OPT_DURATION: u32 = 5;
pub const PST_THREADS_PARALLEL: u32 = 2;

pub const PST_CAP_READ: u64 = 1 << 0;
pub const PST_CAP_READ_SUFFIX: u64 = 1 << 1;
pub const PST_CAP_STAT: u64 = 1 << 2;
pub const PST_CAP_PUT: u64 = 1 << 3;
pub const PST_CAP_UPLOAD: u64 = 1 << 4;
pub const PST_CAP_UPLOAD_UNORDERED: u64 = 1 << 5;
pub const PST_CAP_REMOVE: u64 = 1 << 6;
pub const PST_CAP_LIST: u64 = 1 << 7;
pub const PST_CAP_LIST_ORDERED: u64 = 1 << 8;
pub const PST_CAP_COPY: u64 = 1 << 9;
pub const PST_CAP_READ_IF_MATCH: u64 = 1 << 14;
pub const PST_CAP_WRITE_IF_MATCH: u64 = 1 << 15;
pub const PST_CAP_CREATE_ONLY: u64 = 1 << 16;
pub const PST_CAP_USER_META: u64 = 1 << 17;
pub const PST_CAP_CONTENT_TYPE: u64 = 1 << 18;
pub const PST_CAP_CANCEL_BOUNDED: u64 = 1 << 19;
pub const PST_CAP_UPLOAD_CONDITIONAL: u64 = 1 << 23;

c_struct! { PstStr = pst_str, 16 {
    0 ptr: *const u8,
    8 len: usize,
}}
c_struct! { PstIov = pst_iov, 16 {
    0 ptr: *mut u8,
    8 len: usize,
}}
c_struct! { PstKv = pst_kv, 32 {
    0 key: PstStr,
    16 value: PstStr,
}}
c_struct! { PstSum = pst_sum, 64 {
    0 algorithm: u32,
    4 scope: u32,
    8 length: u32,
    12 reserved0: u32,
    16 bytes: [u8; 32],
    48 offset: u64,
    56 size: u64,
}}
c_struct! { PstAttr = pst_attr, 208 {
    0 struct_size: u32,
    4 kind: u32,
    8 size: u64,
    16 mtime_ns: i64,
    24 etag_strength: u32,
    28 n_sums: u32,
    32 sums: *const PstSum,
    40 sum_stride: usize,
    48 etag: PstStr,
    64 version: PstStr,
    80 content_type: PstStr,
    96 content_encoding: PstStr,
    112 content_language: PstStr,
    128 content_disposition: PstStr,
    144 cache_control: PstStr,
    160 storage_class: PstStr,
    176 user_meta: *const PstKv,
    184 n_user_meta: usize,
    192 tags: *const PstKv,
    200 n_tags: usize,
}}
c_struct! { PstEntry = pst_entry, 112 {
    0 key: PstStr,
    16 size: u64,
    24 mtime_ns: i64,
    32 kind: u32,
    36 etag_strength: u32,
    40 etag: PstStr,
    56 version: PstStr,
    72 content_encoding: PstStr,
    88 storage_class: PstStr,
    104 flags: u32,
    108 reserved0: u32,
}}
c_struct! { PstError = pst_error, 1120 {
    0 struct_size: u32,
    4 code: i32,
    8 flags: u32,
    12 retry_after_ms: u32,
    16 sys_errno: i32,
    20 http_status: i32,
    24 attempt: u32,
    28 max_attempts: u32,
    32 provider_code: [u8; 64],
    96 request_id: [u8; 128],
    224 endpoint: [u8; 128],
    352 message: [u8; 768],
}}
c_struct! { PstOp = pst_op, 72 {
    0 struct_size: u32,
    4 flags: u32,
    8 id: u64,
    16 deadline_ns: u64,
    24 attempt: u32,
    28 max_attempts: u32,
    32 affinity: u32,
    36 last_endpoint: u32,
    40 host: *const PstHost,
    48 scratch: *mut c_void,
    56 err: *mut PstError,
    64 host_private: *mut c_void,
}}
c_struct! { PstResult = pst_result, 8 {
    0 struct_size: u32,
    4 flags: u32,
}}
c_struct! { PstReadArgs = pst_read_args, 88 {
    0 struct_size: u32,
    4 flags: u32,
    8 offset: u64,
    16 length: u64,
    24 key: PstStr,
    40 version: PstStr,
    56 if_match: PstStr,
    72 dst: *const PstIov,
    80 n_dst: usize,
}}
c_struct! { PstReadResult = pst_read_result, 80 {
    0 struct_size: u32,
    4 flags: u32,
    8 n_read: u64,
    16 object_size: u64,
    24 etag_strength: u32,
    28 n_sums: u32,
    32 sums: *const PstSum,
    40 sum_stride: usize,
    48 etag: PstStr,
    64 version: PstStr,
}}
c_struct! { PstStatArgs = pst_stat_args, 40 {
    0 struct_size: u32,
    4 flags: u32,
    8 key: PstStr,
    24 version: PstStr,
}}
c_struct! { PstPutArgs = pst_put_args, 104 {
    0 struct_size: u32,
    4 flags: u32,
    8 size_hint: u64,
    16 key: PstStr,
    32 if_match: PstStr,
    48 src: *const PstIov,
    56 n_src: usize,
    64 attr: *const PstAttr,
    72 sums: *const PstSum,
    80 sum_stride: usize,
    88 reserved1: *mut c_void,
    96 n_sums: u32,
    100 reserved0: u32,
}}
c_struct! { PstPutResult = pst_put_result, 48 {
    0 struct_size: u32,
    4 etag_strength: u32,
    8 size: u64,
    16 etag: PstStr,
    32 version: PstStr,
}}
c_struct! { PstCopyArgs = pst_copy_args, 120 {
    0 struct_size: u32,
    4 flags: u32,
    8 from: PstStr,
    24 from_version: PstStr,
    40 from_if_match: PstStr,
    56 to: PstStr,
    72 if_match: PstStr,
    88 attr: *const PstAttr,
    96 reserved0: *mut c_void,
    104 from_authority: PstStr,
}}
c_struct! { PstRemoveArgs = pst_remove_args, 56 {
    0 struct_size: u32,
    4 flags: u32,
    8 keys: *const PstStr,
    16 n_keys: usize,
    24 versions: *const PstStr,
    32 reserved0: *mut c_void,
    40 if_match: PstStr,
}}
c_struct! { PstRemoveResult = pst_remove_result, 40 {
    0 struct_size: u32,
    4 flags: u32,
    8 status: *mut PstRc,
    16 errors: *mut PstError,
    24 error_stride: usize,
    32 reserved0: *mut c_void,
}}
c_struct! { PstListArgs = pst_list_args, 64 {
    0 struct_size: u32,
    4 flags: u32,
    8 prefix: PstStr,
    24 start_after: PstStr,
    40 page_token: PstStr,
    56 max_entries: u32,
    60 reserved0: u32,
}}
c_struct! { PstListResult = pst_list_result, 24 {
    0 struct_size: u32,
    4 flags: u32,
    8 next_token: PstStr,
}}
c_struct! { PstCursorResult = pst_cursor_result, 24 {
    0 struct_size: u32,
    4 flags: u32,
    8 cursor: *mut PstCursor,
    16 reserved0: *mut c_void,
}}
c_struct! { PstPageArgs = pst_page_args, 8 {
    0 struct_size: u32,
    4 max_entries: u32,
}}
c_struct! { PstUploadResult = pst_upload_result, 24 {
    0 struct_size: u32,
    4 flags: u32,
    8 upload: *mut PstUpload,
    16 reserved0: *mut c_void,
}}
c_struct! { PstPartArgs = pst_part_args, 56 {
    0 struct_size: u32,
    4 flags: u32,
    8 offset: u64,
    16 number: u32,
    20 n_sums: u32,
    24 src: *const PstIov,
    32 n_src: usize,
    40 sums: *const PstSum,
    48 sum_stride: usize,
}}
c_struct! { PstCommitArgs = pst_commit_args, 40 {
    0 struct_size: u32,
    4 flags: u32,
    8 size: u64,
    16 n_parts: u32,
    20 n_sums: u32,
    24 sums: *const PstSum,
    32 sum_stride: usize,
}}
c_struct! { PstAbortArgs = pst_abort_args, 8 {
    0 struct_size: u32,
    4 flags: u32,
}}
c_struct! { PstDstArgs = pst_dst_args, 56 {
    0 struct_size: u32,
    4 flags: u32,
    8 length: u64,
    16 capacity: u64,
    24 object_size: u64,
    32 etag_strength: u32,
    36 reserved0: u32,
    40 etag: PstStr,
}}
c_struct! { PstDstGrant = pst_dst_grant, 32 {
    0 struct_size: u32,
    4 flags: u32,
    8 capacity: u64,
    16 dst: *const PstIov,
    24 n_dst: usize,
}}
c_struct! { PstHost = pst_host, 104 {
    0 struct_size: u32,
    4 abi_major: u16,
    6 abi_minor: u16,
    8 complete: unsafe extern "C" fn(*const PstHost, *mut PstOp, PstRc),
    16 wake: unsafe extern "C" fn(*const PstHost, *mut PstBackend),
    24 dst: unsafe extern "C" fn(*const PstHost, *mut PstOp, *const PstDstArgs, *mut PstDstGrant) -> PstRc,
    32 list_emit: unsafe extern "C" fn(*const PstHost, *mut PstOp, *const PstEntry, usize, usize) -> PstRc,
    40 op_alloc: unsafe extern "C" fn(*const PstHost, *mut PstOp, usize) -> *mut c_void,
    48 alloc: unsafe extern "C" fn(*const PstHost, usize, usize) -> *mut c_void,
    56 dealloc: unsafe extern "C" fn(*const PstHost, *mut c_void),
    64 exec: unsafe extern "C" fn(*const PstHost, *mut PstOp, u32, ExecFn, *mut c_void) -> PstRc,
    72 log: unsafe extern "C" fn(*const PstHost, u32, *const c_char, *const c_char),
    80 log_enabled: unsafe extern "C" fn(*const PstHost, u32) -> i32,
    88 service: unsafe extern "C" fn(*const PstHost, *const c_char) -> *const c_void,
    96 host_private: *mut c_void,
}}
pub type ExecFn = unsafe extern "C" fn(*mut c_void);

c_struct! { PstLimits = pst_limits, 80 {
    0 struct_size: u32,
    4 flags: u32,
    8 object_max: u64,
    16 part_min: u64,
    24 part_max: u64,
    32 part_multiple: u64,
    40 io_preferred: u64,
    48 parts_max: u32,
    52 list_page_max: u32,
    56 remove_batch_max: u32,
    60 inflight_max: u32,
    64 key_max: u32,
    68 user_meta_max: u32,
    72 mem_align: u32,
    76 io_align: u32,
}}
c_struct! { PstBackendInfo = pst_backend_info, 56 {
    0 struct_size: u32,
    4 flags: u32,
    8 caps: u64,
    16 limits: *mut PstLimits,
    24 endpoint: *const c_char,
    32 note: *const c_char,
    40 reserved1: *mut c_void,
    48 want_sums: u32,
    52 reserved0: u32,
}}

/// A slot that starts an operation on `T` (a backend, an upload or a cursor).
pub type Submit<T, A, R> =
    Option<unsafe extern "C" fn(*mut T, *mut PstOp, *const A, *mut R) -> PstRc>;
pub type Plain<T> = Option<unsafe extern "C" fn(*mut T)>;
pub type OnOp = Option<unsafe extern "C" fn(*mut PstBackend, *mut PstOp)>;
pub type Unused = Option<unsafe extern "C" fn()>; // slots this plugin leaves NULL

c_struct! { PstBackendOps = pst_backend_ops, 216 {
    0 struct_size: u32,
    4 reserved0: u32,
    8 read: Submit<PstBackend, PstReadArgs, PstReadResult>,
    16 stat: Submit<PstBackend, PstStatArgs, PstAttr>,
    24 put: Submit<PstBackend, PstPutArgs, PstPutResult>,
    32 append: Submit<PstBackend, PstPutArgs, PstPutResult>,
    40 copy: Submit<PstBackend, PstCopyArgs, PstPutResult>,
    48 rename: Submit<PstBackend, PstCopyArgs, PstPutResult>,
    56 remove: Submit<PstBackend, PstRemoveArgs, PstRemoveResult>,
    64 list: Submit<PstBackend, PstListArgs, PstListResult>,
    72 list_open: Submit<PstBackend, PstListArgs, PstCursorResult>,
    80 list_page: Submit<PstCursor, PstPageArgs, PstListResult>,
    88 list_close: Plain<PstCursor>,
    96 upload_open: Submit<PstBackend, PstPutArgs, PstUploadResult>,
    104 upload_part: Submit<PstUpload, PstPartArgs, PstResult>,
    112 upload_commit: Submit<PstUpload, PstCommitArgs, PstPutResult>,
    120 upload_abort: Submit<PstUpload, PstAbortArgs, PstResult>,
    128 upload_free: Plain<PstUpload>,
    136 container_create: Unused,
    144 container_delete: Unused,
    152 container_list: Unused,
    160 presign: Unused,
    168 cleanup: Unused,
    176 dst_ready: OnOp,
    184 flush: Plain<PstBackend>,
    192 cancel: OnOp,
    200 info: Option<unsafe extern "C" fn(*mut PstBackend, *mut PstBackendInfo)>,
    208 close: Plain<PstBackend>,
}}
c_struct! { PstOption = pst_option, 72 {
    0 type_: u32,
    4 flags: u32,
    8 min: i64,
    16 max: i64,
    24 name: *const c_char,
    32 fallback: *const c_char,
    40 doc: *const c_char,
    48 env: *const c_char,
    56 choices: *const c_char,
    64 reserved0: *mut c_void,
}}
c_struct! { PstOpenArgs = pst_open_args, 80 {
    0 struct_size: u32,
    4 flags: u32,
    8 fork_generation: u64,
    16 scheme: PstStr,
    32 authority: PstStr,
    48 options: *const PstKv,
    56 n_options: usize,
    64 option_sources: *const u32,
    72 reserved0: *mut c_void,
}}
c_struct! { PstPlugin = pst_plugin, 136 {
    0 struct_size: u32,
    4 abi_major: u16,
    6 abi_minor: u16,
    8 caps: u64,
    16 threads: u32,
    20 op_scratch: u32,
    24 id: *const c_char,
    32 version: *const c_char,
    40 vendor: *const c_char,
    48 license: *const c_char,
    56 schemes: *const *const c_char,
    64 limits: *const PstLimits,
    72 options: *const PstOption,
    80 option_stride: usize,
    88 n_options: usize,
    96 ops: *const PstBackendOps,
    104 store_open: unsafe extern "C" fn(*const PstHost, *const PstOpenArgs, *mut *mut PstBackend, *mut PstError) -> PstRc,
    112 fork_child: Option<unsafe extern "C" fn(*const PstHost)>,
    120 shutdown: Option<unsafe extern "C" fn(*const PstHost)>,
    128 query: Option<unsafe extern "C" fn(*const PstHost, *const c_char) -> *const c_void>,
}}
