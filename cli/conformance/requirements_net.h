/* requirements_net.h - rows of requirements.h for stores behind a network: run with --faults only. */
/* ---- HTTP: what comes over a network, however it comes */
K_REQ(HTTP, 001, RO, "A reply in chunks gives the right bytes.", "docs/conformance.md, networks")
K_REQ(HTTP, 002, RO, "A server that closes the connection behind each reply is served on.",
      "docs/conformance.md, networks")
K_REQ(HTTP, 003, RO, "A connection that the server closed while it was idle fails no request.",
      "services.h, http/1")
K_REQ(HTTP, 004, RO, "An interim reply is passed over.", "services.h, http/1")
K_REQ(HTTP, 005, RO, "A reply that comes slowly, but comes, is read to its end.",
      "docs/conformance.md, networks")
K_REQ(HTTP, 006, RO, "64 KiB of headers: the right bytes, or an error.",
      "docs/conformance.md, networks")
K_REQ(HTTP, 007, RO,
      "A 200 with the whole object in answer to a range: exactly the range, or an "
      "error.",
      "plugin.h, pst_read_result")
K_REQ(HTTP, 008, RO, "Another range than the one asked for is an error.",
      "plugin.h, pst_read_result")
K_REQ(HTTP, 009, RO, "A 206 that does not say its range is an error.", "plugin.h, pst_read_result")
K_REQ(HTTP, 010, RO, "More bytes than were asked for are an error.", "plugin.h, pst_read_result")
K_REQ(HTTP, 011, RO, "A reply without a length: the right bytes, or an error.",
      "plugin.h, pst_dst_args")
K_REQ(HTTP, 012, RO, "A body that is shorter than announced is an error, and RETRYABLE.",
      "docs/errors.md, plugins")
K_REQ(
    HTTP, 013, RO,
    "A reply that breaks before its head, in it, or anywhere in its body: UNAVAILABLE, RETRYABLE, "
    "the server named; the next read is right.",
    "docs/errors.md, plugins")
K_REQ(HTTP, 014, RO, "A reply that stalls is given up, RETRYABLE.", "services.h, pst_http_config")
K_REQ(
    HTTP, 015, RO,
    "A read whose reply stalls completes when it is cancelled, with CANCEL_BOUNDED within 500 ms.",
    "rule 3")
K_REQ(HTTP, 016, RO, "An answer that is no HTTP is an error.", "docs/conformance.md, networks")
K_REQ(HTTP, 017, RO, "A server without TLS where TLS is asked for: UNAVAILABLE, the server named.",
      "docs/errors.md, plugins")
K_REQ(HTTP, 018, RO, "A port that nobody listens on: UNAVAILABLE, RETRYABLE, the address named.",
      "docs/errors.md, plugins")
K_REQ(HTTP, 019, RO, "Redirects without end are an error after few requests.",
      "docs/conformance.md, networks")
K_REQ(HTTP, 020, RO, "A redirect takes no credentials to another origin.",
      "docs/conformance.md, networks")
K_REQ(HTTP, 021, RO,
      "The page of a gateway, 502 in HTML: UNAVAILABLE, RETRYABLE, with status and server.",
      "docs/errors.md, plugins")
K_REQ(HTTP, 022, RO, "The body of an error, however long, never gets into a destination.", "rule 3")
K_REQ(HTTP, 023, RO, "The etag of a result is that of its reply.", "rule 9")
K_REQ(HTTP, 024, RO, "Requests that break do not touch those beside them.", "rule 13")
K_REQ(
    HTTP, 025, RW,
    "A put whose bytes did not all arrive: UNAVAILABLE, RETRYABLE, nothing is stored, and the next "
    "one works.",
    "docs/errors.md, plugins")
K_REQ(HTTP, 026, RO,
      "Failures leave nothing behind: memory, descriptors and threads are as before when the store "
      "is "
      "closed.",
      "rule 4")

/* ---- FAULT: what providers refuse, and replies that are lost */
K_REQ(FAULT, 001, RO,
      "Asked to slow down: THROTTLED, RETRYABLE, with the provider's code and request id.",
      "docs/errors.md, plugins")
K_REQ(FAULT, 002, RO, "429 with Retry-After: THROTTLED, RETRYABLE, the time in retry_after_ms.",
      "docs/errors.md, plugins")
K_REQ(FAULT, 003, RO, "503 with Retry-After: RETRYABLE, the time in retry_after_ms.",
      "docs/errors.md, plugins")
