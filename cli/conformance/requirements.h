/* requirements.h - what a plugin must do, one row for each requirement.
 *
 * K_REQ(GROUP, number, smallest profile, text, where the rule is written). Numbers are stable: a
 * requirement that is dropped leaves its number unused. docs/conformance.md is made from this table
 * (`penstock conformance --markdown`), and a test compares the two. Rules are those of docs/abi.md. */

/* ---- LOAD: the file and its tables */
K_REQ(LOAD, 001, RO,
      "The file is an ELF shared object of this machine, and dlopen(RTLD_NOW | RTLD_LOCAL | "
      "RTLD_NODELETE) loads it.",
      "plugin.h, top")
K_REQ(LOAD, 002, RO, "It exports pst_plugin_open_1 and no other symbol.", "plugin.h, top")
K_REQ(LOAD, 003, RO,
      "It has no undefined symbol that begins with pst_: what it needs comes in the "
      "host table.",
      "plugin.h, top")
K_REQ(LOAD, 004, RO, "It needs none of libpenstock, libcurl, libssl, libcrypto.", "rule 16")
K_REQ(LOAD, 005, RO,
      "Its thread-local storage is dynamic (no DF_STATIC_TLS) and at most 4 KiB, so "
      "that it loads into any process.",
      "plugin.h, top")
K_REQ(LOAD, 006, RO,
      "It has no text relocations, no executable stack and no segment that is both "
      "writable and executable.",
      "plugin.h, top")
K_REQ(LOAD, 007, RO,
      "Loading it changes nothing: no thread, descriptor, signal handler, umask, "
      "working directory, locale or environment.",
      "rule 12")
K_REQ(LOAD, 008, RO,
      "pst_plugin_open_1 returns OK and a complete pst_plugin with struct_size set, "
      "the host's ABI major and a minor that the host takes.",
      "plugin.h, pst_plugin")
K_REQ(LOAD, 009, RO,
      "id, version, vendor and license are single lines; the id is lower case "
      "letters, digits, '.', '_' and '-'.",
      "plugin.h, pst_plugin")
K_REQ(LOAD, 010, RO,
      "schemes lists distinct, valid, lower case schemes and ends with NULL; the "
      "scheme of the URI is one of them.",
      "plugin.h, pst_plugin")
K_REQ(LOAD, 011, RO,
      "Options are well formed: distinct names, a known type, a doc text, choices for "
      "an enumeration, min <= max, a fallback that is a value of the type.",
      "plugin.h, pst_option")
K_REQ(LOAD, 012, RO,
      "Capabilities and slots agree: each capability has its slots and those it "
      "builds on, threads is a known model, info and close are there.",
      "rule 10")
K_REQ(LOAD, 013, RO,
      "info narrows what the plugin declares and never widens it; limits are "
      "consistent and alignments powers of two.",
      "rule 10")
K_REQ(LOAD, 014, RO,
      "An operation that the store does not offer is a NULL slot or answers "
      "UNIMPLEMENTED.",
      "plugin.h, pst_backend_ops")
K_REQ(LOAD, 015, RO,
      "Two hosts in one process each get a working plugin, and every call goes to "
      "the host it belongs to.",
      "rule 5")
K_REQ(LOAD, 016, RO,
      "A host of the next minor works: longer structs are accepted, members the "
      "plugin cannot know stay untouched.",
      "rule 6")
K_REQ(LOAD, 017, RO,
      "A host of the minor before works: members that its structs do not have are "
      "neither read nor written.",
      "rule 6")
K_REQ(LOAD, 018, RO,
      "Structs of the host are filled member by member: struct_size stays as its "
      "owner set it.",
      "rule 6")
K_REQ(LOAD, 019, RO,
      "The plugin's tables stay as they are: the same after every operation and on "
      "every call of the entry function.",
      "plugin.h, pst_plugin")
K_REQ(LOAD, 020, RO,
      "The store offers what the profile asks for: READ, STAT and LIST; rw adds PUT or "
      "UPLOAD, and REMOVE; full adds UPLOAD.",
      "rule 10")

/* ---- OP: the life of an operation */
K_REQ(OP, 001, RO,
      "An operation that answers PENDING completes exactly once, one that answers OK or "
      "an error never.",
      "rule 4")
K_REQ(OP, 002, RO,
      "A submit function answers OK, PENDING, BUSY or an error of status.h, a completion "
      "carries OK or an error of status.h.",
      "plugin.h, PST_PENDING")