K_REQ(FAULT, 004, RO, "An internal error of the provider: UNAVAILABLE, RETRYABLE.",
      "docs/errors.md, plugins")
K_REQ(FAULT, 005, RO,
      "A 400 that means a timeout is RETRYABLE: the provider's code goes before the "
      "status.",
      "docs/errors.md, plugins")
K_REQ(FAULT, 006, RW,
      "CREATE_ONLY: a conflict with a writer that may fail yet is RETRYABLE, not EXISTS.",
      "docs/errors.md, plugins")
K_REQ(FAULT, 007, RO, "Access denied: DENIED, not RETRYABLE, one request.",
      "docs/errors.md, plugins")
K_REQ(FAULT, 008, RO, "Wrong credentials: UNAUTHENTICATED or DENIED, not RETRYABLE, one request.",
      "docs/errors.md, plugins")
K_REQ(FAULT, 009, RO, "Expired credentials: fresh ones, or UNAUTHENTICATED after few requests.",
      "rule 17")
K_REQ(FAULT, 010, RO, "A wrong clock is corrected once; if that does not help, an error.",
      "docs/conformance.md, networks")
K_REQ(FAULT, 011, RO, "A wrong region is corrected once; if that does not help, an error.",
      "docs/conformance.md, networks")
K_REQ(FAULT, 012, RO, "So it is when the provider says so by a redirect.",
      "docs/conformance.md, networks")
K_REQ(FAULT, 013, RO, "An archived object is named as such, neither missing nor RETRYABLE.",
      "docs/errors.md, plugins")
K_REQ(FAULT, 014, RO, "A missing container: NOT_FOUND with the flag NO_CONTAINER.",
      "status.h, PST_ERR_NO_CONTAINER")
K_REQ(FAULT, 015, RO, "A listing whose second page fails is an error, and complete the next time.",
      "rule 15")
K_REQ(FAULT, 016, RO, "The reply to a listing, cut or garbled, is an error, never a shorter list.",
      "rule 15")
K_REQ(FAULT, 017, RW, "A key that a batch refuses under status 200 has its own status.", "rule 5")
K_REQ(FAULT, 018, RO, "A sum of a reply is handed on as it came, or refused as DATA_LOSS.",
      "rule 11")
K_REQ(FAULT, 019, RW, "A put whose reply is lost: OK, or MAYBE_APPLIED.", "rule 1")
K_REQ(FAULT, 020, RW, "CREATE_ONLY: so too, and never EXISTS for an object that is one's own.",
      "rule 1")
K_REQ(FAULT, 021, RW, "WRITE_IF_MATCH: so too, and never PRECONDITION.", "rule 1")
K_REQ(FAULT, 022, RW,
      "CREATE_ONLY: an object of somebody else's is no success, though the reply be lost.",
      "rule 1")
K_REQ(FAULT, 023, RW,
      "A commit whose reply is lost is OK, at once or when it is repeated; no upload is "
      "left.",
      "rule 1")
K_REQ(FAULT, 024, RW,
      "A commit that was not carried out, and whose reply is lost, can be repeated.", "rule 1")
K_REQ(FAULT, 025, RW, "A commit that fails under status 200 has failed, and can be repeated.",
      "rule 1")
K_REQ(FAULT, 026, RW, "An abort whose reply is lost is OK, at once or when it is repeated.",
      "rule 1")
K_REQ(FAULT, 027, RW, "A part that is lost, or whose reply is, can be sent again.", "rule 14")
K_REQ(FAULT, 028, RW, "Opening an upload: a lost reply is RETRYABLE, and the next one works.",
      "docs/errors.md, plugins")
K_REQ(FAULT, 029, RW,
      "UPLOAD_CONDITIONAL: a create-only commit whose reply is lost is OK in the end.", "rule 1")
K_REQ(FAULT, 030, RW, "A remove whose reply is lost: OK, or MAYBE_APPLIED, and OK the next time.",
      "rule 1")
K_REQ(FAULT, 031, RW, "WRITE_IF_MATCH: so too, and neither NOT_FOUND nor PRECONDITION.", "rule 1")
K_REQ(FAULT, 032, RW, "COPY: a copy whose reply is lost: OK, or MAYBE_APPLIED.", "rule 1")
K_REQ(FAULT, 033, RW, "COPY: one that fails under status 200 has failed, RETRYABLE.", "rule 1")