K_REQ(OP, 003, RO,
      "The submit function touches nothing of an operation that it has handed on, which "
      "may complete before it returns.",
      "rule 4")
K_REQ(OP, 004, RO, "Nobody touches op, arguments, result, scratch or strings after complete().",
      "rule 4")
K_REQ(OP, 005, RO,
      "BUSY from exec is handed on, leaves op, result and error untouched, and the same "
      "operation works when it is submitted again.",
      "rule 7")
K_REQ(OP, 006, RO,
      "A plugin that answers BUSY for a limit of its own calls wake when that is gone.", "rule 7")
K_REQ(OP, 007, RO, "Submit functions do not block, not even while the host's pool stands still.",
      "plugin.h, pst_backend_ops")
K_REQ(OP, 008, RO, "Scratch is used within op_scratch bytes.", "plugin.h, pst_op")
K_REQ(OP, 009, RO, "An operation cancelled before it began completes exactly once.", "rule 4")
K_REQ(OP, 010, RO,
      "An operation cancelled at any moment completes exactly once, with its own outcome "
      "or CANCELLED.",
      "rule 4")
K_REQ(OP, 011, RO, "Cancel after completion is without effect.", "rule 4")
K_REQ(OP, 012, RO, "CANCEL_BOUNDED: a cancelled operation completes within 500 ms.", "rule 3")
K_REQ(OP, 013, RO,
      "An operation whose deadline has passed completes exactly once, with its own "
      "outcome or DEADLINE.",
      "plugin.h, pst_op")
K_REQ(OP, 014, RO,
      "A failure is explained: the error has the code of the completion and a message "
      "of one line.",
      "status.h, pst_error")
K_REQ(OP, 015, RO,
      "The error keeps its struct_size, and its texts end with NUL inside their arrays.", "rule 6")
K_REQ(OP, 016, RO,
      "Flags of an error are true: a definite failure is not RETRYABLE, and MAYBE_APPLIED "
      "belongs to writes.",
      "rule 1")
K_REQ(OP, 017, RO,
      "No value of a secret option appears in an error, a log line, the endpoint or the "
      "note.",
      "status.h, pst_error")
K_REQ(OP, 018, RO, "complete() is called with no lock held that a submit needs.", "rule 4")
K_REQ(OP, 019, RO,
      "PST_THREADS_PARALLEL: operations from eight threads side by side each get their "
      "own, right outcome.",
      "rule 13")
K_REQ(OP, 020, RO, "flush may be called at any time, from any thread.", "rule 7")
K_REQ(OP, 021, RO, "Log lines are single lines under the plugin's id with a known level.",
      "plugin.h, pst_host")

/* ---- MEM: whose memory, and until when */
K_REQ(MEM, 001, RO, "A read writes nothing before or behind its destination.", "rule 3")
K_REQ(MEM, 002, RO,
      "Nobody writes to a destination after the completion, be it OK, an error or "
      "CANCELLED.",
      "rule 3")
K_REQ(MEM, 003, RW, "Source memory is only read, and only until the completion.", "rule 3")
K_REQ(MEM, 004, RO, "Arguments, vectors and strings are not modified.", "rule 4")
K_REQ(MEM, 005, RO, "Cursors and uploads keep nothing of the arguments they were opened with.",
      "rule 4")
K_REQ(MEM, 006, RO, "A destination in several pieces of any length is filled in order.",
      "base.h, pst_iov")
K_REQ(MEM, 007, RW, "A source in several pieces of any length is taken in order.",
      "base.h, pst_iov")
K_REQ(MEM, 008, RO,
      "A read without a destination asks dst() once, for exactly the bytes it then "
      "delivers.",
      "rule 2")
K_REQ(MEM, 009, RO, "dst() is told the object's size and etag, the same as the result.", "rule 2")
K_REQ(MEM, 010, RO, "After LATER nothing happens until dst_ready, then the read goes on.", "rule 2")
K_REQ(MEM, 011, RO, "A read that waits for dst_ready holds no thread of the host.", "rule 2")
K_REQ(MEM, 012, RO, "A read that waits for dst_ready can be cancelled, and completes exactly once.",
      "rule 2")
K_REQ(MEM, 013, RO, "An error from dst() is the code that the read completes with.", "rule 2")
K_REQ(MEM, 014, RO, "Each attempt asks dst() anew, and asks at most once for a known length.",
      "rule 2")
K_REQ(MEM, 015, RO, "A grant in several pieces of any length is filled in order.", "rule 18")
K_REQ(MEM, 016, RO, "A read that brings its destination never asks dst().", "rule 2")
K_REQ(MEM, 017, RO, "Destinations may lie at any address where mem_align asks for nothing.",
      "rule 18")
K_REQ(MEM, 018, RO,
      "When alloc() returns NULL, at whatever call, the operation ends with NO_MEMORY "
      "or does without, and works again afterwards.",
      "plugin.h, pst_host")
K_REQ(MEM, 019, RO,
      "When op_alloc() returns NULL, at whatever call, the operation ends with "
      "NO_MEMORY or is complete without, and works again afterwards.",
      "plugin.h, pst_host")
K_REQ(MEM, 020, RO,
      "Everything taken from alloc() is given back by the time close() returns, failed "
      "operations included.",
      "plugin.h, pst_host")
K_REQ(MEM, 021, RO, "Memory from alloc() is used within its size and not after dealloc().",
      "plugin.h, pst_host")
K_REQ(MEM, 022, RO,
      "Strings of a result stay as they are while the host keeps the operation, "
      "whatever the store does next.",
      "rule 9")

/* ---- READ: data comes back exactly */
K_REQ(READ, 001, RO,
      "Objects of 0, 1, 4095, 4096, 4097 and 1 MiB + 1 bytes read back byte for byte, "
      "with early and late destinations.",
      "plugin.h, pst_read_args")
K_REQ(READ, 002, FULL, "An object of 20 MiB reads back byte for byte.", "plugin.h, pst_read_args")
K_REQ(READ, 003, RO, "A range gives exactly its bytes, cut short only at the object's end.",
      "plugin.h, pst_read_result")
K_REQ(READ, 004, RO,
      "A read at or beyond the end gives OK and nothing, whatever the offset, on an "
      "empty object too, and does not ask dst().",
      "plugin.h, pst_read_args")
K_REQ(READ, 005, RO, "A read of length 0 gives OK and nothing.", "plugin.h, pst_read_args")
K_REQ(READ, 006, RO, "object_size is the size of the object or PST_UNKNOWN.",
      "plugin.h, pst_read_result")
K_REQ(READ, 007, RO,
      "stat and read of an object that is not there: NOT_FOUND, and dst() is not "
      "asked.",
      "status.h")
K_REQ(READ, 008, RO, "A common prefix is not an object: reading it without the slash fails.",
      "base.h, pst_attr")
K_REQ(READ, 009, RO,
      "read, stat and listing name the same etag for the same content, of at most "
      "1,100 bytes, and none only with strength NONE.",
      "rule 9")
K_REQ(READ, 010, RW,
      "Other content has another etag: objects replaced again and again, at equal "
      "size too.",
      "rule 9")
K_REQ(READ, 011, RO, "READ_IF_MATCH: a read with the object's own etag succeeds.",
      "plugin.h, pst_read_args")
K_REQ(READ, 012, RO,
      "READ_IF_MATCH: a read with another etag, however long, ends with PRECONDITION or "
      "CHANGED.",
      "plugin.h, pst_read_args")
K_REQ(READ, 013, RW, "READ_IF_MATCH: an object replaced between two ranges is noticed.", "rule 9")
K_REQ(READ, 014, RO, "READ_SUFFIX: the last bytes, all of it when it is shorter.", "rule 20")
K_REQ(READ, 015, RW,
      "A key is kept byte for byte or refused with INVALID; it never becomes another "
      "one.",
      "docs/abi.md, keys")
K_REQ(READ, 016, RO, "stat tells the kind, the true size and a sane time.", "base.h, pst_attr")
K_REQ(READ, 017, RO, "PRESIGN: a URL of one line for a key of any bytes.", "plugin.h, presign")

K_REQ(READ, 018, RO,
      "A version that does not exist, of an object that does, is an error for stat and read, never "
      "the current object.",
      "rule 5")
K_REQ(READ, 019, RW,
      "VERSIONS: a version that put told is read and described by it, as it was, once it was "
      "replaced and once its key was removed.",
      "plugin.h, PST_CAP_VERSIONS")

/* ---- WRITE: what is stored is what was sent, whole or not at all */
K_REQ(WRITE, 001, RW, "What was put is read back; the result names its size and etag as stat does.",
      "plugin.h, pst_put_result")
K_REQ(WRITE, 002, RW, "An empty object can be put and read back.", "plugin.h, pst_put_args")
K_REQ(WRITE, 003, RW, "A put replaces the whole object, be it shorter or longer.",
      "plugin.h, pst_put_args")
K_REQ(WRITE, 004, FULL,
      "A reader beside a put sees the old object or the new one, never a mixture.",
      "docs/abi.md, writing")
K_REQ(WRITE, 005, RW,
      "CREATE_ONLY: a put succeeds where nothing is, answers EXISTS and changes "
      "nothing where something is; of eight at once one wins.",
      "plugin.h, PST_PUT_CREATE_ONLY")
K_REQ(WRITE, 006, RW,
      "WRITE_IF_MATCH: a put with the current etag succeeds, with another answers "
      "PRECONDITION and changes nothing; of eight at once one wins.",
      "plugin.h, pst_put_args")
K_REQ(WRITE, 007, RW, "Parts that were uploaded and committed are read back as one object.",
      "plugin.h, pst_part_args")
K_REQ(WRITE, 008, RW, "UPLOAD_UNORDERED: parts may come in any order and side by side.",
      "plugin.h, PST_CAP_UPLOAD_UNORDERED")
K_REQ(WRITE, 009, RW, "A part may be sent again, identical, in any state.", "rule 14")
K_REQ(WRITE, 010, RW, "Nothing is visible before commit.", "docs/abi.md, writing")
K_REQ(WRITE, 011, RW, "Abort leaves nothing.", "rule 1")
K_REQ(WRITE, 012, RW, "upload_free without commit or abort leaves nothing visible.", "rule 1")
K_REQ(WRITE, 013, RW, "Commit refuses a size other than that of the parts, and nothing is visible.",
      "plugin.h, pst_commit_args")
K_REQ(WRITE, 014, RW,
      "Commit refuses an upload with a part missing in the middle, and nothing is "
      "visible.",
      "plugin.h, pst_commit_args")
K_REQ(WRITE, 015, RW, "Commit may be repeated: OK again, the same object.", "rule 1")
K_REQ(WRITE, 016, RW, "Abort after commit does not touch the object.", "rule 1")
K_REQ(WRITE, 017, RW, "Commit after abort fails and publishes nothing.", "rule 1")
K_REQ(WRITE, 018, RW, "Abort may be repeated.", "rule 1")
K_REQ(WRITE, 019, RW, "An upload without parts commits as an empty object.",
      "plugin.h, pst_commit_args")
K_REQ(WRITE, 020, RW,
      "CREATE_ONLY: an upload is refused when the object exists by the time it is "
      "committed.",
      "plugin.h, PST_PUT_CREATE_ONLY")
K_REQ(WRITE, 021, RW, "An upload over an object leaves the old one until commit, then replaces it.",
      "docs/abi.md, writing")
K_REQ(WRITE, 022, RW,
      "CONTENT_TYPE: content type and content encoding come back with stat; other text attributes "
      "do, "
      "or are refused with INVALID.",
      "base.h, pst_attr")
K_REQ(WRITE, 023, RW, "USER_META: user metadata comes back with stat, from put and from an upload.",
      "base.h, pst_attr")
K_REQ(WRITE, 024, RW,
      "USER_META: what does not fit is refused, nothing is written and nothing is "
      "dropped.",
      "base.h, pst_attr")
K_REQ(WRITE, 025, RW,
      "Sums that the store wants are checked: a wrong one fails put and part, and "
      "nothing is stored.",
      "rule 11")
K_REQ(WRITE, 026, RW, "COPY: the copy has the source's bytes and the source stays.",
      "plugin.h, pst_copy_args")
K_REQ(WRITE, 027, RW, "COPY: attributes are kept, or replaced when that is asked for.",
      "plugin.h, PST_COPY_REPLACE_ATTR")
K_REQ(WRITE, 028, RW,
      "COPY: a missing source is NOT_FOUND, CREATE_ONLY onto an object is EXISTS, "
      "another from_if_match is refused; nothing changes.",
      "plugin.h, pst_copy_args")
K_REQ(WRITE, 029, RW, "RENAME: the object is under the new key and no longer under the old one.",
      "plugin.h, pst_copy_args")
K_REQ(WRITE, 030, RW, "remove takes exactly the key it was given: foo, not foobar or foo/bar.",
      "docs/abi.md, keys")
K_REQ(WRITE, 031, RW, "remove fills the status of every key; a key that is not there is OK.",
      "plugin.h, pst_remove_result")
K_REQ(WRITE, 032, RW, "WRITE_IF_MATCH: remove with another etag removes nothing.",
      "plugin.h, pst_remove_args")
K_REQ(WRITE, 033, RW,
      "CONTAINER: one that was created is listed as a prefix, one with objects in it "
      "is not deleted, a deleted one is gone.",
      "plugin.h, pst_container_args")
K_REQ(WRITE, 034, RW, "APPEND: bytes are added at the end, and to nothing.", "plugin.h, append")
K_REQ(WRITE, 035, FULL,
      "CLEANUP: a dry run removes nothing, a run removes what a killed writer left "
      "and no object.",
      "plugin.h, pst_cleanup_args")
K_REQ(WRITE, 036, RW,
      "VERSIONS: removing a version removes that one and no other, and once more is OK; the next "
      "older one is the object then.",
      "plugin.h, pst_remove_args")
K_REQ(WRITE, 037, RW, "TAGS: a put with tags is OK, and where stat tells tags it tells those.",
      "base.h, pst_attr")

/* ---- LIST */
K_REQ(LIST, 001, RO, "A listing is complete, without doubles, in pages of 1, 7 and 1000.",
      "rule 15")
K_REQ(LIST, 002, RO, "A page has at most max_entries entries.", "plugin.h, pst_page_args")
K_REQ(LIST, 003, RO, "LIST_ORDERED: keys come in the order of their bytes.", "rule 15")
K_REQ(LIST, 004, RO, "LIST_ORDERED: start_after begins behind that key, whether or not it exists.",
      "rule 15")
K_REQ(LIST, 005, RO, "A prefix is bytes: it need not end at a slash.", "plugin.h, pst_list_args")
K_REQ(LIST, 006, RO,
      "Without RECURSIVE a listing gives the objects of one level and each common "
      "prefix once, ending in a slash.",
      "plugin.h, pst_list_args")
K_REQ(LIST, 007, RO, "A prefix below which nothing is gives OK and no entry.",
      "plugin.h, pst_list_args")
K_REQ(LIST, 008, RO, "A page that failed may be asked for again and is then complete.", "rule 15")
K_REQ(LIST, 009, RO, "An error from list_emit is the code that the listing completes with.",
      "plugin.h, pst_host")
K_REQ(LIST, 010, RO, "A cursor may be closed after any page, and gives everything back.", "rule 15")
K_REQ(LIST, 011, RO, "An entry carries the whole key and the kind, size and time that stat tells.",
      "rule 15")
K_REQ(LIST, 012, RW, "A plugin's own temporary objects are never listed.", "docs/abi.md, writing")
K_REQ(LIST, 013, RO, "UNORDERED gives the same set.", "plugin.h, PST_LIST_UNORDERED")
K_REQ(LIST, 014, RW,
      "EMPTY_DIRS: directories without an entry are listed when asked for, and only "
      "then.",
      "plugin.h, PST_LIST_EMPTY_DIRS")
K_REQ(LIST, 015, FULL, "Objects that stay are listed exactly once while others come and go.",
      "docs/abi.md, listing")
K_REQ(LIST, 016, RW,
      "VERSIONS: a listing of versions shows each version and delete marker once, those of a key "
      "from the newest on, in pages of any size; one without shows no key that was removed.",
      "plugin.h, PST_LIST_VERSIONS")

/* ---- ENV: a guest in somebody's process */
K_REQ(ENV, 001, RO, "A child of fork works: fork_child, called twice, then a store of its own.",
      "rule 12")
K_REQ(ENV, 002, RO, "So does a child that was forked while operations were under way.", "rule 12")
K_REQ(ENV, 003, RO, "Descriptors are all closed when the store is.", "rule 4")
K_REQ(ENV, 004, RO, "Every descriptor is close-on-exec.", "rule 12")
K_REQ(ENV, 005, RO, "Threads are all gone when the store is closed.", "rule 4")
K_REQ(ENV, 006, RO,
      "Signal handlers and mask, umask, working directory, locale and environment stay "
      "as they are.",
      "docs/abi.md, the process")
K_REQ(ENV, 007, RO, "Nothing is printed.", "docs/abi.md, the process")
K_REQ(ENV, 008, RO, "Opening, using and closing stores again and again does not grow the process.",
      "rule 4")
K_REQ(ENV, 009, FULL,
      "A writer that is killed leaves nothing visible, and the key can be written "
      "again.",
      "docs/abi.md, writing")
K_REQ(ENV, 010, RO, "shutdown of one host leaves the stores of another working.", "rule 5")
K_REQ(ENV, 011, RO, "The process may exit at any time, with operations under way, without a crash.",
      "rule 12")
K_REQ(ENV, 012, RO, "Signals that interrupt system calls do no harm.", "docs/abi.md, the process")

#include "requirements_net.h"
